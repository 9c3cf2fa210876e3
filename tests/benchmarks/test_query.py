"""A tiny run of the queries' benchmark: every work, whatever peers are installed, all answers compared."""

import json

import pytest

from benchmarks import query


def test_every_question_has_the_same_answer_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main(["--rows", "2000", "--seconds", "0.01", "--repeat", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    works = [line["title"] for line in told["lines"]]
    assert works == [*query.RATIOS, *(f"{work}, changed" for work in query.RATIOS)]
    for line in told["lines"]:
        assert {"pykesto", "sqlite3"} <= set(line["figures"])
        assert all(figure > 0 for figures in line["figures"].values() for figure in figures)
