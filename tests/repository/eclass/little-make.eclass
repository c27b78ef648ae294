# Copyright 2026 Gentoo Authors
# Distributed under the terms of the GNU General Public License v2

# @ECLASS: little-make.eclass
# @MAINTAINER:
# The portage-p2pbin authors
# @SUPPORTED_EAPIS: 7 8
# @BLURB: build a small C project that comes with a plain Makefile
# @DESCRIPTION:
# The Makefile takes CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX and LIBDIR, and
# DESTDIR when it installs.  Headers and libraries of other packages are found
# below ESYSROOT, also when that is not a place where the compiler looks.

case ${EAPI} in
	7|8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

if [[ -z ${_LITTLE_MAKE_ECLASS} ]]; then
_LITTLE_MAKE_ECLASS=1

# @ECLASS_VARIABLE: LITTLE_MAKE_ARGS
# @DEFAULT_UNSET
# @DESCRIPTION:
# Array of further arguments for make.

# @FUNCTION: little-make_run
# @USAGE: [make arguments]
# @DESCRIPTION:
# Run make with the settings of this build.
little-make_run() {
	local libdir="${EPREFIX}/usr/$(get_libdir)"

	emake \
		CC="${CC:-gcc}" \
		CFLAGS="${CFLAGS}" \
		CPPFLAGS="${CPPFLAGS} -I${ESYSROOT}/usr/include" \
		LDFLAGS="${LDFLAGS} -L${ESYSROOT}/usr/$(get_libdir) -Wl,-rpath,${libdir}" \
		PREFIX="${EPREFIX}/usr" \
		LIBDIR="${libdir}" \
		"${LITTLE_MAKE_ARGS[@]}" "$@"
}

# @FUNCTION: little-make_src_compile
# @DESCRIPTION:
# Build the default target.
little-make_src_compile() {
	little-make_run
}

# @FUNCTION: little-make_src_install
# @DESCRIPTION:
# Install the project and its documentation.
little-make_src_install() {
	little-make_run DESTDIR="${D}" install
	einstalldocs
}

fi

EXPORT_FUNCTIONS src_compile src_install
