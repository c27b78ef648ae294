# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Riddles that may be read but not passed on"
HOMEPAGE="https://p2pbin.example.org/riddles"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="Riddles-not-to-be-passed-on"
SLOT="0"
KEYWORDS="amd64"
RESTRICT="bindist"

src_install() {
	dobin riddles
	insinto /usr/share/riddles
	doins riddles.txt
}
