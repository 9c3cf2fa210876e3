"""What all tests share.

Tests that need several processes start them with `multiprocessing.get_context("spawn")`: a forked child would
inherit the open handles of whatever ran before in this pytest worker.
"""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import pykesto
from tests.processes import Worker

# Random, and a failure prints the blob that replays it; but CI, which judges a commit, tries the same each time. Slow
# disks are no failure.
settings.register_profile("pykesto", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("pykesto")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """The path of a database that the test may create; whatever the test did, the checker finds nothing."""
    path = tmp_path / "app.kesto"
    yield path
    if path.exists():
        with pykesto.open(path, create=False) as db:
            assert db.check().problems == ()


@pytest.fixture
def start_worker(database: Path) -> Iterator[Callable[[], Worker]]:
    """Makes workers that end with the test, before its database is checked."""
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker())
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, even where the tests run in the background, which has it ignored."""
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, was)
