# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit little-make

DESCRIPTION="Dice for programs: the same seed, the same throws"
HOMEPAGE="https://p2pbin.example.org/libdice"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0/1"
KEYWORDS="amd64"
