LICENSE="BSD"

src_compile() {
	mkdir classes || die
	find src/main/java -name '*.java' -print0 | xargs -0 javac -nowarn -encoding UTF-8 -d classes || die
	jar cf jzlib.jar -C classes . || die
}

src_install() {
	insinto /usr/share/jzlib/lib
	doins jzlib.jar
	einstalldocs
}
