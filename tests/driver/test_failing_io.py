"""What a table does when the system refuses to read, write, truncate or unlink. No call is replaced: a descriptor of
the library is made one that fails, a log is made a directory, a process is forbidden to have larger files."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import CorruptionError

ROW = {b"value": b"x" * 5000}

pytestmark = pytest.mark.skipif(
    "libtokyocabinet" in Path("/proc/self/maps").read_text(), reason="the shared library's calls are its own"
)


def descriptors(path: Path) -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                found.append(int(name))
    return found


@contextmanager
def replaced(path: Path, other: str | Path, flags: int) -> Iterator[None]:
    """The library's descriptor of `path` is one of another file meanwhile, or of the same with other rights."""
    (fd,) = descriptors(path)
    kept = os.dup(fd)
    opened = os.open(other, flags)
    try:
        os.dup2(opened, fd)
        yield
    finally:
        with suppress(OSError):  # closed meanwhile
            if os.path.samestat(os.fstat(fd), os.fstat(opened)):
                os.dup2(kept, fd)
        os.close(opened)
        os.close(kept)


def full(path: Path) -> AbstractContextManager[None]:
    return replaced(path, "/dev/full", os.O_RDWR)


def unreadable(path: Path) -> AbstractContextManager[None]:
    return replaced(path, path, os.O_WRONLY)


def unwritable(path: Path) -> AbstractContextManager[None]:
    return replaced(path, path, os.O_RDONLY)


def wal(path: Path) -> Path:
    return Path(f"{path}.wal")


def index(path: Path) -> Path:
    return Path(f"{path}.idx.name.lex")


@pytest.fixture
def opened(path: Path) -> Iterator[tc.Table]:
    """Not mapped, so that rows are read and written by calls that can fail."""
    table = tc.Table(path, "n", bnum=1000, map_bytes=0)
    table[b"ann"] = ROW
    yield table
    with suppress(tc.Error):
        table.close()


WRITES: dict[str, Callable[[tc.Table], object]] = {
    "put": lambda table: table.put(b"bob", ROW),
    "apply_raw": lambda table: table.apply_raw([(b"bob", b"\x01a\x01b"), (b"ann", None)]),
    "delete": lambda table: table.__delitem__(b"ann"),
    "query.delete": lambda table: table.query.delete(),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_fails_raises_and_is_the_last(path: Path, opened: tc.Table, name: str) -> None:
    with unwritable(path), pytest.raises(tc.Error, match=r"write error .*pwrite: Bad file descriptor") as caught:
        WRITES[name](opened)
    assert (caught.value.errno, str(caught.value.path)) == (errno.EBADF, str(path))
    assert caught.value.operation == {"apply_raw": "put", "query.delete": "delete"}.get(name, name)
    others = (tc.Table.begin, tc.Table.commit, tc.Table.sync, tc.Table.optimize, tc.Table.vanish)
    for refused in (*WRITES.values(), *others):
        with pytest.raises(tc.Error, match="Bad file descriptor") as again:
            refused(opened)
        assert (again.value.errno, again.value.code) == (errno.EBADF, caught.value.code)
    with pytest.raises(tc.Error, match="Bad file descriptor"):
        opened.copy(path.with_name("copy.tct"))
    assert opened.get(b"missing") is None
    with pytest.raises(tc.Error, match="Bad file descriptor"):
        opened.close()
    opened.close()
    tc.Table(path, "n").close()  # the path is free


def test_a_failed_write_can_be_aborted_and_never_committed(path: Path, opened: tc.Table) -> None:
    opened.create_index("name")
    opened.begin()
    opened[b"bob"] = {b"name": b"Bob"}
    with full(path), pytest.raises(tc.Error, match="pwrite"):
        opened[b"cy"] = ROW
    with pytest.raises(tc.Error, match="pwrite"):
        opened.commit()
    opened.abort()
    assert not opened.in_transaction
    with pytest.raises(tc.Error, match="pwrite"):
        opened.close()
    with tc.Table(path, "w") as table:
        assert dict(table) == {b"ann": ROW}
        assert table.query.col("name").equals("Bob").count() == 0


def test_the_context_of_a_transaction_passes_the_failure_on(path: Path, opened: tc.Table) -> None:
    with pytest.raises(tc.Error, match="No space left"), opened.transaction(), full(path):
        opened[b"bob"] = ROW
    assert not opened.in_transaction


@pytest.mark.parametrize("file", [wal, index, lambda path: wal(index(path))])
def test_a_log_or_index_that_can_not_be_written(path: Path, opened: tc.Table, file: Callable[[Path], Path]) -> None:
    opened.create_index("name")
    opened[b"bob"] = {b"name": b"Bob"}
    opened.begin()
    with unwritable(file(path)), pytest.raises(tc.Error, match=r"write: Bad file descriptor") as caught:  # noqa: PT012
        for number in range(100):  # which of them writes to the file is the library's affair
            opened[b"ann"] = {b"name": b"%d" % number * 500}
        opened.commit()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(tc.Error):
        opened.close()
    tc.Table(path, "n").close()


def test_a_commit_that_fails_can_not_be_aborted_either(path: Path, opened: tc.Table) -> None:
    opened.begin()
    opened[b"ann"] = ROW
    with unwritable(wal(path)), pytest.raises(tc.Error, match=r"commit .*trunc error .*ftruncate") as caught:
        opened.commit()
    assert caught.value.operation == "commit"
    assert not opened.in_transaction
    for call in (opened.abort, opened.begin, opened.close):
        with pytest.raises(tc.Error, match="ftruncate"):
            call()


def test_an_abort_that_fails_says_so(path: Path, opened: tc.Table) -> None:
    opened.begin()
    opened[b"ann"] = {b"value": b"y" * 5000}
    with unwritable(path), pytest.raises(tc.Error, match=r"abort .*write: Bad file descriptor"):
        opened.abort()
    with pytest.raises(tc.Error, match="Bad file descriptor"):
        opened.close()


def make_unreadable(log: Path) -> None:
    """A directory in its place, with so many entries that its size passes for that of a log."""
    log.mkdir()
    for number in range(100):
        (log / f"{number}").touch()


def test_an_abort_that_can_not_read_its_log_leaves_the_file(path: Path, opened: tc.Table) -> None:
    opened.begin()
    opened[b"bob"] = ROW
    size = path.stat().st_size
    log = wal(path).rename(path.with_name("log"))
    make_unreadable(wal(path))
    with pytest.raises(tc.Error, match=r"abort .*read: Is a directory") as caught:
        opened.abort()
    assert caught.value.errno == errno.EISDIR
    assert path.stat().st_size == size
    with pytest.raises(tc.Error, match="Is a directory"):
        opened.close()
    shutil.rmtree(wal(path))
    log.unlink()
    with tc.Table(path) as table:
        assert table[b"ann"] == ROW


def test_a_sync_that_fails(path: Path, opened: tc.Table) -> None:
    with replaced(path, "/dev/null", os.O_RDWR), pytest.raises(tc.Error, match=r"sync .*fsync: Invalid argument"):
        opened.sync()
    with pytest.raises(tc.Error, match="fsync"):
        opened.put(b"bob", ROW)


READS: dict[str, Callable[[tc.Table], object]] = {
    "get": lambda table: table.get(b"ann"),
    "get_raw": lambda table: table.get_raw(b"ann"),
    "in": lambda table: b"ann" in table,
    "iterate": lambda table: list(table),
    "items": lambda table: dict(table.items()),
    "raw_batches": lambda table: list(table.raw_batches(2)),
    "query": lambda table: list(table.query.col("value").startswith("x")),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_that_fails_raises_and_the_next_may_succeed(path: Path, opened: tc.Table, name: str) -> None:
    expected = READS[name](opened)
    for _ in range(2):
        with unreadable(path), pytest.raises(tc.Error, match=r"read error .*pread: Bad file descriptor") as caught:
            READS[name](opened)
        assert caught.value.errno == errno.EBADF
        assert READS[name](opened) == expected
        assert opened.get(b"missing") is None
    with opened.transaction():
        opened[b"bob"] = ROW
    opened.close()


def test_a_file_cut_short_while_it_is_open_is_damage(path: Path, opened: tc.Table) -> None:
    opened.close()
    with tc.Table(path, map_bytes=0) as table:
        content = path.read_bytes()
        os.truncate(path, table.size - 4000)
        with pytest.raises(CorruptionError, match=r"people\.tct at byte"):
            table.get(b"ann")
        path.write_bytes(content)
        assert table[b"ann"] == ROW


def test_a_cursor_that_can_not_read_must_seek_again(path: Path) -> None:
    with tc.Table(path, "n", bnum=1000) as table:
        table.create_index("name")
        table.update({b"%d" % number: {b"name": b"%04d" % number} for number in range(2000)})
    with tc.Table(path, map_bytes=0) as table:
        cursor = table.index_cursor(b"name")
        assert cursor.seek(b"0000")
        with unreadable(index(path)), pytest.raises(tc.Error, match="pread"):
            cursor.next_batch(2000)
        with pytest.raises(ValueError, match="seek again"):
            cursor.next_batch(2000)
        with unreadable(index(path)), pytest.raises(tc.Error, match="pread"):
            cursor.seek_last()
        assert cursor.seek(b"0000")
        assert [key for _, key in cursor.next_batch(3000)] == [b"%d" % number for number in range(2000)]


def test_a_close_that_can_not_truncate_raises_and_lets_go(path: Path, opened: tc.Table) -> None:
    with replaced(path, "/dev/null", os.O_RDWR), pytest.raises(tc.Error, match=r"close .*ftruncate: Inv") as caught:
        opened.close()
    assert (caught.value.errno, caught.value.operation) == (errno.EINVAL, "close")
    opened.close()
    assert not descriptors(path)
    tc.Table(path, "n").close()


@pytest.mark.parametrize("file", [wal, lambda path: wal(index(path))])
def test_a_close_that_can_not_remove_a_log_raises_and_lets_go(
    path: Path, opened: tc.Table, file: Callable[[Path], Path]
) -> None:
    opened.create_index("name")
    with opened.transaction():
        opened[b"bob"] = ROW
    file(path).unlink()
    file(path).mkdir()
    with pytest.raises(tc.Error, match=r"close .*unlink: Is a directory"):
        opened.close()
    file(path).rmdir()
    with tc.Table(path, "w") as table:
        assert set(table) == {b"ann", b"bob"}


def test_a_log_that_is_gone_already_is_no_failure(path: Path, opened: tc.Table) -> None:
    with opened.transaction():
        opened[b"bob"] = ROW
    wal(path).unlink()
    opened.close()


def test_rebuilding_closes_files_too(path: Path, opened: tc.Table) -> None:
    with opened.transaction():
        opened[b"bob"] = ROW
    wal(path).unlink()
    wal(path).mkdir()
    with pytest.raises(tc.Error, match=r"vanish .*unlink: Is a directory"):
        opened.vanish()
    with pytest.raises(tc.Error, match="vanish"):
        opened.close()


def in_a_process(path: Path, code: str) -> None:
    """Limits are a process's own."""
    head = "import os, resource, sys\nfrom pykesto import tc\npath = sys.argv[1]\n"
    done = subprocess.run([sys.executable, "-c", head + code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_file_that_may_not_grow(path: Path) -> None:
    in_a_process(
        path,
        """
table = tc.Table(path, "n", bnum=1000)
table[b"ann"] = {b"value": b"x" * 5000}
resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 3000,) * 2)
table.begin()
try:
    for number in range(100):
        table[b"%d" % number] = {b"value": b"y" * 500}
    raise SystemExit("no error")
except tc.Error as error:
    assert error.errno == 27 and "File too large" in str(error), error
try:
    table.commit()
    raise SystemExit("committed")
except tc.Error as error:
    assert error.errno == 27, error
table.abort()
try:
    table.close()
    raise SystemExit("closed")
except tc.Error as error:
    assert error.errno == 27, error
with tc.Table(path) as table:
    assert dict(table) == {b"ann": {b"value": b"x" * 5000}}
""",
    )


def test_a_transaction_that_begins_in_part_is_rolled_back(path: Path) -> None:
    """The table's log can be made, and its index's can't: one descriptor is left."""
    in_a_process(
        path,
        """
table = tc.Table(path, "n", bnum=1000)
table.create_index("name")
table[b"ann"] = {b"name": b"Ann"}
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for refused in (table.begin, table.begin, lambda: table.put(b"bob", {}), table.close):
    try:
        refused()
        raise SystemExit("no error")
    except tc.Error as error:
        assert (error.errno, error.operation) == (24, "begin"), error
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with tc.Table(path, "w") as table:
    assert dict(table) == {b"ann": {b"name": b"Ann"}}
""",
    )


def test_a_transaction_that_can_not_begin_may_later(path: Path) -> None:
    in_a_process(
        path,
        """
table = tc.Table(path, "n", bnum=1000)
free = os.dup(0)
os.close(free)
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, limit[1]))
try:
    table.begin()
    raise SystemExit("no error")
except tc.Error as error:
    assert error.errno == 24, error
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
with table, table.transaction():
    table[b"ann"] = {b"name": b"Ann"}
""",
    )


def test_a_log_that_can_not_be_opened_is_not_taken_for_none(path: Path) -> None:
    in_a_process(
        path,
        """
table = tc.Table(path, "n", bnum=1000)
table[b"ann"] = {b"name": b"Ann"}
table.begin()
table[b"ann"] = {b"name": b"Bob"}
os._exit(0)
""",
    )
    log = wal(path).rename(path.with_name("log"))
    wal(path).symlink_to(wal(path))
    for _ in range(2):
        with pytest.raises(tc.Error, match=r"open .*open: Too many levels") as caught:
            tc.Table(path, "w")
        assert (caught.value.errno, caught.value.operation) == (errno.ELOOP, "open")
    with pytest.raises(tc.Error, match="Too many levels"):
        tc.Table(path)
    wal(path).unlink()
    make_unreadable(wal(path))
    with pytest.raises(tc.Error, match=r"open .*read: Is a directory"):
        tc.Table(path, "w")
    shutil.rmtree(wal(path))
    log.rename(wal(path))
    with tc.Table(path, "w") as table:
        assert dict(table) == {b"ann": {b"name": b"Ann"}}
