"""Many processes at once on the graph of `objects_peers`: pykesto opened by each of them, ZODB behind a ZEO server.

Each transaction takes one composite part, mostly one of the process's own. Most look: they visit its atomic parts.
Some change: they move an amount from the x of one atomic part to that of another, and count in the y of the first. A
conflict is tried again. In the end the sum of all x must be what it was, and that of all y must have grown by as many
as there were changes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pykesto

from . import objects_peers
from .measuring import Failed
from .objects_peers import Composite, Pykesto, build, composites_of, visit
from .processes import Worker, say

CHANGES, FOREIGN = 0.2, 0.1  # shares: of the transactions; and of those that take any composite part


@dataclass(frozen=True, slots=True)
class Told:
    """What one process did in its time."""

    transactions: int
    changes: int
    conflicts: int


class Users(Pykesto):
    """pykesto, one session for each process."""

    @staticmethod
    def serving(place: Path) -> AbstractContextManager[object]:
        return nullcontext()

    def build(self) -> None:
        with self.db.transaction() as s:
            s.root["design"] = root = build(self.classes)[0]
            s.root["ids"] = unique(root)
        with self.db.transaction() as s:
            s.root["ids"] = [composite.k_id for composite in s.root["ids"]]

    def keys(self) -> list[Any]:
        return list(self.s.root["ids"])

    def lookup(self, key: Any) -> Any:
        return self.s.get(Composite, key)

    def rollback(self) -> None:
        self.s.rollback()

    conflict = pykesto.ConcurrencyConflict


def zeo() -> Any:
    """ZODB as `objects_peers` has it, behind a server."""
    import transaction
    import ZODB
    from ZEO.ClientStorage import ClientStorage
    from ZODB.POSException import ConflictError

    from .peers import Zeo

    base = objects_peers.zodb()

    class ZeoUsers(base):  # type: ignore[misc]
        name = "ZEO"
        conflict = ConflictError

        def __init__(self, place: Path) -> None:
            port = int((place / "port").read_text())
            storage = ClientStorage(("127.0.0.1", port), wait=True, wait_timeout=60, cache_size=256 << 20)
            self.db = ZODB.DB(storage, cache_size=100_000)

        @staticmethod
        def serving(place: Path) -> AbstractContextManager[object]:
            return Zeo.serving(place)

        def build(self) -> None:
            connection = self.db.open()
            connection.root()["design"] = root = build(objects_peers.ZODB_CLASSES)[0]
            transaction.commit()
            connection.root()["ids"] = [composite._p_oid for composite in unique(root)]
            transaction.commit()
            connection.close()

        def rollback(self) -> None:
            transaction.abort()

    return ZeoUsers


PEERS: dict[str, Callable[[], Any]] = {"pykesto": lambda: Users, "ZEO": zeo}


def unique(root: Any) -> list[Any]:
    return list({composite.number: composite for composite in composites_of(root)}.values())


def sums(peer: Any) -> tuple[int, int]:
    """Of all x, and of all y."""
    keys = peer.keys()
    parts = [part for key in keys for part in peer.lookup(key).atomics]
    return sum(part.x for part in parts), sum(part.y for part in parts)


def change(composite: Any, chance: random.Random) -> None:
    one, other = chance.sample(list(composite.atomics), 2)
    amount = chance.randrange(1, 100)
    one.x -= amount
    other.x += amount
    one.y += 1


def work(pipe: Connection, name: str, place: Path, number: int, users: int) -> None:
    """What one process does, between two moments that it is told."""
    peer = PEERS[name]()(place)
    peer.begin()
    chance = random.Random(number)
    every = peer.keys()
    own = every[number::users]
    for key in own:
        visit(peer.lookup(key))  # in memory, from then on
    say(pipe)
    begin, end = pipe.recv()
    time.sleep(max(0.0, begin - time.monotonic()))
    say(pipe, _worked(peer, chance, own, every, end))
    peer.rollback()
    peer.end()
    peer.close()


def _worked(peer: Any, chance: random.Random, own: list[Any], every: list[Any], end: float) -> Told:
    transactions = changes = conflicts = 0
    while time.monotonic() < end:
        key = chance.choice(every if chance.random() < FOREIGN else own)
        changing = chance.random() < CHANGES
        while True:
            try:
                peer.rollback()  # what others committed is seen
                composite = peer.lookup(key)
                change(composite, chance) if changing else visit(composite)
                peer.commit() if changing else None
                break
            except peer.conflict:
                conflicts += 1
        transactions += 1
        changes += changing
    return Told(transactions, changes, conflicts)


@contextmanager
def opened(name: str, place: Path) -> Iterator[Any]:
    peer = PEERS[name]()(place)
    peer.begin()
    yield peer
    peer.end()
    peer.close()


def measure(name: str, place: Path, users: int, seconds: float) -> tuple[float, int]:
    """Transactions a second of all processes together, and how many conflicts there were."""
    with PEERS[name]().serving(place):
        peer = PEERS[name]()(place)
        peer.build()
        peer.close()
        with opened(name, place) as peer:
            before = sums(peer)
        told = _run(name, place, users, seconds)
        with opened(name, place) as peer:
            after = sums(peer)
    changes = sum(one.changes for one in told)
    if after != (before[0], before[1] + changes):
        raise Failed(f"{name}: {changes} changes made {after} of {before}")
    return sum(one.transactions for one in told) / seconds, sum(one.conflicts for one in told)


def _run(name: str, place: Path, users: int, seconds: float) -> list[Told]:
    workers: list[Worker] = []
    try:
        for number in range(users):
            workers.append(Worker(work, name, place, number, users))
        for worker in workers:
            worker.hear()
        begin = time.monotonic() + 0.1
        for worker in workers:
            worker.pipe.send((begin, begin + seconds))
        return [worker.hear() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
