"""Queries: indexed rows of a table, in pykesto, Python's sqlite3, SQLAlchemy on it, and ZODB with BTrees by hand.

    python -m benchmarks.query [--rows N] [--seconds S] [--repeat N] [--only WORK ...] [--json]

equality    10 rows by a text column
range       100 rows by a column of floats
order       the next 20 rows in the descending order of a column
both        10 rows that meet two conditions, each of which a hundredth of the rows (of 100,000) meets
count       how many rows have a column in a range that holds a tenth of all

Each question is asked with other values each time. Then 10,000 rows are changed, and pykesto asked before they go from
the journal into its tables ("changed"). All peers have the same rows and the same indexes, and must give the same
answers.
"""

from __future__ import annotations

import gc
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .measuring import OWN, Bar, Failed, Line, conditions, number, parser, rate, require_same, say, show, take_turns
from .query_peers import NAMES, PEERS, Columns, Sizes, row_of

RATIOS = {"equality": 1.5, "range": 1.2, "order": 1.2, "both": 1.5, "count": 2.0}
OF_THE_ORM = 10.0
KEPT_WHEN_CHANGED = 0.7
CHANGED = 10_000
ASKED = 200  # different questions of a kind
COMPARED = 20  # of whose answers


def questions(work: str, sizes: Sizes) -> list[tuple[Any, ...]]:
    """The operands of each question."""
    chance = random.Random(work)
    rows = sizes.rows
    if work == "equality":
        return [(f"City {chance.randrange(sizes.cities)}",) for _ in range(ASKED)]
    if work == "range":
        begins = [chance.randrange(1, rows - 100) for _ in range(ASKED)]
        return [(begin / 2, (begin + 99) / 2) for begin in begins]
    if work == "order":
        return [(chance.randrange(20, rows),) for _ in range(ASKED)]
    if work == "both":
        return [(chance.randrange(sizes.teams), f"kind {chance.randrange(sizes.teams)}") for _ in range(ASKED)]
    begins = [chance.randrange(rows - rows // 10) for _ in range(ASKED)]
    return [(begin, begin + rows // 10 - 1) for begin in begins]


def plain(answer: Any) -> Any:
    """An answer that can be compared."""
    if isinstance(answer, int):
        return answer
    return [row if isinstance(row, dict) else {name: getattr(row, name) for name in NAMES} for row in answer]


def measure(peer: Any, work: str, asked: list[tuple[Any, ...]], seconds: float) -> float:
    """Questions a second."""
    ask: Callable[..., Any] = getattr(peer, work)

    def all_of_them() -> None:
        for operands in asked:
            ask(*operands)

    all_of_them()
    gc.collect()
    return rate(all_of_them, seconds, each=len(asked))


def compare(peers: dict[str, Any], work: str, asked: list[tuple[Any, ...]]) -> None:
    for operands in asked[:COMPARED]:
        answers = {name: plain(getattr(peer, work)(*operands)) for name, peer in peers.items()}
        if work in ("equality", "both"):
            answers = {name: sorted(rows, key=lambda row: row["points"]) for name, rows in answers.items()}
        if work == "range":
            answers = {name: sorted(rows, key=lambda row: row["score"]) for name, rows in answers.items()}
        require_same(f"{work} {operands}", answers)


def lines_of(peers: dict[str, Any], sizes: Sizes, options: Any, suffix: str, kept: float) -> list[Line]:
    lines = []
    for work in options.only:
        say(work + suffix)
        asked = questions(work, sizes)
        compare(peers, work, asked)
        figures = take_turns(
            list(peers), options.repeat, lambda name, w=work, a=asked: measure(peers[name], w, a, options.seconds)
        )
        bars = (Bar(round(RATIOS[work] * kept, 3)), Bar(round(OF_THE_ORM * kept, 3), "SQLAlchemy"))
        lines.append(Line(work + suffix, figures, bars=bars))
    return lines


def changes(sizes: Sizes) -> dict[int, Columns]:
    """Rows all over the table, changed."""
    chosen = random.Random(1).sample(range(sizes.rows), min(CHANGED, sizes.rows))
    return {number: row_of(sizes, number, turn=1) for number in chosen}


def run(options: Any, directory: Path, done: ExitStack) -> tuple[list[Line], list[str]]:
    sizes = Sizes(options.rows)
    peers, missing = {}, []
    for name, make in PEERS.items():
        try:
            peer = make(directory)
        except ImportError:
            missing.append(name)
            continue
        say(f"loading {name}")
        done.callback(peer.close)
        peer.load(sizes)
        peers[name] = peer
    lines = lines_of(peers, sizes, options, "", 1.0)
    changed = changes(sizes)
    for peer in peers.values():
        peer.change(changed)
    lines += lines_of(peers, sizes, options, ", changed", KEPT_WHEN_CHANGED)
    if peers[OWN].unsettled() < len(changed):
        raise Failed("a checkpoint came between: the rows changed are in the tables already")
    return lines, missing


def main(argv: list[str]) -> int:
    options_of = parser("query", __doc__, RATIOS)
    options_of.add_argument("--rows", type=number(int, 1000, 10_000_000), default=100_000, metavar="N", help="(100000)")
    options = options_of.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory, ExitStack() as done:
        lines, missing = run(options, Path(directory), done)
        show(lines, conditions(Path(directory)) | {"rows": options.rows}, options, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
