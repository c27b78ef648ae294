"""What a user changed about a build that a build definition cannot say (P1.3).

Whoever rebuilds from the definition would not have it, and get something else: an honest builder would stand there as a liar.  So
such a build is never recorded.  That protects honest builders from themselves; a liar leaves out this check.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.kernel.errors import RefusedError

HOOK = """\
if [[ ${EBUILD_PHASE} == preinst && ${MERGE_TYPE} == source && -s ${PORTAGE_BUILDDIR}/build-info/BINPKGMD5 ]]; then
	p2pbin-record || :
fi
"""
"""What etc/portage/bashrc may hold.  It sets no variable and no function: those would land in the package."""

UNSAID = (
    # Other programs than those that the definition names.
    "AR", "AS", "CC", "CPP", "CTARGET", "CXX", "FC", "LD", "NM", "OBJCOPY", "RANLIB", "STRIP",
    # Further arguments for a build system.
    "CMAKE_BUILD_TYPE", "EXTRA_ECONF", "EXTRA_EINSTALL", "EXTRA_EMAKE", "EXTRA_MAKE", "GOFLAGS", "MYCMAKEARGS", "MYMAKEARGS", "MYMESONARGS",
    # Other headers, libraries or modules than those of the packages that the definition names.
    "CPATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "PERL5LIB",
    "PKG_CONFIG_PATH", "PYTHONPATH",
    # They change how files are stripped and compressed, which translations are installed, and what time is written into files.
    "LINGUAS", "PORTAGE_COMPRESS", "PORTAGE_COMPRESS_EXCLUDE_SUFFIXES", "PORTAGE_COMPRESS_FLAGS", "PORTAGE_STRIP_FLAGS",
    "SOURCE_DATE_EPOCH",
)  # fmt: skip
"""Variables of make.conf and of emerge's environment that change what is built and stand in no field of a definition."""

UNSAID_FEATURES = ("distcc", "distcc-pump", "icecream", "keepwork", "noauto")
"""FEATURES with which a build is done by compilers of other machines, or from what an earlier build left behind."""


def check_local_changes(build: FinishedBuild) -> None:
    """Refuse (P1.3) a build with changes of its user that the definition cannot say."""
    for reason in _changes(build):
        raise RefusedError("P1.3", str(build.cpv), reason)


def _changes(build: FinishedBuild) -> Iterator[str]:
    settings = build.portage.settings
    configuration = Path(settings["PORTAGE_CONFIGROOT"], "etc/portage")
    if settings["ROOT"] != "/":
        yield f"it was built for another ROOT, {settings['ROOT']}"
    for patch in _patches(build, configuration):
        yield f"it was built with a patch of your own, {patch}"
    if settings._penv:
        yield f"package.env gives it {settings._penv[0]}"
    if _code(configuration / "bashrc") != _lines(HOOK):
        yield f"{configuration / 'bashrc'} has code of your own"
    for file in _own_bash_files(build, configuration):
        yield f"{file} is code of your own"
    for name in UNSAID:
        if build.portage.user_set(name):
            yield f"{name} is set by you"
    for feature in sorted(set(UNSAID_FEATURES) & set(build.info("FEATURES").split())):
        yield f"it was built with FEATURES={feature}"


def _patches(build: FinishedBuild, configuration: Path) -> Iterator[str]:
    """The patches that eapply_user finds, which also notes that it has applied some, and so did epatch_user before it."""
    if build.info("USER_PATCHES"):
        yield "as eapply_user noted"
    names = (build.environment["PN"], build.environment["P"], f"{build.environment['P']}-{build.environment['PR']}")
    slot = build.info("SLOT").partition("/")[0]
    for name in names:
        for folder in (configuration / "patches" / build.cpv.category / f"{name}{ending}" for ending in ("", f":{slot}")):
            yield from (str(file) for file in sorted(folder.glob("*")) if file.suffix in (".diff", ".patch"))


def _own_bash_files(build: FinishedBuild, configuration: Path) -> Iterator[Path]:
    """Files with bash code that Portage runs for this package besides bashrc: those of etc/portage/env and of the user's own profile."""
    slot = build.info("SLOT").partition("/")[0]
    names = (build.environment["PN"], f"{build.environment['PN']}:{slot}", build.environment["P"], build.cpv.pf)
    for file in (configuration / "env" / build.cpv.category / name for name in names):
        if file.is_file():
            yield file
    for file in map(Path, build.portage.settings._pbashrc):
        if file.is_relative_to(configuration) and file.is_file():
            yield file


def _code(file: Path) -> list[str]:
    """The lines of a bash file that are neither empty nor wholly a comment; our own hook where there is no file."""
    return _lines(file.read_text(encoding="utf-8", errors="replace") if file.is_file() else HOOK)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
