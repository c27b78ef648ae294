"""`p2pbin-server`: its commands and their arguments.

What they do is in :mod:`p2pbin_server.commands` and :mod:`p2pbin_server.signing`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pbin_server import commands, signing
from portage_p2pbin.cli.running import run
from portage_p2pbin.kernel.errors import DecodeError, ExitCode
from portage_p2pbin.kernel.model import ContentsDigest, Fingerprint, Operator, PublicKey, Role, Token

_EXIT_CODES = "Exit codes: 0 done, 1 a bug of ours, 2 mend your settings, 3 not available now, 4 refused."

Command = Callable[[argparse.Namespace], ExitCode]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code of the process."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.run
    return run(lambda: command(arguments), debug=arguments.debug)


class _Commands:
    """The subcommands of one parser; each gets --help with an example."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def group(self, name: str, does: str) -> _Commands:
        return _Commands(self._parsers.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}."))

    def add(self, name: str, does: str, example: str, command: Command, *, configured: bool = True) -> argparse.ArgumentParser:
        parser = self._parsers.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=f"Example: {example}")
        parser.set_defaults(run=command)
        if configured:
            parser.add_argument("--config", type=Path, metavar="FILE", help="server.toml; default: EPREFIX/etc/p2pbin/server.toml")
            prefix = Path(os.environ.get("EPREFIX") or "/")
            parser.add_argument("--eprefix", type=Path, default=prefix, metavar="DIR", help="where etc and var lie (default: %(default)s)")
        return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="p2pbin-server",
        description="The trust server: keeps votes, derives levels, lists packages, takes them in and hands them out.",
        epilog=f"{_EXIT_CODES}  Example: p2pbin-server serve --config /etc/p2pbin/server.toml",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top = _Commands(parser)
    init = top.add("init", "make keys and an empty repository", "p2pbin-server init --keys /media/stick/p2pbin", commands.init)
    _keys(init, "a new folder for the offline keys; take it away from this machine afterwards")
    top.add("serve", "answer until SIGTERM", "p2pbin-server serve --config /etc/p2pbin/server.toml", commands.serve)
    top.add("check-config", "say whether server.toml can be used", "p2pbin-server check-config", commands.check_config)
    _add_contributors(top.group("contributor", "show contributors, prepare their entry in the roster"))
    _add_root(top.group("root", "renew the root and its keys, and put it in force"))
    _add_roster(top.group("roster", "sign the roster with the offline keys, and put it in force"))
    _add_rulings(top.group("rulings", "sign recalls and suspensions with their own key, and put them in force"))
    clash = top.group("clash", "show clashes: two results of one build definition")
    clash.add("list", "list the newest clashes", "p2pbin-server clash list", commands.clash_list)
    show = clash.add("show", "show who stands on which side, and what differs", "p2pbin-server clash show 1", commands.clash_show)
    show.add_argument("number", type=int, metavar="NUMBER", help="as `clash list` shows it")
    return parser


def _add_contributors(group: _Commands) -> None:
    group.add("list", "list everybody who has registered", "p2pbin-server contributor list", commands.contributor_list)
    example = "p2pbin-server contributor promote 0123…CDEF --role trusted --operator larry --output roster/"
    promote = group.add("promote", "write down a contributor for the roster's signers", example, commands.contributor_promote)
    promote.add_argument("identity", type=_checked(Fingerprint), metavar="IDENTITY", help="the OpenPGP fingerprint")
    promote.add_argument("--role", type=Role, required=True, metavar="ROLE", help=", ".join(role.value for role in Role))
    promote.add_argument(
        "--operator", type=_checked(Operator), required=True, metavar="NAME", help="the person or organisation who answers"
    )
    _output(promote, "the folder with roster.toml; the entry is added to it")


def _add_root(group: _Commands) -> None:
    does = "show the root's fingerprint, and until when each role is good"
    group.add("show", does, "p2pbin-server root show", signing.root_show)
    does = "sign the next root and targets, which appoint the keys that now lie in the folder; away from the server"
    example = "p2pbin-server root renew --keys /media/stick/p2pbin --output next/"
    renew = group.add("renew", does, example, signing.root_renew, configured=False)
    _keys(renew, "the folder of the offline keys, of root, roster and rulings; what is not in it is not appointed any more")
    renew.add_argument("--new-online-keys", type=Path, metavar="DIR", help="make new keys for the server in DIR, and appoint them")
    _output(renew, "a folder for what is signed; carry it to the server")
    _signed(group.add("import", "put a new root and targets in force", "p2pbin-server root import next/", signing.root_import))


def _add_roster(group: _Commands) -> None:
    example = "p2pbin-server roster export --output now/"
    _output(group.add("export", "write the roster in force to a folder", example, signing.roster_export), "a folder")
    example = "p2pbin-server roster sign roster/roster.toml --keys /media/stick/p2pbin --previous now/ --output next/"
    sign = group.add("sign", "sign a roster; away from the server", example, signing.roster_sign, configured=False)
    sign.add_argument("roster", type=Path, metavar="ROSTER.TOML", help="who is trusted with what; read it before you sign")
    _previous(sign)
    example = "p2pbin-server roster countersign roster/roster.toml next/ --keys /media/other-stick/p2pbin"
    does = "add a second holder's signatures to a roster that says what roster.toml says; away from the server"
    countersign = group.add("countersign", does, example, signing.roster_countersign, configured=False)
    countersign.add_argument("roster", type=Path, metavar="ROSTER.TOML", help="your own copy; read it before you sign")
    _signed(countersign)
    _keys(countersign, "the folder of your offline keys")
    _signed(group.add("import", "put a signed roster in force", "p2pbin-server roster import next/", signing.roster_import))


def _add_rulings(group: _Commands) -> None:
    example = "p2pbin-server rulings export --output now/"
    _output(group.add("export", "write the rulings in force to a folder", example, signing.rulings_export), "a folder")
    example = "p2pbin-server rulings sign --recall p2pbin-contents-1:… --reason 'back door' --keys KEYS --previous now/ --output next/"
    does = "sign the rulings, with a new one or to renew them; away from the server"
    sign = group.add("sign", does, example, signing.rulings_sign, configured=False)
    kind = sign.add_mutually_exclusive_group()
    kind.add_argument("--recall", type=_checked(ContentsDigest), metavar="DIGEST", help="list these contents no more, at any level")
    kind.add_argument("--void", type=_checked(PublicKey), metavar="KEY", help="no vote of this machine key counts")
    kind.add_argument("--suspend", type=_checked(Operator), metavar="OPERATOR", help="no vote of this operator counts")
    sign.add_argument("--reason", default="", metavar="TEXT", help="why, for everybody to read")
    _previous(sign)
    example = "p2pbin-server rulings countersign next/ --keys /media/other-stick/p2pbin"
    does = "show signed rulings and add a second holder's signatures; away from the server"
    countersign = group.add("countersign", does, example, signing.rulings_countersign, configured=False)
    _signed(countersign)
    _keys(countersign, "the folder of your offline keys")
    _signed(group.add("import", "put signed rulings in force", "p2pbin-server rulings import next/", signing.rulings_import))


def _keys(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help=what)


def _output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=what)


def _signed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("signed", type=Path, metavar="DIR", help="what `sign` or `renew` has written")


def _previous(parser: argparse.ArgumentParser) -> None:
    _keys(parser, "the folder of the offline keys")
    parser.add_argument("--previous", type=Path, required=True, metavar="DIR", help="what `export` has written")
    _output(parser, "a folder for what is signed; carry it to the server")


def _checked(make: type[Token]) -> Callable[[str], Token]:
    """An argument of one of the kernel's types."""

    def check(text: str) -> Token:
        try:
            return make(text)
        except DecodeError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a {make.__name__}") from error

    return check
