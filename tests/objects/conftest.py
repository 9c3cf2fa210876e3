"""A database for objects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import pykesto


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as opened:
        yield opened
