"""What the system withholds, permissions, space, memory, is an error and never the end of the process."""

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import ReadOnlyError, StorageError, UsageError

NOBODY = 65534
ROW = {b"name": b"Ann", b"long": b"x" * 300}

needs_archive = pytest.mark.skipif(
    "libtokyocabinet" in Path("/proc/self/maps").read_text(), reason="the shared library's calls are its own"
)


# --- Permissions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf() -> Iterator[Path]:
    """A directory with a table in it that another user can reach."""
    with tempfile.TemporaryDirectory(prefix="pykesto-limits.") as name:
        directory = Path(name)
        with tc.Table(directory / "table", "n", bnum=100) as table:
            table.create_index("name")
            table[b"ann"] = ROW
        directory.chmod(0o755)
        for file in directory.iterdir():
            file.chmod(0o666)
        yield directory


def as_nobody(work: Callable[[], object]) -> None:
    """Do it in a child that may not do as it likes; what it raises fails the test."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if os.getuid() == 0:
                os.setuid(NOBODY)
            work()
        except BaseException:  # noqa: BLE001  whatever it is, it is told
            said = traceback.format_exc()
        os.write(tell, said.encode()[:60_000])
        os._exit(0)
    os.close(tell)
    with open(hear) as told:
        said = told.read()
    assert os.waitpid(child, 0)[1] == 0
    assert not said, said


def test_a_directory_that_can_only_be_read(shelf: Path) -> None:
    path = shelf / "table"
    shelf.chmod(0o555)

    def work() -> None:
        with pytest.raises(tc.Error) as caught:
            tc.Table(shelf / "new", "c")
        assert "permission" in str(caught.value)
        with tc.Table(path, "w") as table:  # the files can be written
            table[b"bob"] = ROW
            for refused in (
                lambda: table.create_index("long"), lambda: table.optimize_index("name"), table.begin, table.optimize
            ):  # fmt: skip
                with pytest.raises(StorageError):
                    refused()
                assert not table.in_transaction
                table[b"cy"] = ROW  # it goes on
            assert table.query.col("name").equals("Ann").count() == 3
            table.sync()
        assert tc.verify(path) == []

    as_nobody(work)
    with tc.Table(path) as table:
        assert set(table) == {b"ann", b"bob", b"cy"}


def test_a_file_that_can_only_be_read(shelf: Path) -> None:
    path = shelf / "table"
    for file in shelf.iterdir():
        file.chmod(0o444)

    def work() -> None:
        for flag in ("w", "c", "n"):
            with pytest.raises(tc.Error, match="permission"):
                tc.Table(path, flag)  # type: ignore[arg-type]
        with tc.Table(path) as table:
            assert list(table.query.col("name").equals("Ann")) == [b"ann"]
            with pytest.raises(ReadOnlyError):
                table[b"bob"] = ROW

    as_nobody(work)


def test_a_file_that_can_not_be_read(shelf: Path) -> None:
    for name in ("table", "table.idx.name.lex"):
        (shelf / name).chmod(0)

        def work() -> None:
            for flag in ("r", "w"):
                with pytest.raises(StorageError, match=r"[Pp]ermission"):
                    tc.Table(shelf / "table", flag)  # type: ignore[arg-type]

        as_nobody(work)
        (shelf / name).chmod(0o666)


# --- Space ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [True, False])
def test_more_buckets_than_the_disk_holds(path: Path, large: bool) -> None:
    for flag in ("c", "n"):
        with pytest.raises(StorageError, match="bnum=274877906944"):
            tc.Table(path, flag, bnum=1 << 38, large=large)  # type: ignore[arg-type]
        assert not path.exists()
    with tc.Table(path, "n", large=large) as table:
        table[b"ann"] = ROW
        with pytest.raises(StorageError, match="bnum="):
            table.optimize(1 << 38)
        assert table[b"ann"] == ROW
    assert [file.name for file in path.parent.iterdir()] == [path.name]


FULL = """
import os, sys
from contextlib import suppress
from pathlib import Path
from pykesto import tc
from pykesto.errors import StorageError

directory, map_bytes, work = Path(sys.argv[1]), eval(sys.argv[2]), sys.argv[3]
filler = directory / "filler"
filler.write_bytes(bytes(3 << 20))  # 1 MB is left
table = tc.Table(directory / "table", "n", bnum=1000, map_bytes=map_bytes)
table.create_index("name")
table.create_index("text", "token")
table.sync()
stored = 0
try:
    if work == "transaction":
        table.begin()
    for number in range(100_000):
        table[b"%d" % number] = {b"name": b"%d" % number, b"text": b"to be or not %d" % number, b"long": b"x" * 300}
        stored += 1
        if work == "sync" and number % 100 == 0:
            table.sync()
except StorageError as error:
    print(type(error).__name__, error.errno is not None)
with suppress(StorageError):
    if work == "transaction":
        table.abort()
with suppress(StorageError):
    table.close()
filler.unlink()
assert stored > 100, stored
try:
    with tc.Table(directory / "table", "w") as table:
        found = len(table)
        assert all(row[b"name"] == key for key, row in table.items())
        assert work != "transaction" or found == 0
        table[b"new"] = {b"name": b"x"}
except StorageError as error:  # told, at least
    assert work != "transaction", error
"""


@needs_archive
@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="only root mounts a small disk")
@pytest.mark.parametrize("map_bytes", ["None", "0"])
@pytest.mark.parametrize("work", ["put", "sync", "transaction"])
def test_a_disk_that_is_full(tmp_path: Path, map_bytes: str, work: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        command = [sys.executable, "-c", FULL, str(disk), map_bytes, work]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (0, "Error True\n"), done.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- Sizes ----------------------------------------------------------------------------------------------------------


def test_sizes_beyond_what_the_library_counts(table: tc.Table) -> None:
    huge, half = bytes(1 << 31), bytes(1 << 30)  # never touched, so no memory
    table[b"ann"] = ROW
    for step in (
        lambda: table.__setitem__(huge, ROW), lambda: table.__setitem__(b"k", {b"a": huge}),
        lambda: table.__setitem__(b"k", {b"a": half, b"b": half}),
        lambda: table.putkeep(b"k", {b"a": huge}), lambda: table.putcat(b"ann", {b"a": huge}),
        lambda: table.put_raw(b"k", huge), lambda: table.apply_raw([(b"k", huge)]), lambda: table.get(huge),
        lambda: table.get_column(b"ann", huge), lambda: table.__delitem__(huge), lambda: table.row_size(huge),
        lambda: table.keys_with_prefix(huge),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="stores at most"):
            step()
    assert dict(table.items()) == {b"ann": ROW}
    for name, value in (
        ("cache_rows", 1 << 31), ("cache_leaves", 1 << 31), ("defrag_steps", 1 << 31), ("bnum", 1 << 62), ("apow", 17),
        ("fpow", 99), ("map_bytes", -1), ("inverted_bytes", 1 << 63),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=name):
            tc.Table(table.path + "2", "n", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max"):
        table.query.limit(1 << 31)
    with pytest.raises(UsageError, match="skip"):
        table.query.limit(1, 1 << 31)


# --- Memory ---------------------------------------------------------------------------------------------------------

SHORT = """
import resource, sys
from pathlib import Path
from pykesto import tc
from pykesto.errors import StorageError

table = tc.Table(sys.argv[1], "n", bnum=1000)
table.create_index("name")
for number in range(200):
    table[b"%d" % number] = {b"name": b"%d" % number, b"long": b"x" * 100}
large = {b"name": b"large", b"long": b"x" * 30_000_000}
pages = int(Path("/proc/self/statm").read_text().split()[5]) * 4096  # of data
resource.setrlimit(resource.RLIMIT_DATA, (pages + (48 << 20), pages + (48 << 20)))
failed = []
for step in (
    lambda: table.__setitem__(b"k", large), lambda: table.putkeep(b"k", large), lambda: table.putcat(b"1", large),
    lambda: table.putproc(b"k", None, large), lambda: table.query.update(large),
):
    try:
        step()
    except MemoryError:
        failed.append("MemoryError")
kept = []
try:  # the last piece of memory is taken away, and the table used
    while True:
        kept.append(bytes(1 << 20))
except MemoryError:
    pass
try:
    while True:
        kept.append(bytearray(600))
except MemoryError:
    pass
steps = [
    lambda: table.query.col("name").startswith("1").count(), lambda: table[b"1"],
    lambda: table.query.col("long").includes("x").count(), lambda: table.__setitem__(b"1", {b"name": b"y" * 2000}),
]
for step in steps:
    try:
        step()
    except (MemoryError, StorageError):
        pass
del kept
try:
    table.close()
except (MemoryError, StorageError):
    pass
print(failed)
"""


@needs_archive
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit what a process allocates")
def test_memory_that_is_not_there(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SHORT, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{['MemoryError'] * 5}\n"), done.stderr
    with suppress(StorageError), tc.Table(path) as table:
        assert len(table) >= 200
