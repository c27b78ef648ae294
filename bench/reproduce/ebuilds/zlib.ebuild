LICENSE="ZLIB"
IUSE="static-libs"

src_configure() {
	CC="${CC:-gcc}" ./configure --prefix="${EPREFIX}/usr" --libdir="${EPREFIX}/usr/$(get_libdir)" --shared || die
}

src_install() {
	emake install DESTDIR="${D}" LDCONFIG=:
	use static-libs || rm "${ED}/usr/$(get_libdir)/libz.a" || die
	einstalldocs
}
