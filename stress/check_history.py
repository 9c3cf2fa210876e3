"""Find what a history of list-append transactions shows to have gone wrong, and say why (the method of Elle).

    python -m stress.check_history [--level "strict serializable"] [--json] FILE_OR_DIRECTORY...

Each value is appended once, so a list that was read shows the order of all versions of its key up to then. From that
follow, with certainty, edges between transactions that committed (Adya's direct serialization graph):

    ww  one appended right after what the other appended
    wr  one read the version that the other left
    rw  one read a version, the other appended the next
    process, realtime  one ended before the other began: in the same process, or in any

A cycle is an anomaly; which, depends on its edges. G0: ww only. G1c: and wr. G-single: and one rw. G-nonadjacent:
several rw, no two in a row. G2-item: any rw. The name ends in -process or -realtime if such an edge is needed to close
the cycle. None is needed for G1a (a read of what was rolled back), G1b (a read of what its writer went on to change),
a lost update (two changed the same version), a read that misses what its own transaction wrote (internal), a read of
what nobody wrote (garbage) or of a value twice (duplicate), and reads of a key that are not beginnings of one another
(incompatible order).

A commit of unknown outcome counts as committed if somebody read what it appended, else as if it was never tried.
What is found is certain. Nothing is overlooked if the history ends with a read of every key, as those of `stress` do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .graph import Reach, knots, way
from .history import Transaction, load

WW, WR, RW, PROCESS, REALTIME = 1, 2, 4, 8, 16
DEPENDS, ANY = WW | WR, WW | WR | RW
EXTENSIONS = {"": 0, "-process": PROCESS, "-realtime": PROCESS | REALTIME}
CYCLES = ("G0", "G1c", "G-single", "G-nonadjacent", "G2-item")  # each is worse than those that follow
READ_COMMITTED = ("garbage read", "duplicate", "incompatible order", "G1a", "G1b", "G0", "G1c")
SNAPSHOT = (*READ_COMMITTED, "internal", "lost update", "G-single", "G-nonadjacent")
PROSCRIBED = {
    "read committed": READ_COMMITTED,
    "snapshot isolation": SNAPSHOT,
    "serializable": (*SNAPSHOT, "G2-item"),
}
STRENGTHS = {"": ("",), "strong session ": ("", "-process"), "strict ": tuple(EXTENSIONS)}
LEVELS = tuple(strength + level for level in PROSCRIBED for strength in STRENGTHS)
EACH_MAX = 5  # anomalies of one name that are explained


@dataclass(frozen=True, slots=True)
class Anomaly:
    """`name` with its extension, what happened, and the transactions it happened to."""

    name: str
    explanation: str
    transactions: tuple[Transaction, ...] = field(repr=False, default=())

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.explanation}"]
        lines += [f"    T{at + 1} is {one}" for at, one in enumerate(self.transactions)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a history shows. `committed` counts unknown outcomes that were seen."""

    transactions: int
    committed: int
    anomalies: tuple[Anomaly, ...]

    def found(self) -> set[str]:
        return {anomaly.name for anomaly in self.anomalies}

    def against(self, level: str) -> list[Anomaly]:
        """The anomalies that a level proscribes, such as "strict serializable" or "snapshot isolation"."""
        strength = next(s for s in sorted(STRENGTHS, key=len, reverse=True) if level.startswith(s))
        names = PROSCRIBED[level.removeprefix(strength)]
        forbidden = {name + end for name in names for end in STRENGTHS[strength]}
        return [anomaly for anomaly in self.anomalies if anomaly.name in forbidden]

    def holds(self, level: str) -> bool:
        return not self.against(level)


def check(transactions: Iterable[Transaction]) -> Verdict:
    """Everything that is wrong with a history, at most a few of each kind."""
    history = _Reads(list(transactions))
    anomalies = [*history.anomalies, *_Cycles(_Graph(history)).find()]
    return Verdict(len(history.transactions), len(history.committed), tuple(anomalies))


class _Found:
    """Anomalies, a few of each name."""

    def __init__(self) -> None:
        self.anomalies: list[Anomaly] = []
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, name: str, explanation: str, *transactions: Transaction) -> None:
        self.counts[name] += 1
        if self.counts[name] <= EACH_MAX:
            self.anomalies.append(Anomaly(name, explanation, transactions))


@dataclass(slots=True)
class _Read:
    """What a transaction read of others: the first `size` elements of the order of `key`."""

    reader: Transaction
    key: str
    values: list[Any]
    appends_too: bool = False


class _Reads(_Found):
    """Who committed, the order of each key's versions, and what is wrong without any cycle."""

    def __init__(self, transactions: list[Transaction]) -> None:
        super().__init__()
        self.transactions = transactions
        self.writers: dict[str, dict[Any, Transaction]] = defaultdict(dict)
        self.last: dict[int, dict[str, Any]] = {}  # id of a transaction -> key -> the last value it appended
        for one in transactions:
            self._note_appends(one)
        self.committed = [one for one in transactions if one.status == "ok"]
        self.reads: list[_Read] = []
        self.order: dict[str, list[Any]] = {}
        self._read_all()
        for read in self.reads:
            self._look_at(read)
        self._lost_updates()

    def _note_appends(self, one: Transaction) -> None:
        for kind, key, value in one.operations:
            if kind == "append":
                if value in self.writers[key]:
                    raise ValueError(f"{value} is appended to {key} twice: by {one}, and by {self.writers[key][value]}")
                self.writers[key][value] = one
                self.last.setdefault(id(one), {})[key] = value

    def _read_all(self) -> None:
        """Take the reads of all that committed; who is found to be read has committed too."""
        seen = {id(one) for one in self.committed}
        for one in self.committed:  # it grows
            for read in self._reads_of(one):
                added = self._new_in(read)
                if added is None:
                    continue  # nothing can be concluded from it
                self.reads.append(read)
                for value in added:
                    writer = self.writers[read.key].get(value)
                    if writer is not None and writer.status == "unknown" and id(writer) not in seen:
                        seen.add(id(writer))
                        self.committed.append(writer)

    def _reads_of(self, one: Transaction) -> Iterator[_Read]:
        """The reads without what the transaction itself had appended, which must be there, at the end."""
        own: dict[str, list[Any]] = defaultdict(list)
        appended = self.last.get(id(one), {})
        for kind, key, value in one.operations:
            if kind == "append":
                own[key].append(value)
                continue
            values, mine = value or [], own[key]
            if mine and values[-len(mine) :] != mine:
                self.add("internal", f"T1 read {key} as {_short(values)}, after it had appended {_short(mine)}", one)
                continue
            yield _Read(one, key, values[: len(values) - len(mine)], key in appended)

    def _new_in(self, read: _Read) -> list[Any] | None:
        """What a read adds to the order known of its key; None if they differ."""
        known = self.order.setdefault(read.key, [])
        values, size = read.values, len(known)
        common = min(len(values), size)
        if known[:common] != values[:common]:
            what = f"T1 read {read.key} as {_short(values)}, and somebody else read it as {_short(known)}"
            self.add("incompatible order", what, read.reader)
            return None
        if len(values) > size and len(set(values)) < len(values):
            self.add("duplicate", f"T1 read {read.key} as {_short(values)}, with a value twice", read.reader)
        known.extend(values[size:])
        return values[size:]

    def _look_at(self, read: _Read) -> None:
        """A read of what was never written, was rolled back, or was not the last that its writer made of it."""
        writers, reader = self.writers[read.key], read.reader
        for value in reversed(read.values):
            writer = writers.get(value)
            if writer is None:
                self.add("garbage read", f"T1 read {value} in {read.key}, which nobody appended", reader)
            elif writer.status == "failed":
                self.add("G1a", f"T1 read {value} in {read.key}, which T2 appended, and T2 failed", reader, writer)
            else:
                break  # what is older was read by others too, and is looked at with the longest of the reads
        if read.values:
            self._look_at_last(read, writers.get(read.values[-1]))
        if len(read.values) == len(self.order[read.key]):
            self._look_at_all(read)

    def _look_at_last(self, read: _Read, writer: Transaction | None) -> None:
        if writer is None or writer is read.reader or writer.status == "failed":
            return
        last = self.last[id(writer)][read.key]
        if read.values[-1] != last:
            what = f"T1 read {read.key} up to {read.values[-1]}, and T2, which appended that, went on to append {last}"
            self.add("G1b", what, read.reader, writer)

    def _look_at_all(self, read: _Read) -> None:
        """Of each key the longest read tells of values in the midst that should not be there."""
        for value in read.values:
            writer = self.writers[read.key].get(value)
            name = "garbage read" if writer is None else "G1a"
            if (writer is None or writer.status == "failed") and not self.counts[name]:
                self.add(name, f"T1 read {value} in {read.key}, which nobody appended and committed", read.reader)

    def _lost_updates(self) -> None:
        changed: dict[tuple[str, int], list[Transaction]] = defaultdict(list)
        for read in self.reads:
            if read.appends_too:
                group = changed[read.key, len(read.values)]
                if not group or group[-1] is not read.reader:
                    group.append(read.reader)
        for (key, size), group in changed.items():
            if len(group) > 1:
                version = _short(self.order[key][:size])
                self.add("lost update", f"T1 and T2 both read {key} as {version}, and both appended to it", *group[:2])


class _Graph:
    """The edges between committed transactions, which are numbers here."""

    def __init__(self, history: _Reads) -> None:
        self.history = history
        self.nodes = history.committed
        self.number = {id(one): at for at, one in enumerate(self.nodes)}
        self.edges: list[dict[int, int]] = [{} for _ in self.nodes]
        self.why: dict[tuple[int, int, int], tuple[str, Any, Any]] = {}
        self.unread: dict[str, list[Transaction]] = defaultdict(list)  # who appended what no read has shown
        self._order_versions()
        for read in history.reads:
            self._place(read)
        self._order_processes()
        self._order_in_time()

    def _add(self, kind: int, first: Transaction | None, second: Transaction | None, *why: Any) -> None:
        a, b = self.number.get(id(first)), self.number.get(id(second))
        if a is not None and b is not None and a != b:
            self.edges[a][b] = self.edges[a].get(b, 0) | kind
            if why:
                self.why.setdefault((a, b, kind), why)

    def _order_versions(self) -> None:
        history = self.history
        for key, order in history.order.items():
            writers = history.writers[key]
            known = [(value, writers[value]) for value in order if value in writers and self._lives(writers[value])]
            for (before, first), (after, second) in pairwise(known):
                self._add(WW, first, second, key, before, after)
            read = set(order)
            for value, writer in writers.items():
                if value not in read and self._lives(writer):
                    self.unread[key].append(writer)
                    if known:
                        self._add(WW, known[-1][1], writer, key, known[-1][0], value)

    def _lives(self, one: Transaction) -> bool:
        return id(one) in self.number

    def _place(self, read: _Read) -> None:
        """Its reader comes after the writer of the version that it read, and before that of the next."""
        key, reader = read.key, read.reader
        writers, order = self.history.writers[key], self.history.order[key]
        if read.values:
            self._add(WR, writers.get(read.values[-1]), reader, key, read.values[-1], None)
        after = order[len(read.values) :]
        following = next((value for value in after if value in writers and self._lives(writers[value])), None)
        if following is not None:
            self._add(RW, reader, writers[following], key, read.values[-1:], following)
        else:
            for writer in self.unread[key]:
                self._add(RW, reader, writer, key, read.values[-1:], self.history.last[id(writer)][key])

    def _order_processes(self) -> None:
        latest: dict[int, Transaction] = {}
        for one in sorted(self.nodes, key=lambda one: one.begin):
            self._add(PROCESS, latest.get(one.process), one)
            latest[one.process] = one

    def _order_in_time(self) -> None:
        """An edge from whoever had ended when another began, but for those that follow from others."""
        events = [(one.begin, 1, one) for one in self.nodes]
        events += [(one.end, 0, one) for one in self.nodes if one.end is not None]
        ended: dict[int, Transaction] = {}
        before: dict[int, list[Transaction]] = {}
        for _, begins, one in sorted(events, key=lambda event: event[:2]):
            if begins:
                before[id(one)] = list(ended.values())
                for other in before[id(one)]:
                    self._add(REALTIME, other, one)
            else:
                for other in before.get(id(one), ()):
                    ended.pop(id(other), None)
                ended[id(one)] = one

    def along(self, kinds: int, among: Collection[int] | None = None) -> Callable[[int], Iterator[int]]:
        """The successors along edges of these kinds, for the functions on graphs."""
        edges = self.edges
        if among is None:
            return lambda node: (other for other, kind in edges[node].items() if kind & kinds)
        inside = set(among)
        return lambda node: (other for other, kind in edges[node].items() if kind & kinds and other in inside)

    def says(self, a: int, b: int, kinds: int) -> tuple[int, str]:
        """The kind of an edge, of several the one that says most, and why it is there."""
        kind = next(k for k in (WW, WR, RW, PROCESS, REALTIME) if self.edges[a][b] & k & kinds)
        if kind == PROCESS:
            return kind, "the same process ran it before (process)"
        if kind == REALTIME:
            return kind, "it had ended when the other began (realtime)"
        key, first, second = self.why[a, b, kind]
        if kind == WW:
            return kind, f"it appended {first} to {key}, the other {second} after that (ww)"
        if kind == WR:
            return kind, f"it appended {first} to {key}, which the other read (wr)"
        seen = f"up to {first[0]}" if first else "without any value"
        return kind, f"it read {key} {seen}, the other appended {second} after that (rw)"


class _Cycles:
    """Cycles by their kind. Of each knot of the graph the worst kind is told, and not again with more edges."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self.found = _Found()
        self.worst = len(CYCLES)  # the kinds before this have not been found without the edges that come next

    def find(self) -> list[Anomaly]:
        for end, extension in EXTENSIONS.items():
            worst = self.worst
            for knot in knots(range(len(self.graph.nodes)), self.graph.along(ANY | extension)):
                worst = min(worst, self._judge(knot, end, extension))
            self.worst = worst
        return self.found.anomalies

    def _judge(self, knot: list[int], end: str, extension: int) -> int:
        searches = (self._g0, self._g1c, self._g_single, self._g_nonadjacent, self._g2)
        for rank, search in enumerate(searches[: self.worst]):
            cycles = search(knot, extension)
            if cycles:
                for cycle, kinds in cycles:
                    self._tell(CYCLES[rank] + end, cycle, kinds)
                return rank
        return len(CYCLES)

    def _tell(self, name: str, cycle: list[int], kinds: list[int]) -> None:
        lines = []
        for at, (a, b) in enumerate(pairwise(cycle)):
            after = (at + 1) % len(kinds)
            lines.append(f"T{at + 1} comes before T{after + 1}: {self.graph.says(a, b, kinds[at])[1]}")
        self.found.add(name, "; ".join(lines), *(self.graph.nodes[node] for node in cycle[:-1]))

    def _g0(self, knot: list[int], extension: int) -> list[tuple[list[int], list[int]]]:
        follow = self.graph.along(WW | extension, knot)
        return [self._around(inner[0], follow, WW | extension) for inner in knots(knot, follow)[:EACH_MAX]]

    def _around(self, node: int, follow: Callable[[int], Iterator[int]], kinds: int) -> tuple[list[int], list[int]]:
        cycle = way(node, node, follow)
        assert cycle is not None
        return cycle, [kinds] * (len(cycle) - 1)

    def _g1c(self, knot: list[int], extension: int) -> list[tuple[list[int], list[int]]]:
        return self._closing(knot, WR, DEPENDS | extension)

    def _g_single(self, knot: list[int], extension: int) -> list[tuple[list[int], list[int]]]:
        return self._closing(knot, RW, DEPENDS | extension)

    def _closing(self, knot: list[int], kind: int, others: int) -> list[tuple[list[int], list[int]]]:
        """Cycles of one edge of `kind`, and a way back along `others`."""
        follow = self.graph.along(others, knot)
        reach, inside, cycles = Reach(knot, follow), set(knot), []
        for a in knot:
            for b, kinds in self.graph.edges[a].items():
                if kinds & kind and b in inside and reach(b, a):
                    back = way(b, a, follow)
                    assert back is not None
                    cycles.append(([a, *back], [kind] + [others] * (len(back) - 1)))
                    if len(cycles) >= EACH_MAX:
                        return cycles
        return cycles

    def _g_nonadjacent(self, knot: list[int], extension: int) -> list[tuple[list[int], list[int]]]:
        """A cycle through pairs (transaction, whether an rw edge led to it), of which no rw edge leads on."""
        inside, edges, others = set(knot), self.graph.edges, DEPENDS | extension

        def follow(pair: tuple[int, bool]) -> Iterator[tuple[int, bool]]:
            node, by_rw = pair
            for other, kinds in edges[node].items():
                if other in inside:
                    if kinds & others:
                        yield other, False
                    if kinds & RW and not by_rw:
                        yield other, True

        pairs = [(node, by_rw) for node in knot for by_rw in (False, True)]
        for inner in knots(pairs, follow):
            cycle = way(inner[0], inner[0], follow)
            assert cycle is not None
            return [([node for node, _ in cycle], [RW if by_rw else others for _, by_rw in cycle[1:]])]
        return []

    def _g2(self, knot: list[int], extension: int) -> list[tuple[list[int], list[int]]]:
        return [self._around(knot[0], self.graph.along(ANY | extension, knot), ANY | extension)]


def _short(values: list[Any]) -> str:
    return str(values) if len(values) <= 8 else f"[... {str(values[-6:])[1:]}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.check_history", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_DIRECTORY")
    parser.add_argument("--level", choices=LEVELS, default="strict serializable", help="(strict serializable)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    verdict = check(load(options.paths))
    against = verdict.against(options.level)
    if options.json:
        levels = {level: verdict.holds(level) for level in LEVELS}
        found = [{"name": one.name, "explanation": str(one)} for one in verdict.anomalies]
        counts = {"transactions": verdict.transactions, "committed": verdict.committed}
        print(json.dumps({**counts, "levels": levels, "anomalies": found}, indent=2))
    else:
        print(*against, sep="\n\n")
        print(f"{verdict.transactions:,} transactions, {verdict.committed:,} committed: ", end="")
        print(f"not {options.level}" if against else f"{options.level}")
    return 1 if against else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
