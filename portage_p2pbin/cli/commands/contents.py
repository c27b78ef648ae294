"""`p2pbin contents`: the contents digest of a package file, its manifest, or what differs between two (P2.8).

The files may come from anywhere: they are read by the reading half, which can do nothing else, and what it says is made safe before
it is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from portage_p2pbin.binpkg.contents import Reading
from portage_p2pbin.binpkg.diff import Difference, Kind
from portage_p2pbin.binpkg.sandbox import explain_sandboxed, read_sandboxed
from portage_p2pbin.cli.output import Output, standard_error, standard_output
from portage_p2pbin.cli.package_file import opened
from portage_p2pbin.cli.progress import progress
from portage_p2pbin.kernel.errors import ExitCode, RefusedError, SettingsError, printable

_MANIFEST_TEXT = re.compile(rb"[ -~\n]*").fullmatch


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print what was asked for."""
    if (arguments.file is None) == (arguments.diff is None):
        raise SettingsError("`p2pbin contents` needs one file, or --diff and two", "Example: p2pbin contents hello-2.12-1.gpkg.tar")
    if arguments.diff is not None:
        _diff(*arguments.diff, as_json=arguments.json)
    else:
        _contents(arguments.file, arguments)
    return ExitCode.DONE


def _contents(path: Path, arguments: argparse.Namespace) -> None:
    """Digest or manifest on stdout, and on stderr what cleaning would remove."""
    with opened(path) as file, progress(file):
        reading = read_sandboxed(file.fileno())
    manifest = _manifest(path, reading) if arguments.manifest else ""
    if arguments.json:
        standard_output().json(_as_json(reading) | ({"manifest": manifest} if arguments.manifest else {}))
        return
    if reading.droppings:
        standard_error().warning(f"Cleaning would remove: {', '.join(map(printable, reading.droppings))}")
    if arguments.manifest:
        sys.stdout.write(manifest)
        sys.stdout.flush()
    else:
        standard_output().text(reading.digest)


def _manifest(path: Path, reading: Reading) -> str:
    """The manifest as text: an honest reading half writes visible ASCII only, so it is shown whole."""
    if not _MANIFEST_TEXT(reading.manifest):
        raise RefusedError("P9.8", str(path), "its reader wrote a manifest that is no text")
    return reading.manifest.decode("ascii")


def _as_json(reading: Reading) -> dict[str, object]:
    return {"contents": reading.digest, "droppings": list(reading.droppings), "metadata": dict(reading.metadata)}


def _diff(a: Path, b: Path, *, as_json: bool) -> None:
    """What differs between two packages, entry by entry, the gravest kind first."""
    with opened(a) as first, opened(b) as second, progress(first, second):
        differences = explain_sandboxed(first.fileno(), second.fileno())
    differences = tuple(sorted(differences, key=lambda one: (-one.kind, one.path)))
    output = standard_output()
    if as_json:
        output.json({"differences": [_difference_json(one) for one in differences]})
        return
    for one in differences:
        _show(one, output)
    if all(one.kind is Kind.BENIGN for one in differences):
        output.good("No difference that counts: the contents digests are equal")


def _show(found: Difference, output: Output) -> None:
    """A line in the colour of the kind, and what is known of the inside."""
    say = {Kind.BENIGN: output.good, Kind.METADATA: output.warning, Kind.DATA: output.warning}.get(found.kind, output.error)
    say(f"{found.kind.name.lower():10} {printable(found.path)}")
    output.text(f"{'':13} {printable(found.detail)}")
    for line in found.lines:
        output.compared(printable(line), indent=14)


def _difference_json(found: Difference) -> Mapping[str, object]:
    return {"path": found.path, "kind": found.kind.name.lower(), "detail": found.detail, "lines": list(found.lines)}
