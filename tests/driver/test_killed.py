"""A process that is killed while it rebuilds a table leaves a whole one; threads that do everything at once end."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import StorageError

REBUILD = """
import sys
from pykesto import tc
with tc.Table(sys.argv[1], "w") as table:
    for i in range(10_000):
        if i == 1:
            print("going", flush=True)
        table.optimize(bnum=100 + i % 7)
"""


def kill_while_it_runs(program: str, path: Path, seconds: float) -> None:
    """Kill a process so long after it said that it is going: where in its work is left to chance."""
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        threading.Event().wait(seconds)
        process.kill()


def test_a_table_that_is_killed_while_it_is_rebuilt_is_whole(path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chooser = random.Random(seed)
    expected = {b"%d" % i: {b"a": b"%d" % (i % 9), b"t": b"to be %d" % (i % 5)} for i in range(400)}
    with tc.Table(path, "n", bnum=100) as table:
        table.create_index("a")
        table.create_index("t", "token")
        table.update(expected)
    for _ in range(8):
        kill_while_it_runs(REBUILD, path, chooser.random() / 20)
        assert tc.verify(path) == []
        with tc.Table(path, "w") as table:
            assert dict(table.items()) == expected
            assert table.indexes() == {b"a": "lexical", b"t": "token"}
            assert table.query.col("t").any_word("3").count() == 80
    with tc.Table(path, "w") as table:
        table.optimize()
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "people.tct", "people.tct.idx.a.lex", "people.tct.idx.t.tok"
    ]  # fmt: skip


INDEX = """
import sys
from pykesto import tc
with tc.Table(sys.argv[1], "w") as table:
    print("going", flush=True)
    for _ in range(10_000):
        table.create_index("a")
        table.create_index("t", "token")
        table.optimize_index("a")
        table.drop_index("a")
"""


def test_an_index_that_is_killed_while_it_is_built_is_built_again(path: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chooser = random.Random(seed)
    rows = {b"%d" % i: {b"a": b"%d" % (i % 9), b"t": b"to be %d" % (i % 5)} for i in range(2000)}
    with tc.Table(path, "n", bnum=1000) as table:
        table.update(rows)
    unfinished = 0
    for _ in range(6):
        kill_while_it_runs(INDEX, path, chooser.random() / 10)
        marker = Path(f"{path}.building")
        if marker.exists() and marker.read_bytes():  # without a word in it nothing was begun
            unfinished += 1
            assert "half-built" in str(tc.verify(path))
            with pytest.raises(StorageError, match="half-built"):
                tc.Table(path)
        with tc.Table(path, "w") as table:
            assert table.query.col("a").equals("3").count() == 222
            assert table.query.col("t").any_word("3").count() == 400
        assert tc.verify(path) == []
    print("unfinished", unfinished)
    with tc.Table(path) as table:
        assert dict(table.items()) == rows


def test_an_index_that_was_left_half_built(path: Path) -> None:
    with tc.Table(path, "n") as table:
        table.create_index("a/b .lex", "decimal")
        table.create_index("c")
        table.update({b"%d" % i: {b"a/b .lex": b"%d" % i, b"c": b"x"} for i in range(100)})
    half_built, marker = next(path.parent.glob("*.dec")), Path(f"{path}.building")
    marker.write_bytes(b"decimal a/b .lex")
    half_built.write_bytes(half_built.read_bytes()[:300])
    with pytest.raises(StorageError, match="half-built"):
        tc.Table(path)
    with tc.Table(path, "w") as table:
        assert table.query.col("a/b .lex").num_lt(7).count() == 7
        assert "using an index" in table.query.col("a/b .lex").num_lt(7).hint
    assert not marker.exists()
    assert tc.verify(path) == []
    for content in (b"", b"dec"):  # killed before anything was built
        marker.write_bytes(content)
        tc.Table(path).close()
        tc.Table(path, "w").close()
        assert not marker.exists()
    marker.write_bytes(b"decimal d")
    with tc.Table(path, "n") as table:
        assert table.indexes() == {}


def test_threads_that_query_write_iterate_and_rebuild_end(table: tc.Table) -> None:
    table.create_index("n", "decimal")
    table.create_index("w", "token")
    table.update((b"%d" % i, {b"n": b"%d" % i, b"w": b"a b"}) for i in range(200))
    failures: list[BaseException] = []

    def iterate(round: int) -> None:
        with suppress(RuntimeError):  # changed during iteration
            assert sum(1 for _ in table.items()) == 200

    def query(round: int) -> None:
        assert table.query.col("n").num_lt(50).count() == 50
        assert (table.query.col("w").any_word("b") - table.query.col("n").num_ge(100)).count() == 100

    def keep(round: int) -> None:
        (table.clear_caches, table.defrag, table.optimize, table.sync)[round % 4]()

    def put(round: int) -> None:
        table.putproc(b"%d" % (round % 200), lambda row: {**row, b"round": b"%d" % round})

    def work(step: Callable[[int], None]) -> None:
        try:
            for round in range(40):
                step(round)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(step,)) for step in (put, put, iterate, iterate, query, query, keep)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert len(table) == 200
