"""Edit tokens: what a row was when somebody began to edit it, as text that may travel.

A web page shows a row, and minutes later sends changes back: the token that went along with it says which version of
which row was shown, so that changes of another one are refused. It is URL-safe text, fit for an ETag.

    token = base64url(format, size of the signature, signature, encoded (table, key, version))

Signed with a key it can't be made or changed by those it passes through. Without, it only can't be garbled: whoever
sends it may name any row. The content is not hidden.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any, NamedTuple

from .codec import decode, encode
from .errors import CodecError, UsageError

_FORMAT = 1
_SIGNATURE_BYTES = 16
_CHECK_KEY = b""  # an unsigned token has a checksum by the same means


OBJECTS = ""  # in place of a table's name: the key is an object's id


class Edited(NamedTuple):
    """What a token names: a row of a table, or an object, and the number of the commit that wrote it."""

    table: str
    key: Any
    version: int


def pack_token(edited: Edited, secret: bytes | None) -> str:
    """The token for a version of a row."""
    content = encode(tuple(edited))
    head = bytes([_FORMAT, secret is not None])
    return base64.urlsafe_b64encode(head + _signature(head, content, secret) + content).decode().rstrip("=")


def unpack_token(token: str, secret: bytes | None) -> Edited:
    """What a token names; UsageError if it is none, or not signed as it must be."""
    if not isinstance(token, str):
        raise TypeError(f"a token is a str, not {type(token).__name__}")
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{token[:80]!r} is no edit token", hint="give what row.k_token gave") from error
    head, signature, content = packed[:2], packed[2 : 2 + _SIGNATURE_BYTES], packed[2 + _SIGNATURE_BYTES :]
    if head[:1] != bytes([_FORMAT]):
        raise UsageError(f"{token[:80]!r} is no edit token", hint="give what row.k_token gave")
    if bool(head[1:] != b"\0") != (secret is not None):
        raise UsageError("the token is signed, or must be", hint="open the database or session with its token_key")
    if not hmac.compare_digest(signature, _signature(head, content, secret)):
        raise UsageError("the token was changed on its way, or signed with another token_key")
    try:
        return Edited(*decode(content))
    except (CodecError, TypeError) as error:  # signed by someone else's program
        raise UsageError(f"{token[:80]!r} is no edit token") from error


def _signature(head: bytes, content: bytes, secret: bytes | None) -> bytes:
    return hmac.digest(secret or _CHECK_KEY, b"pykesto token" + head + content, "sha256")[:_SIGNATURE_BYTES]
