"""Take each guard out, one at a time, and see whether a test notices: `make guards MODULES="portage_p2pbin/kernel/trust.py …"`.

A guard is an `if` whose body does nothing but raise, refuse or return a refusal.  It is taken out in a copy of the project, and the
tests that import the module are run there.  Full coverage would not show this: a bad input may be refused by another guard
first.  Tests that do not end have noticed too: a reader whose bound is gone may read for ever.  A guard that is there twice on
purpose is marked with the comment `# guard: twice` on its line, with the reason.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
COPIED = ("portage_p2pbin", "server", "tests", "docs", "etc", "pyproject.toml")
SECONDS = 120
"""How long the tests of a module may take; with their guards in place they take much less, or :func:`main` stops."""


def guards(source: str) -> Iterator[ast.If]:
    """Each `if` of `source` whose whole body is a refusal."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and len(node.body) == 1 and _refuses(node.body[0]) and "# guard: twice" not in lines[node.lineno - 1]:
            yield node


def _refuses(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name.strip("_").startswith("refuse")
    if isinstance(statement, ast.Return):
        return isinstance(statement.value, ast.Constant) and (statement.value.value is None or isinstance(statement.value.value, str))
    return False


def without(source: str, guard: ast.If) -> str:
    """`source` in which the condition of `guard` is never true."""
    lines = source.splitlines(keepends=True)
    first, last = guard.test.lineno - 1, (guard.test.end_lineno or guard.test.lineno) - 1
    head = lines[first].encode()[: guard.test.col_offset].decode()
    tail = lines[last].encode()[guard.test.end_col_offset or 0 :].decode()
    lines[first : last + 1] = [f"{head}False{tail}"]
    return "".join(lines)


def tests_of(module: Path) -> list[str]:
    """The tests that import `module` or what is below it, end-to-end tests left out: they take too long to run once a guard."""
    name = ".".join(module.with_suffix("").parts).removeprefix("server.").removesuffix(".__init__")
    package, _, last = map(re.escape, name.rpartition("."))
    asked = re.compile(rf"\b{package}\.{last}\b|from {package} import .*\b{last}\b")
    tests = (path for path in (PROJECT / "tests").rglob("test_*.py") if "e2e" not in path.parts)
    return sorted(str(path.relative_to(PROJECT)) for path in tests if asked.search(path.read_text()))


def noticed(copy: Path, tests: list[str]) -> bool:
    """Does one of `tests` fail in `copy`, or none of them end?  What they have started ends with them."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    # The installed package of an editable installation lies elsewhere; the copy comes before it.
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{copy / 'server'}"}
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as pytest:
        try:
            return pytest.wait(SECONDS) != 0
        except subprocess.TimeoutExpired:
            os.killpg(pytest.pid, signal.SIGKILL)
            return True


def main(modules: list[str]) -> int:
    """Try every guard of `modules`; return how many nobody missed, at most 1 for the shell."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = PROJECT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
        for module in map(Path, modules):
            text = module.read_text()
            tests = tests_of(module)
            if not tests or noticed(copy, tests):
                sys.exit(f"{module}: there must be tests that import it and pass before a guard is taken out")
            for guard in guards(text):
                (copy / module).write_text(without(text, guard))
                caught = noticed(copy, tests)
                missed += not caught
                print(f"{'caught' if caught else 'MISSED'}  {module}:{guard.lineno}  if {ast.unparse(guard.test)[:90]}", flush=True)
            (copy / module).write_text(text)
    print(f"{missed} guards could be taken out without a test that notices")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
