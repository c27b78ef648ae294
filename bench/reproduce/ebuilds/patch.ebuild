LICENSE="GPL-3+"

src_configure() {
	# Its configure script asks whether these set the times of files, and under faketime they do not.
	gl_cv_func_working_utimes=yes gl_cv_func_utimensat_works=yes econf
}
