"""`p2pbin forget`: let packages that this machine has refused or could not get be tried again."""

from __future__ import annotations

import argparse

from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.cli.site import now, paths
from portage_p2pbin.gentoo.atoms import matching
from portage_p2pbin.kernel.errors import ExitCode, SettingsError
from portage_p2pbin.refusals import Refusals


def run(arguments: argparse.Namespace) -> ExitCode:
    """Forget the refusals of one package, or all of them."""
    if (arguments.atom is None) != arguments.all:
        raise SettingsError("`p2pbin forget` needs a package, or --all", "Example: p2pbin forget app-misc/hello")
    output, refusals = standard_output(), Refusals(paths().refused)
    known = [one.cpv for one in refusals.read(now())]
    named = set(known if arguments.all else matching(arguments.atom, known))
    if not named:
        output.good("Nothing to forget")
        return ExitCode.DONE
    for one in refusals.forget(lambda refusal: refusal.cpv in named, now()):
        output.good(f"{one.cpv} may be offered again; it was left out by {one.rule}: {one.reason}")
    return ExitCode.DONE
