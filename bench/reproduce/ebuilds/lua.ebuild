LICENSE="MIT"

src_compile() {
	emake CC="${CC:-gcc}" MYCFLAGS="${CFLAGS}" MYLDFLAGS="${LDFLAGS}" linux
}

src_install() {
	emake INSTALL_TOP="${ED}/usr" INSTALL_LIB="${ED}/usr/$(get_libdir)" INSTALL_MAN="${ED}/usr/share/man/man1" install
}
