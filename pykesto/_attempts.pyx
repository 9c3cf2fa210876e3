"""The attempts of a transaction: a fresh session each, until one commits.

Compiled, because every `Database.run` is one.
"""

cimport cython

from pykesto._database cimport DatabaseCore
from pykesto._session cimport Session

import contextvars
import inspect
import logging
import random
import time
from types import CoroutineType, FunctionType

from pykesto.errors import ConcurrencyConflict, UsageError

cdef enum:
    CONTENDED = 16  # transactions that stand in line from the start, after a conflict
    # inspect.CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
    LATE = 0x20 | 0x80 | 0x200

cdef object _log = logging.getLogger("pykesto")
cdef object _running = contextvars.ContextVar("pykesto_running", default=())  # databases


@cython.final
cdef class Attempts:
    """The attempts of one block, one after another until one succeeds. Made by `Database.attempts`."""

    def __init__(self, DatabaseCore database not None, options, note, at_most, retry_for_s):
        if not isinstance(at_most, int):
            raise TypeError(f"attempts is an int, not {type(at_most).__name__}")
        if at_most < 1:
            raise UsageError(f"attempts is {at_most}; at least one is needed")
        if database in _running.get():
            raise UsageError("a transaction of this database runs here already", hint="pass its session on instead")
        self.database, self.options, self.note = database, options, note
        self.left = min(at_most, 1 << 30)
        self.began_s = time.monotonic()
        self.retry_for_s = retry_for_s

    def __iter__(self):
        return self

    def __next__(self):
        if self.attempt is not None and not self.attempt.goes_on:
            raise StopIteration
        return self.next()

    cdef Attempt next(self):
        """Pause if this is not the first, and begin another one."""
        cdef Attempt attempt = Attempt.__new__(Attempt)
        cdef DatabaseCore database = self.database
        if self.attempt is not None:
            time.sleep(self.pause_s)
        self.left -= 1
        self.made += 1
        if database._closed:
            database.attached()  # says so
        attempt.session = database.begun(self.options, self.note, True)
        attempt.database, attempt.attempts = database, self
        self.attempt = attempt
        return attempt

    cdef bint another(self, conflict) except -1:
        """Whether another attempt follows this conflict. The last one says how often it was tried."""
        # Jittered, so that the same two do not meet again; the first time it is enough to stand in line.
        self.pause_s = random.uniform(0, min(0.1, 0.001 * 2 ** min(self.made, 10))) if self.made > 1 else 0.0
        cdef double passed_s = time.monotonic() - self.began_s
        cdef bint late = self.retry_for_s is not None and passed_s + self.pause_s > self.retry_for_s
        if conflict.retryable and (late or self.left <= 0):
            conflict.hint = (
                f"it was tried {self.made} times in {passed_s:.1f} s; allow more attempts, read less in the"
                " transaction, or use isolation='snapshot' if what was read may change meanwhile"
            )
        return conflict.retryable and not late and self.left > 0

    def __del__(self):
        if self.attempt is not None and self.attempt.goes_on:
            _log.error("a block of attempts() was left by return or break although its commit had met a conflict")


@cython.final
cdef class Attempt:
    """One attempt of `Database.attempts`: gives a session, commits it, swallows a conflict if another one follows.

    Attributes:
        version: the commit's number, once it succeeded.
        goes_on: it met a conflict, and another attempt is to follow.
    """

    def __enter__(self):
        return self.enter()

    cdef Session enter(self):
        if self.attempts is None:
            raise UsageError("the attempt is over", hint="take the next one: for attempt in db.attempts(): ...")
        try:
            if self.attempts.made > 1 or self.database._contended:
                self.in_turn = self.database.attached()
                self.in_turn.take_turn()
            self.token = _running.set((*_running.get(), self.database))
            return self.session.__enter__()
        except BaseException:  # an interrupt, as it waits for its turn
            if self.token is not None:
                _running.reset(self.token)
            self.end_turn()
            raise

    def __exit__(self, kind, error, trace):
        return self.leave(error)

    cdef bint leave(self, error) except -1:
        """Commit, unless an error came; whether that is a conflict which another attempt follows."""
        cdef Attempts attempts = self.attempts
        cdef Session session = self.session
        if self.token is None or attempts is None:
            raise UsageError("an attempt that was not entered", hint="with attempt as s: ...")
        _running.reset(self.token)
        self.attempts = None  # it refers to this one
        try:
            if error is None:
                self.version = session._write(session._terms(False, None, None))
                session._run_hooks("after_commit")  # what this raises is no conflict of this commit
                return False
            self.goes_on = isinstance(error, ConcurrencyConflict) and attempts.another(error)
        except ConcurrencyConflict as conflict:
            self.goes_on = self.version is None and attempts.another(conflict)
            if not self.goes_on:
                raise
        finally:
            try:
                self.end_turn()
            finally:
                self.note_contention()
                session.leave(self.version is not None)
        return self.goes_on

    cdef int end_turn(self) except -1:
        if self.in_turn is not None:
            self.in_turn.end_turn()
        return 0

    cdef int note_contention(self) except -1:
        """After a conflict the next few transactions stand in line from the start: what is hot stays so for a while."""
        if self.goes_on:
            self.database._contended = CONTENDED
        elif self.database._contended:
            self.database._contended -= 1
        return 0


def run(Attempts attempts not None, fn, tuple args not None, dict kwargs not None):
    """Call `fn(session, *args, **kwargs)` in one attempt after another; what it returned in the one that succeeded."""
    cdef Attempt attempt = None
    cdef object result = None
    while attempt is None or attempt.goes_on:
        attempt = attempts.next()
        session = attempt.enter()
        try:
            result = fn(session, *args, **kwargs)
            if type(result) is CoroutineType:
                result.close()
                refuse(fn)
        except BaseException as error:
            if not attempt.leave(error):
                raise
        else:
            attempt.leave(None)
    return result


def refuse_late(fn):
    """UsageError for what would not run when it is called."""
    if type(fn) is FunctionType and not fn.__dict__ and not fn.__code__.co_flags & LATE:
        return  # nearly always
    if _is_late(fn) or (not inspect.isroutine(fn) and _is_late(getattr(fn, "__call__", None))):
        refuse(fn)


cdef object _is_late(fn):
    return inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


cdef int refuse(fn) except -1:
    raise UsageError(f"{fn!r} would run after its transaction", hint="give a plain function")
