LICENSE="GPL-2+"

src_compile() {
	emake CC="${CC:-gcc}" CFLAGS="${CFLAGS} -DLINUX -D_LARGEFILE64_SOURCE -D_FILE_OFFSET_BITS=64" LDFLAGS="${LDFLAGS}"
}

src_install() {
	dobin tree
	doman doc/tree.1
	einstalldocs
}
