LICENSE="MIT"

src_compile() { :; }

src_install() {
	insinto /usr/lib/python/site-packages
	doins -r toml
	python3 -m compileall -q -o 0 -o 1 -o 2 -s "${D}" -p / "${ED}/usr/lib/python/site-packages" || die
	einstalldocs
}
