"""`p2pbin verify`: would this package file be installed here?  Each check with its number in docs/protocol.rst."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.cli.levels import named, voters, voters_json
from portage_p2pbin.cli.output import Output, standard_output
from portage_p2pbin.cli.package_file import opened
from portage_p2pbin.cli.progress import progress
from portage_p2pbin.cli.site import Site, now
from portage_p2pbin.gentoo.settings import read_settings
from portage_p2pbin.kernel.errors import ExitCode, RefusedError, printable
from portage_p2pbin.verify import Seen, Verification, Verifier, look


def run(arguments: argparse.Namespace) -> ExitCode:
    """Make every check and show it; refuse by the first that does not hold."""
    site = Site.named(arguments.repository)
    found = _verify(site, _look(arguments.file))
    output = standard_output()
    if arguments.json:
        output.json(_as_json(found))
    else:
        _show(arguments.file, found, output)
    for check in found.failed:
        raise RefusedError(check.rule, found.entry.cpv, check.objection)
    return ExitCode.DONE


def _look(path: Path) -> Seen:
    with opened(path) as file, progress(file):
        return look(file, read_sandboxed)


def _verify(site: Site, seen: Seen) -> Verification:
    eprefix = site.config.paths.eprefix
    thresholds = read_settings(eprefix, os.environ).thresholds
    prefix = "" if eprefix == Path("/") else str(eprefix)
    with site.trust_server() as server, site.verified(server) as repository:
        return Verifier(server, site.repository.channel, repository, thresholds, prefix, now()).verify(seen)


def _show(path: Path, found: Verification, output: Output) -> None:
    output.step(f"{found.entry.cpv}: {printable(str(path))}")
    for check in found.checks:
        if check.objection:
            output.error(f"{check.rule} not so: {check.claim}: {printable(check.objection)}")
        else:
            output.good(f"{check.rule} {check.claim}")
    if found.judgement is not None:
        output.good(f"{named(found.judgement.level)}; {voters(found.judgement.voices)}")


def _as_json(found: Verification) -> Mapping[str, object]:
    judgement = found.judgement
    return {
        "cpv": found.entry.cpv,
        "listed": found.entry.as_json(),
        "threshold": int(found.threshold),
        "level": None if judgement is None else judgement.level,
        "voices": [] if judgement is None else voters_json(judgement.voices),
        "holds": not found.failed,
        "checks": [{"rule": one.rule, "claim": one.claim, "objection": one.objection} for one in found.checks],
    }
