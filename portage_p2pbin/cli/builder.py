"""`p2pbin-builder`: a build server's worker.  Its settings are in /etc/p2pbin/builder.toml."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType

from portage_p2pbin.builder import Builder, Emerge
from portage_p2pbin.cli.output import standard_error, standard_output
from portage_p2pbin.cli.running import run
from portage_p2pbin.cli.site import Site, paths
from portage_p2pbin.config import read_sections
from portage_p2pbin.daemon import sharing
from portage_p2pbin.kernel.errors import ExitCode, P2pbinError
from portage_p2pbin.machine_key import load_machine_key
from portage_p2pbin.publish import PATIENCE, Publisher, SharingRules


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """The section [builder] of builder.toml; etc/builder.toml documents each setting.  Times in seconds."""

    repository: str = ""
    command: tuple[str, ...] = ("emerge", "--oneshot", "--buildpkg=y", "--usepkg=n", "--getbinpkg=n", "--quiet-build=y", "--color=n")
    package_use: str = "etc/portage/package.use/p2pbin-builder"
    timeout: int = field(default=21_600, metadata={"least": 60, "most": 604_800})
    pause: int = field(default=60, metadata={"least": 1, "most": 86_400})
    certificate_days: int = field(default=90, metadata={"least": 1, "most": 366})

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command is empty")


def main(argv: Sequence[str] | None = None) -> int:
    """Work until SIGTERM, or do one job; return the exit code of the process."""
    parser = argparse.ArgumentParser(
        prog="p2pbin-builder",
        description="Take the most wanted job of the trust server, build it with emerge, vote, publish and audit.  For machines that "
        "are on the roster as a build server.",
        epilog="Example: p2pbin-builder --once",
    )
    parser.add_argument("--once", action="store_true", help="do one job, or none if nothing is wanted, and end")
    parser.add_argument("--check-config", action="store_true", help="say whether builder.toml can be used, and end")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    return run(lambda: _main(arguments), debug=arguments.debug)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends emerge and us as Ctrl-C does."""
    raise KeyboardInterrupt


def _main(arguments: argparse.Namespace) -> ExitCode:
    settings: BuilderSettings = read_sections(paths().builder_toml, {"builder": BuilderSettings})["builder"]
    site = Site.named(settings.repository or None)
    load_machine_key(site.config.paths.machine_key)
    if arguments.check_config:
        standard_output().good("builder.toml can be used")
        return ExitCode.DONE
    if arguments.once:
        if not _work(site, settings):
            standard_output().good("Nothing is wanted")
        return ExitCode.DONE
    while True:
        _work_on(site, settings)


def _work_on(site: Site, settings: BuilderSettings) -> None:
    """One job, if there is one; a failure is said, and the next job gets its turn after a pause."""
    try:
        if _work(site, settings):
            return
    except P2pbinError as error:
        standard_error().error(str(error))
    time.sleep(settings.pause)


def _work(site: Site, settings: BuilderSettings) -> bool:
    """Do one job.  False if there is none."""
    eprefix, output = site.config.paths.eprefix, standard_output()
    with site.trust_server() as server, sharing(site.config) as seeder:
        # Only now, since a network half of our own is a copy of this process as it was before.
        key = load_machine_key(site.config.paths.machine_key)
        publisher = Publisher(
            folder=site.config.paths.publishing, channel=site.repository.channel, server=server, seeder=seeder, key=key,
            rules=SharingRules(site.config.publish.exclude, socket.gethostname().partition(".")[0]), patience=PATIENCE, tell=output.good,
        )  # fmt: skip
        builder = Builder(
            server=server, key=key, emerge=Emerge(settings.command, eprefix / settings.package_use, eprefix, settings.timeout),
            publish=publisher.publish, certificate=timedelta(days=settings.certificate_days), tell=output.step,
        )  # fmt: skip
        return builder.work()


if __name__ == "__main__":
    sys.exit(main())
