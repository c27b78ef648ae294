"""Change packages at random until something is missed: `python -m tests.fuzz_packages SECONDS [SEED]`.

Takes the images and the metadata of the packages that the tests make by hand, changes one to three bytes, repeats or leaves out a
block, and packs them with a Manifest that is right.  The result has to be refused by a rule, or to have another digest; never an
error of another kind, and never long.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.binpkg.metadata import PER_EVENT
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import PACKAGE, Gpkg
from tests.test_contents import EVERYTHING, METADATA_ARCHIVE

LONGEST = 5.0
"""Seconds that one small package may take on a busy machine."""


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Return `content` with one to three changes."""
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        at, block = dice.randrange(len(changed)), 512 * dice.randrange(len(changed) // 512)
        match dice.randrange(5):
            case 0 | 1 | 2:
                changed[at] ^= dice.randrange(1, 256)
            case 3:
                changed[block:block] = changed[(at // 512) * 512 :][:512]
            case 4:
                del changed[block : block + 512]
    return bytes(changed)


def check(package: Gpkg, original: Gpkg) -> bool:
    """Say whether `package` is refused; raise where the change is neither refused nor hashed."""
    started = time.monotonic()
    before = read_package(original.file())
    try:
        after = read_package(package.file())
    except RefusedError:
        return True
    finally:
        if time.monotonic() - started > LONGEST:
            raise AssertionError("it took too long")
    keys = {key for key in before.metadata if before.metadata[key] != after.metadata.get(key)}
    if after.digest == before.digest and not keys <= PER_EVENT:
        raise AssertionError("a change was neither refused nor hashed")
    return False


def main(seconds: float, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    tried = refused = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if dice.random() < 0.7:
            original, package = EVERYTHING, EVERYTHING.but(image=mutated(EVERYTHING.image, dice))
        else:
            original, package = PACKAGE, PACKAGE.but(metadata=mutated(METADATA_ARCHIVE, dice))
        try:
            refused += check(package, original)
        except Exception:
            print(f"seed {seed}, package {tried}: kept as fuzz-failure.gpkg.tar", file=sys.stderr)
            Path("fuzz-failure.gpkg.tar").write_bytes(package.bytes())
            raise
        tried += 1
    print(f"{tried} packages, {refused} refused, the others with another digest; nothing missed (seed {seed})")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32))  # noqa: S311
