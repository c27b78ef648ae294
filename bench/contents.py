"""How long the contents digest of a package takes, as a ratio to the shortest way to hash the same image.

    python -m bench.contents [tiny] [small] [four] [real]

Each case is a gpkg that Portage's own writer made, compressed with zstd as it does by default:

tiny   a package of 150 kB
small  200,000 files of under 1 kB
four   200,000 files of 4 kB on average
real   system directories of this machine, about 1 GB

Compared are reading the package, turn and turn about, and `zstd -dc | openssl dgst -sha256` of its image; of each the fastest of three.
"without Manifest" leaves out the two hashes of the compressed parts that the Manifest states, which the short way does not compute
either.  Processor time is that of all processes together, for the same two; where there are fewer processors than processes, the
ratio of the times can hardly be smaller than this one.  Memory is the peak of a process that reads the package above that of one that
reads an empty package.  Of the tiny package the time of the whole command is told as a ratio to the start of the interpreter with the
same imports, and that of a reading as the daemon does it, in a confined child, in milliseconds.  docs/decisions/reading-speed.rst
says what stands between these figures and their goals.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from bench.figures import heading, line
from portage_p2pbin.binpkg import gpkg
from portage_p2pbin.binpkg.contents import examine
from portage_p2pbin.binpkg.sandbox import read_sandboxed
from tests.test_container import written_by_portage

ROUNDS = 3
SYSTEM = ("/usr/share", "/usr/include", "/usr/bin")
FILES = {"tiny": (20, 15_000), "small": (200_000, 450), "four": (200_000, 4096)}
"""How many files, and their average size."""

RATIOS = {"tiny": None, "small": 2.6, "four": 1.15, "real": 1.1}
MEMORY, MEMORY_PER_ENTRY = 32 << 20, 350
STARTS, IN_DAEMON = 1.5, 5.0
"""The goals: most times the short way, bytes, bytes an entry, times the interpreter's start, milliseconds."""

COMMAND = "import sys, portage_p2pbin.cli.commands.contents; from portage_p2pbin.cli.p2pbin import main; "

PEAK = """
import sys
from pathlib import Path
from portage_p2pbin.binpkg.contents import examine
with open(sys.argv[1], "rb") as file:
    entries = sum(1 for line in examine(file).manifest.lines())
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(entries, int(status["VmHWM"].split()[0]) * 1024)
"""
"""A process of its own; VmHWM, since the peak of getrusage() is also that of the process that started it."""


def make_root(case: str, root: Path) -> None:
    """Fill `root` with the files of `case`."""
    if case == "real":
        for folder in SYSTEM:
            subprocess.run(["cp", "-a", "--reflink=auto", "--parents", folder, root], check=True, cwd="/")
        return
    count, average = FILES[case]
    material, dice = Path(shutil.which("bash") or sys.executable).read_bytes(), random.Random(1)  # noqa: S311
    for number in range(count):
        folder = root / f"usr/share/folder-{number // 500}"
        folder.mkdir(parents=True, exist_ok=True)
        size, start = dice.randrange(2 * average), dice.randrange(len(material) - 2 * average)
        (folder / f"file-{number}.txt").write_bytes(material[start : start + size])


def read(package: Path) -> None:
    with package.open("rb") as file:
        for _ in examine(file).manifest.lines():
            pass


def read_without_manifest(package: Path) -> None:
    with mock.patch.object(gpkg.PartHashes, "update"), mock.patch.object(gpkg, "_check_manifest"):
        read(package)


def hash_image(package: Path) -> None:
    """The short way: `zstd -dc | openssl dgst -sha256` of the image's place in the package."""
    with tarfile.open(package) as tar:
        image = next(member for member in tar if "/image.tar" in member.name)
    with package.open("rb") as file, subprocess.Popen(["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as zstd:
        openssl = subprocess.Popen(["openssl", "dgst", "-sha256"], stdin=zstd.stdout, stdout=subprocess.DEVNULL)
        file.seek(image.offset_data)
        left = image.size
        while left and zstd.stdin:
            left -= os.splice(file.fileno(), zstd.stdin.fileno(), left, offset_src=image.offset_data + image.size - left)
    openssl.wait()


class Spent(NamedTuple):
    """Seconds on the clock, and of processors by this process and those that it waited for."""

    clock: float
    processors: float


def spent(work: Callable[[], object]) -> Spent:
    def now() -> Spent:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return Spent(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used))

    before = now()
    work()
    return Spent(*(after - start for after, start in zip(now(), before, strict=True)))


def fastest(*ways: Callable[[], object], rounds: int = ROUNDS) -> list[Spent]:
    """Return the shortest times of each way, turn and turn about."""
    times = [[spent(way) for way in ways] for _ in range(rounds)]
    return [Spent(*map(min, zip(*of_way, strict=True))) for of_way in zip(*times, strict=True)]


def peak(package: Path) -> tuple[int, int]:
    """Return the number of entries and the peak memory in bytes of reading them."""
    said = subprocess.run([sys.executable, "-c", PEAK, package], capture_output=True, check=True, text=True).stdout
    entries, memory = said.split()
    return int(entries), int(memory)


def report(case: str, folder: Path, least: int) -> None:
    root = folder / case
    root.mkdir()
    make_root(case, root)
    package = written_by_portage(root, folder / f"{case}.gpkg.tar", "zstd")
    shutil.rmtree(root)
    short, ours, without = fastest(*(partial(way, package) for way in (hash_image, read, read_without_manifest)))
    entries, memory = peak(package)
    heading(f"{case}: {entries} entries, {package.stat().st_size >> 10} KiB; the short way takes {short.clock:.3f} s")
    line("time over the short way's", ours.clock / short.clock, "", RATIOS[case])
    line("   without Manifest", without.clock / short.clock, "")
    line("processor time over the short way's", ours.processors / short.processors, "")
    line("   without Manifest", without.processors / short.processors, "")
    line("memory", (memory - least) / (1 << 20), "MiB", (MEMORY + MEMORY_PER_ENTRY * entries) / (1 << 20))
    if case == "tiny":
        report_start(package)


def report_start(package: Path) -> None:
    """A package so small that starting is what takes the time."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", COMMAND + code], stdout=subprocess.DEVNULL, check=True)

    def in_daemon() -> None:
        with package.open("rb") as file:
            read_sandboxed(file.fileno())

    command, start = fastest(partial(run, f"sys.exit(main(['contents', {str(package)!r}]))"), partial(run, "pass"), rounds=4 * ROUNDS)
    line("p2pbin contents over the interpreter's start", command.clock / start.clock, f"  start {start.clock * 1000:.0f} ms", STARTS)
    line("a reading as the daemon does it", fastest(in_daemon, rounds=4 * ROUNDS)[0].clock * 1000, "ms", IN_DAEMON)


def main(cases: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        least = peak(written_by_portage(folder / "empty", folder / "empty.gpkg.tar", "zstd"))[1]
        for case in cases or [*FILES, "real"]:
            report(case, folder, least)


if __name__ == "__main__":
    main(sys.argv[1:])
