"""Files: opening, damage, locks, copies, rebuilding."""

import fcntl
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import CorruptionError, FormatError, StorageError, UsageError


@pytest.fixture
def closed(path: Path) -> Path:
    with tc.Table(path, "n", bnum=100) as table:
        table.create_index("age")
        table.update((b"%d" % i, {b"age": b"%d" % i}) for i in range(50))
    return path


def test_flags_open_as_in_dbm(path: Path) -> None:
    for flag in "rw":
        with pytest.raises(tc.Error, match=r"open .*people\.tct: file not found \(code 3\)") as caught:
            tc.Table(path, flag)  # type: ignore[arg-type]
        assert caught.value.code == 3
        assert caught.value.operation == "open"
        assert caught.value.path == str(path)
    with tc.Table(path, "c") as table:
        table[b"ann"] = {}
    with tc.Table(os.fsencode(path), "c") as table:
        assert len(table) == 1
    with tc.Table(str(path), "w") as table:
        assert len(table) == 1
        assert table.path == str(path)
    with tc.Table(path, "n") as table:
        assert len(table) == 0
    with pytest.raises(UsageError, match="flag"):
        tc.Table(path, "x")  # type: ignore[arg-type]


def test_an_error_survives_pickling(path: Path) -> None:
    with pytest.raises(tc.Error) as caught:
        tc.Table(path)
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is tc.Error
    assert isinstance(error, StorageError)
    assert (str(error), error.code, error.operation, error.path) == (str(caught.value), 3, "open", str(path))


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b", "a\\b", "a\0b"])
def test_a_path_that_the_library_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"path .* holds"):
        tc.Table(os.path.join(tmp_path, name), "c")
    assert list(tmp_path.iterdir()) == []


def test_a_second_handle_of_a_file_is_refused(closed: Path, tmp_path: Path) -> None:
    os.link(closed, tmp_path / "link")
    os.symlink(closed, tmp_path / "symlink")
    with tc.Table(closed) as table:
        for name in (closed, tmp_path / "link", tmp_path / "symlink"):
            with pytest.raises(UsageError, match="open in this process already"):
                tc.Table(name)
        table.close()
        tc.Table(closed, "w").close()


def test_no_descriptor_is_inherited_by_programs(closed: Path) -> None:
    with tc.Table(closed, "w") as table:
        table.begin()
        ours = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_of(fd, closed)]
        assert len(ours) == 4
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in ours)
        table.abort()
        table.optimize()
        table.create_index("name")
        ours = [fd for fd in map(int, os.listdir("/proc/self/fd")) if is_of(fd, closed)]
        assert len(ours) >= 3
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in ours)


def is_of(fd: int, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))
    except OSError:
        return False


@pytest.mark.parametrize("flag", ["r", "w", "c"])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 1000])
def test_a_file_cut_short_is_damage(closed: Path, size: int, flag: str) -> None:
    os.truncate(closed, size)
    with pytest.raises(CorruptionError, match=r"people\.tct"):
        tc.Table(closed, flag)  # type: ignore[arg-type]
    with tc.Table(closed, "n") as table:
        assert len(table) == 0


@pytest.mark.parametrize("lock", [True, False])
@pytest.mark.parametrize("suffix", ["", ".idx.age.lex"])
def test_a_damaged_header_never_reaches_the_library(closed: Path, suffix: str, lock: bool) -> None:
    file = Path(f"{closed}{suffix}")
    sound = file.read_bytes()
    damages = [(0, b"X"), (32, b"\x07"), (34, b"\xff"), (35, b"\xff"), (44, b"\xff")]
    damages += [(offset, filler * 8) for offset in (40, 56, 64) for filler in (b"\x00", b"\x7f", b"\xff")]
    damages += [(48, b"\xff" * 8)] if not suffix else [(136, b"\x7f" * 4), (140, b"\x00" * 4)]
    for offset, damage in damages:
        file.write_bytes(sound[:offset] + damage + sound[offset + len(damage) :])
        with pytest.raises((CorruptionError, FormatError), match=r"people\.tct"):
            tc.Table(closed, lock=lock)
    file.write_bytes(sound)
    with tc.Table(closed, lock=lock) as table:
        assert len(table) == 50


def test_foreign_files_are_refused(tmp_path: Path, closed: Path) -> None:
    (tmp_path / "text").write_text("hello " * 100)
    for name in ("text", "people.tct.idx.age.lex", "."):
        with pytest.raises(FormatError):
            tc.Table(tmp_path / name)


def test_an_index_without_its_table_is_not_taken_over(closed: Path) -> None:
    closed.unlink()
    with pytest.raises(CorruptionError, match="index without its table"):
        tc.Table(closed, "c")
    assert not closed.exists()


HOLD = """
import sys
from pykesto import tc
with tc.Table(sys.argv[1], "w") as table:
    print("open", flush=True)
    sys.stdin.readline()
    table[b"late"] = {}
"""


def test_a_reader_waits_for_the_writer_of_another_process(closed: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(closed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "open\n"
        writer.stdin.write("go on\n")
        writer.stdin.close()
        with tc.Table(closed) as reader:
            assert b"late" in reader


def test_a_copy_is_a_table_of_its_own(closed: Path, tmp_path: Path) -> None:
    with tc.Table(closed, "w") as table:
        table.create_index("text", "token")
        table[b"new"] = {b"age": b"7000", b"text": b"to be"}
        table.copy(tmp_path / "copy")
        with tc.Table(tmp_path / "copy") as copy:
            assert dict(copy.items()) == dict(table.items())
            assert copy.indexes() == table.indexes()
            assert list(copy.query.col("age").equals("7000")) == [b"new"]
        # The lock is still ours.
        probe = f"import fcntl; fcntl.lockf(open({str(closed)!r}), fcntl.LOCK_SH | fcntl.LOCK_NB)"
        assert subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 1
        with pytest.raises(UsageError, match="exists already"):
            table.copy(tmp_path / "copy")
        with pytest.raises(UsageError, match="shell command"):
            table.copy(f"@touch {tmp_path}/evil")
        with pytest.raises(OSError, match="No such file"):
            table.copy(tmp_path / "missing" / "copy")
    assert not (tmp_path / "evil").exists()


def test_optimize_and_vanish_keep_the_indexes(closed: Path) -> None:
    with tc.Table(closed, "w") as table:
        table.optimize(5000)
        assert table.bnum >= 5000
        assert table.size >= closed.stat().st_size
        assert list(table.query.col("age").equals("7")) == [b"7"]
        with pytest.raises(UsageError, match="open in this process already"):
            tc.Table(closed)
        table.vanish()
        assert len(table) == 0
        table[b"ann"] = {b"age": b"7"}
        table.sync()
        assert list(table.query.col("age").equals("7")) == [b"ann"]


def test_how_much_of_a_file_is_mapped(closed: Path) -> None:
    def mapped() -> int:
        lines = Path("/proc/self/maps").read_text().splitlines()
        ranges = [line.split()[0].split("-") for line in lines if line.endswith(str(closed))]
        return sum(int(end, 16) - int(start, 16) for start, end in ranges)

    with tc.Table(closed, "w", map_bytes=0) as table:
        table[b"big"] = {b"v": b"x" * 1_000_000}
        assert mapped() < 10_000  # the buckets
    with tc.Table(closed) as table:
        assert mapped() > 1_000_000
        assert len(table[b"big"][b"v"]) == 1_000_000
    with tc.Table(closed, "w", map_bytes=1 << 20):
        assert mapped() == 1 << 20


@pytest.mark.skipif(
    "libtokyocabinet" in Path("/proc/self/maps").read_text(), reason="the shared library's calls are its own"
)
def test_blocks_are_allocated_before_they_are_written_through_the_map(closed: Path) -> None:
    with tc.Table(closed, "w") as table:
        for number in range(100):
            table[b"%d" % number] = {b"v": b"x" * 1000}
            status = closed.stat()
            assert status.st_blocks * 512 >= status.st_size
    os.truncate(closed, closed.stat().st_size + 100_000)  # a hole, as a copy that skips zeros would leave
    with tc.Table(closed, "w"):
        status = closed.stat()
        assert status.st_blocks * 512 >= status.st_size


@pytest.mark.parametrize("map_bytes", [1 << 12, 20_000, 1 << 17])
def test_a_file_may_outgrow_its_map(path: Path, map_bytes: int) -> None:
    """Rows lie in the map, behind it and across its end."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chooser = random.Random(seed)
    expected: dict[bytes, dict[bytes, bytes]] = {}
    table = tc.Table(path, "n", bnum=50, map_bytes=map_bytes)
    table.create_index("n")
    for _ in range(3):
        for _ in range(300):
            key = b"%d" % chooser.randrange(300)
            if chooser.random() < 0.2:
                assert table.pop(key, None) == expected.pop(key, None)
            else:
                row = {b"n": b"%d" % chooser.randrange(9), b"v": chooser.randbytes(chooser.choice([3, 100, 3000]))}
                table[key] = expected[key] = row
            assert table.get(key) == expected.get(key)
        table.begin()
        table.update({b"lost %d" % i: {b"n": b"x", b"v": bytes(2000)} for i in range(50)})
        table.abort()
        assert dict(table.items()) == expected
        assert set(table.query.col("n").equals("3")) == {key for key, row in expected.items() if row[b"n"] == b"3"}
        table.defrag()
        table.close()
        assert tc.verify(path) == []
        table = tc.Table(path, "w", map_bytes=map_bytes)
    table.close()


FULL = """
import os, resource, signal, sys
from pykesto import tc
from pykesto.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
table = tc.Table(sys.argv[1], "w", map_bytes=eval(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    for i in range(1000):
        table[b"n%d" % i] = {b"v": b"x" * 1000}
except StorageError as error:
    print(type(error).__name__, error.operation, len(table) > 50, flush=True)  # os._exit flushes nothing
    os._exit(0)
"""


@pytest.mark.parametrize("map_bytes", [None, 0])
def test_a_full_disk_is_an_error_not_a_signal(closed: Path, map_bytes: int | None) -> None:
    command = [sys.executable, "-c", FULL, str(closed), str(map_bytes)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Error put True\n"), done.stderr


EXIT = """
import sys
from pykesto import tc
table = tc.Table(sys.argv[1], "w")
table[b"last"] = {b"age": b"4711"}
sys.table = table
"""


def test_a_table_left_open_is_closed_at_exit(closed: Path) -> None:
    subprocess.run([sys.executable, "-c", EXIT, str(closed)], check=True)
    with tc.Table(closed) as table:
        assert list(table.query.col("age").equals("4711")) == [b"last"]


def test_options_of_a_new_file(path: Path) -> None:
    with tc.Table(path, "n", bnum=10, apow=2, fpow=5, large=False, deflate=True, cache_leaves=10) as table:
        table[b"ann"] = {b"v": b"x" * 100_000}
        assert table.size < 50_000
        assert len(table[b"ann"][b"v"]) == 100_000
    with pytest.raises(UsageError, match="between 0"):
        tc.Table(path, bnum=-1)
