"""Is there any way in which a small history could have come about at a level? Try them all.

Nothing here knows of graphs: transactions are run, one after another or with snapshots, and must read what they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, pairwise, permutations, product

from stress.history import Transaction

State = dict[str, tuple[int, ...]]


def possible(history: list[Transaction], level: str) -> bool:
    kind = level.removeprefix("strict ").removeprefix("strong session ")
    strength = level.removesuffix(kind)
    if kind == "read committed":
        return any(_read_committed(committed) for committed in _choices(history))
    before = _before(history, strength)
    ok = {at for at, one in enumerate(history) if one.status == "ok"}
    maybe = {at for at, one in enumerate(history) if one.status == "unknown"}
    if kind == "serializable":
        return _serial(history, before, ok, maybe, {})
    return _snapshot(history, before, ok, maybe, {}, {})


def _before(history: list[Transaction], strength: str) -> dict[int, set[int]]:
    """Who must have committed before one begins."""

    def follows(a: Transaction, b: Transaction) -> bool:
        if strength == "strict " and a.end is not None and a.end < b.begin:
            return True
        return bool(strength) and a.process == b.process and a.begin < b.begin

    numbered = list(enumerate(history))
    return {at: {other for other, a in numbered if a is not b and follows(a, b)} for at, b in numbered}


def _run(one: Transaction, state: State) -> State | None:
    """The state after a transaction, or None if it read something else."""
    state = dict(state)
    for kind, key, value in one.operations:
        if kind == "append":
            state[key] = (*state.get(key, ()), value)
        elif tuple(value) != state.get(key, ()):
            return None
    return state


def _serial(
    history: list[Transaction], before: dict[int, set[int]], ok: set[int], maybe: set[int], state: State
) -> bool:
    if not ok:
        return True
    waiting = ok | maybe
    for at in sorted(waiting):
        if before[at] & waiting & ok:
            continue
        after = _run(history[at], state)
        # An unknown one that is passed over is taken as never committed where order would have it earlier.
        passed = {other for other in maybe if at in before and other in before[at]}
        if after is not None and _serial(history, before, ok - {at}, maybe - {at} - passed, after):
            return True
    return False


def _snapshot(
    history: list[Transaction],
    before: dict[int, set[int]],
    ok: set[int],
    maybe: set[int],
    state: State,
    begun: dict[int, State],
) -> bool:
    """`begun`: the snapshots of those that began and did not commit."""
    if not ok:
        return True
    for at in sorted(begun):
        changed = {key for kind, key, _ in history[at].operations if kind == "append"}
        if all(state.get(key, ()) == begun[at].get(key, ()) for key in changed):
            after = dict(state)
            for kind, key, value in history[at].operations:
                if kind == "append":
                    after[key] = (*after.get(key, ()), value)
            rest = {other: snapshot for other, snapshot in begun.items() if other != at}
            if _snapshot(history, before, ok - {at}, maybe - {at}, after, rest):
                return True
    waiting = (ok | maybe) - set(begun)
    for at in sorted(waiting):
        if before[at] & ok or before[at] & set(begun):
            continue
        if _run(history[at], state) is not None:
            passed = {other for other in maybe if other in before[at]}
            if _snapshot(history, before, ok, maybe - passed, state, begun | {at: state}):
                return True
    return False


def _choices(history: list[Transaction]) -> Iterator[list[Transaction]]:
    """What may have committed: all that did, and some of those that nobody knows of."""
    ok = [one for one in history if one.status == "ok"]
    maybe = [one for one in history if one.status == "unknown"]
    for some in chain.from_iterable(combinations(maybe, n) for n in range(len(maybe) + 1)):
        yield ok + list(some)


def _read_committed(committed: list[Transaction]) -> bool:
    """Whether some order of each key's writers fits all reads, and leaves no cycle of ww and wr (Adya's PL-2)."""
    keys = sorted({key for one in committed for _, key, _ in one.operations})
    fitting = []
    for key in keys:
        writers = [one for one in committed if any((k, at) == ("append", key) for k, at, _ in one.operations)]
        orders = [order for order in permutations(writers) if _fits(order, committed, key)]
        if not orders:
            return False
        fitting.append(orders)
    return any(_acyclic(committed, dict(zip(keys, orders, strict=True))) for orders in product(*fitting))


def _appends(one: Transaction, key: str) -> tuple[int, ...]:
    return tuple(value for kind, at, value in one.operations if (kind, at) == ("append", key))


def _others(one: Transaction, key: str) -> Iterator[tuple[int, ...]]:
    """What it read of others: without its own appends at the end, where they are."""
    own: tuple[int, ...] = ()
    for kind, at, value in one.operations:
        if at == key and kind == "append":
            own = (*own, value)
        elif at == key and (not own or tuple(value[-len(own) :]) == own):
            yield tuple(value[: len(value) - len(own)])


def _fits(order: tuple[Transaction, ...], committed: list[Transaction], key: str) -> bool:
    versions: set[tuple[int, ...]] = {()}
    values: tuple[int, ...] = ()
    for one in order:
        values += _appends(one, key)
        versions.add(values)
    return all(read in versions for one in committed for read in _others(one, key))


def _acyclic(committed: list[Transaction], orders: dict[str, tuple[Transaction, ...]]) -> bool:
    edges: set[tuple[int, int]] = set()
    for key, order in orders.items():
        edges |= {(id(a), id(b)) for a, b in pairwise(order)}
        values: tuple[int, ...] = ()
        for writer in order:
            values += _appends(writer, key)
            edges |= {(id(writer), id(one)) for one in committed if one is not writer and values in _others(one, key)}
    nodes = {id(one) for one in committed}
    while free := {node for node in nodes if not any(b == node and a in nodes for a, b in edges)}:
        nodes -= free
    return not nodes
