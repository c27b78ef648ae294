"""Who may send votes: registration of machine keys, and what is written down for the offline roster (P3.2, P4.2, P4.3).

Anybody may register, as untrusted; a registration gives no vote any weight.  More than that comes only from the roster, which
this process cannot write: :func:`promote` prepares files for those who hold the roster's keys, and they read them before they
sign.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from p2pbin_server.ledger import seconds
from p2pbin_server.store import Transaction
from p2pbin_server.store.rows import Registered
from p2pbin_server.throttle import TooManyError
from portage_p2pbin import durable
from portage_p2pbin.kernel.errors import RefusedError, SettingsError, UnavailableError
from portage_p2pbin.kernel.model import Fingerprint, Operator, PublicKey, Role
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.openpgp import Certification

DAY = timedelta(days=1)


def register(
    transaction: Transaction, certification: Certification, texts: tuple[str, str], signer: PublicKey, now: datetime, most_a_day: int
) -> None:
    """Keep the machine key of a `certification` that was checked, and its window; the same key again gets the new window.

    `texts` are the OpenPGP key and the certification as they came.  Raises RefusedError (P3.2) unless the key itself, `signer`,
    has signed the request (proof of possession), if it is not valid now, or if another identity has it; and TooManyError when
    `most_a_day` keys were registered within a day.
    """
    key, what = certification.key, f"registration by {certification.identity}"
    if key.public != signer:
        raise RefusedError("P3.2", what, "the request is not signed by the machine key that is to be registered")
    if not key.covers(now):
        raise RefusedError("P3.2", what, "the machine key is not valid now")
    known = transaction.contributor(signer)
    if known is not None and known.identity != certification.identity:
        raise RefusedError("P3.2", what, "the machine key belongs to another identity")
    if known is None and transaction.registrations_since(seconds(now - DAY)) >= most_a_day:
        raise TooManyError("Registration", f"{most_a_day} keys were registered within a day")
    registered = seconds(now) if known is None else known.registered
    edges = seconds(key.not_before), seconds(key.not_after)
    transaction.put_contributor(Registered(signer, certification.identity, key.machine, *edges, *texts, registered))


def role(electorate: Electorate, key: PublicKey) -> Role:
    """What the roster says of a registered key."""
    member = electorate.roster.by_key().get(key)
    return Role.UNTRUSTED if member is None else member[0].role


def promote(transaction: Transaction, identity: Fingerprint, given: Role, operator: Operator, folder: Path) -> None:
    """Write what `identity` has registered to `folder`, and add an entry for it to roster.toml there, which is begun if need be.

    Raises UnavailableError for an identity that has not registered here, and SettingsError if roster.toml has it already.
    """
    found = [one for one in transaction.contributors() if one.identity == identity]
    if not found:
        raise UnavailableError(f"Identity {identity}", "it has not registered here; see `p2pbin-server contributor list`")
    folder.mkdir(parents=True, exist_ok=True)
    roster = folder / "roster.toml"
    text = roster.read_text(encoding="utf-8") if roster.exists() else _BEGINNING
    if identity in text:
        raise SettingsError(f"{roster} names {identity} already", "Change its entry by hand; the files beside it can stay.")
    durable.write(folder / f"{identity}.asc", found[-1].openpgp.encode())
    names = [f"{identity}-{one.key[:16]}.asc" for one in found]
    for one, name in zip(found, names, strict=True):
        durable.write(folder / name, one.certification.encode())
    certifications = ", ".join(f'"{name}"' for name in names)
    entry = _ENTRY.format(operator=operator, role=given.value, identity=identity, certifications=certifications)
    durable.write(roster, (text + entry).encode())


_BEGINNING = """# Who is trusted with what.  Read every entry before you sign; etc/roster.toml explains the fields.
[policy]
semi_trusted = 2
untrusted = 3
"""

_ENTRY = """
[[contributor]]
operator = "{operator}"
role = "{role}"
identity = "{identity}"
openpgp = "{identity}.asc"
certifications = [{certifications}]
"""
