# SPDX-License-Identifier: GPL-2.0-or-later
"""The counting itself."""

from collections import Counter


def tally(lines):
    """Return (line, how often) pairs, the most frequent first, equal ones by name."""
    counts = Counter(line.rstrip("\n") for line in lines)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
