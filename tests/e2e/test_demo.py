"""`make demo` shows all of its scenes."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PATIENCE = 600
"""Seconds: several times what it takes."""


def test_the_demo_shows_everything():
    done = subprocess.run([sys.executable, "-m", "tests.demo"], cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
