# Copyright 2026 The portage-p2pbin authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

# One implementation: that is how net-libs/libtorrent-rasterbar has its bindings.
DISTUTILS_SINGLE_IMPL=1
DISTUTILS_USE_PEP517=setuptools
PYTHON_COMPAT=( python3_{11..13} )

inherit distutils-r1 systemd

DESCRIPTION="Binary packages over BitTorrent that independent builders vouch for"
HOMEPAGE="https://p2pbin.example.org/portage-p2pbin"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar.gz"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="~amd64"
IUSE="builder server"
# The tests set up whole Gentoos in namespaces of their own.
RESTRICT="test"

RDEPEND="
	acct-group/p2pbin
	acct-user/p2pbin
	app-arch/zstd
	app-crypt/gnupg
	>=net-libs/libtorrent-rasterbar-2.0.9[python,${PYTHON_SINGLE_USEDEP}]
	$(python_gen_cond_dep '
		>=dev-python/cryptography-42[${PYTHON_USEDEP}]
		>=dev-python/requests-2.31[${PYTHON_USEDEP}]
		>=dev-python/securesystemslib-1.3[${PYTHON_USEDEP}]
		>=dev-python/tuf-6.0[${PYTHON_USEDEP}]
		>=sys-apps/portage-3.0.67[${PYTHON_USEDEP}]
		server? (
			>=dev-python/sqlalchemy-2.0[${PYTHON_USEDEP}]
			>=dev-python/waitress-3.0.1[${PYTHON_USEDEP}]
		)
	')
"

DOCS=( CHANGELOG.rst README.rst SECURITY.rst docs )

python_install_all() {
	distutils-r1_python_install_all

	insinto /etc/p2pbin
	doins etc/client.toml
	doinitd etc/openrc/p2pbind
	systemd_dounit etc/systemd/p2pbind.service

	if use builder; then
		doins etc/builder.toml
		doinitd etc/openrc/p2pbin-builder
	fi

	if use server; then
		doins etc/server.toml
		doinitd etc/openrc/p2pbin-server
		systemd_dounit etc/systemd/p2pbin-server.service
	fi

	# What the user copies below /etc/portage.
	insinto /usr/share/portage-p2pbin
	doins etc/{bashrc,binrepos.conf,package.p2pbin,roster.toml}

	insinto /usr/share/eselect/modules
	doins etc/eselect/p2pbin.eselect
}

pkg_postinst() {
	elog "To use it, put a trust server's root.json into ${EPREFIX}/etc/p2pbin, and a section as in"
	elog "${EPREFIX}/usr/share/portage-p2pbin/binrepos.conf into ${EPREFIX}/etc/portage/binrepos.conf."
}
