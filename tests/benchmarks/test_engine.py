"""The benchmark of the engine: a tiny run ends well, each peer does what it says, and wrong answers are found."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.measuring import Failed
from benchmarks.peers import COLUMNS, PEERS, Peer, cell, count_of, make_row, missing, whole
from benchmarks.processes import Job, Measured, Told, run_together
from benchmarks.works import COUNTERS, FIRST_KEY, Run, check, fill, increment, insert, run_alone, zipfian

ROOT = Path(__file__).parents[2]
ROWS = 1000
SMALL = ("--seconds", "0.02", "--repeat", "1", "--rows", ROWS, "--rows-to-open", ROWS, "--processes", "2")


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "engine", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    name: str = request.param
    if name in missing():
        pytest.skip(f"{name} is not installed")
    peer = PEERS[name](tmp_path, "full")
    peer.create()
    yield peer
    peer.close()


@pytest.mark.parametrize("opened", [name for name in PEERS if name != "zeo"], indirect=True)
def test_each_peer_does_what_it_is_asked_for(opened: Peer) -> None:
    opened.put_many((key, make_row(key)) for key in range(100))
    opened.put(200, make_row(200))
    assert opened.count() == 101
    assert opened.get(7) == make_row(7)
    opened.update(7, 3, cell(7, 3, 5))
    assert opened.get(7) == {**make_row(7), COLUMNS[3]: cell(7, 3, 5)}
    assert opened.advance(7, 3) == {**make_row(7), COLUMNS[3]: cell(7, 3, 5)}
    with opened.snapshot() as get:
        assert count_of(get(7)[COLUMNS[3]]) == 6
        assert whole(7, get(7))
        assert get(200) == make_row(200)
    opened.replace(7, make_row(7))
    assert opened.get(7) == make_row(7)
    opened.make_counters(3)
    opened.increment(1)
    opened.increment(1)
    assert opened.counters() == [0, 2, 0]
    opened.checkpoint()
    assert opened.count() == 101


def test_a_small_run_names_every_line_and_holds_it_against_its_bars(tmp_path: Path) -> None:
    works = ("durable", "open")
    done = benchmark(*SMALL, "--only", *works, "--peers", "pykesto", "sqlite3", "--directory", tmp_path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    lines = {line["title"]: line for line in told["lines"]}
    assert set(lines) == {
        "durable one-row commits, 2 processes",
        "open 1,000 rows, warm",
        "open 1,000 rows, after kill -9",
    }
    assert all(line["figures"].keys() == {"pykesto", "sqlite3"} for line in lines.values())
    assert [bar["bar"] for bar in lines["open 1,000 rows, warm"]["bars"]] == ["<= 5"]
    assert list(tmp_path.iterdir()) == []  # it leaves nothing


@pytest.mark.parametrize("work", ["process", "reads", "ycsb", "reader", "counters", "load", "checkpoints"])
def test_a_small_run_of_each_other_work_ends_well(work: str, tmp_path: Path) -> None:
    done = benchmark(*SMALL, "--only", work, "--peers", "pykesto", "--directory", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pykesto" in done.stdout
    assert "FAILED" not in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("ZEO") is None, reason="ZEO is not installed")
def test_several_processes_share_the_server_of_zodb(tmp_path: Path) -> None:
    run = Run(tmp_path, ["zeo"], seconds=0.1, rows=ROWS)
    measured = run.measure("zeo", "full", [Job(insert, {})] * 2)
    assert measured.sum("inserted") > 0


def told(**done: int) -> Measured:
    return Measured.of([Told(True, 1, 1.0, array("d", [0.5]), done)])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("filled")
    run_alone(fill, "sqlite3", place, ROWS)
    return place


@pytest.mark.parametrize(
    ("done", "message"),
    [
        ({"inserted": 1}, "rows: 1000, and not 1001"),
        ({"incremented": 1}, "the sum of the counters: 0, and not 1"),
        ({"advanced": 1}, "the sum of all changes: 0, and not 1"),
    ],
    ids=str,
)
def test_work_that_is_claimed_and_not_there_is_found(filled: Path, done: dict[str, int], message: str) -> None:
    run_alone(check, "sqlite3", filled, ROWS, told())
    with pytest.raises(Failed, match=message):
        run_alone(check, "sqlite3", filled, ROWS, told(**done))


def test_a_row_with_wrong_content_is_found(filled: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, ["sqlite3"], rows=ROWS)
    (tmp_path / f"sqlite3-{ROWS}").symlink_to(filled)
    with run.copy("sqlite3") as place:
        peer = PEERS["sqlite3"](place, "full")
        peer.put(FIRST_KEY, make_row(1))  # that of step 0 has another content
        peer.close()
        with pytest.raises(Failed, match=f"row {FIRST_KEY}"):
            run_alone(check, "sqlite3", place, ROWS, told(inserted=1))


def test_a_worker_that_fails_is_told_with_its_traceback(tmp_path: Path) -> None:
    PEERS["sqlite3"](tmp_path, "full").close()  # of two that make a file's first log one may be refused
    with pytest.raises(Failed, match="no such table: rows"):
        run_together("sqlite3", tmp_path, "full", [Job(insert, {})] * 2, rows=ROWS, seconds=0.1)


def test_a_peer_that_fails_is_left_out_of_the_line_and_said(tmp_path: Path) -> None:
    run = Run(tmp_path, ["pykesto", "sqlite3"], repeats=2)

    def measure(name: str) -> int:
        if name == "sqlite3":
            raise Failed("it is broken")
        return 1

    assert run.rounds("a line", ["pykesto", "sqlite3"], measure) == {"pykesto": [1, 1]}
    assert run.failures == ["a line: sqlite3: it is broken"]


def test_workers_start_together_and_count_only_what_ended_in_time(filled: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, ["sqlite3"], seconds=0.2, rows=ROWS)
    (tmp_path / f"sqlite3-{ROWS}").symlink_to(filled)
    measured = run.measure("sqlite3", "process", [Job(increment, {"counters": COUNTERS})] * 2)
    operations = sum(one.operations for one in measured.told)
    assert 0 < operations <= measured.sum("incremented")  # those before the time and the last are not counted
    assert measured.rate == pytest.approx(sum(one.operations / one.took_s for one in measured.told))
    assert measured.p50_ms <= measured.p99_ms <= measured.max_ms


def test_what_workers_did_becomes_rates_waits_and_shares() -> None:
    busy = Told(True, 30, 2.0, array("d", [0.001] * 99), {"n": 1})
    starved = Told(True, 1, 4.0, array("d", [4.0]), {})
    beside = Told(False, 9, 2.0, array("d", [9.0]), {"n": 2})
    measured = Measured.of([busy, starved, beside])
    assert (measured.rate, measured.p50_ms, measured.p99_ms, measured.max_ms) == (15.25, 1.0, 1.0, 4000.0)
    assert measured.unfairness == 60.0
    assert measured.sum("n") == 3


def test_keys_are_drawn_by_a_zipfian_law_and_the_same_are_frequent_for_all() -> None:
    import collections
    import random

    first, second = (collections.Counter(zipfian(1000, 50_000, random.Random(seed))) for seed in (1, 2))
    assert first.most_common(1)[0][0] == second.most_common(1)[0][0]
    [(_, most), (_, next_most)] = first.most_common(2)
    assert 1.5 < most / next_most < 2.6  # 2 ** 0.99
    assert set(first) <= set(range(1000))
