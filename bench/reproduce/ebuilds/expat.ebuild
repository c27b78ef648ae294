LICENSE="MIT"
S+="/expat"

src_configure() {
	cmake -S . -B build -DCMAKE_BUILD_TYPE=None -DCMAKE_INSTALL_PREFIX="${EPREFIX}/usr" -DCMAKE_INSTALL_LIBDIR="$(get_libdir)" \
		-DEXPAT_SHARED_LIBS=OFF -DEXPAT_BUILD_TOOLS=OFF -DEXPAT_BUILD_EXAMPLES=OFF -DEXPAT_BUILD_TESTS=OFF || die
}

src_compile() {
	emake -C build VERBOSE=1
}

src_install() {
	emake -C build install DESTDIR="${D}"
	einstalldocs
}
