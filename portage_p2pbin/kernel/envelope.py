"""DSSE envelopes: who signed which bytes.

An envelope is what contributors send and what a vote bundle holds.  Whoever makes one chooses payload, type and key id freely;
:func:`open_envelope` returns the payload only if the Ed25519 key that the caller expects, or the one that the payload's own
signature names, has signed exactly these bytes under exactly this type.

Format: https://github.com/secure-systems-lab/dsse/blob/master/envelope.md, with one signature, canonical JSON on the outside and
the raw public key in hexadecimal as key id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope as Dsse

from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.model import PublicKey, Sha256
from portage_p2pbin.kernel.wire import canonical, decode

MOST_ENVELOPE = 2 * 1024 * 1024
"""Bytes of one envelope.  A vote on a package with 5,000 dependencies and as many sources has about 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload whose signature was checked: `signer` has signed `payload` as `payload_type`.

    `data` is the envelope as it came.  That the signer may sign such a thing is not checked here.
    """

    payload: bytes
    payload_type: str
    signer: PublicKey
    data: bytes

    @property
    def digest(self) -> Sha256:
        """SHA-256 of the envelope as it came: its name in the store, and the leaf of the log (P8)."""
        return Sha256(hashlib.sha256(self.data).hexdigest())


def seal(payload: bytes, payload_type: str, key: Ed25519PrivateKey) -> Envelope:
    """Sign `payload` as `payload_type`."""
    signer = public_key(key)
    signature = key.sign(_signed_bytes(payload, payload_type))
    data = canonical(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [{"keyid": signer, "sig": base64.b64encode(signature).decode("ascii")}],
        }
    )
    return Envelope(payload, payload_type, signer, data)


def open_envelope(data: bytes, payload_type: str, what: str) -> Envelope:
    """Check an envelope of at most :data:`MOST_ENVELOPE` bytes and return what its key has signed.

    Raises DecodeError if it is not a canonical envelope of this type with one signature, and RefusedError (P3.1) if the
    signature is not that key's.  Whether the key is anybody's is for the caller to decide.
    """
    fields = decode(data, what, MOST_ENVELOPE)
    with fields.reading():
        fields.exactly("payloadType", payload_type)
        payload = fields.of("payload", from_base64, MOST_ENVELOPE)
        signatures = fields.many("signatures", 1)
        if not signatures:
            fields.refuse("nobody has signed it")
        with signatures[0].reading():
            signer = signatures[0].of("keyid", PublicKey)
            signature = signatures[0].of("sig", from_base64)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signature, _signed_bytes(payload, payload_type))
    except (InvalidSignature, ValueError) as error:
        raise RefusedError("P3.1", what, f"the signature is not that of key {signer[:16]}…") from error
    return Envelope(payload, payload_type, signer, data)


def public_key(key: Ed25519PrivateKey) -> PublicKey:
    """The public half of `key` as it is written everywhere."""
    return PublicKey(key.public_key().public_bytes_raw().hex())


def _signed_bytes(payload: bytes, payload_type: str) -> bytes:
    return Dsse(payload, payload_type, {}).pae()


def from_base64(text: str) -> bytes:
    """Strict base64: the only spelling of its bytes.  Raises ValueError."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64") from error
    if base64.b64encode(value).decode("ascii") != text:
        raise ValueError("not the usual base64 of its bytes")
    return value
