"""`p2pbin`: its commands and their arguments.

What a command does is in its module in :mod:`portage_p2pbin.cli.commands`, imported only when it is called, so that `--help` does
not wait for Portage.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from portage_p2pbin.cli.running import run
from portage_p2pbin.kernel.errors import ExitCode

EXIT_CODES = "Exit codes: 0 done, 1 a bug of ours, 2 mend your settings, 3 not available now, 4 refused."

DAYS = 365
"""How long a machine key is good for, unless somebody says otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code of the process."""
    arguments = _parser().parse_args(argv)
    command = importlib.import_module(f"portage_p2pbin.cli.commands.{arguments.command}")

    def call() -> ExitCode:
        done: ExitCode = command.run(arguments)
        return done

    return run(call, debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="p2pbin",
        description="Gentoo binary packages over BitTorrent, trusted because independent builders signed for what is inside.",
        epilog=f"{EXIT_CODES}  Example: p2pbin explain app-misc/hello",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_contents(_command(commands, "contents", "print the contents digest of a package file", "p2pbin contents hello-2.12-1.gpkg.tar"))
    _add_verify(_command(commands, "verify", "check a package file against the votes on it", "p2pbin verify hello-2.12-1.gpkg.tar"))
    _add_publish(_command(commands, "publish", "share the packages that this machine has built", "p2pbin publish app-misc/hello"))
    _add_explain(_command(commands, "explain", "say why a package is offered here or not", "p2pbin explain app-misc/hello"))
    _add_json(_command(commands, "status", "show how p2pbin is doing on this machine", "p2pbin status"))
    _add_register(_command(commands, "register", "register this machine as a contributor", "p2pbin register --identity 0123…CDEF"))
    _add_config(_command(commands, "config", "show or set the trust threshold", "p2pbin config set 3"))
    _add_forget(_command(commands, "forget", "let refused packages be tried again", "p2pbin forget app-misc/hello"))
    return parser


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, does: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"Example: {example}")


def _add_contents(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a gpkg")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--manifest", action="store_true", help="print what the digest is made of, as mtree(5)")
    either.add_argument(
        "--diff", type=Path, nargs=2, metavar=("A", "B"), help="say what differs between two packages, and of which kind it is"
    )
    _add_json(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a gpkg")
    _add_repository(parser)
    _add_json(parser)


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atoms", nargs="*", metavar="ATOM", help="packages; all that was built and not published yet, if none is named")
    parser.add_argument("--pretend", "-p", action="store_true", help="only say what would be published, and what not and why")
    _add_repository(parser)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atom", metavar="ATOM", help="a package, such as app-misc/hello or =app-misc/hello-2.12")
    _add_repository(parser)
    _add_json(parser)


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--identity", required=True, metavar="FINGERPRINT", help="your OpenPGP key, by its whole fingerprint")
    parser.add_argument(
        "--machine", default="", metavar="NAME", help="a name for this machine, which becomes public; made up if none is given"
    )
    parser.add_argument("--days", type=int, default=DAYS, help=f"how long the machine's key shall be valid (default {DAYS})")
    _add_repository(parser)


def _add_config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = _command(actions, "show", "show the threshold and where packages come from", "p2pbin config show")
    show.add_argument("--level", action="store_true", help="print the number alone, or nothing if none is set")
    setting = _command(actions, "set", "set P2PBIN_TRUST in make.conf", "p2pbin config set 3")
    setting.add_argument("level", metavar="LEVEL", help="1 (a build server has built it) to 6 (several strangers have)")


def _add_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("atom", nargs="?", metavar="ATOM", help="a package")
    parser.add_argument("--all", action="store_true", help="forget all refusals")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", metavar="NAME", help="the section of binrepos.conf, if there are several of ours")
