"""How long the contents digest of a package takes, as a ratio to the shortest way to hash the same image.

    python -m bench.contents [tiny] [small] [four] [real]

Each case is a gpkg that Portage's own writer made, compressed with zstd as it does by default:

tiny   a package of 150 kB
small  200,000 files of under 1 kB
four   200,000 files of 4 kB on average
real   system directories of this machine, about 1 GB

Compared are reading the package, turn and turn about, and `zstd -dc | openssl dgst -sha256` of its image; of each the fastest of five.
"without Manifest" leaves out the two hashes of the compressed parts that the Manifest states, which the short way does not compute
either.  Memory is the peak of a process that reads the package above that of one that reads a tiny package, for each entry.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from portage_p2pbin.binpkg import gpkg
from portage_p2pbin.binpkg.contents import examine
from tests.test_container import written_by_portage

ROUNDS = 5
SYSTEM = ("/usr/share", "/usr/include", "/usr/bin")
FILES = {"tiny": (20, 15_000), "small": (200_000, 450), "four": (200_000, 4096)}
"""How many files, and their average size."""

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


def fastest(*ways: Callable[[Path], None], package: Path) -> list[float]:
    """Return the shortest time of each way, in seconds."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, taken in zip(ways, times, strict=True):
            started = time.perf_counter()
            way(package)
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]


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
    short, ours, without = fastest(hash_image, read, read_without_manifest, package=package)
    entries, memory = peak(package)
    print(f"{case:6} {entries:7} entries {package.stat().st_size >> 20:5} MiB   short way {short:6.3f} s", end="   ")
    print(
        f"ratio {ours / short:5.2f}   without Manifest {without / short:5.2f}   {(memory - least) / entries:6.0f} bytes of memory an entry",
        flush=True,
    )


def main(cases: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        least = peak(written_by_portage(folder / "empty", folder / "empty.gpkg.tar", "zstd"))[1]
        for case in cases or [*FILES, "real"]:
            report(case, folder, least)


if __name__ == "__main__":
    main(sys.argv[1:])
