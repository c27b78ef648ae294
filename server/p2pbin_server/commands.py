"""What each command of `p2pbin-server` does: builds its objects and calls the rules."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from p2pbin_server import ceremonies, contributors, reports
from p2pbin_server.app import State
from p2pbin_server.ceremonies import Lifetimes, Signed
from p2pbin_server.electorate import Voters
from p2pbin_server.keys import make_offline_keys, make_online_keys
from p2pbin_server.reports import Report
from p2pbin_server.repository import Repository, SignedElsewhere
from p2pbin_server.roster_file import read_roster_file
from p2pbin_server.serve import now, serve_until_ended
from p2pbin_server.settings import Settings, load, spelt
from p2pbin_server.store import Store
from portage_p2pbin import durable
from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.kernel.errors import ExitCode, SettingsError, UnavailableError, printable
from portage_p2pbin.kernel.roster import Policy, Ruling, RulingKind, Rulings, read_rulings

FIRST_POLICY = Policy(2, 3)
"""X and Y of the first roster, on which nobody is; roster.toml has those that will count."""

MOST_CLASHES = 500


def init(arguments: argparse.Namespace) -> ExitCode:
    """Make offline keys, online keys and an empty repository; write root.json for the clients."""
    settings = _settings(arguments)
    state = State(settings.state)
    root_json = _config(arguments).parent / "root.json"
    if state.tuf.exists() or root_json.exists():
        raise SettingsError(f"{state.tuf} or {root_json} exists already", "A repository is never overwritten; remove it if nobody uses it.")
    state.make()
    make_offline_keys(arguments.keys)
    online = make_online_keys(state.keys)
    beginning = ceremonies.begin(arguments.keys, online, FIRST_POLICY, settings.lifetimes, now())
    root = Repository.create(state.tuf, state.keys, beginning, settings.lifetimes, now()).root()
    durable.write(root_json, root)
    output = standard_output()
    output.good(f"Offline keys are in {arguments.keys}: take them away from this machine, and give them to two people or more")
    output.good(f"Clients start from {root_json}, whose SHA-256 is {ceremonies.fingerprint(root)}")
    return ExitCode.DONE


def serve(arguments: argparse.Namespace) -> ExitCode:
    """Answer until SIGTERM."""
    serve_until_ended(_settings(arguments))
    return ExitCode.DONE


def check_config(arguments: argparse.Namespace) -> ExitCode:
    """Say whether server.toml can be used."""
    settings = _settings(arguments)
    roles = ", ".join(sorted(settings.roles))
    standard_output().good(
        f"{_config(arguments)} is good: {settings.name} on {spelt(settings.listen)} as {roles}; state in {settings.state}"
    )
    return ExitCode.DONE


def contributor_list(arguments: argparse.Namespace) -> ExitCode:
    """List everybody who has registered."""
    settings = _settings(arguments)
    electorate = Voters(_repository(settings)).at(now())
    with _store(settings) as store, store.reading() as transaction:
        found = transaction.contributors()
    rows = [["IDENTITY", "ROLE", "MACHINE KEY", "MACHINE"]]
    rows += [[one.identity, contributors.role(electorate, one.key).value, one.key, printable(one.machine)] for one in found]
    standard_output().table(rows, indent=0)
    return ExitCode.DONE


def contributor_promote(arguments: argparse.Namespace) -> ExitCode:
    """Write down a contributor for the roster's signers."""
    with _store(_settings(arguments)) as store, store.reading() as transaction:
        contributors.promote(transaction, arguments.identity, arguments.role, arguments.operator, arguments.output)
    standard_output().good(f"{arguments.output / 'roster.toml'} has the entry; it counts once the roster is signed and imported")
    return ExitCode.DONE


def roster_export(arguments: argparse.Namespace) -> ExitCode:
    """Write the roster in force to a folder."""
    return _export(arguments, "roster")


def roster_sign(arguments: argparse.Namespace) -> ExitCode:
    """Sign a roster with the offline keys."""
    roster = read_roster_file(arguments.roster, now())
    signed = ceremonies.sign_roster(roster, arguments.keys, Signed.read(arguments.previous).metadata, Lifetimes(), now())
    signed.write(arguments.output)
    standard_output().good(f"Signed: {len(roster.contributors)} contributors. Now `p2pbin-server roster import {arguments.output}`")
    return ExitCode.DONE


def roster_import(arguments: argparse.Namespace) -> ExitCode:
    """Put a signed roster in force."""
    return _import(arguments, "roster")


def rulings_export(arguments: argparse.Namespace) -> ExitCode:
    """Write the rulings in force to a folder."""
    return _export(arguments, "rulings")


def rulings_sign(arguments: argparse.Namespace) -> ExitCode:
    """Sign the rulings, with a new one if there is one."""
    previous = Signed.read(arguments.previous)
    subjects = {RulingKind.RECALL: arguments.recall, RulingKind.VOID: arguments.void, RulingKind.SUSPEND: arguments.suspend}
    added = tuple(Ruling(kind, subject, arguments.reason, now()) for kind, subject in subjects.items() if subject is not None)
    rulings = Rulings(read_rulings(previous.target).entries + added)
    ceremonies.sign_rulings(rulings, arguments.keys, previous, Lifetimes(), now()).write(arguments.output)
    standard_output().good(f"Signed: {len(rulings.entries)} rulings. Now `p2pbin-server rulings import {arguments.output}`")
    return ExitCode.DONE


def rulings_import(arguments: argparse.Namespace) -> ExitCode:
    """Put signed rulings in force."""
    return _import(arguments, "rulings")


def clash_list(arguments: argparse.Namespace) -> ExitCode:
    """List the newest clashes."""
    settings = _settings(arguments)
    electorate = Voters(_repository(settings)).at(now())
    with _store(settings) as store, store.reading() as transaction:
        found = [
            reports.clash_report(transaction, electorate, row, settings.most_open_clashes) for row in transaction.clashes(MOST_CLASHES)
        ]
    rows = [["NUMBER", "PACKAGE", "OPENED", "STATE"]]
    rows += [[str(one["number"]), str(one["cpv"]), str(one["opened"]), "open" if one["open"] else "settled"] for one in found]
    standard_output().table(rows, indent=0)
    return ExitCode.DONE


def clash_show(arguments: argparse.Namespace) -> ExitCode:
    """Show who stands on which side, and what differs."""
    settings = _settings(arguments)
    electorate = Voters(_repository(settings)).at(now())
    with _store(settings) as store, store.reading() as transaction:
        row = transaction.clash(arguments.number)
        if row is None:
            raise UnavailableError(f"Clash {arguments.number}", "there is none of this number; see `p2pbin-server clash list`")
        report = reports.clash_report(transaction, electorate, row, settings.most_open_clashes)
        differ = reports.clash_differences(transaction, electorate, row, settings.most_open_clashes, State(settings.state).manifests)
    _print_clash(report, differ)
    return ExitCode.DONE


def _print_clash(report: Report, differ: list[Report] | None) -> None:
    output = standard_output()
    output.heading(f"Clash {report['number']} about {report['cpv']}, {'open' if report['open'] else 'settled'}")
    output.fields({"channel": str(report["channel"]), "definition": str(report["definition"]), "opened": str(report["opened"])})
    for side in cast(list[Report], report["sides"]):
        voices = ", ".join(f"{voice['operator']} ({voice['role']})" for voice in cast(list[Report], side["voices"]))
        state = "stays listed" if side["stays"] else "withdrawn"
        output.step(f"{side['contents']}: level {side['level']}, {state}; {voices}")
    if differ is None:
        output.warning("The packages of both sides are not here, so what differs is not known yet")
    for one in differ or []:
        output.text(f"    {one['kind']}: {printable(str(one['path']))}: {printable(str(one['detail']))}")


def _export(arguments: argparse.Namespace, role: SignedElsewhere) -> ExitCode:
    _repository(_settings(arguments)).current(role).write(arguments.output)
    standard_output().good(f"{arguments.output} has the {role} in force: the --previous of the next signing")
    return ExitCode.DONE


def _import(arguments: argparse.Namespace, role: SignedElsewhere) -> ExitCode:
    _repository(_settings(arguments)).import_signed(role, Signed.read(arguments.signed), now())
    standard_output().good(f"The {role} is in force" if role == "roster" else "The rulings are in force")
    return ExitCode.DONE


def _config(arguments: argparse.Namespace) -> Path:
    return arguments.config or cast(Path, arguments.eprefix) / "etc/p2pbin/server.toml"


def _settings(arguments: argparse.Namespace) -> Settings:
    return load(_config(arguments), arguments.eprefix)


def _repository(settings: Settings) -> Repository:
    state = State(settings.state)
    return Repository(state.tuf, state.keys, settings.lifetimes)


@contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    state = State(settings.state)
    if not state.database.exists():
        raise UnavailableError(str(state.database), "nothing was served from here yet")
    store = Store(state.database)
    try:
        yield store
    finally:
        store.close()
