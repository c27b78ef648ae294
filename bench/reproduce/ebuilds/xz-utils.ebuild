LICENSE="LGPL-2.1+ GPL-2+"
IUSE="nls static-libs"

src_configure() {
	econf $(use_enable nls) $(use_enable static-libs static)
}
