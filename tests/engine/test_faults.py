"""What the system can refuse, and what people do to files: a clear error, nothing lost, nothing silently wrong.

Each runs in a process of its own, whose limits and identity are its own. Failing calls one by one are elsewhere:
`tests/stress/test_io_faults.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pykesto
from pykesto.engine import manifest
from pykesto.errors import Error, FormatError, StorageError
from pykesto.journal import format as journal_format
from stress.io_faults import Library
from tests.processes import Worker, open_database

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
HEAD = """
import errno, json, os, resource, sys
import pykesto
from pykesto.errors import StorageError
path = sys.argv[1]
said = {}
def limit(which, size):
    resource.setrlimit(which, (size, resource.getrlimit(which)[1]))
def put(db, key, size=10):
    with db.transaction() as s:
        s.table("rows")[key] = {"content": b"x" * size}
def tried(name, act):
    try:
        act()
        said[name] = "done"
    except (StorageError, MemoryError) as error:
        kind = "StorageError" if isinstance(error, StorageError) else "MemoryError"
        said[name] = f"{kind} {getattr(error, 'errno', None)}"
"""
TAIL = """
print(json.dumps(said))
"""


def run(program: str, path: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    """What a program says of what it tried."""
    command = [sys.executable, "-c", HEAD + program + TAIL, str(path)]
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


def keys_of(path: Path) -> set[Any]:
    """What a process that comes later finds, after all was checked."""
    with pykesto.open(path) as db:
        assert db.check().ok
        with db.session() as s:
            return set(s.table("rows"))


@LINUX
def test_a_file_that_may_not_grow_refuses_commits_until_it_may(database: Path) -> None:
    said = run(
        """
db = pykesto.open(path)
put(db, "before")
limit(resource.RLIMIT_FSIZE, 300_000)  # Python ignores the signal that goes with it
for n in range(200):
    tried("limited", lambda: put(db, "limited", 5000))
    if said["limited"] != "done":
        break
tried("checkpoint", db.checkpoint)
limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
tried("after", lambda: put(db, "after"))
db.close()
""",
        database,
    )
    assert said["limited"].startswith("StorageError 27")  # EFBIG
    assert said["after"] == "done"
    assert {"before", "after"} <= keys_of(database)


@LINUX
@pytest.mark.parametrize("number", [28, 122], ids=["ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("where", ["journal", "base", "."])
def test_a_disk_or_quota_that_is_full_refuses_what_needs_room_and_loses_nothing(
    database: Path, tmp_path: Path, where: str, number: int
) -> None:
    said = run("db = pykesto.open(path); put(db, 'before'); db.close()", database)
    library = Library(tmp_path, database / where if where != "." else database)
    if not library.usable:
        pytest.skip("it needs a C compiler")
    said = run(
        """
db = None
def open_it():
    global db
    db = pykesto.open(path)
tried("open", open_it)
if db is not None:
    tried("commit", lambda: put(db, "during"))
    tried("checkpoint", db.checkpoint)
""",
        database,
        library.environment([f"write:1:{number}"], 3),
    )
    failed = {name for name, text in said.items() if text != "done"}
    assert failed, said
    assert all(said[name] == f"StorageError {number}" for name in failed), said
    expected = {"before", "during"} if said.get("commit") == "done" else {"before"}
    assert keys_of(database) == expected
    assert run("db = pykesto.open(path); tried('commit', lambda: put(db, 'after'))", database) == {"commit": "done"}


@LINUX
def test_too_few_file_descriptors_are_an_error_and_no_damage(database: Path) -> None:
    said = run(
        """
db = pykesto.open(path)
for n in range(40):
    with db.transaction() as s:
        s.table(f"table {n}")[1] = {}
put(db, "before")
db.checkpoint()
used = len(os.listdir("/proc/self/fd"))
limit(resource.RLIMIT_NOFILE, used + 6)
def read_all():
    with db.session() as s:
        for n in range(40):
            s.table(f"table {n}")[1]
tried("read", read_all)
tried("another", lambda: pykesto.open(path + ".other"))
limit(resource.RLIMIT_NOFILE, 1024)
tried("read again", read_all)
tried("commit", lambda: put(db, "after"))
db.close()
""",
        database,
    )
    assert said == {"read": "StorageError 24", "another": "StorageError 24", "read again": "done", "commit": "done"}
    assert keys_of(database) == {"before", "after"}


@LINUX
def test_too_little_memory_refuses_a_commit_and_the_next_one_goes(database: Path) -> None:
    said = run(
        """
db = pykesto.open(path)
put(db, "before")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
content = b"x" * 100_000_000
limit(resource.RLIMIT_AS, used + 250_000_000)
def large():
    with db.transaction() as s:
        s.table("rows")["large"] = {"content": content}
tried("large", large)
tried("after", lambda: put(db, "after"))
db.close()
""",
        database,
    )
    assert said["large"].startswith("MemoryError")
    assert said["after"] == "done"
    assert keys_of(database) == {"before", "after"}


@LINUX
def test_a_directory_without_permission_is_refused_by_name(tmp_path: Path) -> None:
    database = Path("/tmp") if os.geteuid() == 0 else tmp_path
    place = database / f"pykesto-test-{os.getpid()}"
    with pykesto.open(place) as db, db.transaction() as s:
        s.table("rows")["before"] = {}
    place.chmod(0o500)
    try:
        said = run(
            """
if os.geteuid() == 0:
    os.setuid(65534)
tried("open", lambda: pykesto.open(path))
tried("create", lambda: pykesto.open(path + "/below"))
""",
            place,
        )
        assert said == {"open": "StorageError 13", "create": "StorageError 13"}
        place.chmod(0o700)
        assert keys_of(place) == {"before"}
    finally:
        place.chmod(0o700)
        shutil.rmtree(place)


def test_a_commit_after_the_journal_was_removed_is_no_success(tmp_path: Path) -> None:
    database = tmp_path / "lost.kesto"
    db = pykesto.open(database)
    with db.transaction() as s:
        s.table("rows")["before"] = {}
    for path in (database / "journal").glob("*.kj"):
        path.unlink()
    with pytest.raises(Error, match="removed"), db.transaction() as s:
        s.table("rows")["after"] = {}
    with pytest.raises(StorageError), db.transaction() as s:
        s.table("rows")["later"] = {}
    db.close()
    with pytest.raises(Error, match="journal"):
        pykesto.open(database)


@pytest.mark.parametrize(("step", "what"), [(1, "a newer pykesto"), (-1, "before the first release")])
def test_bases_of_another_format_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, what: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", manifest.FORMAT + step)
        pykesto.open(tmp_path / "other.kesto").close()
    with pytest.raises(FormatError, match=rf"MANIFEST has format {manifest.FORMAT + step}.*{what}"):
        pykesto.open(tmp_path / "other.kesto")


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = tmp_path / "newer.kesto"
    with monkeypatch.context() as patch:
        patch.setattr(journal_format, "FORMAT", journal_format.FORMAT + 1)
        pykesto.open(newer).close()
    before = {path: path.read_bytes() for path in newer.rglob("*.kj")}
    with pytest.raises(FormatError, match="format 2"):
        pykesto.open(newer)
    assert {path: path.read_bytes() for path in newer.rglob("*.kj")} == before


def commit_pairs(here: SimpleNamespace) -> int:
    """The same number in two rows, again and again, with checkpoints in between, until told."""
    number = 0
    while not here.heard():
        number += 1
        with here.db.transaction() as s:
            s.table("rows")["one"] = {"n": number, "padding": bytes(20_000)}
            s.table("others")["two"] = {"n": number}
        if number % 20 == 0:
            here.db.checkpoint()
        if number == 40:
            here.say("at it")
    here.hear()
    return number


def test_a_directory_copied_while_in_use_is_refused_or_whole(database: Path, tmp_path: Path, start_worker: Any) -> None:
    worker: Worker = start_worker()
    worker.call(open_database, database)
    worker.start(commit_pairs)
    assert worker.hear() == "at it"
    outcomes: list[str] = []
    for turn in range(12):
        copy = tmp_path / f"copy {turn}"
        subprocess.run(["cp", "-r", str(database), str(copy)], check=False, capture_output=True)  # files may vanish
        try:
            with pykesto.open(copy, create=False) as db, db.session() as s:
                assert s.table("rows")["one"]["n"] == s.table("others")["two"]["n"] >= 1
                outcomes.append("whole" if db.check().ok else "reported")  # journal that only the older base needs
        except Error as error:
            outcomes.append(type(error).__name__)
    worker.say("enough")
    assert worker.result() > 40
    assert set(outcomes) <= {"whole", "reported", "CorruptionError", "StorageError"}, outcomes
