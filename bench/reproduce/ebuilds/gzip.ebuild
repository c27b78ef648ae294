LICENSE="GPL-3+"

src_configure() {
	# Its configure script asks whether this sets the times of files, and under faketime it does not.
	gl_cv_func_working_utimes=yes econf
}
