"""`p2pbin contents`: the contents digest of a package file, its manifest, or what differs between two.

The file may come from anywhere: it is read by the reading half, which can do nothing else, and what it says is made safe before it
is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.cli.output import standard_error, standard_output
from portage_p2pbin.kernel.errors import ExitCode, SettingsError, printable


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print what was asked for."""
    if (arguments.file is None) == (arguments.diff is None):
        raise SettingsError("`p2pbin contents` needs one file, or --diff and two", "Example: p2pbin contents hello-2.12-1.gpkg.tar")
    reading = _read(arguments.file)
    if reading.droppings and not arguments.json:
        standard_error().warning(f"Cleaning would remove: {printable(', '.join(reading.droppings))}")
    if arguments.manifest:
        sys.stdout.buffer.write(reading.manifest)
        sys.stdout.buffer.flush()
    elif arguments.json:
        standard_output().json({"contents": reading.digest, "droppings": list(reading.droppings), "metadata": dict(reading.metadata)})
    else:
        standard_output().text(reading.digest)
    return ExitCode.DONE


def _read(path: Path) -> Reading:
    try:
        with path.open("rb") as file:
            return read_sandboxed(file.fileno())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError(f"{path}: {error.strerror}", "Name a gpkg file") from error
