"""What the benchmarks share: turns, medians, ratios, bars."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.measuring import (
    Bar,
    Failed,
    Line,
    file_system,
    number,
    parser,
    percentile,
    rate,
    require_same,
    show,
    table,
    take_turns,
)


def test_peers_take_turns_and_every_other_round_goes_the_other_way() -> None:
    order: list[str] = []

    def measure(peer: str) -> int:
        order.append(peer)
        return len(order)

    assert take_turns(["a", "b", "c"], 3, measure) == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
    assert "".join(order) == "abccbaabc"


def test_a_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() -> None:
    line = Line("x", {"pykesto": [10, 40, 90], "sqlite3": [10, 20, 100]})
    assert line.median("pykesto") == 40
    assert line.ratio("sqlite3") == 1.0
    assert line.ratio("lmdb") is None


@pytest.mark.parametrize(
    ("bar", "met"),
    [
        (Bar(2.0), True),
        (Bar(2.1), False),
        (Bar(1.9, at_most=True), False),
        (Bar(2.0, at_most=True), True),
        (Bar(10, None), True),
        (Bar(9, None, at_most=True), False),
        (Bar(1.0, "lmdb"), None),
    ],
    ids=str,
)
def test_a_bar_is_held_against_the_ratio_or_the_figure(bar: Bar, met: bool | None) -> None:
    [verdict] = Line("x", {"pykesto": [10.0], "sqlite3": [5.0]}, bars=(bar,)).verdicts()
    assert verdict.met is met
    assert ("MISSED" in str(verdict), "not measured" in str(verdict)) == (met is False, met is None)


def test_the_table_names_each_peer_with_its_ratio_and_each_bar_with_its_verdict() -> None:
    line = Line("reads", {"pykesto": [3000.0], "sqlite3": [1500.0]}, bars=(Bar(3.0),), notes=("p99 1 ms",))
    assert table([line]).splitlines() == [
        "reads [a second]",
        "    pykesto 3,000, sqlite3 1,500 (2.00)",
        "    p99 1 ms",
        "    bar >= 3 x sqlite3: 2 MISSED",
    ]


def test_json_holds_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    options = parser("x", None, ["reads"]).parse_args(["--json", "--repeat", "2"])
    line = Line("reads", {"pykesto": [1.0, 2.0], "sqlite3": [1.0, 1.0]}, bars=(Bar(1.5),), extra={"p99_ms": 3})
    show([line], {"file system": "ext4"}, options, ["lmdb"])
    told = json.loads(capsys.readouterr().out)
    assert told["left out"] == ["lmdb"]
    [one] = told["lines"]
    assert one["figures"] == {"pykesto": [1.0, 2.0], "sqlite3": [1.0, 1.0]}
    assert one["ratios"] == {"sqlite3": 1.5}
    assert one["bars"] == [{"bar": ">= 1.5 x sqlite3", "value": 1.5, "met": True}]
    assert one["p99_ms"] == 3


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)], ids=str)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected
    assert percentile([7], share) == 7


def test_a_rate_counts_what_was_done_and_does_it_at_least_once() -> None:
    calls: list[int] = []
    assert rate(lambda: calls.append(1), 0.0, each=100) > 0
    assert calls == [1]


def test_different_answers_fail() -> None:
    require_same("sums", {"pykesto": 1, "sqlite3": 1})
    with pytest.raises(Failed, match="sums: pykesto found 1, sqlite3 2"):
        require_same("sums", {"pykesto": 1, "sqlite3": 2})


def test_options_out_of_range_are_refused() -> None:
    assert number(float, 0, 2)("1.5") == 1.5
    with pytest.raises(argparse.ArgumentTypeError, match="3 is not between 0 and 2"):
        number(int, 0, 2)("3")
    with pytest.raises(SystemExit):
        parser("x", None, ["reads"]).parse_args(["--only", "writes"])


def test_the_file_system_of_a_directory_is_told(tmp_path: Path) -> None:
    assert file_system(Path("/proc")) in {"proc", "unknown"}
    assert file_system(tmp_path)
