LICENSE="LGPL-2.1+"

src_configure() {
	meson setup --prefix="${EPREFIX}/usr" --libdir="$(get_libdir)" --buildtype=plain -Ddocs=false build || die
}

src_compile() {
	meson compile -C build -v || die
}

src_install() {
	DESTDIR="${D}" meson install -C build --no-rebuild || die
	einstalldocs
}
