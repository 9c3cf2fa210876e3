"""Start worker processes and talk to them.

A worker runs what it is told, one call after another: `worker.call(fn, *args)` runs the module-level function
`fn(here, *args)` there, and gives back its result or raises its exception. `here` is a namespace that lives as long
as the worker, for what one call leaves for the next. Nothing waits without a deadline.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import Any

import pykesto

DEADLINE_S = 60.0
_SPAWN = multiprocessing.get_context("spawn")


class Died(Exception):
    """The worker ended before it answered."""


class Worker:
    """One process of ours."""

    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=False)
        self.process.start()
        theirs.close()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def start(self, fn: Callable[..., Any], *args: Any) -> None:
        """Have it begin; `result` waits for the end."""
        self._pipe.send((fn, args))

    def result(self, deadline_s: float = DEADLINE_S) -> Any:
        if not wait([self._pipe], deadline_s):
            raise TimeoutError(f"worker {self.pid} did not answer in {deadline_s} s")
        try:
            succeeded, value = self._pipe.recv()
        except EOFError:
            raise Died(f"worker {self.pid} ended with {self.process.exitcode}") from None
        if succeeded:
            return value
        error, trace = value
        error.add_note(f"in worker {self.pid}:\n{trace}")
        raise error

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        self.start(fn, *args)
        return self.result()

    def hear(self, deadline_s: float = DEADLINE_S) -> Any:
        """What the worker says with `here.say` in the midst of a call."""
        if not wait([self._pipe], deadline_s):
            raise TimeoutError(f"worker {self.pid} said nothing in {deadline_s} s")
        return self._pipe.recv()

    def say(self, message: Any) -> None:
        """Answer a worker that waits in `here.hear`."""
        self._pipe.send(message)

    def pause(self) -> None:
        """Stop it, and return when it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(DEADLINE_S)

    def end(self) -> None:
        """Let it end as a program does; kill it if it won't."""
        with suppress(OSError):  # it has ended
            self._pipe.send(None)
        self._pipe.close()
        self.process.join(DEADLINE_S)
        if self.process.exitcode is None:
            self.kill()


def _serve(pipe: Connection) -> None:
    here = SimpleNamespace(say=pipe.send, hear=lambda: _hear(pipe), heard=pipe.poll)
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        if call is None:
            return
        fn, args = call
        try:
            answer = (True, fn(here, *args))
        except BaseException as error:  # noqa: BLE001  the test raises it
            answer = (False, (error, traceback.format_exc()))
        pipe.send(answer)


def _hear(pipe: Connection) -> Any:
    if not pipe.poll(DEADLINE_S):
        raise TimeoutError("the test said nothing")
    return pipe.recv()


# What many tests have workers do


def open_database(here: SimpleNamespace, path: object, **options: Any) -> None:
    here.db = pykesto.open(path, **options)  # type: ignore[arg-type]


def close_database(here: SimpleNamespace) -> None:
    here.db.close()


def begin(here: SimpleNamespace, options: dict[str, Any] | None = None) -> int:
    """A session, with its snapshot taken."""
    here.session = here.db.session(**(options or {}))
    version: int = here.session.version
    return version


def put(here: SimpleNamespace, key: object, columns: dict[str, Any], table: str = "people") -> int:
    """Write one row in a transaction of its own; the commit's number."""
    with here.db.session() as session:
        session.table(table)[key] = columns
        number: int = session.commit()
        return number


def delete(here: SimpleNamespace, key: object, table: str = "people") -> int:
    with here.db.session() as session:
        del session.table(table)[key]
        number: int = session.commit()
        return number


def toggle_index(db: pykesto.Database, table: str, columns: tuple[str, ...], options: dict[str, Any]) -> None:
    """Create an index, or drop it if it is there."""
    with db.transaction() as s:
        rows = s.table(table)
        there = {(index.columns, index.kind, index.where) for index in rows.indexes()}
        if (columns, options.get("kind", "value"), options.get("where", "")) in there:
            rows.drop_index(*columns, kind=options.get("kind", "value"), where=options.get("where", ""))
        else:
            rows.create_index(*columns, **options)


def toggle_index_there(here: SimpleNamespace, table: str, columns: tuple[str, ...], options: dict[str, Any]) -> None:
    toggle_index(here.db, table, columns, options)


def read_all(here: SimpleNamespace, table: str = "people") -> dict[Any, dict[str, Any]]:
    """A table in the session that `begin` left."""
    rows = here.session.table(table)
    return {key: rows[key].to_dict() for key in rows}


def checkpoint(here: SimpleNamespace) -> Any:
    return here.db.checkpoint()
