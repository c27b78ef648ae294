LICENSE="GPL-3+"
IUSE="nls"

src_configure() {
	econf $(use_enable nls)
}
