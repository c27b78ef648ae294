"""Run the nine scenes, print what was seen, and exit non-zero if anything did not happen."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.demo.play import SCENES, Play
from tests.throwaway.gentoo import CommandError
from tests.world import NotSeenError, World

_GREEN, _RED, _BOLD, _NORMAL = ("\x1b[32;01m", "\x1b[31;01m", "\x1b[01m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "", "")


def main(arguments: list[str]) -> int:
    """Run the demo; return 0 if every scene was seen."""
    parser = argparse.ArgumentParser(prog="make demo", description="The whole way once: nine scenes with real processes on this machine.")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all machines, and say where it is")
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="p2pbin-"))
    home.chmod(0o755)
    rows: list[tuple[str, str, float]] = []
    failure = None
    try:
        with World(home) as world:
            failure = _run(Play(world), rows)
    finally:
        if options.keep:
            print(f"Everything is in {home}")
        else:
            shutil.rmtree(home)
    _print_table(rows)
    if failure is not None:
        print(f"\n{_RED} *{_NORMAL} {failure}")
        return 1
    print(f"\n{_GREEN} *{_NORMAL} All {len(SCENES)} scenes were seen.")
    return 0


def _run(play: Play, rows: list[tuple[str, str, float]]) -> Exception | None:
    """Run the scenes in order until one fails; add a row for each."""
    for number, (title, scene) in enumerate(SCENES, 1):
        print(f"\n{_GREEN}>>>{_NORMAL} {_BOLD}{number}. {title}{_NORMAL}", flush=True)
        start = time.monotonic()
        try:
            seen = scene(play)
        except (NotSeenError, CommandError) as error:
            rows.append((f"{number}. {title}", "NOT SEEN", time.monotonic() - start))
            return error
        rows.append((f"{number}. {title}", seen, time.monotonic() - start))
    return None


def _print_table(rows: list[tuple[str, str, float]]) -> None:
    width = max(len(title) for title, _, _ in rows)
    print(f"\n{_BOLD}{'scene':{width}}  seconds  what was seen{_NORMAL}")
    for title, seen, seconds in rows:
        print(f"{title:{width}}  {seconds:7.1f}  {seen}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
