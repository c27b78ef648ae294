# SPDX-License-Identifier: GPL-2.0-or-later
"""Count how often each line occurs."""

from tally.count import tally

__all__ = ["tally"]
