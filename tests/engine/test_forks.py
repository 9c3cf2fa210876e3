"""A handle opened before a fork works in the child, and parent and child both go on.

Each test runs in a process of its own: the forks of a test must not copy the threads of whatever runs the tests.
"""

import os
import pickle
import select
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pykesto import UsageError
from tests.processes import DEADLINE_S, Worker, open_database, put

Start = Callable[[], Worker]


class Child:
    """A forked process that runs `fn` and ends at once, without a clean-up."""

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._answer, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                answer = (True, fn())
            except BaseException:  # noqa: BLE001  the parent raises it
                answer = (False, traceback.format_exc())
            try:
                os.write(theirs, pickle.dumps(answer))
            finally:
                os._exit(0)
        os.close(theirs)

    def result(self) -> Any:
        try:
            ready, _, _ = select.select([self._answer], [], [], DEADLINE_S)
            if not ready:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError("the forked child did not answer")
            succeeded, value = pickle.loads(os.read(self._answer, 1 << 16))
        finally:
            os.close(self._answer)
            os.waitpid(self.pid, 0)
        if not succeeded:
            raise AssertionError(f"in the forked child:\n{value}")
        return value


def keys(here: SimpleNamespace) -> list[str]:
    with here.db.session() as s:
        return list(s.table("people"))


def commits_on_both_sides(here: SimpleNamespace) -> list[str]:
    child = Child(lambda: put(here, "by the child", {}))
    put(here, "by the parent", {})
    child.result()
    put(here, "by the parent later", {})
    return keys(here)


def prepared(database: Path, start_worker: Start) -> Worker:
    worker = start_worker()
    worker.call(open_database, database)
    return worker


def test_parent_and_child_both_go_on_with_a_handle_opened_before_the_fork(database: Path, start_worker: Start) -> None:
    worker = prepared(database, start_worker)
    assert worker.call(commits_on_both_sides) == ["by the child", "by the parent", "by the parent later"]


def forks_after_use(here: SimpleNamespace) -> list[str]:
    for n in range(200):
        put(here, f"row {n:03}", {"n": n})
    assert here.db.checkpoint().done
    with here.db.session() as s:
        assert s.table("people")["row 007"]["n"] == 7  # the base's files are open and mapped

        def change() -> None:
            with here.db.transaction() as mine:
                people = mine.table("people")
                for n in range(0, 200, 2):
                    people[f"row {n:03}"]["n"] += 1000
            assert here.db.checkpoint().done

        Child(change).result()
        assert s.table("people")["row 008"]["n"] == 8  # our snapshot
    with here.db.session() as s:
        return [key for key, row in s.table("people").items() if row["n"] >= 1000]


def test_what_a_child_writes_into_bases_that_the_parent_had_open_is_whole(database: Path, start_worker: Start) -> None:
    worker = prepared(database, start_worker)
    assert worker.call(forks_after_use) == [f"row {n:03}" for n in range(0, 200, 2)]


def forks_beside_a_committing_thread(here: SimpleNamespace, forks: int) -> tuple[int, int, list[str]]:
    ended, counts, errors = threading.Event(), [0, 0], []

    def commit_until_the_end(which: int) -> None:
        try:
            while not ended.is_set():
                put(here, f"thread {which}", {"n": counts[which] + 1})
                counts[which] += 1
        except BaseException:  # noqa: BLE001  the main thread raises it
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=commit_until_the_end, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    try:
        children = []
        for n in range(forks):
            children.append(Child(lambda n=n: put(here, f"child {n:02}", {})))
            if n % 4 == 0:
                here.db.checkpoint()
        for child in children:
            child.result()
    finally:
        ended.set()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert not errors, errors[0]
    with here.db.session() as s:
        people = s.table("people")
        found = [people[f"thread {which}"]["n"] for which in range(2)]
        assert found == counts
        return min(counts), max(counts), [key for key in people if key.startswith("child")]


def test_forks_beside_threads_that_commit_harm_neither_side(database: Path, start_worker: Start) -> None:
    worker = prepared(database, start_worker)
    least, _, children = worker.call(forks_beside_a_committing_thread, 16)
    assert children == [f"child {n:02}" for n in range(16)]
    assert least > 0


def uses_an_inherited_session(here: SimpleNamespace, in_base: bool) -> dict[str, str]:
    put(here, "ann", {"age": 1})
    if in_base:
        here.db.checkpoint()
    session = here.db.session()
    session.table("people")["bob"] = {}
    people = session.table("people")
    uses = {
        "read": lambda: people["ann"].to_dict(),
        "query": lambda: list(people),
        "write": lambda: people.__setitem__("eve", {}),
        "commit": lambda: session.commit(),
    }

    def outcome(use: Callable[[], Any]) -> str:
        try:
            return f"gave {use()!r}"
        except Exception as error:  # noqa: BLE001  what it is, is the test
            return f"refused: {error}" if isinstance(error, UsageError) else traceback.format_exc()

    found: dict[str, str] = Child(lambda: {name: outcome(use) for name, use in uses.items()}).result()
    session.commit()  # and here it goes on
    return found


def test_a_session_begun_before_a_fork_can_not_commit_in_the_child(database: Path, start_worker: Start) -> None:
    found = prepared(database, start_worker).call(uses_an_inherited_session, False)
    assert found["commit"].startswith("refused")


@pytest.mark.parametrize("in_base", [False, True])
def test_a_session_begun_before_a_fork_says_so_on_every_use_in_the_child(
    database: Path, start_worker: Start, in_base: bool
) -> None:
    found = prepared(database, start_worker).call(uses_an_inherited_session, in_base)
    assert {name: outcome for name, outcome in found.items() if "fork" not in outcome} == {}


def grandchildren(here: SimpleNamespace) -> list[str]:
    def child() -> None:
        put(here, "child", {})
        Child(lambda: put(here, "grandchild", {})).result()

    Child(child).result()
    put(here, "parent", {})
    return keys(here)


def test_a_child_may_fork_again(database: Path, start_worker: Start) -> None:
    assert prepared(database, start_worker).call(grandchildren) == ["child", "grandchild", "parent"]


def outlives_the_parent(here: SimpleNamespace) -> int:
    """Fork a child that commits after its parent was killed; give its pid back."""
    begun, begins = os.pipe()

    def child() -> None:
        os.close(begins)
        os.read(begun, 1)  # ends when the parent is dead
        put(here, "orphan", {})

    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(0)
    return pid


def test_a_child_goes_on_when_its_parent_is_killed(database: Path, start_worker: Start) -> None:
    worker = prepared(database, start_worker)
    pid = worker.call(outlives_the_parent)
    ended = os.pidfd_open(pid)
    try:
        worker.kill()
        assert select.select([ended], [], [], DEADLINE_S)[0], "the orphan did not end"
    finally:
        os.close(ended)
    reader = prepared(database, start_worker)
    assert reader.call(keys) == ["orphan"]
