LICENSE="MIT"

src_configure() {
	cmake -S . -B build -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX="${EPREFIX}/usr" -DCMAKE_INSTALL_LIBDIR="$(get_libdir)" -DENABLE_CJSON_TEST=OFF || die
}

src_compile() {
	emake -C build VERBOSE=1
}

src_install() {
	emake -C build install DESTDIR="${D}"
	einstalldocs
}
