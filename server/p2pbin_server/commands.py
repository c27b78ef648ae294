"""What each command of `p2pbin-server` does: builds its objects and calls the rules.

Those about what people sign are in :mod:`p2pbin_server.signing`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from p2pbin_server import ceremonies, contributors, reports
from p2pbin_server.app import State
from p2pbin_server.electorate import Voters
from p2pbin_server.keys import make_offline_keys, make_online_keys
from p2pbin_server.reports import Report
from p2pbin_server.repository import Repository
from p2pbin_server.serve import now, serve_until_ended
from p2pbin_server.settings import Settings, load, spelt
from p2pbin_server.store import Store
from portage_p2pbin import durable
from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.kernel.errors import ExitCode, SettingsError, UnavailableError, printable
from portage_p2pbin.kernel.roster import Policy

FIRST_POLICY = Policy(2, 3)
"""X and Y of the first roster, on which nobody is; roster.toml has those that will count."""

MOST_CLASHES = 500


def init(arguments: argparse.Namespace) -> ExitCode:
    """Make offline keys, online keys and an empty repository; write root.json for the clients."""
    settings = settings_of(arguments)
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
    serve_until_ended(settings_of(arguments))
    return ExitCode.DONE


def check_config(arguments: argparse.Namespace) -> ExitCode:
    """Say whether server.toml can be used."""
    settings = settings_of(arguments)
    roles = ", ".join(sorted(settings.roles))
    standard_output().good(
        f"{_config(arguments)} is good: {settings.name} on {spelt(settings.listen)} as {roles}; state in {settings.state}"
    )
    return ExitCode.DONE


def contributor_list(arguments: argparse.Namespace) -> ExitCode:
    """List everybody who has registered."""
    settings = settings_of(arguments)
    electorate = Voters(repository_of(settings)).at(now())
    with _store(settings) as store, store.reading() as transaction:
        found = transaction.contributors()
    rows = [["IDENTITY", "ROLE", "MACHINE KEY", "MACHINE"]]
    rows += [[one.identity, contributors.role(electorate, one.key).value, one.key, printable(one.machine)] for one in found]
    standard_output().table(rows, indent=0)
    return ExitCode.DONE


def contributor_promote(arguments: argparse.Namespace) -> ExitCode:
    """Write down a contributor for the roster's signers."""
    with _store(settings_of(arguments)) as store, store.reading() as transaction:
        contributors.promote(transaction, arguments.identity, arguments.role, arguments.operator, arguments.output)
    standard_output().good(f"{arguments.output / 'roster.toml'} has the entry; it counts once the roster is signed and imported")
    return ExitCode.DONE


def clash_list(arguments: argparse.Namespace) -> ExitCode:
    """List the newest clashes."""
    settings = settings_of(arguments)
    electorate = Voters(repository_of(settings)).at(now())
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
    settings = settings_of(arguments)
    electorate = Voters(repository_of(settings)).at(now())
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


def _config(arguments: argparse.Namespace) -> Path:
    return arguments.config or cast(Path, arguments.eprefix) / "etc/p2pbin/server.toml"


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What server.toml says.  Raises SettingsError."""
    return load(_config(arguments), arguments.eprefix)


def repository_of(settings: Settings) -> Repository:
    """The TUF repository in the server's state.  Raises SettingsError."""
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
