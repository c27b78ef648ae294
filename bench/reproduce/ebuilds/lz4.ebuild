LICENSE="BSD-2 GPL-2+"
IUSE="static-libs"

src_compile() {
	emake V=1 PREFIX="${EPREFIX}/usr" LIBDIR="${EPREFIX}/usr/$(get_libdir)" BUILD_STATIC=$(usex static-libs)
}

src_install() {
	emake install DESTDIR="${D}" PREFIX="${EPREFIX}/usr" LIBDIR="${EPREFIX}/usr/$(get_libdir)" BUILD_STATIC=$(usex static-libs)
	einstalldocs
}
