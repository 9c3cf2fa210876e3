"""The library of failing calls fails what it is told to fail, in the files it is told of, and counts syncs."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import pykesto
from pykesto import tc
from stress.io_faults import FAILURES, Library, failing_calls

WORK = """
import mmap, os, sys, time
def tried(name, act):
    try:
        print(name, act(), flush=True)
    except OSError as error:
        print(name, "failed", error.errno, flush=True)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
other = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
tried("write", lambda: os.pwrite(fd, bytes(1000), 0))
tried("other", lambda: os.pwrite(other, bytes(1000), 0))
tried("read", lambda: len(os.pread(fd, 1000, 0)))
tried("allocate", lambda: os.posix_fallocate(fd, 0, 4096))
tried("sync", lambda: os.fdatasync(fd))
tried("truncate", lambda: os.ftruncate(fd, 4096))
tried("map", lambda: len(mmap.mmap(fd, 4096)))
tried("open", lambda: os.close(os.open(sys.argv[1], os.O_RDONLY)))
print("clock", max(time.time() for _ in range(100)) - min(time.time() for _ in range(100)))
"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    (tmp_path / "db" / "journal").mkdir(parents=True)
    made = Library(tmp_path, tmp_path / "db")
    if not made.usable:
        pytest.skip("it needs Linux and a C compiler")
    return made


def run(library: Library, *rules: str) -> dict[str, str]:
    environment = os.environ | library.environment(list(rules), 7)
    files = [str(library.database / "journal" / "file"), str(library.path.with_name("other"))]
    command = [sys.executable, "-c", WORK, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_nothing_fails_without_a_rule(library: Library) -> None:
    said = run(library)
    assert not any("failed" in text for text in said.values())
    assert said["write"] == "1000"
    assert abs(float(said["clock"])) < 60


@pytest.mark.parametrize(
    ("rule", "failed"),
    [
        ("write:1:5", {"write": "failed 5", "allocate": "failed 5"}),
        ("write:1:28", {"write": "failed 28", "allocate": "failed 28"}),
        ("read:1:5", {"read": "failed 5"}),
        ("sync:1:5", {"sync": "failed 5"}),
        ("truncate:1:28", {"truncate": "failed 28"}),
        ("map:1:12", {"map": "failed 12"}),
    ],
)
def test_the_calls_of_a_rule_fail_in_the_database_only(rule: str, failed: dict[str, str], library: Library) -> None:
    said = run(library, rule)
    assert {name: text for name, text in said.items() if "failed" in text} == failed
    assert said["other"] == "1000"


def test_a_short_call_does_a_part_and_says_so(library: Library) -> None:
    said = run(library, "write:1:short", "read:1:short")
    assert 0 < int(said["write"]) < 1000
    assert 0 < int(said["read"]) <= int(said["write"])


def test_the_clock_jumps(library: Library) -> None:
    assert abs(float(run(library, "clock:0.5:0")["clock"])) > 3600


def test_syncs_of_the_journal_are_counted_over_all_processes(library: Library) -> None:
    for _ in range(2):
        run(library)
    assert struct.unpack_from("<q", library.syncs.read_bytes())[0] == 2


COMMITS = """
import sys, pykesto
db = pykesto.open(sys.argv[1])
for n in range(10):
    with db.transaction() as s:
        s.table("rows")[n] = {}
import os
os._exit(0)
"""


def test_each_commit_of_a_process_that_is_alone_syncs_the_journal(library: Library) -> None:
    environment = os.environ | library.environment([], 7)
    command = [sys.executable, "-c", COMMITS, str(library.database)]
    library.database.joinpath("journal").rmdir()
    subprocess.run(command, env=environment, timeout=60, check=True)
    assert struct.unpack_from("<q", library.syncs.read_bytes())[0] >= 10


def test_a_rule_that_means_nothing_ends_the_process(library: Library) -> None:
    environment = os.environ | library.environment(["rain:1:5"], 7)
    assert subprocess.run([sys.executable, "-c", ""], env=environment, check=False).returncode == 125


def test_random_rules_are_ones_that_the_library_knows(library: Library) -> None:
    chance = random.Random(1)
    rules = {rule for _ in range(20) for rule in failing_calls(chance)}
    assert {rule.split(":")[0] for rule in rules} == set(FAILURES)
    environment = os.environ | library.environment(sorted(rules)[:16], 7)
    assert subprocess.run([sys.executable, "-c", ""], env=environment, check=False).returncode == 0


DATABASE = """
import sys, pykesto
for n in range(2):
    with pykesto.open(sys.argv[1]) as db:
        for m in range(20):
            with db.transaction() as s:
                s.table("rows").create_index("n")
                s.table("rows")[n, m] = {"n": m, "padding": bytes(3000)}
        db.checkpoint()
        db.checkpoint()
        assert not db.check().problems, db.check().problems
        with db.session() as s:
            assert len(s.table("rows")) == 20 * (n + 1)
            assert s.table("rows").query.col("n").equals(3).count() == n + 1
"""


def test_calls_that_do_only_a_part_are_continued(library: Library) -> None:
    environment = os.environ | library.environment(["write:0.5:short", "read:0.5:short"], 7)
    command = [sys.executable, "-c", DATABASE, str(library.database / "app.kesto")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


FREE_BLOCKS = """
import sys
from pykesto import tc
for _ in range(100):
    with tc.Table(sys.argv[1], "w") as table:
        assert len(table) == 200
"""


def test_reads_that_do_only_a_part_make_no_damage_of_free_blocks(library: Library) -> None:
    path = library.database / "people.tct"
    with tc.Table(path, "n") as table:
        table.create_index("name", "lexical")
        for n in range(300):
            table[b"%d" % n] = {b"name": b"x" * (n % 50 + 1)}
        for n in range(0, 300, 3):
            del table[b"%d" % n]
    environment = os.environ | library.environment(["read:0.5:short"], 7)
    command = [sys.executable, "-c", FREE_BLOCKS, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def numbers_raised(program: str, path: Path, rule: str, library: Library) -> list[str]:
    """What the system refused to a program that had to bear it."""
    environment = os.environ | library.environment([rule], 7)
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


TABLE = """
import collections, sys
import pykesto
from pykesto import tc
from pykesto.errors import CorruptionError, StorageError
raised = collections.Counter()
for n in range(200):
    try:
        with tc.Table(sys.argv[1], "r" if n % 2 else "w") as table:
            table.get(b"ann")
    except CorruptionError:
        raise
    except StorageError as error:
        raised[error.errno] += 1
print(*raised)
"""


@pytest.mark.parametrize("rule", ["map:0.1:12", "open:0.1:23", "read:0.1:5"])
def test_a_call_that_fails_while_a_table_is_opened_is_no_damage(rule: str, library: Library, tmp_path: Path) -> None:
    path = library.database / "people.tct"
    with tc.Table(path, "n") as table:
        table.create_index("name", "lexical")
        table[b"ann"] = {b"name": b"Ann"}
    assert numbers_raised(TABLE, path, rule, library) == [rule.split(":")[2]]


OPEN = """
import collections, sys, pykesto
raised = collections.Counter()
for n in range(100):
    try:
        with pykesto.open(sys.argv[1]) as db, db.session() as s:
            assert s.table("people").query.col("name").equals("Ann").count() == 1
    except pykesto.CorruptionError:
        raise
    except pykesto.StorageError as error:
        raised[error.errno] += 1
print(*raised)
"""


@pytest.mark.parametrize("rule", ["map:0.1:12", "open:0.05:24", "read:0.05:5", "write:0.1:28", "truncate:0.3:5"])
def test_a_call_that_fails_while_a_database_is_opened_is_an_error_of_storage(rule: str, library: Library) -> None:
    path = library.database / "app.kesto"
    with pykesto.open(path) as db:
        with db.transaction() as s:
            s.table("people").create_index("name")
            s.table("people")["ann"] = {"name": "Ann"}
        db.checkpoint()
        db.checkpoint()
    assert numbers_raised(OPEN, path, rule, library) in ([], [rule.split(":")[2]])
    with pykesto.open(path) as db:
        assert db.check().problems == ()


UPKEEP = """
import collections, sys
from pykesto import tc
from pykesto.errors import CorruptionError, StorageError
raised = collections.Counter()
for n in range(100):
    try:
        with tc.Table(f"{sys.argv[1]}.{n}", "n") as table:
            table[b"ann"] = {b"name": b"Ann"}
            table.create_index("name", "lexical")
            table.sync()
            table.copy(f"{sys.argv[1]}.copy.{n}")
    except CorruptionError:
        raise
    except StorageError as error:
        raised[error.errno] += 1
print(*raised)
"""


@pytest.mark.parametrize("rule", ["open:0.1:23", "sync:0.1:5", "write:0.1:28"])
def test_a_call_that_fails_while_a_table_is_written_synced_or_copied_is_an_error_of_storage(
    rule: str, library: Library
) -> None:
    assert numbers_raised(UPKEEP, library.database / "people.tct", rule, library) == [rule.split(":")[2]]
