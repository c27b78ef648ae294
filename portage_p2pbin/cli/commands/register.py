"""`p2pbin register`: become a contributor, untrusted at first."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.cli.site import Site
from portage_p2pbin.kernel.errors import DecodeError, ExitCode, SettingsError
from portage_p2pbin.kernel.model import Fingerprint, Role
from portage_p2pbin.openpgp import LONGEST_WINDOW
from portage_p2pbin.register import read_registration, register


def run(arguments: argparse.Namespace) -> ExitCode:
    """Register, and say what comes next."""
    identity = _fingerprint(arguments.identity)
    if not 1 <= arguments.days <= LONGEST_WINDOW.days:
        raise SettingsError(f"--days is {arguments.days}", f"A machine's key is good for 1 to {LONGEST_WINDOW.days} days")
    site = Site.named(arguments.repository)
    gpg_home = Path(site.config.publish.gpg_home) if site.config.publish.gpg_home else None
    with site.trust_server() as server:
        registered = register(
            site.config.paths, server, identity, gpg_home=gpg_home, machine=arguments.machine, window=timedelta(days=arguments.days)
        )
    output = standard_output()
    key = read_registration(site.config.paths.machine_json).key
    output.good(f"{key.machine} is registered at {site.repository.host} as {registered.role.value}, until {key.not_after:%Y-%m-%d}")
    output.good("Share what this machine has built with: p2pbin publish")
    if registered.role is Role.UNTRUSTED:
        output.good("Your votes count once a build server has built the same and found it equal.")
        output.good(f"To be trusted more, send your fingerprint to the operators of {site.repository.host}: {identity}")
    return ExitCode.DONE


def _fingerprint(text: str) -> Fingerprint:
    """A fingerprint as gpg shows it, in groups or not."""
    try:
        return Fingerprint(text.replace(" ", "").upper().removeprefix("0X"))
    except DecodeError as error:
        raise SettingsError(f"--identity {text!r} is no whole fingerprint", "See gpg --list-secret-keys --with-fingerprint") from error
