# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Counts how often each line occurs"
HOMEPAGE="https://p2pbin.example.org/tally"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	sed -e "s|@MODULES@|${EPREFIX}/usr/lib/tally|" tally.in > tally.py || die
}

src_install() {
	newbin tally.py tally
	doman tally.1
	einstalldocs

	insinto /usr/lib/tally
	doins -r tally
	python3 -m compileall -q -s "${D}" -p / "${ED}/usr/lib/tally" || die
}
