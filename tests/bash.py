"""Ask bash itself: what it prints for a value, and what it has after sourcing a text."""

import os
import subprocess
from collections.abc import Mapping, Sequence

BARE = {"PATH": os.defpath}


def bash(script: str, text: bytes = b"", *, environment: Mapping[str | bytes, str | bytes] | None = None) -> bytes:
    """What `script` writes to stdout in a bare bash that reads `text` from stdin; what it writes to stderr is an error."""
    command = ["bash", "--norc", "--noprofile", "-c", script]
    ended = subprocess.run(command, input=text, env=BARE | dict(environment or {}), capture_output=True, check=False)
    assert not ended.stderr, ended.stderr
    return ended.stdout


def printed(values: Sequence[bytes], make: str, locale: str = "C") -> bytes:
    """What `declare -p V` prints after `make`, which finds `values` in the variables V0, V1, …"""
    environment = {b"V%d" % number: value for number, value in enumerate(values)}
    return bash(f"LC_ALL={locale}; {make}; declare -p V", environment=environment).removesuffix(b"\n")


def functions(definitions: str) -> bytes:
    """What `declare -fp` prints after `definitions`."""
    return bash(f"shopt -s extglob\n{definitions}\ndeclare -fp")
