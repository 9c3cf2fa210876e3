"""Packing: remove revisions that were replaced before a time, and objects that nothing refers to.

Others go on meanwhile. What is reachable is found in a snapshot, from all revisions that are kept; then, with the
lock of commits, what was committed since is looked at too, so nothing that came to be referred to is removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ZODB.TimeStamp import TimeStamp

from .. import Session
from .records import HISTORY, OBJECTS, TRANSACTIONS, at, pack_oids, revisions, set_state, state, u64, unpack_oids

if TYPE_CHECKING:
    from .storage import KestoStorage

_BATCH = 500  # objects that one commit packs


def pack(storage: KestoStorage, t: float, referencesf: Callable[..., Any], *, gc: bool) -> None:
    stop = u64(TimeStamp(*time.gmtime(t)[:5], t % 60).raw())
    db = storage._shared.db
    with db.session(read_only=True, isolation="snapshot") as s:
        if not len(s.table(OBJECTS)):
            return
        seen = state(s, "last")
        stop = min(stop, seen)
        oids = [row.k_key for row in s.table(OBJECTS).range()]
        reached = _reached(s, {0}, stop, referencesf) if gc else set(oids)
        if gc:
            fresh = {oid for oid in oids if _newest_tid(s, oid) > stop}
            reached |= _reached(s, fresh, stop, referencesf, reached)
    todo = iter(oids)
    while batch := list(islice(todo, _BATCH)):
        with storage._shared.commit_lock().held(storage._shared.lock_timeout):
            with db.session(isolation="snapshot", durability="process") as s:
                if gc:
                    since = s.table(TRANSACTIONS).range(seen + 1)
                    changed = {oid for row in since for oid in unpack_oids(row["oids"])}
                    reached |= _reached(s, changed, stop, referencesf, reached - changed)
                    seen = state(s, "last")
                set_state(s, "packed", max(stop, state(s, "packed")))
                gone: dict[int, set[int]] = {}
                for oid in batch:
                    for tid in _pack_object(s, oid, stop, keep=oid in reached):
                        gone.setdefault(tid, set()).add(oid)
                for tid, lost in gone.items():
                    _pack_transaction(s, tid, lost)
                s.commit()
    if storage._blobs is not None:
        with storage._shared.commit_lock().held(storage._shared.lock_timeout):
            with db.session(read_only=True, isolation="snapshot") as s:
                storage._blobs.pack(lambda oid, tid: is_there(s, oid, tid))
    storage._shared.wait_until_durable()


def is_there(s: Session, oid: int, tid: int) -> bool:
    found = at(s, oid, tid)
    return found is not None and found.tid == tid and found.data is not None


def _newest_tid(s: Session, oid: int) -> int:
    return int(s.table(OBJECTS)[oid]["tid"])


def _kept(s: Session, oid: int, stop: int) -> Iterable[tuple[int, bytes | None]]:
    """The revisions after `stop`, and the last one up to it."""
    for revision in revisions(s, oid):
        yield revision.tid, revision.data
        if revision.tid <= stop:
            return


def _reached(
    s: Session, roots: set[int], stop: int, referencesf: Callable[..., Any], known: set[int] | None = None
) -> set[int]:
    """What can be reached from `roots` through revisions that are kept, without what is known."""
    found: set[int] = set()
    todo = [oid for oid in roots if known is None or oid not in known]
    while todo:
        oid = todo.pop()
        if oid in found or (known is not None and oid in known):
            continue
        found.add(oid)
        for _, data in _kept(s, oid, stop):
            if data:
                todo.extend(u64(one) for one in referencesf(data))
    return found


def _pack_object(s: Session, oid: int, stop: int, *, keep: bool) -> list[int]:
    """Remove what is not kept of one object; the tids whose revisions are gone."""
    kept = {tid for tid, data in _kept(s, oid, stop) if tid > stop or data is not None}
    if not keep and all(tid <= stop for tid in kept):
        kept = set()
    gone = [revision.tid for revision in list(revisions(s, oid)) if revision.tid not in kept]
    for tid in gone:
        if (oid, tid) in s.table(HISTORY):
            del s.table(HISTORY)[oid, tid]
        else:
            del s.table(OBJECTS)[oid]
    return gone


def _pack_transaction(s: Session, tid: int, lost: set[int]) -> None:
    row = s.table(TRANSACTIONS).get(tid)
    if row is None:
        return
    left = [oid for oid in unpack_oids(row["oids"]) if oid not in lost]
    if left:
        row["oids"], row["status"] = pack_oids(left), "p"
    else:
        del s.table(TRANSACTIONS)[tid]
