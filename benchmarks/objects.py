"""Objects: the OO7 benchmark's small graph in pykesto, ZODB, Durus, SQLAlchemy on SQLite, and in plain Python.

    python -m benchmarks.objects [--repeat N] [--only WORK ...] [--json]

build       make the graph and commit it, durably
T1 cold     visit all atomic parts through all assemblies, in a fresh process, the files in the page cache
T1 hot      the same once more, with all objects in memory
T2a hot     visit again, change one atomic part of each composite part, commit durably
Q1 cold     1000 atomic parts by their ids
Q2, Q3      the atomic parts of 1 % and 10 % of the dates, by an index, their x added up

users       many processes at once visit and change composite parts; in pykesto and ZEO (see `objects_users`)
packages    all packages of Debian's index, linked by what they depend on, made and committed durably
closure     all that one package needs, cold: in a fresh process; and hot: the same once more

Each round of each peer has fresh processes. All peers must visit as many objects and get the same sums.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from examples.debian_packages.index import NoIndex

from . import objects_packages, objects_users
from .measuring import Bar, Failed, Line, conditions, figures, number, parser, require_same, say, show, take_turns
from .objects_peers import DATES, LEVELS, PEERS, resize, swap, traverse

BARS = {
    "build": (Bar(1 / 3, "ZODB", at_most=True),),
    "T1 cold": (Bar(1 / 4, "ZODB", at_most=True),),
    "T1 hot": (Bar(1.1, "plain Python", at_most=True),),
    "T2a hot": (Bar(1 / 2, "ZODB", at_most=True),),
    "Q1 cold": (Bar(1 / 3, "ZODB", at_most=True),),
    "Q2": (Bar(1 / 2, "SQLAlchemy", at_most=True),),
    "Q3": (Bar(1 / 2, "SQLAlchemy", at_most=True),),
    "users": (Bar(5, "ZEO"),),
    "packages": (),
    "closure cold": (),
    "closure hot": (),
}
GRAPH = {"build", "T1 cold", "T1 hot", "T2a hot", "Q1 cold", "Q2", "Q3"}
Peers = dict[str, Callable[[], Any]]
Timed = dict[str, tuple[float, Any]]  # work -> milliseconds, answer


def timed(work: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """The least milliseconds that it took, and what it gave."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        answer = work()
        took.append((time.perf_counter() - began) * 1000)
    return min(took), answer


def run_build(peer: Any) -> Timed:
    found = {"build": timed(peer.build)}
    if hasattr(peer, "settle"):  # what happens in the background after a while
        peer.settle()
    return found


def run_traversals(peer: Any) -> Timed:
    peer.begin()
    found = {"T1 cold": timed(lambda: traverse(peer.root())), "T1 hot": timed(lambda: traverse(peer.root()), 3)}

    def change() -> int:
        count = swap(peer.root())
        peer.commit()
        return count

    found["T2a hot"] = timed(change)
    peer.end()
    return found


def run_queries(peer: Any) -> Timed:
    peer.begin()
    keys = peer.keys()
    keys = random.Random(1).sample(keys, min(1000, len(keys)))
    peer.end()
    peer.begin()
    found = {"Q1 cold": timed(lambda: sum(peer.lookup(key).x for key in keys))}
    peer.end()
    for name, share in (("Q2", 100), ("Q3", 10)):

        def ask(lo: int = 0, share: int = share) -> list[int]:
            peer.begin()
            answer = []
            for begin in range(0, DATES, DATES // 5):
                parts = list(peer.range(begin, begin + DATES // share - 1))
                answer.append(sum(part.x for part in parts))
            peer.end()
            return answer

        took, answer = timed(ask, 3)
        found[name] = (took / 5, answer)
    return found


def run_import(peer: Any) -> Timed:
    return {"packages": (run_build(peer)["build"][0], None)}


def run_closure(peer: Any) -> Timed:
    name = objects_packages.heaviest(objects_packages.stored(peer.place))
    peer.begin()
    found = {
        "closure cold": timed(lambda: objects_packages.closure(peer.find(name))),
        "closure hot": timed(lambda: objects_packages.closure(peer.find(name)), 3),
    }
    peer.end()
    return found


# What a process does: the peers that it may be asked of, whether it makes the graph, and the work.
WORKS: dict[str, tuple[Peers, bool, Callable[[Any], Timed]]] = {
    "build": (PEERS, True, run_build),
    "traversals": (PEERS, False, run_traversals),
    "queries": (PEERS, False, run_queries),
    "import": (objects_packages.PEERS, True, run_import),
    "closure": (objects_packages.PEERS, False, run_closure),
}


def run(name: str, what: str, path: Path, levels: int, tell: Connection) -> None:
    resize(levels)
    peers, builds, work = WORKS[what]
    peer = peers[name]()(path)
    if name == "plain Python" and not builds:
        peer.build()
    gc.collect()
    gc.freeze()
    found = work(peer)
    peer.close()
    tell.send(found)


def in_a_process(name: str, what: str, path: Path, levels: int = LEVELS) -> Timed:
    spawn = multiprocessing.get_context("spawn")
    hear, tell = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(name, what, path, levels, tell))
    process.start()
    tell.close()
    try:
        found: Timed = hear.recv()
    except EOFError:
        raise Failed(f"a process of {name} failed in: {what}") from None
    finally:
        process.join()
    return found


def measure_graph(name: str, levels: int) -> Timed:
    say(name)
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        found = in_a_process(name, "build", Path(directory), levels)
        if name != "plain Python":
            found |= in_a_process(name, "queries", Path(directory), levels)
        return found | in_a_process(name, "traversals", Path(directory), levels)


def measure_packages(name: str, found: list[objects_packages.Record]) -> Timed:
    say(f"{name}, packages")
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        objects_packages.store(Path(directory), found)
        return in_a_process(name, "import", Path(directory)) | in_a_process(name, "closure", Path(directory))


def measure_users(name: str, users: int, seconds: float) -> float:
    say(f"{name}, {users} processes")
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        rate, conflicts = objects_users.measure(name, Path(directory), users, seconds)
    say(f"{conflicts} conflicts")
    return rate


def installed(peers: Peers) -> tuple[list[str], list[str]]:
    """The names of those that are, and of those that are not."""
    there: dict[bool, list[str]] = {True: [], False: []}
    for name, peer in peers.items():
        try:
            peer()
        except ImportError:
            there[False].append(name)
        else:
            there[True].append(name)
    return there[True], there[False]


def lines_of(works: list[str], rounds: dict[str, list[Timed]]) -> Iterator[Line]:
    for work in works:
        having = {name: results for name, results in rounds.items() if work in results[0]}
        require_same(work, {name: results[0][work][1] for name, results in having.items()})
        yield Line(work, figures(having, lambda one, work=work: one[work][0]), "ms", BARS[work])  # type: ignore[misc]


def main(argv: list[str]) -> int:
    arguments = parser("objects", __doc__, BARS)
    arguments.add_argument("--users", type=number(int, 1, 1000), default=8, help="processes at once (8)")
    arguments.add_argument("--index", type=Path, help="a Debian package index, instead of this machine's")
    arguments.add_argument("--levels", type=number(int, 1, 7), default=LEVELS, help="of the graph (7)")
    options = arguments.parse_args(argv)
    resize(options.levels)
    peers, missing = installed(PEERS)
    lines: list[Line] = []
    if graph := [work for work in options.only if work in GRAPH]:
        lines += lines_of(graph, take_turns(peers, options.repeat, lambda name: measure_graph(name, options.levels)))
    if "users" in options.only:
        several, without = installed(objects_users.PEERS)
        rates = take_turns(several, options.repeat, lambda name: measure_users(name, options.users, options.seconds))
        lines.append(Line("users", rates, "transactions a second", BARS["users"]))
        missing += without
    if packages := [work for work in options.only if work in {"packages", "closure cold", "closure hot"}]:
        try:
            found = objects_packages.records(options.index)
        except NoIndex as error:
            say(f"{', '.join(packages)} left out: {error}")
        else:
            lines += lines_of(packages, take_turns(peers, options.repeat, lambda name: measure_packages(name, found)))
    show(lines, conditions(Path(tempfile.gettempdir())), options, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
