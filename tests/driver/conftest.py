"""Tables in a directory of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pykesto import tc


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people.tct"


@pytest.fixture
def table(path: Path) -> Iterator[tc.Table]:
    with tc.Table(path, "n", bnum=1000) as opened:
        yield opened
