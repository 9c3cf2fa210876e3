"""The stress program passes short runs, and finds every fault and every bug that is planted."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pykesto
from stress.__main__ import main
from stress.after_death import close_cleanly, flip, read_everything, records_of, tear
from stress.observers import Watcher, hold
from stress.verify import verify
from stress.worker import Task
from stress.workloads import LOGGED, WORKLOADS, Page, Ring

ROOT = Path(__file__).parents[1]
LOGGED_ONLY = ",".join(["lists", *LOGGED])
SMALL = LOGGED_ONLY.replace(",large", "")


def stress(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stress", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def said_by(*arguments: object) -> dict[str, Any]:
    done = stress(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    print({name: value for name, value in said.items() if name not in ("samples", "marks")})  # the seed among them
    assert said["passed"] == (done.returncode == 0)
    return said


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a short run with kills, which passed."""
    directory = tmp_path_factory.mktemp("stress") / "run"
    how = ("--seconds", 4, "--round", 4, "--least", 200, "--faults", "kill", "--workloads", SMALL)
    said = said_by(*how, "--path", directory)
    assert said["problems"] == []
    assert said["rounds"] == 1
    assert said["snapshots"] > 0
    assert said["commits"] >= said["acknowledged"] > 0
    assert said["history_transactions"] > 1
    return directory


@pytest.fixture
def directory(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def problems_of(directory: Path) -> list[str]:
    return verify(directory / "db.kesto", directory / "round-1").problems


def task(directory: Path) -> Task:
    return Task(directory / "db.kesto", directory / "round-1", 1, "test", 1, 0, tuple(WORKLOADS))


def test_what_a_run_left_is_in_order(directory: Path) -> None:
    assert problems_of(directory) == []
    assert problems_of(directory) == []  # the first has written to it


# Each fault is a legal commit that breaks what the workloads keep.


def change_an_account(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 1


def write_an_account_again(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 0


def change_two_accounts_and_keep_the_sum(s: pykesto.Session) -> None:
    s.table("accounts")[3]["balance"] += 1
    s.table("accounts")[4]["balance"] -= 1


def change_a_counter(s: pykesto.Session) -> None:
    s.table("counters")[0, "total"]["n"] += 1


def lose_a_log_row(s: pykesto.Session) -> None:
    del s.table("log")[next(iter(s.table("log")))]


def write_a_log_row_again(s: pykesto.Session) -> None:
    s.table("log")[next(iter(s.table("log")))]["padding"] = b""


def log_what_was_never_begun(s: pykesto.Session) -> None:
    row = next(iter(s.table("log").range()))
    s.table("log")[1, 10**6] = row.to_dict()


def add_a_name(s: pykesto.Session) -> None:
    s.table("names")[0, 0] = {"name": "nobody's"}


def lose_a_thing(s: pykesto.Session) -> None:
    del s.table("things")[next(iter(s.table("things")))]


def swap_two_nodes_labels(s: pykesto.Session) -> None:
    first, second, *_ = Ring.around(s)[1:]
    first.label, second.label = second.label, first.label


def cut_the_ring_short(s: pykesto.Session) -> None:
    first = s.root["ring"]
    first.next, first.next.next.prev = first.next.next, first


def point_backwards_past_a_node(s: pykesto.Session) -> None:
    s.root["ring"].prev = s.root["ring"].prev.prev


def change_a_page(s: pykesto.Session) -> None:
    s.query(Page).where(Page.number == 7).one().content += b"!"


def lose_a_row_of_a_batch(s: pykesto.Session) -> None:
    del s.table("batches")[1, 3]


def fill_a_table_in_part(s: pykesto.Session) -> None:
    s.table("scratch-1")[3] = {"n": 3, "step": [1, 1]}


def append_to_a_list(s: pykesto.Session) -> None:
    next(iter(s.table("lists").range()))["values"].append(-1)


def lose_a_value_of_a_list(s: pykesto.Session) -> None:
    row = max(s.table("lists").range(), key=lambda row: len(row["values"]))
    del row["values"][0]


SEEN_IN_ONE_SNAPSHOT = [
    change_an_account,
    change_a_counter,
    cut_the_ring_short,
    point_backwards_past_a_node,
    change_a_page,
    lose_a_row_of_a_batch,
    fill_a_table_in_part,
]
SEEN_WITH_THE_LOG = [
    write_an_account_again,
    change_two_accounts_and_keep_the_sum,
    lose_a_log_row,
    write_a_log_row_again,
    log_what_was_never_begun,
    add_a_name,
    lose_a_thing,
    swap_two_nodes_labels,
    append_to_a_list,
    lose_a_value_of_a_list,
]
Fault = Callable[[pykesto.Session], None]


def plant(directory: Path, fault: Fault) -> None:
    with pykesto.open(directory / "db.kesto") as db, db.transaction() as s:
        fault(s)


@pytest.mark.parametrize("fault", SEEN_IN_ONE_SNAPSHOT + SEEN_WITH_THE_LOG)
def test_the_verification_finds_a_fault(fault: Fault, directory: Path) -> None:
    plant(directory, fault)
    problems = problems_of(directory)
    assert problems
    assert not any(problem.startswith("check:") for problem in problems)  # it is none of the database's own


@pytest.mark.parametrize("fault", SEEN_IN_ONE_SNAPSHOT)
def test_the_watcher_finds_a_fault_that_one_snapshot_shows(fault: Fault, directory: Path) -> None:
    watcher = Watcher(task(directory))
    assert watcher.look() == []
    plant(directory, fault)
    assert watcher.look()
    watcher.db.close()


def test_a_reader_finds_a_snapshot_that_changes(directory: Path) -> None:
    with pykesto.open(directory / "db.kesto") as db, db.session() as s:
        hold(task(directory), s, random.Random(1), seconds=0.3)
        problems = list((directory / "round-1").glob("problems-reader-*"))
        assert all(path.stat().st_size == 0 for path in problems)

        def changing(_: pykesto.Session) -> int:
            changing.calls += 1  # type: ignore[attr-defined]
            return changing.calls  # type: ignore[attr-defined,no-any-return]

        changing.calls = 0  # type: ignore[attr-defined]
        hold(task(directory), s, random.Random(1), seconds=60, looks=[("changes", changing)])
        (path,) = (directory / "round-1").glob("problems-reader-*")
        assert "showed other changes than before" in path.read_text()


def test_two_rows_of_one_name_are_found(directory: Path) -> None:
    with pykesto.open(directory / "db.kesto") as db:
        with db.transaction() as s:
            s.table("names").drop_index("name")
        with db.transaction() as s:
            for key in ((0, 1), (0, 2)):
                s.table("names")[key] = {"name": "name-0"}
    watcher = Watcher(task(directory))
    assert any("rows are named name-0" in problem for problem in watcher.look())
    watcher.db.close()
    assert any("rows are named name-0" in problem for problem in problems_of(directory))


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
    for path in (directory / "round-1").glob("acknowledged-*"):
        lines = [[*map(int, line.split())] for line in path.read_text().splitlines()]
        at = next((at for at, line in enumerate(lines) if line[0] and line[1]), None)
        if at is not None:
            lines[at][:2] = change(lines[at][0], lines[at][1])
            path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
            break
    assert any(said in problem for problem in problems_of(directory))


# What is done to copies


def test_a_torn_end_of_the_journal_takes_nothing_that_was_acknowledged(directory: Path) -> None:
    database, records = directory / "before-recovery.kesto", directory / "round-1"
    for acknowledged in records.glob("acknowledged-*"):
        acknowledged.write_text("")  # as if nobody had been told: all that was not synced may be torn
    with pykesto.open(database, durability="process") as db:
        for n in range(20):
            with db.transaction() as s:
                s.table("torn")[n] = {"padding": bytes(1000)}
        before = shutil.copytree(database, directory / "torn.kesto")
    number = max(record.number for record in records_of(sorted((before / "journal").glob("*.kj"))[-1])) - 15
    (records / "acknowledged-worker-999").write_text(f"0 {number} 0 0 0\n")
    what = tear(before, records, random.Random(3))
    assert "tore" in what
    with pykesto.open(before) as db, db.session() as s:
        assert s.version >= number
        found = list(s.table("torn"))
        assert found == list(range(len(found)))  # a beginning of what was there
        assert 5 <= len(found) < 20
        assert db.check().problems == ()


def test_flipped_bits_are_reported_or_do_no_harm(directory: Path, tmp_path: Path) -> None:
    database = directory / "db.kesto"
    close_cleanly(database)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, said = random.Random(seed), []
    for _ in range(6):
        copy = shutil.copytree(database, tmp_path / "copy.kesto")
        what = flip(copy, chance)
        code = "import pathlib, sys, stress.after_death as a; a.read_everything(*map(pathlib.Path, sys.argv[1:]))"
        command = [sys.executable, "-c", code, str(copy), str(tmp_path / "answer")]
        done = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
        assert done.returncode == 0, what
        said.append((tmp_path / "answer").read_text())
        if said[-1] == "silent":
            assert verify(copy, directory / "round-1").problems == [], what
        shutil.rmtree(copy)
    assert set(said) <= {"reported", "silent"}


def test_damage_in_a_row_is_reported(directory: Path, tmp_path: Path) -> None:
    database = directory / "db.kesto"
    with pykesto.open(database) as db:
        db.checkpoint()
    paths = list(database.glob("base/*/*batches.tct"))
    assert paths
    for path in paths:
        content = bytearray(path.read_bytes())
        at = content.rindex(b"content")
        content[at + 20] ^= 1
        path.write_bytes(content)
    read_everything(database, tmp_path / "answer")
    assert (tmp_path / "answer").read_text() == "reported"


# Whole runs

BUGS = {
    "validate.reads": "not strict serializable",
    "validate.writes": "not strict serializable",
    "validate.predicates": "not strict serializable",
    "unique.check": "rows are named",
    "journal.durable": "was acknowledged without any sync",
    "checkpoint.rows": "",
    "recovery.tail": "",
}


@pytest.mark.parametrize("rule", BUGS)
def test_a_run_finds_a_planted_bug(rule: str, tmp_path: Path) -> None:
    broken = f"{rule}=off" + (":0.05" if rule == "recovery.tail" else "")
    workloads = "lists,unique,bank" if rule.startswith(("validate", "unique")) else SMALL
    arguments = ("--seconds", 90, "--round", 5, "--least", 400, "--faults", "none", "--workloads", workloads)
    if rule == "journal.durable" and shutil.which("cc") is None:
        pytest.skip("syncs are counted by a library that needs a C compiler")
    said = said_by(*arguments, "--broken", broken, "--path", tmp_path / "run")
    assert any(BUGS[rule] in problem for problem in said["problems"]), said["problems"]
    kept = Path(said["kept"])
    assert (kept / "before-recovery.kesto" / "MANIFEST").exists() or (kept / "db.kesto" / "MANIFEST").exists()


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_a_run_with_all_workloads_and_faults_passes(isolation: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    durability = "full" if isolation == "serializable" else "process"
    options = ("--isolation", isolation, "--durability", durability, "--html", page)
    said = said_by("--seconds", 6, "--round", 3, "--least", 50, "--faults", "all,kill=0.7,full=0", *options)
    assert said["problems"] == []
    assert said["rounds"] >= 1
    assert sum(said["faults"].values()) > 0
    assert set(said["by"]) >= {"worker", "storm"}
    text = page.read_text()
    assert "passed: no violation was found" in text
    assert text.count("<svg") == 5
    assert not (ROOT / "core").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    said = said_by("--seconds", 5, "--round", 5, "--faults", "full=1", "--workloads", LOGGED_ONLY)
    if said["left_out"]:
        pytest.skip(said["left_out"][0])
    assert said["problems"] == []
    assert said["faults"]["full disk"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "soon"], "invalid number value: 'soon'"),
        (["--processes", "0"], "0 is not between 1 and 500"),
        (["--faults", "rain"], "'rain' is none of none, usual, all, kill"),
        (["--faults", "kill=often"], "kill=often: the amount is no number"),
        (["--workloads", "work"], "work: the workloads are lists, bank"),
        (["--workloads", "readers"], "choose one at least that workers do"),
        (["--durability", "none"], "'full', 'process'"),
        (["--isolation", "none"], "'serializable', 'snapshot'"),
        (["--path", "/dev/null/db"], "can't make /dev/null"),
        (["--html", "/dev/null/page"], "can't make /dev/null/page"),
        (["--path", "."], "--path . is not empty"),
        (["--colour"], "--colour"),
    ],
)
def test_bad_options_get_a_clear_error(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    assert said in capsys.readouterr().err


def test_the_help_names_all_faults_and_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in WORKLOADS)
    assert "SIGSTOP of one process" in text
