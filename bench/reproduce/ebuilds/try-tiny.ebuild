LICENSE="MIT"

src_configure() {
	perl Makefile.PL INSTALLDIRS=vendor PREFIX="${EPREFIX}/usr" </dev/null || die
}

src_compile() {
	emake OPTIMIZE="${CFLAGS}" OTHERLDFLAGS="${LDFLAGS}"
}

src_install() {
	emake pure_install DESTDIR="${D}"
	# As perl-module.eclass does: a list of the files with the path of this build.
	find "${D}" -name .packlist -delete || die
	einstalldocs
}
