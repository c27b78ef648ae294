"""What people have to sign again soon, and with which command: said before clients refuse it (P7.1, P6.6)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from p2pbin_server.ceremonies import Lifetimes
from portage_p2pbin.kernel.statements import spelt

LAST_PART = 5
"""A warning is given in the last fifth of a lifetime: 18 days for the root, 6 for the roster, 33 hours for the rulings."""

RENEWED_BY = {"root": "root renew", "targets": "root renew", "roster": "roster sign", "rulings": "rulings sign"}
"""The command for each role that people sign."""


def warnings(expiries: Mapping[str, datetime], lifetimes: Lifetimes, now: datetime) -> list[str]:
    """One sentence for each role that has expired or is in the last part of its lifetime; `expiries` as Repository.expiries()."""
    due = {role: time for role, time in expiries.items() if time - now < getattr(lifetimes, role) / LAST_PART}
    return [
        f"the signature of {role} {'expires' if now < time else 'has expired, and clients refuse this server since'} {spelt(time)}; "
        f"renew it with `p2pbin-server {RENEWED_BY[role]}`"
        for role, time in due.items()
    ]
