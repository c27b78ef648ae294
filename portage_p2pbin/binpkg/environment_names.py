"""The names that decide over a saved environment.  They belong to `p2pbin-contents-1`: a change here is a new version of the digest.

Every list is of exact names.  A prefix would be too wide: PYTHONDONTWRITEBYTECODE, PYTHON_TARGETS and PERL_FEATURES are in every
honest environment, beside PYTHONPATH and PERL5OPT.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode("ascii").split())


PER_EVENT = _names(
    """
    FEATURES PORTAGE_FEATURES PORTAGE_BUNZIP2_COMMAND PORTAGE_BZIP2_COMMAND PORTAGE_COMPRESSION_COMMAND PORTAGE_REPO_REVISIONS
    BUILD_ID SHELL TZ
    LANG LC_ALL LC_ADDRESS LC_COLLATE LC_CTYPE LC_IDENTIFICATION LC_MEASUREMENT LC_MESSAGES LC_MONETARY LC_NAME LC_NUMERIC LC_PAPER
    LC_TELEPHONE LC_TIME
    GNUMAKEFLAGS GOMAXPROCS HARNESS_OPTIONS MAKEFLAGS MAKEOPTS NINJAOPTS
    """
)
"""Removed by cleaning, exported or not: they describe one build, not the package, and Portage sets those it uses again when it
installs, or they carry the number of jobs.  SHELL is here because bash sets it when the builder's shell did not export it, so it would
be dropped on one machine and kept on the other."""

BUILD_ONLY = _names(
    """
    LD_BIND_NOW LD_DEBUG LD_DEBUG_OUTPUT LD_LIBRARY_PATH LD_PROFILE LD_PROFILE_OUTPUT LD_RUN_PATH LD_TRACE_LOADED_OBJECTS
    GCONV_PATH GETCONF_DIR GLIBC_TUNABLES HOSTALIASES LOCALDOMAIN LOCPATH MALLOC_TRACE NIS_PATH NLSPATH RESOLV_HOST_CONF RES_OPTIONS TZDIR
    PYTHONBREAKPOINT PYTHONCASEOK PYTHONEXECUTABLE PYTHONHOME PYTHONINSPECT PYTHONIOENCODING PYTHONPATH PYTHONPLATLIBDIR
    PYTHONPYCACHEPREFIX PYTHONSAFEPATH PYTHONSTARTUP PYTHONUSERBASE PYTHONWARNINGS
    PERL5DB PERL5LIB PERL5OPT PERL5SHELL PERLLIB RUBYLIB RUBYOPT NODE_OPTIONS NODE_PATH LUA_CPATH LUA_INIT LUA_PATH TCLLIBPATH
    GUILE_LOAD_COMPILED_PATH GUILE_LOAD_PATH JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS AWKLIBPATH AWKPATH
    OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES GREP_OPTIONS TAR_OPTIONS XZ_DEFAULTS XZ_OPT ZSTD_CLEVEL ZSTD_NBTHREADS
    GIT_ASKPASS GIT_CONFIG_COUNT GIT_CONFIG_GLOBAL GIT_CONFIG_PARAMETERS GIT_CONFIG_SYSTEM GIT_EDITOR GIT_EXEC_PATH GIT_EXTERNAL_DIFF
    GIT_PAGER GIT_PROXY_COMMAND GIT_SSH GIT_SSH_COMMAND GIT_TEMPLATE_DIR
    """
)
"""Removed by cleaning, exported or not, named by the package or not: they take over programs that run at install time, and are
of use only while something is built.  Honest builds leave them behind: dev-libs/glib exports LD_LIBRARY_PATH and PYTHONPATH."""

REFUSED_VARIABLES = _names(
    """
    EBUILD_SUCCESS_HOOKS LD_AUDIT LD_PRELOAD
    BASH BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_COMPAT BASH_ENV BASH_EXECUTION_STRING
    BASH_LINENO BASH_LOADABLES_PATH BASH_MONOSECONDS BASH_REMATCH BASH_SOURCE BASH_SUBSHELL BASH_TRAPSIG BASH_VERSINFO BASH_VERSION
    BASH_XTRACEFD CDPATH CHILD_MAX COLUMNS COMPREPLY COMP_CWORD COMP_KEY COMP_LINE COMP_POINT COMP_TYPE COMP_WORDBREAKS COMP_WORDS
    COPROC DIRSTACK ENV EPOCHREALTIME EPOCHSECONDS EUID EXECIGNORE FCEDIT FIGNORE FUNCNAME FUNCNEST GLOBIGNORE GLOBSORT GROUPS HISTCMD
    HISTCONTROL HISTFILE HISTFILESIZE HISTIGNORE HISTSIZE HISTTIMEFORMAT HOME HOSTFILE HOSTNAME HOSTTYPE IFS IGNOREEOF INPUTRC INSIDE_EMACS
    LINENO LINES MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR OPTIND OSTYPE PATH PIPESTATUS POSIXLY_CORRECT
    PPID PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD RANDOM READLINE_ARGUMENT READLINE_LINE READLINE_MARK READLINE_POINT REPLY
    SECONDS SHELLOPTS SHLVL SRANDOM TIMEFORMAT TMOUT TMPDIR UID _ auto_resume histchars
    D EBUILD EBUILD_MASTER_PID EBUILD_PHASE EBUILD_PHASE_FUNC EBUILD_SH_ARGS ECLASS_DEPTH ED EMERGE_FROM EROOT FILESDIR MERGE_TYPE
    MISC_FUNCTIONS_ARGS MOPREFIX PM_EBUILD_HOOK_DIR PORTAGE_ACTUAL_DISTDIR PORTAGE_ARCHLIST PORTAGE_BASHRC PORTAGE_BASHRCS_SOURCED
    PORTAGE_BASHRC_FILES PORTAGE_BINPKG_FILE PORTAGE_BINPKG_TAR_OPTS PORTAGE_BINPKG_TMPFILE PORTAGE_BIN_PATH PORTAGE_BUILDDIR
    PORTAGE_BUILD_GROUP PORTAGE_BUILD_USER PORTAGE_COLORMAP PORTAGE_CONFIGROOT PORTAGE_DEBUG PORTAGE_DEPCACHEDIR
    PORTAGE_EBUILD_EXIT_FD PORTAGE_EBUILD_EXIT_FILE PORTAGE_EBUILD_EXTRA_SOURCE PORTAGE_ECLASS_LOCATIONS PORTAGE_GID PORTAGE_GRPNAME
    PORTAGE_INST_GID PORTAGE_INST_UID PORTAGE_INTERNAL_CALLER PORTAGE_IPC_ALIVE_FD PORTAGE_IPC_DAEMON PORTAGE_LOG_FILE
    PORTAGE_NONFATAL PORTAGE_OVERRIDE_EPREFIX PORTAGE_PYM_PATH PORTAGE_PYTHON PORTAGE_PYTHONPATH PORTAGE_REPOSITORIES PORTAGE_TMPDIR
    PORTAGE_UPDATE_ENV PORTAGE_USERNAME PORTAGE_WORKDIR_MODE PORTAGE_XATTR_EXCLUDE QA_INTERCEPTORS REPLACED_BY_VERSION
    REPLACING_VERSIONS ROOT T WORKDIR XARGS
    """
)
"""Refused.  EBUILD_SUCCESS_HOOKS, whose words Portage runs as commands after each phase, and LD_AUDIT have no honest use in a saved
environment; the others, bash's own first, Portage's writer leaves out of every environment (save-ebuild-env.sh, phase-functions.sh)."""

KEPT = _names(
    """
    A ABI ARCH ASFLAGS BDEPEND CATEGORY CBUILD CFLAGS CHOST CPPFLAGS CTARGET CXXFLAGS DEFAULT_ABI DEFINED_PHASES DEPEND DESCRIPTION
    DIROPTIONS EAPI ELIBC ENV_UNSET EXEOPTIONS FCFLAGS FFLAGS HOMEPAGE IDEPEND INHERITED INSOPTIONS IUSE IUSE_EFFECTIVE IUSE_IMPLICIT
    KERNEL KERNEL_ABI KEYWORDS LDFLAGS LIBOPTIONS LICENSE MULTILIB_ABIS P PDEPEND PF PN PR PROPERTIES PV PVR PYTHONDONTWRITEBYTECODE
    RDEPEND REPOSITORY REQUIRED_USE RESTRICT SLOT SRC_URI SYMLINK_LIB USE USERLAND USE_EXPAND_IMPLICIT USE_EXPAND_UNPREFIXED
    USE_EXPAND_VALUES_ARCH USE_EXPAND_VALUES_ELIBC USE_EXPAND_VALUES_KERNEL
    ABI_MIPS ABI_S390 ABI_X86 ADA_TARGET ALSA_CARDS AMDGPU_TARGETS APACHE2_MODULES APACHE2_MPMS CALLIGRA_FEATURES CAMERAS
    COLLECTD_PLUGINS CPU_FLAGS_ARM CPU_FLAGS_PPC CPU_FLAGS_X86 CURL_QUIC CURL_SSL GPSD_PROTOCOLS GRUB_PLATFORMS GUILE_SINGLE_TARGET
    GUILE_TARGETS INPUT_DEVICES L10N LCD_DEVICES LIBREOFFICE_EXTENSIONS LLVM_SLOT LLVM_TARGETS LUA_SINGLE_TARGET LUA_TARGETS
    NGINX_MODULES_HTTP NGINX_MODULES_MAIL NGINX_MODULES_STREAM OFFICE_IMPLEMENTATION OPENMPI_FABRICS OPENMPI_OFED_FEATURES OPENMPI_RM
    PERL_FEATURES PHP_TARGETS POSTGRES_TARGETS PYTHON_SINGLE_TARGET PYTHON_TARGETS QEMU_SOFTMMU_TARGETS QEMU_USER_TARGETS RUBY_TARGETS
    RUST_SYSROOTS SANE_BACKENDS SELINUX_POLICY_TYPES UWSGI_PLUGINS VIDEO_CARDS VOICEMAIL_STORAGE XTABLES_ADDONS
    """
) | frozenset(
    b"%s_%s" % (variable, abi)
    for variable in (b"CFLAGS", b"CHOST", b"CTARGET", b"LDFLAGS", b"LIBDIR")
    for abi in (
        b"alpha amd64 arm arm64 default hppa ilp32 ilp32d ilp32f lp64 lp64d lp64f m68k n32 n64 o32 ppc ppc64 s390 s390x sparc32 sparc64"
        b" x32 x86"
    ).split()
)
"""Exported variables that stay although neither a function nor the ebuild names them: those of the package manager
specification, the USE_EXPAND variables of ::gentoo, and what a profile says of each ABI, which eclasses reach by composed names."""

_BUILTINS = """
    . : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown echo enable eval exec exit
    export false fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return set
    shift shopt source suspend test times trap true type typeset ulimit umask unalias unset wait
    """

_KEYWORDS = "if then else elif fi case esac for select while until do done in function time { } ! [[ ]] coproc"

_HELPERS = """
    EXPORT_FUNCTIONS KV_major KV_micro KV_minor KV_to_int adddeny addpredict addread addwrite assert best_version bsd
    configparser contains_word debug-print debug-print-function debug-print-section default die diropts dobin doconfd dodir dodoc
    doenvd doexe dohard doheader dohtml doinfo doinitd doins docinto docompress dolib dolib.a dolib.so doman domo dosbin dosed dostrip
    dosym ebegin econf eend eerror einfo einfon einstall elog emake eqawarn eqatag ewarn exeinto exeopts fowners fperms
    get_KV has has_version hasq hasv inherit insinto insopts into keepdir libopts newbin newconfd newdoc newenvd newexe newheader
    newinitd newins newlib.a newlib.so newman newsbin nonfatal portageq prepall prepalldocs prepallinfo prepallman prepallstrip prepinfo
    prepman prepstrip register_die_hook register_success_hook unpack use use_enable use_with useq usev
    die_hooks success_hooks install_hooks install_qa_check install_symlink_html_docs postinst_qa_check preinst_mask preinst_qa_check
    preinst_selinux_labels preinst_sfperms preinst_suid_scan command_not_found_handle
    """

_INTERNALS = """
    __abort_compile __abort_configure __abort_handler __abort_install __abort_prepare __abort_test __check_bash_version __dump_trace
    __dyn_clean __dyn_compile __dyn_configure __dyn_help __dyn_install __dyn_prepare __dyn_pretend __dyn_setup __dyn_test __dyn_unpack
    __ebuild_arg_to_phase __ebuild_exit __ebuild_ipc __ebuild_main __ebuild_phase __ebuild_phase_funcs __ebuild_phase_with_hooks __eend
    __elog_base __eqaquote __eqatag __filter_readonly_variables __has_phase_defined_up_to __hasg __hasgq __helpers_die
    __preprocess_ebuild_env __qa_call __qa_source __quiet_mode __repo_attr __save_ebuild_env __sb_append_var __set_colors
    __source_all_bashrcs __source_env_files __start_distcc __strip_duplicate_slashes __try_source __unset_colors __vecho __ver_compare
    __ver_compare_int __ver_parse_range __ver_split
    """

_PROGRAMS = """
    awk bash bzip2 cat chgrp chmod chown cp date du emerge env find flock gawk getfattr grep gzip head id install ldconfig ln ls
    mkdir mkfifo mktemp mv python python3 readlink realpath rm rmdir scanelf sed sh sleep sort stat strip stty tar touch tr uname uniq
    xargs xz
    """

REFUSED_FUNCTIONS = _names(_BUILTINS + _KEYWORDS + _HELPERS + _INTERNALS + _PROGRAMS)
"""Refused: a function of such a name would run instead of the shell's builtin, of Portage's function, or of a program that Portage's
own shell code calls at install time.  Portage's writer removes its own functions from what it saves, so no honest environment has one."""

REFUSED_START = b"___"
"""Refused: variables and functions whose names begin so.  The package manager keeps them for itself, and clears them before it saves."""
