"""Objects: the OO7 benchmark's small graph in pykesto, ZODB, Durus, SQLAlchemy on SQLite, and in plain Python.

    python -m benchmarks.objects [--repeat N] [--only WORK ...] [--json]

build       make the graph and commit it, durably
T1 cold     visit all atomic parts through all assemblies, in a fresh process, the files in the page cache
T1 hot      the same once more, with all objects in memory
T2a hot     visit again, change one atomic part of each composite part, commit durably
Q1 cold     1000 atomic parts by their ids
Q2, Q3      the atomic parts of 1 % and 10 % of the dates, by an index, their x added up

Each round of each peer has fresh processes. All peers must visit as many objects and get the same sums.
"""

from __future__ import annotations

import gc
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .measuring import Bar, Failed, Line, conditions, figures, parser, require_same, say, show, take_turns
from .objects_peers import DATES, PEERS, swap, traverse

BARS = {
    "build": (Bar(1 / 3, "ZODB", at_most=True),),
    "T1 cold": (Bar(1 / 4, "ZODB", at_most=True),),
    "T1 hot": (Bar(1.1, "plain Python", at_most=True),),
    "T2a hot": (Bar(1 / 2, "ZODB", at_most=True),),
    "Q1 cold": (Bar(1 / 3, "ZODB", at_most=True),),
    "Q2": (Bar(1 / 2, "SQLAlchemy", at_most=True),),
    "Q3": (Bar(1 / 2, "SQLAlchemy", at_most=True),),
}
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
    keys = random.Random(1).sample(peer.keys(), 1000)
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


def run(name: str, what: str, path: Path, tell: Connection) -> None:
    peer = PEERS[name]()(path)
    if name == "plain Python" and what != "build":
        peer.build()
    gc.collect()
    gc.freeze()
    found: Timed = {"build": run_build, "traversals": run_traversals, "queries": run_queries}[what](peer)
    peer.close()
    tell.send(found)


def in_a_process(name: str, what: str, path: Path) -> Timed:
    spawn = multiprocessing.get_context("spawn")
    hear, tell = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(name, what, path, tell))
    process.start()
    tell.close()
    try:
        found: Timed = hear.recv()
    except EOFError:
        raise Failed(f"a process of {name} failed in: {what}") from None
    finally:
        process.join()
    return found


def measure(name: str) -> Timed:
    say(name)
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        found = in_a_process(name, "build", Path(directory))
        if name != "plain Python":
            found |= in_a_process(name, "queries", Path(directory))
        return found | in_a_process(name, "traversals", Path(directory))


def main(argv: list[str]) -> int:
    options = parser("objects", __doc__, BARS).parse_args(argv)
    peers, missing = [], []
    for name, peer in PEERS.items():
        try:
            peer()
        except ImportError:
            missing.append(name)
        else:
            peers.append(name)
    rounds = take_turns(peers, options.repeat, measure)
    lines = []
    for work in options.only:
        having = {name: results for name, results in rounds.items() if work in results[0]}
        require_same(work, {name: results[0][work][1] for name, results in having.items()})
        lines.append(Line(work, figures(having, lambda one, work=work: one[work][0]), "ms", BARS[work]))  # type: ignore[misc]
    show(lines, conditions(Path(tempfile.gettempdir())), options, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
