"""Failpoints: each is where its table says, does what it is told, and a process that dies at one loses nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest

import pykesto
from pykesto import failpoints

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"\b(?P<call>hit|off)\(\"(?P<name>[a-z.]+)\"\)")

# Commits rows of 1 KB, tells of each on standard output, and passes every place but those of a recovery.
WORK = """
import sys, pykesto
db = pykesto.open(sys.argv[1])
for n in range(200):
    with db.transaction() as s:
        s.table("rows")[n] = {"padding": bytes(1000)}
    print(n, flush=True)
db.checkpoint()
"""


def calls() -> list[tuple[str, str, str, str]]:
    """(call, name, its line, the line before) of each use in the product."""
    found = []
    for path in [p for end in ("py", "pyx", "pxi") for p in glob(f"pykesto/**/*.{end}", root_dir=ROOT, recursive=True)]:
        lines = (ROOT / path).read_text().splitlines()
        for at, line in enumerate(lines):
            found += [(m["call"], m["name"], line, lines[at - 1]) for m in CALL.finditer(line) if "`" not in line]
    return found


def run(code: str, path: Path, rules: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {failpoints.VARIABLE: rules, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_tables_name_just_what_is_in_the_source() -> None:
    found = calls()
    assert {name for call, name, *_ in found if call == "hit"} == set(failpoints.PLACES)
    assert {name for call, name, *_ in found if call == "off"} == set(failpoints.RULES)


def test_no_failpoint_is_called_unless_they_are_active() -> None:
    unguarded = [line for _, _, line, before in calls() if "ACTIVE" not in line + before]
    assert [line for line in unguarded if "checkpoint.rows" not in line] == []  # it is two lines below its guard
    assert not failpoints.ACTIVE


@pytest.mark.parametrize("place", failpoints.PLACES)
def test_a_process_killed_at_a_place_loses_nothing(place: str, tmp_path: Path) -> None:
    path, said = tmp_path / "app.kesto", 0
    if place.startswith("recovery"):
        said = len(run(WORK, path, "checkpoint.begin=kill").stdout.split())
        assert said == 200
    done = run(WORK, path, f"{place}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = max(said, len(done.stdout.split()))
    if place.startswith("checkpoint") and place != "checkpoint.stamp":  # that one is passed by the creation too
        assert said == 200
    with pykesto.open(path) as db:
        with db.session() as s:
            found = len(s.table("rows"))
        assert said <= found <= said + 1
        assert db.check().problems == ()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("journal.appendix=kill", "names none of"),
        ("journal.append=off", "names none of"),
        ("validate.reads=kill", "names none of"),
        ("journal.append=maim", "the action is kill, stop, off"),
        ("journal.append=kill:often", "the chance is no number"),
        ("journal.append", "the action is"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rules: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(pykesto.UsageError, match=said):
        failpoints.parse(rules)
    assert said in run("import pykesto.database", tmp_path, rules).stderr


def test_rules_have_patterns_and_chances() -> None:
    assert failpoints.parse(" journal.*=kill:0.5, unique.check=off,") == [
        ("journal.*", "kill", 0.5),
        ("unique.check", "off", 1.0),
    ]


def test_a_place_can_fail_with_an_errno(tmp_path: Path) -> None:
    done = run(WORK, tmp_path / "app.kesto", "journal.append=ENOSPC")
    assert done.returncode == 1
    assert "StorageError: failpoint journal.append: ENOSPC" in done.stderr


def test_a_place_can_stop_the_process(tmp_path: Path) -> None:
    environment = os.environ | {failpoints.VARIABLE: "journal.written=stop", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORK, str(tmp_path / "app.kesto")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            status = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert status is not None
            assert status.si_status == signal.SIGSTOP
        finally:
            process.kill()


def test_a_rule_of_the_database_can_be_broken(tmp_path: Path) -> None:
    lost_update = """
import sys, pykesto
db = pykesto.open(sys.argv[1])
with db.transaction() as s:
    s.table("rows")[1] = {"n": 0}
with db.session() as first, db.session() as second:
    for s in (first, second):
        s.table("rows")[1]["n"] += 1
    for s in (first, second):
        s.commit()
"""
    assert "ConcurrencyConflict" in run(lost_update, tmp_path / "kept.kesto", "").stderr
    assert run(lost_update, tmp_path / "broken.kesto", "validate.writes=off").returncode == 0
