"""From the store to the index: an entry for each build key, a page for each category, a vote bundle behind each entry (P7.2, P9.2).

Clients believe nothing of what is written here; they derive the level again from the bundle.  Only what a change touches is made
again: the votes mark build keys as changed, :func:`update` makes their entries, and :func:`pages` the pages with those in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from p2pbin_server import clashes
from p2pbin_server.channels import strays
from p2pbin_server.clashes import Judgements
from p2pbin_server.ledger import Rules, judge, seconds
from p2pbin_server.store import Store, Transaction
from p2pbin_server.store.rows import Build, Listing, StoredFile
from portage_p2pbin import durable
from portage_p2pbin.kernel.index import MOST_BUNDLE, MOST_ENTRIES, MOST_VOTES, Bundle, Entry, encode_page
from portage_p2pbin.kernel.model import Channel, ContentsDigest, Operator, Role, Sha256
from portage_p2pbin.kernel.trust import Electorate, Judgement, Voice, level

MOST_UPDATED = 20
"""Build keys whose entries are made in one transaction, so that votes need not wait long."""

_BEST_FIRST = (Role.BUILD_SERVER, Role.TRUSTED, Role.SEMI_TRUSTED, Role.UNTRUSTED)


def update(store: Store, electorate: Electorate, rules: Rules, bundles: Path) -> bool:
    """Make the entries of some build keys that have changed, their vote bundles below `bundles`.  True if there were any."""
    with store.writing() as transaction:
        builds = transaction.changed_builds(MOST_UPDATED)
        for build in builds:
            before = transaction.listing(build)
            after = _listing(transaction, electorate, build, rules, bundles, before)
            if after is not None and after != before:
                transaction.put_listing(after)
            elif after is None and before is not None:
                transaction.remove_listing(before)
            transaction.build_listed(build)
    return bool(builds)


def pages(transaction: Transaction) -> dict[Channel, dict[str, bytes | None]]:
    """The pages that have changed, by channel and category; None for a category in which nothing is listed any more."""
    found: dict[Channel, dict[str, bytes | None]] = {}
    for channel, category in transaction.changed_pages():
        # Two files whose digests begin alike would have one path, and clients would refuse the whole page.
        by_path = {entry.path: entry for entry in map(_entry, transaction.listings(channel, category))}
        entries = tuple(by_path.values())[:MOST_ENTRIES]
        found.setdefault(channel, {})[category] = encode_page(channel, entries) if entries else None
    return found


def _entry(row: Listing) -> Entry:
    return Entry(
        row.cpv, row.repository, row.build_key, row.contents, row.level, row.file, row.sha1, row.size, row.info_hash, row.bundle,
        row.serial, json.loads(row.metadata),
    )  # fmt: skip


def _listing(
    transaction: Transaction, electorate: Electorate, build: Build, rules: Rules, bundles: Path, before: Listing | None
) -> Listing | None:
    """What is to be listed for a build key now, if anything; `before` is what is."""
    judgements = judge(transaction, electorate, build, rules.most_open_clashes)
    best = _best(transaction, build, judgements)
    if best is None:
        return None
    contents, file = best
    voices = bundled(judgements[contents], file.sha256)
    request = voices[0].vote.vote.definition.request
    reached = level(voices, electorate.roster.policy)
    baseline = rules.channels.get(build[0])
    if reached is None or baseline is None or strays(request, baseline) is not None:
        return None
    now = seconds(electorate.now)
    serial = now if before is None else before.serial if before.file == file.sha256 else max(now, before.serial + 1)
    bundle = _write_bundle(transaction, voices, bundles)
    return Listing(
        *build, request.cpv.category, request.cpv, request.repository, contents, reached, file.sha256, file.sha1, file.size, file.info_hash,
        bundle, serial, file.metadata,
    )  # fmt: skip


def _best(transaction: Transaction, build: Build, judgements: Judgements) -> tuple[ContentsDigest, StoredFile] | None:
    """The best variant that no clash withdraws (P1.4, P6.2) and of which a file is here that a vote that counts names (P9.7).

    Of equals, the one that was voted for first.
    """
    withdrawn = clashes.withdrawn(judgements)
    ranked = sorted(
        ((one.level, contents) for contents, one in judgements.items() if one.level is not None and contents not in withdrawn),
        key=lambda ranked: ranked[0],
    )
    for _, contents in ranked:
        named = {voice.vote.vote.file for voice in judgements[contents].voices}
        for file in transaction.files_of(build, contents):
            if file.sha256 in named:
                return contents, file
    return None


def bundled(judgement: Judgement, file: Sha256) -> list[Voice]:
    """The votes that go into the bundle of an entry: the one that names its `file`, then one of each operator, best role first.

    A bundle has its bounds, and more votes than these cannot raise a level.
    """
    ranked = sorted(judgement.voices, key=lambda voice: (voice.vote.vote.file != file, _BEST_FIRST.index(voice.role)))
    found: dict[Operator, Voice] = {}
    room = MOST_BUNDLE // 2
    for voice in ranked:
        size = len(voice.vote.envelope.data)
        if voice.operator not in found and size <= room and len(found) < MOST_VOTES:
            found[voice.operator] = voice
            room -= size
    return list(found.values())


def _write_bundle(transaction: Transaction, voices: Iterable[Voice], folder: Path) -> Sha256:
    """Write the bundle of these votes, with the certificates that the untrusted among them need, and return its name."""
    certificates = transaction.certificates_for(voice.vote.signer for voice in voices if voice.role is Role.UNTRUSTED)
    data = Bundle(tuple(voice.vote for voice in voices), tuple(certificates[:MOST_VOTES])).encode()
    digest = Sha256(hashlib.sha256(data).hexdigest())
    path = folder / digest
    if not path.exists():
        durable.write(path, data)
    return digest
