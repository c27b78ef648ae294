"""The commands around what people sign: `root`, `roster` and `rulings` (P4.2, P6.6, P7.1).

`sign`, `countersign` and `renew` work in a folder of offline keys and need no server.toml; `export`, `import` and `show` work on
the server.  Who signs is responsible for what the files say: what he signs is shown, or compared with the text that he has read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2pbin_server import ceremonies, expiry
from p2pbin_server.ceremonies import Lifetimes, Signed
from p2pbin_server.commands import repository_of, settings_of
from p2pbin_server.keys import make_online_keys
from p2pbin_server.repository import SignedElsewhere
from p2pbin_server.roster_file import read_roster_file
from p2pbin_server.serve import now
from portage_p2pbin import durable
from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.kernel.errors import ExitCode, RefusedError, printable
from portage_p2pbin.kernel.roster import Ruling, RulingKind, Rulings, read_rulings
from portage_p2pbin.kernel.statements import spelt


def root_renew(arguments: argparse.Namespace) -> ExitCode:
    """Sign the next root and targets with the keys that now lie in the folder."""
    online = {} if arguments.new_online_keys is None else make_online_keys(arguments.new_online_keys)
    root, targets = ceremonies.renew(arguments.keys, online, Lifetimes(), now())
    arguments.output.mkdir(parents=True, exist_ok=True)
    durable.write(arguments.output / "targets.json", targets)
    durable.write(arguments.output / "root.json", root)
    output = standard_output()
    output.good(f"Signed: root version {ceremonies.read_root(root).signed.version}, SHA-256 {ceremonies.fingerprint(root)}")
    if online:
        output.warning(f"Stop the server, and put the keys in {arguments.new_online_keys} in the place of those in its keys folder, first")
    output.good(f"Now `p2pbin-server root import {arguments.output}`; every holder of keys copies both files beside them")
    return ExitCode.DONE


def root_import(arguments: argparse.Namespace) -> ExitCode:
    """Put a new root and targets in force."""
    root, targets = (ceremonies.read_file(arguments.signed / name) for name in ("root.json", "targets.json"))
    repository_of(settings_of(arguments)).import_root(root, targets, now())
    output = standard_output()
    output.good("The root is in force; clients find their way to it from the one that they have")
    output.good(f"Give new clients {arguments.signed / 'root.json'}, whose SHA-256 is {ceremonies.fingerprint(root)}")
    return ExitCode.DONE


def root_show(arguments: argparse.Namespace) -> ExitCode:
    """Show the root's fingerprint, and until when each role is good."""
    settings = settings_of(arguments)
    repository, output = repository_of(settings), standard_output()
    root = repository.root()
    output.heading(f"Root version {ceremonies.read_root(root).signed.version}, SHA-256 {ceremonies.fingerprint(root)}")
    rows = [["ROLE", "EXPIRES", "RENEWED BY"]]
    rows += [[role, spelt(time), f"p2pbin-server {expiry.RENEWED_BY[role]}"] for role, time in repository.expiries().items()]
    rows += [[role, spelt(time), "the server itself, while it runs"] for role, time in repository.online_expiries().items()]
    output.table(rows, indent=0)
    for sentence in expiry.warnings(repository.expiries(), settings.lifetimes, now()):
        output.warning(sentence)
    return ExitCode.DONE


def roster_export(arguments: argparse.Namespace) -> ExitCode:
    """Write the roster in force to a folder."""
    return _export(arguments, "roster")


def roster_sign(arguments: argparse.Namespace) -> ExitCode:
    """Sign a roster with the offline keys."""
    roster = read_roster_file(arguments.roster, now())
    signed = ceremonies.sign_roster(roster, arguments.keys, Signed.read(arguments.previous).metadata, Lifetimes(), now())
    return _write(signed, arguments.output, "roster", f"{len(roster.contributors)} contributors", arguments.keys)


def roster_countersign(arguments: argparse.Namespace) -> ExitCode:
    """Add the signatures of a second holder, who has read roster.toml, to a signed roster that says the same."""
    roster, signed = read_roster_file(arguments.roster, now()), Signed.read(arguments.signed)
    ceremonies.check_file("roster", signed)
    if signed.target != roster.encode():
        raise RefusedError("P4.2", str(arguments.signed), f"what was signed is not what {arguments.roster} says; ask who signed it first")
    return _countersign(arguments, "roster", signed, f"{len(roster.contributors)} contributors")


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
    signed = ceremonies.sign_rulings(rulings, arguments.keys, previous, Lifetimes(), now())
    return _write(signed, arguments.output, "rulings", f"{len(rulings.entries)} rulings", arguments.keys)


def rulings_countersign(arguments: argparse.Namespace) -> ExitCode:
    """Show signed rulings, and add the signatures of a second holder."""
    signed = Signed.read(arguments.signed)
    ceremonies.check_file("rulings", signed)
    entries = read_rulings(signed.target).entries
    for one in entries:
        standard_output().step(f"{one.kind.value} {one.subject}: {printable(one.reason)}")
    return _countersign(arguments, "rulings", signed, f"{len(entries)} rulings")


def rulings_import(arguments: argparse.Namespace) -> ExitCode:
    """Put signed rulings in force."""
    return _import(arguments, "rulings")


def _export(arguments: argparse.Namespace, role: SignedElsewhere) -> ExitCode:
    repository_of(settings_of(arguments)).current(role).write(arguments.output)
    standard_output().good(f"{arguments.output} has the {role} in force: the --previous of the next signing")
    return ExitCode.DONE


def _countersign(arguments: argparse.Namespace, role: SignedElsewhere, signed: Signed, what: str) -> ExitCode:
    both = Signed(ceremonies.countersign(role, signed.metadata, arguments.keys), signed.target)
    return _write(both, arguments.signed, role, what, arguments.keys)


def _write(signed: Signed, folder: Path, role: SignedElsewhere, what: str, keys: Path) -> ExitCode:
    """Write what was signed, and say what comes next."""
    signed.write(folder)
    output = standard_output()
    if ceremonies.is_complete(role, signed.metadata, keys):
        output.good(f"Signed: {what}. Now `p2pbin-server {role} import {folder}`")
    else:
        output.warning(f"Signed: {what}, by fewer keys than must sign. Now let another holder run `p2pbin-server {role} countersign`")
    return ExitCode.DONE


def _import(arguments: argparse.Namespace, role: SignedElsewhere) -> ExitCode:
    repository_of(settings_of(arguments)).import_signed(role, Signed.read(arguments.signed), now())
    standard_output().good(f"The {role} is in force" if role == "roster" else "The rulings are in force")
    return ExitCode.DONE
