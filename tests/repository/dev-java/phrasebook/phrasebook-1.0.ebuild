# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

DESCRIPTION="Phrases in several languages, as resources in a jar"
HOMEPAGE="https://p2pbin.example.org/phrasebook"
SRC_URI="https://p2pbin.example.org/distfiles/${P}.tar"

LICENSE="GPL-2+"
SLOT="0"
KEYWORDS="amd64"

src_compile() {
	# As if they had been made by this build: a jar holds the dates of its members.
	touch phrases/*.properties || die
	python3 -m zipfile -c phrasebook.jar META-INF phrases || die
}

src_install() {
	insinto /usr/share/phrasebook/lib
	doins phrasebook.jar
}
