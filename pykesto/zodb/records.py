"""What a storage keeps in the tables of a pykesto database, and how it is found.

zodb.objects        oid -> the newest revision: tid, data (None: its creation was undone)
zodb.history        (oid, tid) -> data of a revision that was replaced
zodb.transactions   tid -> user, description, extension, oids, status
zodb.state          "last" -> tid of the newest transaction; "oids" -> how many were given out; "packed" -> to which tid

Ids are 8 bytes outside and ints in keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ZODB.POSException import POSKeyError

from .. import Session

OBJECTS, HISTORY, TRANSACTIONS, STATE = "zodb.objects", "zodb.history", "zodb.transactions", "zodb.state"
_BEYOND = 1 << 64


def p64(number: int) -> bytes:
    """An id, as ZODB has it."""
    return number.to_bytes(8, "big")


def u64(name: bytes) -> int:
    """An id, as it stands in keys here."""
    return int.from_bytes(name, "big")


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of an object. `data` is None where its creation was undone."""

    tid: int
    data: bytes | None


def newest(s: Session, oid: int) -> Revision | None:
    row = s.table(OBJECTS).get(oid)
    return None if row is None else Revision(row["tid"], row["data"])


def required(s: Session, oid: bytes) -> Revision:
    """The newest revision; POSKeyError if there is none, or none any more."""
    found = newest(s, u64(oid))
    if found is None or found.data is None:
        raise POSKeyError(oid)
    return found


def at(s: Session, oid: int, tid: int) -> Revision | None:
    """The revision that a transaction wrote."""
    current = newest(s, oid)
    if current is None or current.tid == tid:
        return current
    row = s.table(HISTORY).get((oid, tid))
    return None if row is None else Revision(tid, row["data"])


def revisions(s: Session, oid: int, *, below: int = _BEYOND) -> Iterator[Revision]:
    """The revisions of an object with a tid below `below`, from the newest to the oldest."""
    current = newest(s, oid)
    if current is not None and current.tid < below:
        yield current
    for row in s.table(HISTORY).range((oid,), (oid, below), reverse=True):
        yield Revision(row.k_key[1], row["data"])


def before(s: Session, oid: bytes, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
    """The newest revision that is older than `tid`: data, its tid, and that of its successor."""
    number, below = u64(oid), u64(tid)
    current = newest(s, number)
    if current is None:
        raise POSKeyError(oid)
    found = next(revisions(s, number, below=below), None)
    if found is None:
        return None
    if found.data is None:
        raise POSKeyError(oid)
    if found.tid == current.tid:
        return found.data, p64(found.tid), None
    later = next(iter(s.table(HISTORY).range((number, found.tid + 1), (number, _BEYOND))), None)
    return found.data, p64(found.tid), p64(current.tid if later is None else later.k_key[1])


def last_tid(s: Session) -> int:
    return state(s, "last")


def state(s: Session, name: str) -> int:
    row = s.table(STATE).get(name)
    return 0 if row is None else int(row["n"])


def set_state(s: Session, name: str, n: int) -> None:
    s.table(STATE)[name] = {"n": n}


def pack_oids(oids: list[int]) -> bytes:
    return b"".join(map(p64, oids))


def unpack_oids(packed: bytes) -> list[int]:
    return [u64(packed[i : i + 8]) for i in range(0, len(packed), 8)]
