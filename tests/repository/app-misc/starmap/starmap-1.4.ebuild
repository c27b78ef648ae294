# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit little-make

DESCRIPTION="Shows a star that the dice choose"
HOMEPAGE="https://p2pbin.example.org/starmap"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"

DEPEND="dev-libs/libdice:="
RDEPEND="
	${DEPEND}
	app-misc/dice
"
