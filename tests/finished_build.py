"""The build folder of a finished source build, made by hand, for tests that need no emerge."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

from portage_p2pbin.gentoo.build import FinishedBuild
from portage_p2pbin.gentoo.installed import Installed
from portage_p2pbin.kernel.model import Cpv

STARTED = 1_700_000_000

INFO = {
    "BUILD_TIME": "1700000100",
    "CATEGORY": "app-misc",
    "CBUILD": "x86_64-pc-linux-gnu",
    "CHOST": "x86_64-pc-linux-gnu",
    "DEPEND": "dev-libs/ring",
    "EAPI": "8",
    "FEATURES": "sandbox splitdebug buildpkg",
    "INHERITED": "toolchain",
    "LICENSE": "GPL-2",
    "PF": "hello-2.10-r1",
    "SLOT": "0/2",
    "USE": "nls amd64",
    "repository": "test",
}
SETTINGS = {
    "ABI": "amd64",
    "CFLAGS": "-O2\n  -pipe",
    "ELIBC": "glibc",
    "EPREFIX": "",
    "INSTALL_MASK": "/usr/share/doc *.la",
    "LDFLAGS": "",
    "PKG_INSTALL_MASK": "/etc/x",
    "PORTAGE_CONFIGROOT": "/",
    "ROOT": "/",
}


class Database:
    """Installed packages: dev-libs/ring, merged long before the build, and what the test adds."""

    def __init__(self, folder):
        self.folder = folder
        self.add("dev-libs/ring-1.2", b"obj /usr/lib/ring.so 0123456789abcdef0123456789abcdef 1\n")

    def add(self, cpv, contents=b"", merged=STARTED - 1000):
        (self.folder / cpv).mkdir(parents=True)
        (self.folder / cpv / "CONTENTS").write_bytes(contents)
        os.utime(self.folder / cpv, (merged, merged))

    def match(self, atom):
        return [f"{atom.cp.partition('/')[0]}/{path.name}" for path in self.folder.glob(f"{atom.cp}-*")]

    def aux_get(self, cpv, names):
        return [{"RDEPEND": "", "USE": "static", "EAPI": "8", "SLOT": "0/1"}[name] for name in names]

    def getpath(self, cpv, filename=""):
        return str(self.folder / cpv / filename)


class HandMade:
    """A build folder in `home` that is right in every way; a test spoils one thing."""

    def __init__(self, home: Path):
        self.home = home
        self.folder = home / "tmp/portage/app-misc/hello-2.10-r1"
        self.repository = home / "repository"
        self.configuration = home / "etc/portage"
        self.packages = home / "packages"
        self.database = Database(home / "installed")
        self.settings = dict(SETTINGS, PORTAGE_CONFIGROOT=str(home))
        self.user = {}
        self.package_env, self.bashrcs, self.system_set = [], [], []
        for name, value in INFO.items():
            self.put(self.folder / "build-info" / name, f"{value}\n")
        self.put(self.folder / "build-info/hello-2.10-r1.ebuild", "the ebuild")
        self.put(self.folder / ".setuped", "", time=STARTED)
        self.put(self.repository / "eclass/toolchain.eclass", "an eclass")
        self.put(self.repository / "app-misc/hello/files/sub/fix.patch", "a patch")
        self.put(self.home / "distfiles/hello-2.10.tar.gz", "the sources")
        (self.folder / "distdir").mkdir()
        (self.folder / "distdir/hello-2.10.tar.gz").symlink_to(self.home / "distfiles/hello-2.10.tar.gz")
        self.package = self.put(self.packages / "app-misc/hello/hello-2.10-r1-1.gpkg.tar", "the package")
        self.put(self.folder / "build-info/BINPKGMD5", hashlib.md5(b"the package").hexdigest() + "\n")  # noqa: S324
        self.programs = home / "bin"
        for name in ("make", "scanelf"):
            self.put(self.programs / name, f"the program {name}").chmod(0o755)
        # The kernel sets ctime: what must be older than the build is, if the build begins now.
        self.begin()

    def put(self, path: Path, text: str, time: float | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if time is not None:
            os.utime(path, (time, time))
        return path

    def begin(self) -> None:
        """Let the build begin an hour from now, after all that is there was made."""
        now = (self.folder / ".setuped").stat().st_ctime + 3600
        os.utime(self.folder / ".setuped", (now, now))

    def begin_earlier(self) -> None:
        """Let the build have begun before its sources were made."""
        os.utime(self.folder / ".setuped", (STARTED, STARTED))

    @property
    def environment(self) -> dict[str, str]:
        """That of a phase of its ebuild."""
        return {
            "A": "hello-2.10.tar.gz",
            "CATEGORY": "app-misc",
            "EBUILD": str(self.repository / "app-misc/hello/hello-2.10-r1.ebuild"),
            "EPREFIX": str(self.home),
            "P": "hello-2.10",
            "PATH": str(self.programs),
            "PF": "hello-2.10-r1",
            "PKGDIR": str(self.packages),
            "PN": "hello",
            "PORTAGE_BIN_PATH": str(self.home / "portage"),
            "PORTAGE_BUILDDIR": str(self.folder),
            "PR": "r1",
        }

    def build(self) -> FinishedBuild:
        build = FinishedBuild(Cpv("app-misc/hello-2.10-r1"), self.folder, self.environment, {})
        licences = SimpleNamespace(expandLicenseTokens=lambda tokens: ["GPL-2"], _getMaskedLicenses=lambda asked, fit: [])
        settings = Settings(self.settings)
        settings._penv, settings._pbashrc, settings._license_manager = self.package_env, self.bashrcs, licences
        # cached_property looks here first.
        build.__dict__["portage"] = SimpleNamespace(
            settings=settings,
            installed=Installed(self.database),
            system_set=self.system_set,
            user_set=lambda name: self.user.get(name, ""),
            eclass=lambda repository, name: self.repository / "eclass" / f"{name}.eclass",
        )
        return build


class Settings(dict):
    """portage.config as far as it is asked; it has attributes besides."""
