"""p2pbind: seed, hold copies, and answer p2pbin-fetch in milliseconds."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from portage_p2pbin.cli.output import standard_error
from portage_p2pbin.cli.running import run
from portage_p2pbin.config import Paths, eprefix_of, load
from portage_p2pbin.daemon import Daemon
from portage_p2pbin.kernel.errors import ExitCode

_EXAMPLE = """\
example:
  p2pbind --check-config && p2pbind

It stays in the foreground; the OpenRC and systemd units start it in the background.  Emerge works without it too:
each call then starts what it needs, and nothing is seeded afterwards.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="p2pbind", description="Seed packages, and fetch them for emerge.", epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--eprefix", type=Path, metavar="DIR", help="the Gentoo to serve; default: $PORTAGE_OVERRIDE_EPREFIX, $EPREFIX, /")
    parser.add_argument("--check-config", action="store_true", help="say whether client.toml can be read, and end")
    parser.add_argument("--debug", action="store_true", help="show where in the program an error comes from")
    arguments = parser.parse_args(argv)
    return run(lambda: _serve(arguments.eprefix, check_only=arguments.check_config), debug=arguments.debug)


def _serve(eprefix: Path | None, *, check_only: bool) -> ExitCode:
    paths = Paths(eprefix or eprefix_of(os.environ))
    config = load(paths)
    if not check_only:
        daemon = Daemon(config)
        standard_error().good(f"p2pbind answers at {paths.socket}")
        daemon.serve()
    return ExitCode.DONE
