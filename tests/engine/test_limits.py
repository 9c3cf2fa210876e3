"""What docs/limits.md says is so, and nothing is written when it is overstepped."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto.engine.content import IMAGE_BYTES_MAX
from pykesto.engine.control import SLOTS
from pykesto.journal.format import GENERATION_SHIFT
from pykesto.store import KEY_BYTES_MAX


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_the_page_of_limits_names_the_limits_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    for number in (KEY_BYTES_MAX, IMAGE_BYTES_MAX, SLOTS, (1 << GENERATION_SHIFT) - 1):
        assert re.search(rf"\b{number:,}\b", text), number


@pytest.mark.parametrize(
    ("key", "row", "error"),
    [
        ("k" * KEY_BYTES_MAX, {}, pykesto.UsageError),
        ("ann", {"list": nested(201)}, pykesto.CodecError),
        ("ann", {"number": Decimal("1" * 10_001)}, pykesto.CodecError),
    ],
)
def test_what_is_beyond_a_limit_is_refused_and_nothing_is_written(
    key: str, row: dict[str, Any], error: type[Exception], database: Path
) -> None:
    with pykesto.open(database) as db:
        with db.session() as s:
            s.table("people")["bob"] = {"age": 1}
            with pytest.raises(error):
                s.table("people")[key] = row
            s.commit()
        with db.session() as s:
            assert list(s.table("people")) == ["bob"]


def test_a_commit_of_100_000_rows_and_one_of_a_large_value_are_ordinary(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            rows = s.table("rows")
            for n in range(100_000):
                rows[n] = {"n": n}
        large = bytes(range(256)) * (1 << 17)  # 32 MB
        with db.transaction() as s:
            s.table("large")["value"] = {"value": large}
        with db.session() as s:
            assert len(s.table("rows")) == 100_000
            assert s.table("rows")[77_777]["n"] == 77_777
            assert s.table("large")["value"]["value"] == large
