# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

# Not 8, in which Portage removes empty directories.
EAPI=7

inherit little-make

DESCRIPTION="One of each thing that a file system can hold"
HOMEPAGE="https://p2pbin.example.org/oddments"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"
