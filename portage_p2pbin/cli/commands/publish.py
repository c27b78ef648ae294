"""`p2pbin publish`: share what this machine has built."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable
from pathlib import Path

from portage_p2pbin.cli.levels import named
from portage_p2pbin.cli.output import Output, standard_output
from portage_p2pbin.cli.site import Site
from portage_p2pbin.daemon import sharing
from portage_p2pbin.gentoo.atoms import matching
from portage_p2pbin.gentoo.record import Record, find_record, recorded
from portage_p2pbin.kernel.errors import ExitCode, RefusedError, SettingsError, printable
from portage_p2pbin.machine_key import load_machine_key
from portage_p2pbin.publish import PATIENCE, Outcome, Published, Publisher, SharingRules, is_done, publication


def run(arguments: argparse.Namespace) -> ExitCode:
    """Publish the builds that are meant, one after the other; a refused one does not stop the others."""
    site = Site.named(arguments.repository)
    builds = _meant(site, arguments.atoms)
    rules = SharingRules(site.config.publish.exclude, socket.gethostname().partition(".")[0])
    if arguments.pretend:
        return _pretend(site, builds, rules)
    with site.trust_server() as server, sharing(site.config) as seeder:
        output = standard_output()
        publisher = Publisher(
            folder=site.config.paths.publishing,
            channel=site.repository.channel,
            server=server,
            seeder=seeder,
            key=load_machine_key(site.config.paths.machine_key),
            rules=rules,
            patience=PATIENCE,
            tell=lambda text: output.text(f"    {text}"),
        )
        return _publish(publisher, builds, bool(arguments.atoms), output)


def _meant(site: Site, atoms: list[str]) -> list[Record]:
    """The newest build of each build key that the atoms name; without any, of each that is not published yet."""
    eprefix = site.config.paths.eprefix
    newest = {record.definition.request.key: record for record in (find_record(eprefix, file) for file in recorded(eprefix))}
    if not atoms:
        return [record for record in newest.values() if not is_done(_folder(site, record))]
    known = [record.definition.request.cpv for record in newest.values()]
    wanted = set()
    for atom in atoms:
        found = matching(atom, known)
        if not found:
            raise SettingsError(f"No build of {atom} is recorded here", "Build it with emerge; README.rst shows the hook that records it")
        wanted |= set(found)
    return [record for record in newest.values() if record.definition.request.cpv in wanted]


def _folder(site: Site, record: Record) -> Path:
    return publication(site.config.paths.publishing, site.repository.host, site.repository.channel, record)


def _pretend(site: Site, builds: Iterable[Record], rules: SharingRules) -> ExitCode:
    output = standard_output()
    for record in builds:
        try:
            rules.check(record)
            done = " (published before)" if is_done(_folder(site, record)) else ""
            output.good(f"{record.definition.request.cpv}{done}")
        except RefusedError as error:
            output.warning(f"{record.definition.request.cpv} stays here: {error.rule}, {printable(error.reason)}")
    return ExitCode.DONE


def _publish(publisher: Publisher, builds: list[Record], named_by_user: bool, output: Output) -> ExitCode:
    """What may not be shared is an error only if somebody asked for it by name."""
    code = ExitCode.DONE
    for number, record in enumerate(builds, 1):
        cpv = record.definition.request.cpv
        output.step(f"Publishing ({number} of {len(builds)}) {cpv}")
        try:
            _show(publisher.publish(record), output)
        except RefusedError as error:
            withheld = error.rule == "P10.2" and not named_by_user
            what = "" if error.what == cpv else f"{printable(error.what)}: "
            (output.warning if withheld else output.error)(f"{cpv} refused by {error.rule}: {what}{printable(error.reason)}")
            code = code if withheld else ExitCode.REFUSED
    if not builds:
        output.good("Nothing to publish: everything recorded here is shared")
    return code


def _show(published: Published, output: Output) -> None:
    said = published.vote.vote
    output.good(f"{said.cpv}: {published.outcome.value}")
    output.text(f"    {said.contents}")
    if published.outcome is not Outcome.BEFORE:
        output.text(f"    the server says: {named(published.level)}; {printable(published.reason)}")
