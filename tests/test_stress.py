"""The stress program passes a short run, and what it checks with finds every fault that is planted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pykesto
from stress.processes import Watcher
from stress.verify import verify
from stress.workloads import Ring

ROOT = Path(__file__).parents[1]


def stress(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stress", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run with kills, which passed."""
    directory = tmp_path_factory.mktemp("stress") / "run"
    done = stress("--seconds", 3, "--kill", 0.5, "--path", directory, "--json")
    print(done.stdout)  # the seed
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == []
    assert said["killed"] > 0
    assert said["snapshots"] > 0
    assert set(said["workloads"]) == {"bank", "unique", "graph"}
    assert said["commits"] >= said["acknowledged"] > 0
    return directory


@pytest.fixture
def directory(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_what_a_run_left_is_in_order(directory: Path) -> None:
    assert verify(directory).problems == []
    assert verify(directory).problems == []  # the first has written to it


# Each fault is a legal commit that breaks what the workloads keep.


def change_an_account(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 1


def write_an_account_again(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 0


def change_two_accounts_and_keep_the_sum(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 1
    s.table("accounts")[4]["balance"] -= 1


def lose_a_log_row(s: pykesto.Session) -> None:
    del s.table("log")[next(iter(s.table("log")))]


def write_a_log_row_again(s: pykesto.Session) -> None:
    s.table("log")[next(iter(s.table("log")))]["padding"] = b""


def log_what_was_never_begun(s: pykesto.Session) -> None:
    row = s.table("log").query.col("workload").equals("bank").first()
    assert row is not None
    s.table("log")[1, 10**6] = {**row.to_dict(), "amount": 0}


def lose_a_name(s: pykesto.Session) -> None:
    del s.table("names")[next(iter(s.table("names")))]


def swap_two_nodes_labels(s: pykesto.Session) -> None:
    first, second, *_ = Ring.around(s)[1:]
    first.label, second.label = second.label, first.label


def cut_the_ring_short(s: pykesto.Session) -> None:
    first = s.root["ring"]
    first.next, first.next.next.prev = first.next.next, first


def point_backwards_past_a_node(s: pykesto.Session) -> None:
    s.root["ring"].prev = s.root["ring"].prev.prev


SEEN_IN_ONE_SNAPSHOT = [change_an_account, cut_the_ring_short, point_backwards_past_a_node]
SEEN_WITH_THE_LOG = [
    write_an_account_again,
    change_two_accounts_and_keep_the_sum,
    lose_a_log_row,
    write_a_log_row_again,
    log_what_was_never_begun,
    lose_a_name,
    swap_two_nodes_labels,
]
Fault = Callable[[pykesto.Session], None]


def plant(directory: Path, fault: Fault) -> None:
    with pykesto.open(directory / "db.kesto") as db, db.transaction() as s:
        fault(s)


@pytest.mark.parametrize("fault", SEEN_IN_ONE_SNAPSHOT + SEEN_WITH_THE_LOG)
def test_the_verification_finds_a_fault(fault: Fault, directory: Path) -> None:
    plant(directory, fault)
    found = verify(directory)
    assert found.problems
    assert not any(problem.startswith("check:") for problem in found.problems)  # it is none of the database's own


@pytest.mark.parametrize("fault", SEEN_IN_ONE_SNAPSHOT)
def test_the_watcher_finds_a_fault_that_one_snapshot_shows(fault: Fault, directory: Path) -> None:
    watcher = Watcher(directory)
    assert watcher.look() == []
    plant(directory, fault)
    assert watcher.look()
    watcher.db.close()


def test_two_rows_of_one_name_are_found(directory: Path) -> None:
    with pykesto.open(directory / "db.kesto") as db:
        with db.transaction() as s:
            s.table("names").drop_index("name")
        with db.transaction() as s:
            for key in list(s.table("names"))[:2]:
                s.table("names")[key]["name"] = "name-0"
    watcher = Watcher(directory)
    assert any("rows are named name-0" in problem for problem in watcher.look())
    watcher.db.close()
    assert any("rows are named name-0" in problem for problem in verify(directory).problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda number, version: (number + 1, version), "the acknowledgements of worker"),
        (lambda number, version: (number, version + 1), "was acknowledged as commit"),
        (lambda number, version: (number, 0), "refused or rolled back"),
    ],
)
def test_the_verification_holds_to_what_was_acknowledged(
    change: Callable[[int, int], tuple[int, int]], said: str, directory: Path
) -> None:
    path = next(path for path in directory.glob("acknowledged-*") if path.stat().st_size)
    lines = [[*map(int, line.split())] for line in path.read_text().splitlines()]
    at = next(at for at, line in enumerate(lines) if line[1])
    lines[at][:2] = change(lines[at][0], lines[at][1])
    path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    assert any(said in problem for problem in verify(directory).problems)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "soon"], "invalid number value: 'soon'"),
        (["--processes", "0"], "0 is not between 1 and 500"),
        (["--kill", "-1"], "-1 is not between 0"),
        (["--durability", "none"], "'full', 'process'"),
        (["--isolation", "none"], "'serializable', 'snapshot'"),
        (["--path", "/dev/null/db"], "can't make /dev/null"),
        (["--path", "."], "--path . is not empty"),
        (["--colour"], "--colour"),
    ],
)
def test_bad_options_get_a_clear_error(arguments: list[str], said: str) -> None:
    done = stress(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
