"""tc.verify walks through damaged files, in time, and `verify=True` refuses them before the library sees them."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc
from pykesto.errors import CorruptionError, FormatError, LockTimeout, StorageError, UsageError


def make(path: Path, **options: Any) -> None:
    chooser = random.Random(3)
    with tc.Table(path, "n", bnum=200, **options) as table:
        table.create_index("")
        table.create_index("a")
        table.create_index("b", "decimal")
        table.create_index("w", "token")
        table.create_index("q", "qgram")
        for _ in range(900):
            key = b"%d" % chooser.randrange(1, 500)
            if chooser.random() < 0.3:
                table.pop(key, None)
            else:
                table[key] = {
                    b"a": b"%d" % chooser.randrange(50), b"b": b"%d" % chooser.randrange(-50, 50),
                    b"w": b"to be %d" % chooser.randrange(9), b"q": b"hello %d" % chooser.randrange(9),
                    b"big": b"x" * chooser.randrange(300),
                }  # fmt: skip


OPTIONS: list[dict[str, Any]] = [
    {}, {"large": False}, {"deflate": True}, {"bzip": True}, {"tcbs": True}, {"apow": 0, "fpow": 1},
    {"codec": (bytes, bytes)},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_sound_table_has_no_problems(path: Path, options: dict[str, Any]) -> None:
    make(path, **options)
    codec = options.get("codec")
    assert tc.verify(path, codec=codec) == []
    with tc.Table(path, "w", codec=codec, verify=True) as table:
        del table[next(iter(table))]
        table.optimize(apow=2)
    assert tc.verify(path, codec=codec) == []


def test_free_blocks_that_the_pool_joined_are_sound(path: Path) -> None:
    with tc.Table(path, "n", bnum=5000) as table:
        table.update((b"%04d" % number, {b"a": b"x" * 50}) for number in range(5000))
        for number in range(1000, 4000):  # more than the pool holds one by one
            del table[b"%04d" % number]
    assert tc.verify(path) == []
    with tc.Table(path, "w") as table:
        table[b"new"] = {b"a": b"x" * 1000}  # into joined blocks
    assert tc.verify(path) == []


SUFFIXES = ["", ".idx..lex", ".idx.a.lex", ".idx.b.dec", ".idx.w.tok", ".idx.q.qgr"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_is_found_and_never_loops_or_kills(path: Path, suffix: str) -> None:
    make(path)
    file = Path(f"{path}{suffix}")
    sound = file.read_bytes()
    chooser = random.Random(suffix)
    refused = 0
    for _ in range(60):
        damaged = bytearray(sound)
        for _ in range(chooser.choice([1, 1, 8])):
            damaged[chooser.randrange(len(sound))] ^= 1 << chooser.randrange(8)
        file.write_bytes(damaged)
        try:
            problems = tc.verify(path)
        except FormatError:
            refused += 1
            continue
        assert all(isinstance(problem, CorruptionError) for problem in problems)
        if problems:
            refused += 1
            with pytest.raises(CorruptionError):
                tc.Table(path, verify=True)
    assert refused > 5
    for size in (0, 100, 300, len(sound) // 2, len(sound) - 1):
        file.write_bytes(sound[:size])
        assert tc.verify(path)


def test_circles_are_found(path: Path) -> None:
    with tc.Table(path, "n", bnum=1) as table:  # one bucket: a tree of all rows
        table.update((b"%d" % i, {}) for i in range(30))
    sound = path.read_bytes()
    start = int.from_bytes(sound[256:264]) << 4
    for link in (2, 10):
        path.write_bytes(sound[: start + link] + sound[256:264] + sound[start + link + 8 :])
        assert any("second time" in str(problem) for problem in tc.verify(path))


def test_an_index_that_differs_from_the_rows_is_told(path: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        with tc.Table(tmp_path / name, "n") as table:
            table.create_index("a")
            table[b"k"] = {b"a": name.encode()}
    os.replace(tmp_path / "two.idx.a.lex", tmp_path / "one.idx.a.lex")
    (problem,) = tc.verify(tmp_path / "one")
    assert "1 entries too many, and lacks 1" in str(problem)
    with tc.Table(tmp_path / "one", "w") as table:
        table.optimize()  # makes indexes from rows
    assert tc.verify(tmp_path / "one") == []


def test_damage_inside_a_value_shows_with_a_codec(path: Path) -> None:
    for codec in (None, (bytes, bytes)):
        with tc.Table(path, "n", codec=codec) as table:
            table[b"k"] = {b"v": b"value"}
        path.write_bytes(path.read_bytes().replace(b"value", b"valve"))
        assert bool(tc.verify(path, codec=codec)) == bool(codec)
        with tc.Table(path, codec=codec) as table:
            if codec:
                with pytest.raises(CorruptionError, match="checksum"):
                    table[b"k"]
            else:
                assert table[b"k"] == {b"v": b"valve"}


HOLD = """
import sys
from pykesto import tc
with tc.Table(sys.argv[1], "w") as table:
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_a_table_in_use_is_not_walked_through(path: Path) -> None:
    make(path)
    with tc.Table(path), pytest.raises(UsageError, match="open in this process"):
        tc.verify(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "open\n"
        for flag in ("r", "w"):
            with pytest.raises(LockTimeout) as caught:
                tc.Table(path, flag, timeout=0)  # type: ignore[call-overload]
            assert caught.value.holder_pid == writer.pid
        with pytest.raises(LockTimeout):
            tc.verify(path)
        writer.stdin.close()
    with pytest.raises(StorageError, match="No such file"):
        tc.verify(path.with_name("missing"))
