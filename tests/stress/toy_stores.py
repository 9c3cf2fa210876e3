"""Small stores of lists that keep one level of isolation each, or break it, and random histories on them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from stress.history import Operation, Transaction

Lists = dict[str, list[int]]


class Running:
    """One transaction under way."""

    def __init__(self, record: Transaction, steps: list[tuple[str, str, Any]]) -> None:
        self.record, self.steps = record, steps
        self.snapshot: Lists = {}
        self.versions: dict[str, int] = {}
        self.own: Lists = defaultdict(list)


class Store:
    """The newest state is read and written at once, what others may yet roll back included."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.lists: Lists = defaultdict(list)
        self.past: list[Lists] = [{}]

    def begin(self, one: Running) -> None:
        pass

    def read(self, one: Running, key: str) -> list[int]:
        return list(self.lists[key])

    def append(self, one: Running, key: str, value: int) -> None:
        self.lists[key].append(value)

    def commit(self, one: Running) -> bool:
        return True

    def roll_back(self, one: Running) -> None:
        for key, _ in [(key, value) for kind, key, value in one.record.operations if kind == "append"]:
            own = {value for kind, at, value in one.record.operations if kind == "append" and at == key}
            self.lists[key] = [value for value in self.lists[key] if value not in own]


class ReadCommitted(Store):
    """Each read sees what is committed by then; appends go to the end of what is there at the commit."""

    def read(self, one: Running, key: str) -> list[int]:
        return self.lists[key] + one.own[key]

    def append(self, one: Running, key: str, value: int) -> None:
        one.own[key].append(value)

    def commit(self, one: Running) -> bool:
        for key, values in one.own.items():
            self.lists[key] = self.lists[key] + values
        self.past.append(dict(self.lists))
        return True

    def roll_back(self, one: Running) -> None:
        pass


class SnapshotIsolated(ReadCommitted):
    """Each transaction reads the state of its beginning; the first that commits a change of a key wins."""

    def begin(self, one: Running) -> None:
        one.snapshot = dict(self.past[-1])

    def read(self, one: Running, key: str) -> list[int]:
        return one.snapshot.get(key, []) + one.own[key]

    def commit(self, one: Running) -> bool:
        if any(self.lists[key] != one.snapshot.get(key, []) for key, values in one.own.items() if values):
            return False
        return super().commit(one)


class Serializable(SnapshotIsolated):
    """And nothing that it read has changed when it commits."""

    def commit(self, one: Running) -> bool:
        read = {key for kind, key, _ in one.record.operations if kind == "read"}
        if any(one.own.values()) and any(self.lists[key] != one.snapshot.get(key, []) for key in read):
            return False
        return super().commit(one)


class Lagging(Serializable):
    """Snapshots may be old, as on a replica: serializable still, in an order that nobody saw."""

    def begin(self, one: Running) -> None:
        one.snapshot = dict(self.chance.choice(self.past))


class LaggingSnapshots(SnapshotIsolated):
    def begin(self, one: Running) -> None:
        one.snapshot = dict(self.chance.choice(self.past))


class Forgetful(SnapshotIsolated):
    """Now and then the check at the commit is left out, or a transaction does not see what it wrote itself."""

    def read(self, one: Running, key: str) -> list[int]:
        found = super().read(one, key)
        return found if self.chance.random() < 0.9 else one.snapshot.get(key, [])

    def commit(self, one: Running) -> bool:
        return super().commit(one) if self.chance.random() < 0.5 else ReadCommitted.commit(self, one)


class Mixed(Store):
    """Each operation as another store would do it."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.kinds: list[type[Store]] = [Store, ReadCommitted]

    def read(self, one: Running, key: str) -> list[int]:
        kind = self.chance.choice(self.kinds)
        return kind.read(self, one, key)


STORES: dict[str, Callable[[random.Random], Store]] = {
    "dirty": Store,
    "mixed": Mixed,
    "read committed": ReadCommitted,
    "forgetful": Forgetful,
    "snapshot isolation": SnapshotIsolated,
    "serializable": Serializable,
    "lagging snapshots": LaggingSnapshots,
    "lagging serializable": Lagging,
}
KEPT = {
    "read committed": "read committed",
    "snapshot isolation": "strict snapshot isolation",
    "serializable": "strict serializable",
    "lagging serializable": "serializable",
}


def random_history(
    kind: str, chance: random.Random, *, transactions: int, keys: int, processes: int, final: bool
) -> list[Transaction]:
    """A history of `transactions` on a store; with `final`, a last transaction reads every key."""
    store = STORES[kind](chance)
    clock = 0
    value = 0
    found: list[Transaction] = []
    running: dict[int, Running] = {}
    names = [f"k{n}" for n in range(keys)]
    process_of = list(range(processes))
    while len(found) < transactions or running:
        clock += 1
        slot = chance.randrange(processes)
        one = running.get(slot)
        if one is None:
            if len(found) == transactions:
                slot = chance.choice(sorted(running))
                one = running[slot]
            else:
                steps: list[tuple[str, str, Any]] = []
                for _ in range(chance.randint(1, 4)):
                    value += 1
                    steps.append((chance.choice(["read", "append"]), chance.choice(names), value))
                record = Transaction(process_of[slot], clock, [], where=str(len(found)))
                running[slot] = one = Running(record, steps)
                found.append(record)
                store.begin(one)
                continue
        if one.steps:
            step, key, new = one.steps.pop(0)
            if step == "append":
                store.append(one, key, new)
                operation: Operation = ("append", key, new)
            else:
                operation = ("read", key, store.read(one, key))
            one.record.operations.append(operation)
            continue
        del running[slot]
        _end(store, one, chance, clock)
        if one.record.status == "unknown":  # its process is gone, and another comes
            process_of[slot] = max(process_of) + 1
    if final:
        record = Transaction(10**6, clock + 1, [], end=clock + 2, status="ok", where="final")
        record.operations += [("read", key, list(store.lists[key])) for key in names]
        found.append(record)
    return found


def _end(store: Store, one: Running, chance: random.Random, clock: int) -> None:
    lot = chance.random()
    if lot < 0.1:
        store.roll_back(one)
        one.record.status, one.record.end = "failed", clock
    elif lot < 0.2:
        if chance.random() < 0.5:
            if not store.commit(one):
                store.roll_back(one)
        else:
            store.roll_back(one)
    elif store.commit(one):
        one.record.status, one.record.end = "ok", clock
    else:
        store.roll_back(one)
        one.record.status, one.record.end = "failed", clock
