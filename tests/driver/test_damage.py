"""Damaged files: what the library would loop on, die of or overwrite is an error (`python -m stress.driver_damage`)."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc
from pykesto.errors import CorruptionError

ROOT = Path(__file__).parents[2]
RECORD, HEAD = 0xC8, 20  # the first byte of a record, and where the sizes of its key and value are

pytestmark = pytest.mark.skipif(
    "libtokyocabinet" in Path("/proc/self/maps").read_text(), reason="the shared library's calls are its own"
)


def test_damaged_files_kill_nobody() -> None:
    command = [sys.executable, "-m", "stress.driver_damage", "--count", "60", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout)  # the seed
    said = json.loads(done.stdout)
    assert said["bad"] == []
    assert said["cases"] == sum(said["reading"].values()) == sum(said["writing"].values()) == 60
    assert said["reading"]["refused at open"] > 0


@pytest.fixture
def closed(path: Path) -> Path:
    """All rows in one tree, and an index of several leaves."""
    with tc.Table(path, "n", bnum=1, apow=4) as table:
        table.create_index("name")
        table.update((b"%03d" % number, {b"name": b"%05d" % number}) for number in range(300))
    return path


def records(content: bytes | bytearray) -> list[int]:
    """Where the records of a sound file with large offsets begin."""
    return [at for at in range(4096, len(content) - HEAD, 16) if content[at] == RECORD and content[at + HEAD] < 9]


def change(file: Path, harm: Callable[[bytearray], None]) -> None:
    content = bytearray(file.read_bytes())
    harm(content)
    file.write_bytes(content)


def knot(content: bytearray) -> None:
    """The first record has itself on both sides."""
    at = records(content)[0]
    content[at + 2 : at + 18] = struct.pack(">Q", at >> 4) * 2


READS: dict[str, Callable[[tc.Table], object]] = {
    "get": lambda table: table.get(b"nobody"),
    "in": lambda table: b"nobody" in table,
    "get_raw": lambda table: table.get_raw(b"nobody"),
}
WRITES: dict[str, Callable[[tc.Table], object]] = {
    "put": lambda table: table.__setitem__(b"nobody", {b"name": b"x"}),
    "delete": lambda table: table.__delitem__(b"nobody"),
    "apply_raw": lambda table: table.apply_raw([(b"nobody", b"")]),
}


@pytest.mark.parametrize("use", READS)
@pytest.mark.parametrize("map_bytes", [None, 0])
def test_a_tree_of_records_that_leads_in_a_circle_is_not_read(closed: Path, use: str, map_bytes: int | None) -> None:
    change(closed, knot)
    with tc.Table(closed, map_bytes=map_bytes) as table:
        with pytest.raises(CorruptionError, match=r"people\.tct at byte \d+") as caught:
            READS[use](table)
        assert caught.value.path == str(closed)
        assert caught.value.offset in records(closed.read_bytes())
        assert len(dict(table.items())) == 300


@pytest.mark.parametrize("use", WRITES)
@pytest.mark.parametrize("map_bytes", [None, 0])
def test_a_tree_of_records_that_leads_in_a_circle_is_not_written(closed: Path, use: str, map_bytes: int | None) -> None:
    change(closed, knot)
    before = closed.read_bytes()
    table = tc.Table(closed, "w", map_bytes=map_bytes)
    for _ in range(2):  # nothing more is written after that
        with pytest.raises(CorruptionError, match=r"people\.tct at byte \d+"):
            WRITES[use](table)
    with pytest.raises(CorruptionError):
        table.close()
    assert closed.read_bytes()[4096:] == before[4096:]


def test_a_record_that_hangs_below_its_own_child_is_not_deleted(closed: Path) -> None:
    """The library would look for the end of the child's right side, and come by the place it had just freed."""
    content = bytearray(closed.read_bytes())
    for at in records(content):
        left, right = struct.unpack_from(">QQ", content, at + 2)
        if left and right and not struct.unpack_from(">Q", content, (left << 4) + 10)[0]:
            struct.pack_into(">Q", content, (left << 4) + 10, at >> 4)
            break
    else:
        raise AssertionError("no record has two children")
    key = bytes(content[at + HEAD + 2 : at + HEAD + 5])
    closed.write_bytes(content)
    table = tc.Table(closed, "w")
    with pytest.raises(CorruptionError):
        del table[key]
    with pytest.raises(CorruptionError):
        table.close()


@pytest.mark.parametrize("steps", [0, 1])
def test_records_with_two_ways_to_them_are_not_moved(closed: Path, steps: int) -> None:
    """A second bucket leads into the tree of the first: only one of both links would be mended."""
    with tc.Table(closed, "w") as table:
        table.optimize(2, apow=4)
        del table[b"051"]
    content = closed.read_bytes()
    (first,) = struct.unpack_from(">Q", content, 256)
    (below,) = struct.unpack_from(">Q", content, (first << 4) + 2)
    assert below
    change(closed, lambda content: struct.pack_into(">Q", content, 256 + 8, below))
    if steps:
        with pytest.raises(CorruptionError):
            tc.Table(closed, "w", defrag_steps=steps)
        return
    table = tc.Table(closed, "w")
    for _ in range(2):
        with pytest.raises(CorruptionError):
            table.defrag()
    table[b"new"] = {b"name": b"x"}
    table.close()


def test_a_record_larger_than_its_file(closed: Path) -> None:
    def enlarge(content: bytearray) -> None:
        for at in records(content):
            content[at + HEAD + 1 : at + HEAD + 5] = b"\x80\x80\x80\x07"  # the size of the value: 2 GB

    change(closed, enlarge)
    with tc.Table(closed) as table:
        for use in (lambda: table.get(b"007"), lambda: dict(table.items()), lambda: list(table)):
            with pytest.raises(CorruptionError, match="people"):
                use()
        with pytest.raises(CorruptionError):
            list(table.query.col("other").startswith("x"))  # a scan


def test_leaves_of_an_index_that_lead_in_a_circle(closed: Path) -> None:
    index = Path(f"{closed}.idx.name.lex")

    def knot_leaves(content: bytearray) -> None:
        """Each leaf is followed by the first: its value begins with the numbers of its neighbours."""
        for at in [at for at in range(4096, len(content), 16) if content[at] == RECORD]:
            key_size, size = content[at + HEAD], content[at + HEAD + 1]
            body = at + HEAD + (2 if size < 0x80 else 3)
            if content[body] != ord("#"):
                content[body + key_size + 1] = 1

    change(index, knot_leaves)
    with tc.Table(closed) as table:
        with pytest.raises(CorruptionError, match=r"name\.lex"):
            list(table.query.col("name").startswith("0"))
        cursor = table.index_cursor(b"name")
        cursor.seek_first()
        with pytest.raises(CorruptionError, match=r"name\.lex"):
            list(iter(lambda: cursor.next_batch(50), []))
    table = tc.Table(closed, "w")
    with pytest.raises(CorruptionError, match=r"name\.lex"):
        table.optimize_index("name")
    with pytest.raises(CorruptionError, match=r"name\.lex"):
        table.close()


def test_a_free_block_without_a_size(closed: Path) -> None:
    """A row that grows takes the free blocks behind it: one of no bytes would be followed for ever."""
    with tc.Table(closed, "w") as table:
        table.optimize(1, apow=4, fpow=0)  # without a pool of free blocks, which is looked at when a table is opened
        del table[b"051"]

    def empty(content: bytearray) -> None:
        (at,) = [at for at in range(336, len(content), 16) if content[at] == 0xB0]
        content[at + 1 : at + 5] = bytes(4)

    change(closed, empty)
    table = tc.Table(closed, "w")
    larger = ((b"%03d" % number, {b"name": b"%05d" % number, b"more": b"x" * 500}) for number in range(100))
    with pytest.raises(CorruptionError, match="people"):
        table.update(larger)
    with pytest.raises(CorruptionError):
        table.close()
    with tc.Table(closed) as table, pytest.raises(CorruptionError):
        list(table)


def test_free_blocks_are_not_taken_for_granted(closed: Path) -> None:
    with tc.Table(closed, "w") as table:
        del table[b"101"]
    pool = 256 + 8  # behind the only bucket
    sound = closed.read_bytes()
    assert sound[pool] != 0
    for harm in (b"\x01", b"\xff" * 64, b"\x80" * 12):
        change(closed, lambda content, harm=harm: content.__setitem__(slice(pool, pool + len(harm)), harm))  # type: ignore[misc]
        with pytest.raises(CorruptionError, match="pool of free blocks"):
            tc.Table(closed, "w")
        with tc.Table(closed) as table:
            assert len(dict(table.items())) == 299
        closed.write_bytes(sound)
    with tc.Table(closed, "w") as table:
        table[b"new"] = {b"name": b"x"}


KILLED = """
import os, sys
from pykesto import tc
table = tc.Table(sys.argv[1], "w")
table.begin()
for number in range(50):
    table[b"new %d" % number] = {b"name": b"lost"}
os._exit(0)
"""


@pytest.fixture
def cut_short(closed: Path) -> Path:
    """A table whose writer was killed in a transaction."""
    subprocess.run([sys.executable, "-c", KILLED, str(closed)], check=True)
    return closed


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("suffix", [".wal", ".idx.name.lex.wal"])
@pytest.mark.parametrize("cut", [1, 11, 12, 13, 40])
def test_a_log_with_a_torn_end_is_rolled_back(cut_short: Path, suffix: str, flag: str, cut: int) -> None:
    log = Path(f"{cut_short}{suffix}")
    os.truncate(log, log.stat().st_size - cut)
    with tc.Table(cut_short, flag) as table:  # type: ignore[arg-type]
        assert table.query.col("name").equals("lost").count() == 0
        assert dict(table.items()) == {b"%03d" % n: {b"name": b"%05d" % n} for n in range(300)}
    assert not log.exists()


@pytest.mark.parametrize("suffix", [".wal", ".idx.name.lex.wal"])
def test_a_damaged_log_is_refused(cut_short: Path, suffix: str) -> None:
    log = Path(f"{cut_short}{suffix}")
    sound = log.read_bytes()
    harms = [(8, b"\x01"), (8 + 12 + 56, b"\x7f"), (0, b"\x00" * 8)]
    if len(sound) > 8 + 12 + 256:
        harms += [(8 + 12 + 256, b"\x7f")]
    for at, harm in harms:
        log.write_bytes(sound[:at] + harm + sound[at + len(harm) :])
        with pytest.raises(CorruptionError):
            tc.Table(cut_short, "w")
    log.write_bytes(sound)
    with tc.Table(cut_short) as table:
        assert len(table) == 300


def test_a_reader_without_locks_leaves_logs_alone(cut_short: Path) -> None:
    log = Path(f"{cut_short}.idx.name.lex.wal")
    os.truncate(log, log.stat().st_size - 1)
    Path(f"{cut_short}.wal").unlink()
    size = log.stat().st_size
    with pytest.raises(ValueError, match="transaction under way"):
        tc.Table(cut_short, lock=False)
    assert log.stat().st_size == size


def only_record(path: Path, **options: Any) -> tuple[bytearray, int, int]:
    """A compressed table of one row: its bytes, and where the record of the row and the value in it begin."""
    with tc.Table(path, "n", bnum=1, **options) as table:
        table[b"key"] = {b"text": b"to be or not to be"}
    content = bytearray(path.read_bytes())
    (at,) = records(content)
    return content, at, at + HEAD + 2 + 3


def test_a_tcbs_record_of_a_single_byte(path: Path) -> None:
    """The library would take its last block for one of -1 bytes."""
    content, at, value = only_record(path, tcbs=True)
    padding, size = struct.unpack_from(">H", content, at + 18)[0], content[at + HEAD + 1]
    struct.pack_into(">H", content, at + 18, padding + size - 1)
    content[at + HEAD + 1], content[value] = 1, 0x0C
    path.write_bytes(content)
    with tc.Table(path) as table, pytest.raises(tc.Error):
        table.get(b"key")
    assert "can't be unpacked" in str(tc.verify(path))


def test_a_bzip_record_that_is_cut_short(path: Path) -> None:
    """The library would wait for the rest for ever."""
    content, at, _ = only_record(path, bzip=True)
    padding, size = struct.unpack_from(">H", content, at + 18)[0], content[at + HEAD + 1]
    struct.pack_into(">H", content, at + 18, padding + size - 20)
    content[at + HEAD + 1] = 20
    path.write_bytes(content)
    with tc.Table(path) as table, pytest.raises(tc.Error):
        table.get(b"key")
    assert "can't be unpacked" in str(tc.verify(path))


def test_a_scan_that_comes_by_a_key_for_the_second_time(closed: Path) -> None:
    """A record with the key of another: from its key the library would go on behind the other, for ever."""

    def copy(content: bytearray) -> None:
        first, second = records(content)[:2]
        content[second + HEAD : second + HEAD + 5] = content[first + HEAD : first + HEAD + 5]

    change(closed, copy)
    with tc.Table(closed) as table, pytest.raises(CorruptionError):
        list(table.query.col("other").includes("x"))
