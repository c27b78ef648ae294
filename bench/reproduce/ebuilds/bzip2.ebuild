LICENSE="BZIP2"

src_compile() {
	emake CC="${CC:-gcc}" CFLAGS="${CFLAGS} -D_FILE_OFFSET_BITS=64" LDFLAGS="${LDFLAGS}" libbz2.a bzip2 bzip2recover
}

src_install() {
	dobin bzip2 bzip2recover
	dosym bzip2 /usr/bin/bunzip2
	dolib.a libbz2.a
	doheader bzlib.h
	doman bzip2.1
}
