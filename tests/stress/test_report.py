"""What a run says of itself: figures over time from the records, text, a page."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stress.measure import Timeline, percentile
from stress.options import FAULTS, faults
from stress.page import page
from stress.records import Lines, problems, tell
from stress.report import as_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    found = Timeline(began_ms=1000)
    found.begin_round(tmp_path)
    return found


def test_records_become_samples(timeline: Timeline, tmp_path: Path) -> None:
    (tmp_path / "acknowledged-worker-1").write_text("1 7 2 3000 1100\n0 8 0 1000 1200\n2 0 0 500 1700\n3 9 0 20")
    (tmp_path / "acknowledged-web-2").write_text("1 10 0 9000 1999\n")
    (tmp_path / "sizes-3").write_text('{"at_ms": 1600, "journal_bytes": 5, "overlay_bytes": 6, "overlay_rows": 7}\n')
    timeline.look()
    first, second = timeline.samples
    assert (first.at_s, first.commits, first.conflicts, first.refused) == (0.0, 2, 2, 0)
    assert (first.p50_ms, first.worst_ms, first.journal_bytes) == (3.0, 3.0, None)
    assert (second.commits, second.refused, second.journal_bytes, second.overlay_rows) == (1, 1, 5, 7)
    assert (timeline.commits, timeline.snapshots, dict(timeline.by_kind)) == (3, 1, {"worker": 2, "web": 1})
    with (tmp_path / "acknowledged-worker-1").open("a") as file:
        file.write("00 1300\n")  # the rest of the line that was being written
    timeline.look()
    assert timeline.commits == 4


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1.0, 51.0, 100.0, 100.0]
    assert percentile([3.0], 50) == 3.0


def test_problems_outlive_who_told_of_them(tmp_path: Path) -> None:
    lines = Lines(tmp_path, "problems-*")
    tell(tmp_path, "worker-1", "first\nof two lines", "second")
    assert problems(lines) == ["worker-1: first\nof two lines", "worker-1: second"]
    assert problems(lines) == []


def test_faults_are_chosen_by_name_group_and_amount() -> None:
    assert faults("none") == {}
    assert set(faults("all")) == set(FAULTS)
    expected = faults("usual") | {"kill": 0.25, "io": 0.15}
    del expected["stop"]
    assert faults("usual,kill=0.25,stop=0,io") == expected


def said(**changes: Any) -> dict[str, Any]:
    sample = {
        "commits": 10,
        "conflicts": 1,
        "refused": 0,
        "p50_ms": 0.5,
        "p95_ms": 2.0,
        "p99_ms": 30.0,
        "worst_ms": 400.0,
        "journal_bytes": 1 << 20,
        "overlay_bytes": None,
        "overlay_rows": None,
    }
    options = {"processes": 4, "seconds": 10.0, "round_s": 5.0, "seed": 77, "durability": "full", "size": 1, "least": 1}
    return {
        "passed": True,
        "options": options
        | {"isolation": "serializable", "faults": {"kill": 1.0}, "workloads": ["bank"], "broken": ""},
        "python": "3",
        "machine": "a machine",
        "seconds": 10.0,
        "rounds": 2,
        "commits": 1234,
        "acknowledged": 1230,
        "refused": 3,
        "conflicts": 4,
        "snapshots": 5,
        "history_transactions": 6,
        "workloads": {"bank": 1234},
        "by": {"worker": 1234},
        "faults": {"kill": 9},
        "exits": {},
        "latency_ms": {"p50": 0.5, "p95": 1.0, "p99": 2.0, "p99.9": 3.0},
        "recovery_ms": {"median": 8.0, "worst": 9.0},
        "recovered_records": 1,
        "discarded_bytes": 0,
        "left_out": ["web requests: gunicorn is not installed"],
        "problems": [],
        "kept": None,
        "samples": [{"at_s": n / 2} | sample for n in range(2000)],
        "marks": [{"at_s": 3.0, "what": "kill"}, {"at_s": 5.0, "what": "all killed"}],
    } | changes


def test_the_text_says_what_was_done_and_left_out() -> None:
    text = "\n".join(as_text(said()))
    assert "seed 77, 2 rounds in 10 s, 4 workers, full, serializable" in text
    assert "1,234 commits in the log (bank 1,234), 1,230 acknowledged, 3 refused, 4 conflicts" in text
    assert "left out: web requests: gunicorn is not installed" in text


class Balanced(HTMLParser):
    """Every element that must be closed is, in order."""

    OPTIONAL = frozenset({"meta", "br", "tr", "td", "path", "p", "html"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count += 1
        if tag not in self.OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPTIONAL:
            assert self.open.pop() == tag


@pytest.mark.parametrize("samples", [0, 1, 2, 2000])
def test_the_page_is_whole_for_runs_of_any_length(samples: int) -> None:
    one = said()
    text = page(one | {"samples": one["samples"][:samples]})
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert parser.count > 50
    assert len(text) < 400_000
    assert "passed: no violation was found" in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched


def test_the_page_shows_problems_as_they_are_and_how_to_run_again() -> None:
    text = page(said(passed=False, problems=["<b>lost & gone</b>"]))
    assert "failed: 1 problems" in text
    assert "&lt;b&gt;lost &amp; gone&lt;/b&gt;" in text
    assert "--seed 77" in text
    assert "--faults kill=1" in text


def test_a_line_on_a_terminal_says_how_it_goes(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    options = ["--seconds", "1", "--round", "1", "--faults", "none", "--workloads", "bank", "--processes", "1"]
    command = [sys.executable, "-m", "stress", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 10_000)
            except OSError:  # the end of a terminal
                break
            drawn += part
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, drawn
    assert b"round 1" in drawn
    assert b" commits " in drawn
    assert "stress: ok" in said
