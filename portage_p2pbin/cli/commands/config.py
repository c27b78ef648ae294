"""`p2pbin config`: show or set the threshold, in make.conf, where Portage's own settings are."""

from __future__ import annotations

import argparse
import os

from portage_p2pbin.cli.levels import MEANINGS
from portage_p2pbin.cli.output import standard_output
from portage_p2pbin.cli.site import paths
from portage_p2pbin.gentoo.settings import config_root, read_make_conf, read_settings, read_trust
from portage_p2pbin.kernel.errors import ExitCode
from portage_p2pbin.trust_setting import VARIABLE, set_threshold


def run(arguments: argparse.Namespace) -> ExitCode:
    """Show or set."""
    if arguments.action == "set":
        return _set(arguments.level)
    return _show_level() if arguments.level else _show()


def _set(text: str) -> ExitCode:
    level = read_trust(text)
    make_conf = config_root(paths().eprefix, os.environ) / "etc/portage/make.conf"
    changed = set_threshold(make_conf, level, read_make_conf)
    standard_output().good(f'{VARIABLE}="{level:d}" in {changed}: {MEANINGS[level]}')
    return ExitCode.DONE


def _show_level() -> ExitCode:
    """The number in make.conf alone, for scripts; nothing if there is none."""
    make_conf = config_root(paths().eprefix, os.environ) / "etc/portage/make.conf"
    text = read_make_conf(make_conf).get(VARIABLE)
    if text:
        standard_output().text(f"{read_trust(text):d}")
    return ExitCode.DONE


def _show() -> ExitCode:
    settings = read_settings(paths().eprefix, os.environ)
    output = standard_output()
    level = settings.thresholds.default
    output.good(f"{VARIABLE}={level:d}: {MEANINGS[level]}")
    for rule in settings.thresholds.rules:
        output.good(f"{rule.atom} {rule.level:d}: {MEANINGS[rule.level]} (package.p2pbin)")
    for repository in settings.repositories:
        output.good(f"[{repository.name}] channel {repository.channel} of {repository.host}")
    if not settings.repositories:
        output.warning("No section of binrepos.conf has a sync-uri of p2pbin://HOST/CHANNEL")
    return ExitCode.DONE
