"""Names of what the TUF repository holds (P7.1), the same on both sides.

The top-level targets role is signed offline and only delegates; each delegation is terminating.  Whoever holds the online
`index` key chooses page names, and nothing else: a page is asked for by a name that was made here.
"""

from __future__ import annotations

import re

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import Channel

ROSTER_FILE = "roster.json"
RULINGS_FILE = "rulings.json"
PAGES = "index/*/*.json"
"""What role `index` may sign: TUF matches a star against one component of the path."""

DELEGATIONS = {"roster": ROSTER_FILE, "rulings": RULINGS_FILE, "index": PAGES}
"""The delegated roles and the one pattern of files that each may sign."""

MOST_CATEGORIES = 1000
"""Pages of one channel.  ::gentoo has 170 categories."""

_CATEGORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+_.-]{0,99}")


def page_file(channel: Channel, category: str) -> str:
    """The target path of the page of `category`.  Raises DecodeError if that is no category's name (PMS 3.1.1)."""
    if _CATEGORY.fullmatch(category) is None:
        raise DecodeError("P7.2", "index", f"{category!r} is no category")
    return f"index/{channel}/{category}.json"


def page_category(channel: Channel, path: str) -> str | None:
    """The category whose page in `channel` has the target path `path`, or None if it is no such page."""
    start, end = f"index/{channel}/", ".json"
    category = path.removeprefix(start).removesuffix(end)
    return category if _CATEGORY.fullmatch(category) and path == f"{start}{category}{end}" else None
