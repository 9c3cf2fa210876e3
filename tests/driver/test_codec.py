"""Rows and indexes through functions of the user's: what they give, what they raise, what they call."""

import os
import zlib
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import CorruptionError, UsageError

SQUEEZE = (zlib.compress, zlib.decompress)


def fill(path: Path) -> None:
    with tc.Table(path, "n", bnum=1000, codec=SQUEEZE) as table:
        table.create_index("n")
        table.update((b"%d" % i, {b"n": b"%d" % (i % 7), b"text": b"to be " * 100}) for i in range(300))


def test_what_goes_in_comes_out(path: Path) -> None:
    fill(path)
    assert b"to be" not in path.read_bytes()
    assert path.stat().st_size < 150_000
    with tc.Table(path, codec=SQUEEZE) as table:
        assert table[b"5"] == {b"n": b"5", b"text": b"to be " * 100}
        assert table.query.col("n").equals("3").count() == 43
        assert table.info().options == ("large", "codec")


def test_the_codec_of_a_file_must_be_given_and_no_other(path: Path, tmp_path: Path) -> None:
    fill(path)
    for flag in ("r", "w", "c"):
        with pytest.raises(UsageError, match="made with a codec"):
            tc.Table(path, flag)  # type: ignore[call-overload]  # the library would call NULL
    with tc.Table(tmp_path / "plain", "n") as plain:
        plain[b"a"] = {}
    with pytest.raises(UsageError, match="made without a codec"):
        tc.Table(tmp_path / "plain", codec=SQUEEZE)
    with tc.Table(path, codec=(bytes, lambda stored: stored)) as wrong:
        with pytest.raises(CorruptionError, match="checksum"):
            wrong[b"5"]
        with pytest.raises(CorruptionError, match="checksum"):
            wrong.query.col("n").equals("3").count()
    for nonsense in (5, (bytes,), (bytes, 5), "ab"):
        with pytest.raises(TypeError, match="codec"):
            tc.Table(path, codec=nonsense)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="choose one"):
        tc.Table(path, "n", codec=SQUEEZE, deflate=True)


def test_what_a_function_raises_comes_out(path: Path) -> None:
    fill(path)
    failing = writing = False

    def encode(data: bytes) -> bytes:
        if failing:
            raise KeyboardInterrupt
        return zlib.compress(data)

    def decode(data: bytes) -> bytes:
        if failing and not writing:
            raise LookupError("decode")
        return zlib.decompress(data)

    with tc.Table(path, "w", codec=(encode, decode)) as table:
        failing = True
        for read in (lambda: table[b"5"], lambda: list(table.raw_batches(9)), lambda: table.get_column(b"5", b"n")):
            with pytest.raises(LookupError, match="decode"):
                read()
        failing = False
        assert table[b"5"][b"n"] == b"5"
    table = tc.Table(path, "w", codec=(encode, decode))
    failing = writing = True
    with pytest.raises(KeyboardInterrupt):
        table[b"new"] = {b"n": b"1"}
    with pytest.raises(tc.Error, match="nothing more is written"):
        table[b"other"] = {}
    failing = False
    with pytest.raises(tc.Error):
        table.close()


def test_a_function_must_give_bytes(path: Path) -> None:
    with tc.Table(path, "n", codec=(lambda data: "text", bytes)) as table:  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="encode must give bytes, not str"):
            table[b"a"] = {}
        with pytest.raises(tc.Error):
            table.close()


def test_a_function_that_uses_the_table_is_refused(path: Path, tmp_path: Path) -> None:
    with tc.Table(tmp_path / "other", "n") as other:

        def encode(data: bytes) -> bytes:
            other.add_int(b"calls")
            if b"again" in data:
                table.get(b"a")
            return data

        table = tc.Table(path, "n", codec=(encode, bytes))
        table[b"a"] = {b"v": b"1"}
        with pytest.raises(UsageError, match="in use by this very thread"):
            table[b"b"] = {b"v": b"again"}
        with pytest.raises(tc.Error):
            table.close()
        assert other.add_int(b"calls", 0) >= 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_function_may_fork(path: Path) -> None:
    def encode(data: bytes) -> bytes:
        if b"fork" in data:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        return data

    with tc.Table(path, "n", codec=(encode, bytes)) as table:
        table.create_index("v")
        table[b"a"] = {b"v": b"fork"}
        table.optimize()
        assert table[b"a"] == {b"v": b"fork"}
    assert tc.verify(path, codec=(encode, bytes)) == []
