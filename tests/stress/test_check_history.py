"""The history checker says what brute force says, on thousands of random histories of stores good and bad.

PYKESTO_SEED=n takes a seed back.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stress.check_history import LEVELS, PROSCRIBED, Verdict, check
from stress.history import History, Recorder, Transaction, load
from tests.stress.brute_force import possible
from tests.stress.toy_stores import KEPT, STORES, random_history

ROOT = Path(__file__).parents[2]
TRIED = ["read committed", *(level for level in LEVELS if "read committed" not in level)]


def seed() -> int:
    found = int(os.environ.get("PYKESTO_SEED") or random.randrange(1 << 32))
    print(f"PYKESTO_SEED={found}")
    return found


def small(kind: str, chance: random.Random, *, final: bool) -> list[Transaction]:
    shape = {"transactions": chance.randint(2, 6), "keys": chance.randint(1, 3), "processes": chance.randint(2, 3)}
    return random_history(kind, chance, final=final, **shape)


@pytest.mark.parametrize("kind", STORES)
def test_the_verdict_is_that_of_brute_force(kind: str) -> None:
    chance = random.Random(seed())
    verdicts = []
    for _ in range(300):
        history = small(kind, chance, final=True)
        verdict = check(history)
        expected = {level: possible(history, level) for level in TRIED}
        found = {level: verdict.holds(level) for level in TRIED}
        assert found == expected, "\n".join([*map(str, history), *map(str, verdict.anomalies)])
        verdicts.append(found)
    if kind in KEPT:
        assert all(found[KEPT[kind]] for found in verdicts)
    if kind != "serializable":
        assert not all(found["strict serializable"] for found in verdicts)


@pytest.mark.parametrize("kind", STORES)
def test_what_is_found_in_the_midst_of_a_history_is_certain(kind: str) -> None:
    chance = random.Random(seed())
    for _ in range(120):
        history = small(kind, chance, final=False)
        verdict = check(history)
        for level in TRIED:
            if not verdict.holds(level):
                assert not possible(history, level), "\n".join([*map(str, history), *map(str, verdict.anomalies)])


@pytest.mark.parametrize("kind", ["serializable", "snapshot isolation"])
def test_ten_thousand_transactions_take_seconds(kind: str) -> None:
    chance = random.Random(seed())
    history = random_history(kind, chance, transactions=10_000, keys=20, processes=8, final=True)
    began = time.monotonic()
    verdict = check(history)
    print(f"{len(history)} transactions checked in {time.monotonic() - began:.1f} s")
    assert verdict.holds(KEPT[kind])
    assert verdict.holds("serializable") == (kind == "serializable")


def one(
    process: int, begin: int, end: int | None, *operations: tuple[str, str, object], ok: bool = True
) -> Transaction:
    status = "unknown" if end is None else "ok" if ok else "failed"
    return Transaction(process, begin, list(operations), end=end, status=status)  # type: ignore[arg-type]


def final(**lists: list[int]) -> Transaction:
    return one(99, 1000, 1001, *(("read", key, values) for key, values in lists.items()))


# name of the anomaly -> the smallest history that has it
SMALLEST: dict[str, list[Transaction]] = {
    "G0": [
        one(1, 0, 9, ("append", "x", 1), ("append", "y", 1)),
        one(2, 0, 9, ("append", "x", 2), ("append", "y", 2)),
        final(x=[1, 2], y=[2, 1]),
    ],
    "G1a": [one(1, 0, 9, ("append", "x", 1), ok=False), one(2, 0, 9, ("read", "x", [1]))],
    "G1b": [one(1, 0, 9, ("append", "x", 1), ("append", "x", 2)), one(2, 0, 9, ("read", "x", [1])), final(x=[1, 2])],
    "G1c": [
        one(1, 0, 9, ("append", "x", 1), ("read", "y", [2])),
        one(2, 0, 9, ("append", "y", 2), ("read", "x", [1])),
        final(x=[1], y=[2]),
    ],
    "lost update": [
        one(1, 0, 9, ("read", "x", []), ("append", "x", 1)),
        one(2, 0, 9, ("read", "x", []), ("append", "x", 2)),
        final(x=[1, 2]),
    ],
    "G-single": [
        one(1, 0, 9, ("append", "x", 1), ("append", "y", 1)),
        one(2, 0, 9, ("read", "x", [1]), ("read", "y", [])),
        final(x=[1], y=[1]),
    ],
    "G-nonadjacent": [
        one(1, 0, 9, ("append", "x", 1)),
        one(2, 0, 9, ("append", "y", 2)),
        one(3, 0, 9, ("read", "x", [1]), ("read", "y", [])),
        one(4, 0, 9, ("read", "y", [2]), ("read", "x", [])),
        final(x=[1], y=[2]),
    ],
    "G2-item": [
        one(1, 0, 9, ("read", "x", []), ("append", "y", 1)),
        one(2, 0, 9, ("read", "y", []), ("append", "x", 2)),
        final(x=[2], y=[1]),
    ],
    "G-single-process": [
        one(1, 0, 3, ("append", "x", 1)),
        one(1, 4, 9, ("read", "x", [])),
        final(x=[1]),
    ],
    "G-single-realtime": [one(1, 0, 3, ("append", "x", 1)), one(2, 4, 9, ("read", "x", [])), final(x=[1])],
    "G0-realtime": [one(1, 0, 3, ("append", "x", 1)), one(2, 4, 9, ("append", "x", 2)), final(x=[2, 1])],
    "G1c-realtime": [
        one(1, 0, 3, ("read", "y", [2])),
        one(2, 4, 9, ("append", "y", 2)),
        final(y=[2]),
    ],
    "G2-item-realtime": [
        one(1, 4, 9, ("read", "x", []), ("append", "y", 1)),
        one(2, 0, 9, ("read", "z", []), ("append", "x", 2)),
        one(3, 0, 3, ("append", "z", 3)),
        final(x=[2], y=[1], z=[3]),
    ],
    "garbage read": [one(1, 0, 9, ("read", "x", [7]))],
    "duplicate": [one(1, 0, 9, ("append", "x", 1)), final(x=[1, 1])],
    "incompatible order": [
        one(1, 0, 9, ("append", "x", 1)),
        one(2, 0, 9, ("append", "x", 2)),
        one(3, 0, 9, ("read", "x", [1, 2])),
        final(x=[2, 1]),
    ],
    "internal": [one(1, 0, 9, ("append", "x", 1), ("read", "x", [])), final(x=[1])],
}


@pytest.mark.parametrize("name", SMALLEST)
def test_each_anomaly_is_named_and_explained(name: str) -> None:
    verdict = check(SMALLEST[name])
    assert name in verdict.found(), verdict
    anomaly = next(anomaly for anomaly in verdict.anomalies if anomaly.name == name)
    assert "T1" in anomaly.explanation
    assert "T1 is transaction of process" in str(anomaly)
    levels = [level for level in LEVELS if verdict.holds(level)]
    assert "strict serializable" not in levels
    kind = name.removesuffix("-process").removesuffix("-realtime")
    assert [level for level, names in PROSCRIBED.items() if kind in names]


def test_a_history_without_anomaly_is_strict_serializable() -> None:
    history = [one(1, 0, 3, ("append", "x", 1)), one(2, 4, 9, ("read", "x", [1]), ("append", "x", 2)), final(x=[1, 2])]
    assert check(history) == Verdict(3, 3, ())


def test_the_explanation_names_the_edges_of_the_cycle() -> None:
    (anomaly,) = check(SMALLEST["G2-item"]).anomalies
    assert "it read x without any value, the other appended 2 after that (rw)" in anomaly.explanation
    assert "it read y without any value, the other appended 1 after that (rw)" in anomaly.explanation
    assert len(anomaly.transactions) == 2


def test_a_commit_of_unknown_outcome_counts_once_it_was_read() -> None:
    unknown = one(1, 0, None, ("read", "y", []), ("append", "x", 1))
    assert check([unknown, final(x=[], y=[])]).committed == 1
    assert check([unknown, final(x=[1], y=[])]).committed == 2
    stale = [one(2, -9, -1, ("append", "y", 5)), unknown]
    assert check([*stale, final(x=[], y=[5])]).anomalies == ()
    assert check([*stale, final(x=[1], y=[5])]).found() == {"G-single-realtime"}


def test_an_acknowledged_append_that_is_gone_is_found() -> None:
    history = [one(1, 0, 3, ("append", "x", 1)), one(2, 0, 3, ("append", "y", 1)), final(x=[], y=[1])]
    assert not check(history).holds("strict serializable")


def test_a_value_appended_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="1 is appended to x twice"):
        check([one(1, 0, 3, ("append", "x", 1)), one(2, 0, 3, ("append", "x", 1))])


def record(directory: Path, process: int, *operations: tuple[str, str, object], ended: str = "") -> None:
    recorder = Recorder(directory, process)
    recorder.about_to_commit(time.monotonic_ns(), list(operations))
    if ended:
        recorder.ended(ended)  # type: ignore[arg-type]
    recorder.close()


def test_histories_come_back_from_their_files(tmp_path: Path) -> None:
    record(tmp_path, 1, ("append", "x", 1), ended="ok")
    record(tmp_path, 1, ("append", "x", 2))
    record(tmp_path, 2, ("read", "x", [1]), ("append", "y", 3), ended="failed")
    with (tmp_path / "history-2.jsonl").open("a") as file:
        file.write('{"begin":1')  # its writer was killed
    found = load([tmp_path])
    assert [one.status for one in found] == ["ok", "unknown", "failed"]
    assert found[0].operations == [("append", "x", 1)]
    assert found[0].end is not None
    assert found[0].end >= found[0].begin
    assert found[2].where == "history-2.jsonl line 1"


def test_a_growing_history_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    history = History(tmp_path)
    record(tmp_path, 1, ("append", "x", 1), ended="ok")
    assert [one.status for one in history.transactions()] == ["ok"]
    record(tmp_path, 2, ("read", "x", [1]))
    assert [one.status for one in history.transactions()] == ["ok", "unknown"]
    with (tmp_path / "history-2.jsonl").open("a") as file:
        file.write(json.dumps({"ok": time.monotonic_ns()}) + "\n")
    assert [one.status for one in history.transactions()] == ["ok", "ok"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stress.check_history", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_says_what_is_wrong_with_files(tmp_path: Path) -> None:
    record(tmp_path, 1, ("read", "x", []), ("append", "y", 1), ended="ok")
    assert run(tmp_path).returncode == 0
    assert "2 transactions" not in run(tmp_path).stdout
    record(tmp_path, 2, ("read", "y", [2]), ended="ok")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "garbage read: T1 read 2 in y, which nobody appended" in done.stdout
    assert "2 transactions, 2 committed: not strict serializable" in done.stdout
    said = json.loads(run(tmp_path, "--json").stdout)
    assert said["levels"]["read committed"] is False
    assert said["anomalies"][0]["name"] == "garbage read"
