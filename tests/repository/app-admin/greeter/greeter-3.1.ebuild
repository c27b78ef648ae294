# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit little-make

DESCRIPTION="Greets everybody who logs in"
HOMEPAGE="https://p2pbin.example.org/greeter"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"
IUSE="+frame report"

RDEPEND="
	app-misc/hello
	report? ( dev-python/tally )
"

src_compile() {
	LITTLE_MAKE_ARGS=( SYSCONFDIR="${EPREFIX}/etc" )
	use frame && LITTLE_MAKE_ARGS+=( FRAME="***" )
	little-make_src_compile
}

src_install() {
	little-make_src_install
	use report && dobin greeter-report
	keepdir /var/lib/greeter
}

pkg_postinst() {
	echo "${PVR}" > "${EROOT}/var/lib/greeter/version" || die
	if [[ -z ${REPLACING_VERSIONS} ]]; then
		elog "Say in ${EROOT}/etc/greeter.conf whom greeter shall greet."
	fi
}
