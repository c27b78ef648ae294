"""`p2pbin contents`: the contents digest of a package file, its manifest, or what differs between two.

The file may come from anywhere: it is read by the reading half, which can do nothing else, and what it says is made safe before it
is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.diff import compare
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from portage_p2pbin.cli.output import standard_error, standard_output
from portage_p2pbin.kernel.errors import ExitCode, SettingsError, printable


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print what was asked for."""
    if (arguments.file is None) == (arguments.diff is None):
        raise SettingsError("`p2pbin contents` needs one file, or --diff and two", "Example: p2pbin contents hello-2.12-1.gpkg.tar")
    if arguments.diff is not None:
        _diff(*arguments.diff, as_json=arguments.json)
    else:
        _contents(_read(arguments.file), arguments)
    return ExitCode.DONE


def _contents(reading: Reading, arguments: argparse.Namespace) -> None:
    """Digest or manifest on stdout, and on stderr what cleaning would remove (P2.8)."""
    if arguments.json:
        standard_output().json({"contents": reading.digest, "droppings": list(reading.droppings), "metadata": dict(reading.metadata)})
        return
    if reading.droppings:
        standard_error().warning(f"Cleaning would remove: {', '.join(map(printable, reading.droppings))}")
    if arguments.manifest:
        sys.stdout.buffer.write(reading.manifest)
        sys.stdout.buffer.flush()
    else:
        standard_output().text(reading.digest)


def _diff(a: Path, b: Path, *, as_json: bool) -> None:
    """What differs between two packages, entry by entry, the gravest kind first."""
    differences = sorted(compare(_read(a).manifest, _read(b).manifest), key=lambda one: (-one.kind, one.path))
    output = standard_output()
    if as_json:
        output.json({"differences": [{"path": one.path, "kind": one.kind.name.lower(), "detail": one.detail} for one in differences]})
    elif differences:
        output.table([(one.kind.name.lower(), printable(one.path), printable(one.detail)) for one in differences], indent=0)
    else:
        output.good("No difference that counts: the contents digests are equal")


def _read(path: Path) -> Reading:
    try:
        with path.open("rb") as file:
            return read_sandboxed(file.fileno())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError(f"{path}: {error.strerror}", "Name a gpkg file") from error
