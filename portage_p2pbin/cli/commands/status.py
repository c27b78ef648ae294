"""`p2pbin status`: how p2pbin is doing on this machine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from datetime import datetime

from portage_p2pbin.cli.levels import MEANINGS
from portage_p2pbin.cli.output import Output, standard_output
from portage_p2pbin.cli.site import now, paths
from portage_p2pbin.config import load
from portage_p2pbin.kernel.errors import ExitCode, printable
from portage_p2pbin.kernel.statements import spelt
from portage_p2pbin.refusals import Refusal
from portage_p2pbin.status import Status, look

MOST_REFUSALS = 20
"""Refusals that are shown; --json has all."""


def run(arguments: argparse.Namespace) -> ExitCode:
    """Look, and print what was seen."""
    status = look(load(paths()), os.environ, now())
    output = standard_output()
    if arguments.json:
        output.json(_as_json(status))
    else:
        _show(status, now(), output)
    return ExitCode.DONE


def _show(status: Status, time: datetime, output: Output) -> None:
    _show_trust(status, output)
    _show_daemon(status, output)
    _show_index(status, time, output)
    _show_contributor(status, output)
    output.good("Space: " + ", ".join(f"{size} bytes {name}" for name, size in status.bytes.items()))
    for missing in status.missing_confinement:
        output.warning(missing)
    for refusal in status.refusals[-MOST_REFUSALS:]:
        output.warning(_refusal(refusal))
    if len(status.refusals) > MOST_REFUSALS:
        output.warning(f"and {len(status.refusals) - MOST_REFUSALS} more that are left out; --json has all")
    for trouble in status.troubles:
        output.error(printable(trouble))


def _show_trust(status: Status, output: Output) -> None:
    if status.settings is not None:
        level = status.settings.thresholds.default
        output.good(f"Threshold {level:d}: {MEANINGS[level]}; {len(status.settings.thresholds.rules)} rules in package.p2pbin")
        for one in status.settings.repositories:
            output.good(f"[{one.name}] channel {one.channel} of {one.host}")


def _show_daemon(status: Status, output: Output) -> None:
    daemon = status.daemon
    if daemon is None:
        output.warning("p2pbind does not answer: packages come all the same, only slower, and nothing is shared with others")
    else:
        output.good(
            f"p2pbind listens on port {daemon.port}; it holds {daemon.files} files, {daemon.bytes} bytes, and has sent {daemon.sent}"
        )


def _show_index(status: Status, time: datetime, output: Output) -> None:
    if not status.expiries:
        output.warning("There is no index yet; the next emerge --getbinpkg fetches one")
    for role, expires in status.expiries.items():
        if expires <= time:
            output.warning(f"The signature of {role} has expired, {spelt(expires)}: its operator has to sign again, or nothing is listed")
    soonest = next((role for role, expires in status.expiries.items() if expires > time), None)
    if soonest is not None:
        output.good(f"The index was verified; its signatures are good until {spelt(status.expiries[soonest])} ({soonest})")


def _show_contributor(status: Status, output: Output) -> None:
    found = status.registration
    if found is None or not status.has_key:
        output.good("This machine is not registered, so it shares no builds (p2pbin register)")
    else:
        output.good(f"Registered at {found.server} as {found.key.machine} of {found.identity}, until {spelt(found.key.not_after)}")
    output.good(f"{status.recorded} builds recorded, {status.published} of them published")


def _refusal(one: Refusal) -> str:
    until = "until it is forgotten (p2pbin forget)" if one.until is None else f"until {spelt(one.until)}"
    return f"{one.cpv} is left out {until}: {one.rule}, {printable(one.reason)}"


def _as_json(status: Status) -> Mapping[str, object]:
    settings, found = status.settings, status.registration
    repositories = () if settings is None else settings.repositories
    return {
        "threshold": None if settings is None else int(settings.thresholds.default),
        "repositories": [{"name": one.name, "host": one.host, "channel": one.channel} for one in repositories],
        "daemon": None if status.daemon is None else status.daemon.as_json(),
        "expires": {role: spelt(time) for role, time in status.expiries.items()},
        "registration": None if found is None else {"identity": found.identity, "key": found.key.public, "server": found.server},
        "hasKey": status.has_key,
        "bytes": dict(status.bytes),
        "recorded": status.recorded,
        "published": status.published,
        "missingConfinement": list(status.missing_confinement),
        "refusals": [{"cpv": one.cpv, "file": one.file, "rule": one.rule, "reason": one.reason} for one in status.refusals],
        "troubles": list(status.troubles),
    }
