"""Waiting for another process is bounded, and says for whom; a dead one holds nobody up."""

import _thread
import operator
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import LockTimeout
from pykesto.files import FileLock, Mutex, write_back
from tests.processes import Worker, open_database, put

Start = Callable[[], Worker]


def stop_while_holding_the_lock(here: SimpleNamespace, name: str) -> None:
    with getattr(here.db._attached().store, name).held(10.0):
        here.say("held")
        os.kill(os.getpid(), signal.SIGSTOP)


def holder_of(database: Path, start_worker: Start, name: str) -> Worker:
    """A process that is stopped while it holds a lock."""
    worker = start_worker()
    worker.call(open_database, database)
    worker.start(stop_while_holding_the_lock, name)
    assert worker.hear() == "held"
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    return worker


def test_a_stopped_holder_of_the_commit_lock_is_named_and_all_goes_on_after_it(
    database: Path, start_worker: Start
) -> None:
    with pykesto.open(database, lock_timeout=0.2) as db:
        holder = holder_of(database, start_worker, "commit_lock")
        with db.session() as s:
            s.table("people")["ann"] = {"age": 1}
            with pytest.raises(LockTimeout) as caught:
                s.commit()
            assert caught.value.holder_pid == holder.pid
            assert caught.value.waited_s >= 0.2
            assert str(holder.pid) in str(caught.value)
            assert db.version == 0  # and readers don't wait
            holder.resume()
            holder.result()
            assert s.commit() == db.version > 0
            holder.call(put, "bob", {})


def test_a_lock_timeout_of_zero_is_one_try(database: Path, start_worker: Start) -> None:
    with pykesto.open(database, lock_timeout=0) as db:
        holder = holder_of(database, start_worker, "commit_lock")
        began = time.monotonic()
        with db.session() as s:
            s.table("people")["ann"] = {}
            with pytest.raises(LockTimeout):
                s.commit()
            assert time.monotonic() - began < 5
            s.rollback()
        holder.resume()
        holder.result()


def test_a_killed_holder_of_the_commit_lock_holds_nobody_up(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        holder = holder_of(database, start_worker, "commit_lock")
        holder.kill()
        with db.transaction() as s:
            s.table("people")["ann"] = {}


def test_a_stopped_syncer_delays_a_commit_but_does_not_stop_it(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        holder = holder_of(database, start_worker, "sync_lock")
        with db.transaction() as s:
            s.table("people")["ann"] = {}
        assert db.stats().journal_undurable_bytes == 0
        holder.resume()
        holder.result()


def run_checkpoint(here: SimpleNamespace) -> object:
    return here.db.checkpoint()


def test_a_stopped_checkpointer_stops_no_commit_and_shows_in_the_stats(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        holder = holder_of(database, start_worker, "checkpoint_lock")
        with db.transaction() as s:
            s.table("people")["ann"] = {}
        assert db.stats().checkpoint_holder_pid == holder.pid
        waiter = start_worker()
        waiter.call(open_database, database)
        waiter.start(run_checkpoint)
        holder.resume()
        holder.result()
        assert waiter.result().version == db.version


def test_an_interrupt_that_came_in_c_code_does_not_keep_the_lock_from_being_given_back(
    database: Path, interrupts: None
) -> None:
    with pykesto.open(database) as db:
        lock = db._attached().store.commit_lock
        lock.acquire(10.0)
        with pytest.raises(KeyboardInterrupt):
            list(map(operator.call, [_thread.interrupt_main, lock.let_go]))  # no bytecode in between
        other = FileLock(lock.file.path)
        assert other.try_acquire()
        other.close()
        with lock.tried() as got:
            assert got


def test_writing_back_tells_of_a_failure_as_the_sync_after_it_would_not() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_back(-1, 1)


def test_a_mutex_lets_one_thread_in_at_a_time_as_often_as_it_likes_and_forgets_no_sleeper() -> None:
    mutex, inside, entered = Mutex(), [0], [0]

    def work() -> None:
        for turn in range(500):
            with mutex, mutex:
                assert mutex.is_mine()
                inside[0] += 1
                if turn % 3 == 0:
                    time.sleep(0)  # the others get the interpreter, and must wait
                assert inside[0] == 1
                inside[0] -= 1
                entered[0] += 1
            assert not mutex.is_mine()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert entered[0] == 3000
