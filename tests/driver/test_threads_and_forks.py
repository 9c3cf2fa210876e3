"""A table shared by threads, and what a forked child may do."""

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import UsageError

# Python 3.12 and later warn of a fork beside threads (xdist runs some): that it works here is what these tests show.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_threads_share_a_table(table: tc.Table) -> None:
    table.create_index("owner")
    failures: list[BaseException] = []

    def work(name: bytes) -> None:
        try:
            for i in range(300):
                key = b"%s%d" % (name, i)
                table[key] = {b"owner": name, b"i": b"%d" % i}
                assert table[key][b"i"] == b"%d" % i
                if i % 50 == 0:
                    assert table.query.col("owner").equals(name).count() == i + 1
                if i % 3 == 0:
                    del table[key]
                    table[key] = {b"owner": name, b"i": b"%d" % i}
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(bytes([65 + i]),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(table) == 1800
    assert table.query.col("owner").equals("C").count() == 300


def in_child(work: Callable[[], None]) -> None:
    """Fork, run `work` in the child, and expect it to end well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001  # whatever it is, the child must not return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_child_opens_its_own_and_the_parent_loses_nothing(path: Path, tmp_path: Path) -> None:
    table = tc.Table(path, "n")
    table.create_index("i")
    table.update((b"%d" % i, {b"i": b"%d" % i}) for i in range(3000))
    cursor = table.index_cursor(b"i")
    iteration = iter(table)
    with tc.Table(tmp_path / "done", "n") as done:
        done[b"ann"] = {b"name": b"Ann"}
    reader = tc.Table(tmp_path / "done")

    def work() -> None:
        for use in (
            lambda: table[b"1"],
            lambda: table.put(b"child", {}),
            lambda: cursor.seek_first(),
            lambda: cursor.next_batch(1),
            lambda: next(iteration),
            lambda: list(table.query),
            lambda: reader[b"ann"],
        ):
            with pytest.raises(UsageError, match="before fork"):
                use()
        table.close()
        # The parent's lock stands: a writer's file can't be read, a reader's can.
        with tc.Table(tmp_path / "done") as ours:
            assert ours[b"ann"] == {b"name": b"Ann"}
        with tc.Table(path, lock=False) as ours:
            assert ours.path == str(path)

    in_child(work)
    table.update((b"%d" % i, {b"i": b"%d" % i}) for i in range(3000, 6000))
    assert reader[b"ann"] == {b"name": b"Ann"}
    reader.close()
    table.close()

    def read() -> None:
        with tc.Table(path) as ours:
            assert len(ours) == 6000

    in_child(read)
    with tc.Table(path) as again:
        assert len(again) == 6000
        assert all(again.query.col("i").equals(str(i)).count() == 1 for i in range(0, 6000, 7))


def test_a_child_forked_inside_a_transaction_leaves_it_alone(path: Path) -> None:
    table = tc.Table(path, "n")
    table.begin()
    table[b"ann"] = {}

    def work() -> None:
        with pytest.raises(UsageError, match="before fork"):
            table.commit()

    in_child(work)
    table[b"bob"] = {}
    table.commit()
    table.close()
    with tc.Table(path) as reader:
        assert set(reader) == {b"ann", b"bob"}


def test_forks_amid_threads_that_open_and_close(tmp_path: Path) -> None:
    stop = threading.Event()

    def open_and_close(name: str) -> None:
        while not stop.is_set():
            with tc.Table(tmp_path / name, "n", bnum=10) as table:
                table.create_index("v")
                table[b"k"] = {b"v": b"x"}

    threads = [threading.Thread(target=open_and_close, args=(f"t{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()

    def work() -> None:
        for i in range(3):
            with tc.Table(tmp_path / f"own{os.getpid()}-{i}", "n", bnum=10) as table:
                table[b"k"] = {}

    try:
        for _ in range(30):
            in_child(work)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
