"""Everything that is measured, in its short form: `make bench`.  Figures are ratios within one run wherever that is possible."""

from __future__ import annotations

from bench import contents, log

LEAVES = 100_000
"""A tenth of what bench/log.py takes by itself: the proofs have two levels fewer at most, and it is there in seconds."""

if __name__ == "__main__":
    contents.main([])
    log.main(LEAVES)
