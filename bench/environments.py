"""What the reader and the cleaner of saved environments do with those of real ebuilds, real eclasses and a real profile.

    python bench/environments.py CHECKOUT FOLDER

CHECKOUT is an ebuild repository with profiles/default/linux/amd64/23.0, for instance the folder portage-stable of the public
repository flatcar/scripts; FOLDER gets a throwaway prefix and the environments, and is used again by the next run.  Every ebuild of
docs/environments-tried.txt that CHECKOUT has goes through its setup phase twice, without network: once in a bare shell and once in that
of a builder who exports everything a builder might.  Portage's own functions save the environment as they do for a binary package.

Then for each pair: both are read; both give the same cleaned text; cleaning that again changes nothing; bash, sourcing the cleaned text,
has what it has from the original without the dropped variables, and so has Portage when it installs; no dropped name is one that the
package composes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from portage_p2pbin.binpkg.environment import Environment, parse
from portage_p2pbin.binpkg.environment_variables import Variable, read_variable
from portage_p2pbin.kernel.errors import RefusedError

LIST = Path(__file__).parent.parent / "docs/environments-tried.txt"

MAKE_CONF = """
FEATURES="noauto -strict assume-digests -sandbox -usersandbox -userpriv -usersync -network-sandbox -ipc-sandbox -pid-sandbox -mount-sandbox"
ACCEPT_KEYWORDS="~amd64"
ACCEPT_LICENSE="*"
PORTAGE_USERNAME="root"
PORTAGE_GRPNAME="root"
FETCHCOMMAND="false"
"""

# Portage saves what a binary package carries after src_install; here, so that nothing has to be compiled, before and after pkg_setup.
BASHRC = """
__keep_environment() {
	(
		unset -f pre_pkg_setup post_pkg_setup __keep_environment
		__save_ebuild_env --exclude-init-phases | __filter_readonly_variables --filter-path --filter-sandbox --allow-extra-vars
	) > "${PORTAGE_BUILDDIR}.environment"
}
pre_pkg_setup() { __keep_environment; }
post_pkg_setup() { __keep_environment; }
"""

PLAIN = {"TERM": "dumb", "HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

MARK = "of-the-builder"
NOISY = PLAIN | {
    "HOME": "/home/" + MARK,
    "LANG": "C",
    "LC_ALL": "C",
    "TZ": "Pacific/Chatham",
    "SHELL": "/bin/zsh",
    "MAKEOPTS": "-j7",
    "MAKEFLAGS": "-j7",
    "NINJAOPTS": "-j7",
    "LS_COLORS": "rs=0:" + MARK,
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/" + MARK,
    "LD_LIBRARY_PATH": "/opt/" + MARK,
    "PERL5LIB": "/opt/" + MARK,
    "PYTHONSTARTUP": "/opt/" + MARK,
    "GIT_SSH_COMMAND": "ssh -i " + MARK,
    "GREP_OPTIONS": "--exclude=" + MARK,
    "P2PBIN_TRUST": "3",
    "AWS_SECRET_ACCESS_KEY": MARK + ' with "quotes", $dollars, `backquotes`\nand a second line \\',
    "MANPATH": "/opt/" + MARK,
    "WINDOWID": MARK,
    "XDG_SESSION_ID": MARK,
    "VTE_VERSION": MARK,
    "KONSOLE_VERSION": MARK,
    "OLDPWD": "/home/" + MARK,
    "SUDO_COMMAND": MARK,
    "LINGUAS": "de " + MARK,
    "TMUX": MARK,
    "WAYLAND_DISPLAY": MARK,
    "LESSOPEN": "|" + MARK + " %s",
    "EDITOR": MARK,
}


def prepare(checkout: Path, folder: Path) -> None:
    """Lay out the prefix in `folder`: Portage's files, the profile, merged /usr, and the hook that saves environments."""
    for path in ("etc/portage/repos.conf", "share", "usr/bin", "usr/lib", "usr/lib64", "var/db/pkg"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    links = {
        "share/portage": Path(sys.prefix) / "share/portage",
        "usr/bin/gtar": Path(shutil.which("tar") or "/bin/tar"),
        "etc/portage/make.profile": checkout / "profiles/default/linux/amd64/23.0",
        "usr/sbin": Path("bin"),
    } | {name: Path("usr", name) for name in ("bin", "sbin", "lib", "lib64")}
    for name, target in links.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    name = (checkout / "profiles/repo_name").read_text().strip()
    (folder / "etc/portage/repos.conf/one.conf").write_text(f"[DEFAULT]\nmain-repo = {name}\n[{name}]\nlocation = {checkout}\n")
    builds = folder / "builds"
    builds.mkdir(exist_ok=True)
    (folder / "etc/portage/make.conf").write_text(f'{MAKE_CONF}PORTAGE_TMPDIR="{builds}"\nDISTDIR="{folder}"\n')
    (folder / "etc/portage/bashrc").write_text(BASHRC)


def save(checkout: Path, folder: Path, package: str, shell: dict[str, str], saved: Path) -> None:
    """Run the setup phase of `package` (category/name-version) in `shell` and leave its environment in `saved`."""
    category, name = package.split("/")
    (ebuild,) = checkout.glob(f"{category}/*/{name}.ebuild")
    environment = shell | {"PORTAGE_OVERRIDE_EPREFIX": str(folder), "PATH": f"{sys.prefix}/bin:{folder}/usr/bin:{shell['PATH']}"}
    with saved.with_suffix(".log").open("wb") as log:
        command = [f"{sys.prefix}/bin/ebuild", "--skip-manifest", str(ebuild), "clean", "setup"]
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=120)
    left = folder / "builds/portage" / f"{package}.environment"
    if left.exists():
        left.rename(saved)
        shutil.copyfile(ebuild, saved.with_suffix(".ebuild"))


SOURCE = """
shopt -s extglob
own=" $(compgen -v | tr '\\n' ' ') own name "
source /dev/stdin || echo failed >&2
unset -v "$@"
for name in $(compgen -v); do
	[[ ${own} == *" ${name} "* ]] || declare -p "${name}"
done
declare -fp
"""


def sourced(text: bytes, dropped: tuple[str, ...]) -> tuple[list[Variable], bytes]:
    """Return what a bare bash has after sourcing `text` and unsetting `dropped`: its variables, and the functions that it prints."""
    bash = ["bash", "--norc", "--noprofile", "-c", SOURCE, "bash", *dropped]
    printed = subprocess.run(bash, input=text, env={"PATH": PLAIN["PATH"]}, capture_output=True, check=False)
    if printed.stderr:
        raise RuntimeError(printed.stderr.decode(errors="replace"))
    return split(printed.stdout)


def split(text: bytes) -> tuple[list[Variable], bytes]:
    """Return the variables that the lines at the beginning of `text` declare, and what follows."""
    lines = text.splitlines(keepends=True)
    variables = [read_variable(line[:-1]) for line in takewhile(lambda line: line.startswith(b"declare "), lines)]
    return variables, b"".join(lines[len(variables) :])


# What ebuild.sh does with the environment of a binary package before it calls pkg_preinst.
LOAD = """
source "${PORTAGE_BIN_PATH}/isolated-functions.sh"
source "${PORTAGE_BIN_PATH}/phase-functions.sh"
source "${PORTAGE_BIN_PATH}/save-ebuild-env.sh"
: > "${T}/environment.raw"
__preprocess_ebuild_env
"""


def loaded(text: bytes, dropped: tuple[str, ...]) -> tuple[list[Variable], bytes]:
    """Return what Portage's own filters leave of `text`, but for `dropped`, when it installs the package."""
    own = {"PORTAGE_BIN_PATH": f"{sys.prefix}/lib/portage/bin", "PORTAGE_PYTHON": sys.executable, "EMERGE_FROM": "binary", "EAPI": "8"}
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "environment")
        environment.write_bytes(text)
        bash = ["bash", "--norc", "--noprofile", "-c", LOAD]
        subprocess.run(bash, env=own | {"PATH": PLAIN["PATH"], "T": folder}, stdin=subprocess.DEVNULL, check=True)
        variables, functions = split(environment.read_bytes())
    return [variable for variable in variables if variable.name.decode() not in {*dropped, "T"}], functions


def composed(environment: Environment, ebuild: bytes, dropped: tuple[str, ...]) -> Iterator[str]:
    """Yield those of `dropped` that begin like a name the package composes at run time: `CFLAGS_${ABI}`."""
    text = ebuild + b"".join(function.text for function in environment.functions)
    starts = {match[1].decode() for match in re.finditer(rb"([A-Za-z_][A-Za-z0-9_]*_)\$", text)}
    return (name for name in dropped if any(name.startswith(start) for start in starts))


def check(plain: Path, noisy: Path, figures: Counter[str], names: Counter[str]) -> None:
    """Judge one pair of environments; count in `figures` what is right, print what is not."""
    ebuild = plain.with_suffix(".ebuild").read_bytes()
    original = plain.read_bytes()
    try:
        environment, other = parse(original), parse(noisy.read_bytes())
    except RefusedError as error:
        print(f"{plain.stem}: {error}")
        return
    cleaned, dropped = environment.cleaned(ebuild), environment.droppings(ebuild)
    names.update(dropped)
    answers = {
        "read": True,
        "the same from both builders": cleaned == other.cleaned(ebuild),
        "nothing of the builder left": MARK.encode() not in other.cleaned(ebuild),
        "cleaned twice is cleaned once": parse(cleaned).cleaned(ebuild) == cleaned,
        "bash has the same from it": sourced(original, dropped) == sourced(cleaned, ()),
        "Portage loads the same from it": loaded(original, dropped) == loaded(cleaned, dropped),
        "bash prints the same functions": sourced(cleaned, ())[1] == b"".join(function.text for function in environment.functions),
        "no dropped name is composed": not any(composed(environment, ebuild, dropped)),
    }
    figures.update(answer for answer, right in answers.items() if right)
    wrong = [answer for answer, right in answers.items() if not right]
    if wrong:
        lines = set(cleaned.splitlines()) ^ set(other.cleaned(ebuild).splitlines())
        differing = sorted({line.split(b"=")[0].decode() for line in lines})
        print(f"{plain.stem}: not {wrong}; composed: {sorted(composed(environment, ebuild, dropped))}; differing: {differing}")
    figures["bytes"] += len(original)
    figures["variables"] += len(environment.variables)
    figures["functions"] += len(environment.functions)


def main(arguments: list[str]) -> int:
    """Save the environments that are not there yet, judge all, print the figures."""
    checkout, folder = (Path(argument).resolve() for argument in arguments)
    os.umask(0o022)
    prepare(checkout, folder)
    saved = folder / "environments"
    saved.mkdir(exist_ok=True)
    figures: Counter[str] = Counter()
    names: Counter[str] = Counter()
    tried = 0
    for package in LIST.read_text().split():
        pair = [saved / f"{package.replace('/', '_')}.{name}" for name in ("plain", "noisy")]
        for path, shell in zip(pair, (PLAIN, NOISY), strict=True):
            if not path.exists():
                save(checkout, folder, package, shell, path)
        if all(path.exists() for path in pair):
            tried += 1
            check(pair[0], pair[1], figures, names)
    print(f"{tried} ebuilds, each in two shells")
    for name, count in figures.items():
        print(f"{count:8} {name}")
    print("dropped from the bare shell:", ", ".join(f"{name} {count}" for name, count in sorted(names.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
