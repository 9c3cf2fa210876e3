"""A session: one snapshot, the changes made on it, and their commit.

The session knows no rows and no objects, only its parts (`pykesto.session.Part`): each keeps the changes of one
table, hands them over as packed rows when the session commits, and lets go of what it loaded when a snapshot ends.

Compiled, because a web page's session lives for a few microseconds.
"""

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

from pykesto._stored cimport Reads, Writes

import logging
import os
from dataclasses import replace

from pykesto.codec import decode
from pykesto.errors import (
    ClosedError,
    CodecError,
    CommitUnknown,
    ConcurrencyConflict,
    ReadOnlyError,
    SnapshotExpired,
    UniqueViolation,
    UsageError,
)
from pykesto.store import Terms

cdef object _log = logging.getLogger("pykesto")
cdef unsigned long _forks = 0
cdef Reads _NO_READS = Reads()
cdef Writes _NO_WRITES = Writes({}, [])


def _forked():
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Observed:
    """A condition that a session asked of a table, to be asked again when it commits."""

    __slots__ = ("condition", "table")

    def __init__(self, table, condition):
        self.table = table
        self.condition = condition

    def matches(self, key, image):
        return self.condition.matches(key, image)

    def __str__(self):
        return str(self.condition)


cdef class Session:
    """One unit of work. Made by `Database.session`; a context manager that rolls back what was not committed.

    Use by two threads at once is a UsageError; moving it from thread to thread is fine.

    Attributes:
        note: who commits and why, stored with the commit; may be set until then.
    """

    def __init__(self, store, options, note=None, bint managed=False):
        self.set_up(store, options, note, managed)

    cdef int set_up(self, store, options, note, bint managed) except -1:
        self._store_of = store
        self._options = options
        self._read_only = options.read_only
        self.note = note
        self._managed = managed  # transaction(), run() and their like commit by themselves
        self._parts = {}
        self._schema = []
        return 0

    def __del__(self):
        if self._snapshot is not None:
            self._snapshot.close()  # made to be called from anywhere

    def __repr__(self):
        if self._closed:
            return "<Session closed>"
        changed = sum([len(part._changed) for part in self._parts.values()])
        at = "not begun" if self._snapshot is None else f"at version {self._snapshot.version}"
        return f"<Session {at}{f', {changed} changed' if changed else ''}>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{self!r} belongs to this process: begin a session of its own on the other side")

    # One thread at a time

    cdef int require_alone(self) except -1:
        if self._user != 0 and self._user != PyThread_get_thread_ident():
            raise UsageError("the session is used by another thread at this moment", hint="one session for each thread")
        return 0

    cdef bint take(self) except -1:
        """Hold off other threads, which are told so; False if this one does so already. The taker sets `_user` to 0."""
        cdef unsigned long me = PyThread_get_thread_ident()
        if self._user == me:
            return False
        self.require_alone()
        self._user = me
        return True

    # The snapshot

    @property
    def version(self):
        """The snapshot's number: that of the newest commit it sees. Begins a snapshot."""
        return self.begin().version

    @property
    def in_transaction(self):
        """Whether a snapshot has begun that was neither committed nor rolled back."""
        return self._snapshot is not None

    cdef object begin(self):
        """The snapshot, begun at the first use."""
        cdef bint taken
        if self._snapshot is not None:
            if self._born != _forks:
                raise UsageError(
                    "the session was begun before a fork, in the parent", hint="begin a new session in this process"
                )
            return self._snapshot
        self.require_usable()
        if self._managed and not self._entered:
            raise UsageError("a transaction that was not entered", hint="write `with db.transaction() as s:`")
        taken = self.take()
        try:
            self._store = self._store_of()
            self._snapshot = self._store.snapshot()
            self._born = _forks
        finally:
            if taken:
                self._user = 0
        return self._snapshot

    cdef set keys_read(self, str table):
        """Where the keys go that are looked up in a table."""
        if self._reads is None:
            self._reads = Reads()
        return self._reads.keys_of(table)

    cdef int observe(self, str table, condition) except -1:
        """Remember that the session asked this of a table; one that writes nothing conflicts with nobody."""
        self.begin()
        self.require_alone()
        if not self._read_only:
            if self._reads is None:
                self._reads = Reads()
            self._reads.predicates.append(Observed(table, condition))
        return 0

    cdef int require_usable(self) except -1:
        if self._closed:
            raise ClosedError("the session is closed", hint="begin a new one")
        if self._doomed:
            raise UsageError("the session's commit is unknown; only close() works now")
        return self.require_alone()

    cdef int require_writable(self) except -1:
        self.require_usable()
        if self._read_only:
            raise ReadOnlyError("the session is read-only", hint="use db.session() on a handle that may write")
        return 0

    cdef int end_snapshot(self) except -1:
        snapshot = self._snapshot
        self._snapshot = self._reads = None
        self._epoch += 1
        if self._schema:
            self._schema = []
        if snapshot is not None:
            snapshot.close()
        return 0

    # For parts in Python

    def _begin(self):
        """The snapshot, begun at the first use."""
        return self.begin()

    def _require_same(self, snapshot):
        if self._snapshot is not snapshot:
            self.require_usable()
            raise UsageError(
                "a loop goes on after its snapshot ended", hint="finish loops before commit() and rollback()"
            )

    def _require_usable(self):
        self.require_usable()

    def _require_writable(self):
        self.require_writable()

    def _get(self, str table, bytes key):
        """A row of the snapshot, and remember that it was read."""
        cdef bint taken
        snapshot = self.begin()
        taken = self.take()
        try:
            if not self._read_only:
                self.keys_read(table).add(key)
            return snapshot.get(table, key)
        finally:
            if taken:
                self._user = 0

    def _observe(self, str table, condition):
        """Remember that the session asked this of a table."""
        self.observe(table, condition)

    def _change_schema(self, change):
        self.require_writable()
        self.begin()
        self._schema.append(change)

    # Ending

    def commit(self, bint force=False, durability=None, isolation=None):
        """Write all changes at once and return the commit's number.

        Args:
            force: check nothing that others committed since (unique indexes are still checked).
            durability: "full" returns when the commit is on stable storage, "process" when it survives any process.
            isolation: "serializable" checks all that was read, "snapshot" only what was written. Both of these are
                the session's, unless they are given.

        Raises:
            ConcurrencyConflict: another commit changed what this one read or wrote; nothing was written, and the
                session keeps its snapshot and changes.
            UniqueViolation, LockTimeout, StorageError: likewise nothing was written.
            CommitUnknown: nobody can know; only close() works now.
        """
        if self._managed:
            raise UsageError(
                "the surrounding transaction commits at its end", hint="leave out s.commit(), or use db.session()"
            )
        number = self._write(self._terms(force, durability, isolation))
        self._run_hooks("after_commit")
        return number

    cdef object _terms(self, bint force, durability, isolation):
        options = self._options
        if not force and durability is None and isolation is None and self.note is None:
            return options.terms
        if self.note is not None and not isinstance(self.note, str):
            raise TypeError(f"a note is a str, not {type(self.note).__name__}")
        return Terms(
            force,
            one_of("isolation", isolation or options.isolation, ("serializable", "snapshot")),
            one_of("durability", durability or options.durability, ("full", "process")),
            options.lock_timeout_s,
            self.note,
        )

    cdef object _write(self, terms):
        """All of a commit but what is called after it."""
        cdef bint taken
        self.require_usable()
        taken = self.take()
        if not taken:
            raise UsageError("a commit of this session is under way", hint="leave commit() out of what it calls")
        try:
            self._run_hooks("before_commit")
            snapshot = self.begin()
            writes = self._writes()
            if writes:
                self.require_writable()
            number = self._written(snapshot, writes, terms)
            self._doomed = True  # until all parts know: an interrupt here must not leave changes to be written again
            self.end_snapshot()
            for part in list(self._parts.values()):
                part.committed(number)
            self._doomed = False
        finally:
            self._user = 0
        return number

    cdef Writes _writes(self):
        cdef dict rows = {}, merges = None
        cdef list parts = list(self._parts.values())
        for part in parts:
            part.prepare()
        if len(self._parts) != len(parts):  # objects come with tables of their own
            parts = list(self._parts.values())
        for part in parts:
            changes = part.changes()
            if changes:
                rows[part.table] = changes
                merge = part.merge_of(changes)
                if merge is not None:
                    merges = merges or {}
                    merges[part.table] = merge
        for part in parts:
            part.require_indexes()
        return Writes(rows, self._schema, merges) if rows or self._schema else _NO_WRITES

    cdef object _written(self, snapshot, writes, terms):
        reads = self._reads if self._reads is not None else _NO_READS
        try:
            return self._store.commit(snapshot, reads, writes, terms)
        except CommitUnknown:
            self._doomed = True
            raise
        except SnapshotExpired:
            raise
        except ConcurrencyConflict as error:
            readable = dict.fromkeys([self._readable(c) for c in error.conflicts])  # what was asked twice is told once
            raise ConcurrencyConflict(tuple(readable)) from None
        except UniqueViolation as error:
            part = self._parts.get(error.table, self._parts.get("objects"))
            label = part.label if part.table == error.table else error.table
            column = part.readable_column(error.column)
            raise UniqueViolation(label, column, _value(error.value), part.readable_key(error.key)) from None

    def _readable(self, conflict):
        """A conflict with the table's name and the key as the user knows them."""
        part = self._parts.get(conflict.table)
        if part is None:
            return conflict
        key = None if conflict.key is None else part.readable_key(conflict.key)
        return replace(conflict, table=part.label, key=key)

    def savepoint(self):
        """A block whose changes are undone if an exception leaves it; the exception goes on up. Blocks nest.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     people = s.table("people")
            ...     people["ann"] = {"age": 40}
            ...     try:
            ...         with s.savepoint():
            ...             people["ann"]["age"] = "forty"
            ...             raise ValueError
            ...     except ValueError:
            ...         print(people["ann"]["age"])
            40
        """
        return Savepoint(self)

    def rollback(self):
        """Undo all changes; the next use begins a new snapshot."""
        self.require_usable()
        self._undo()
        self._run_hooks("after_rollback")

    cdef int _undo(self) except -1:
        self.end_snapshot()
        for part in list(self._parts.values()):
            part.rolled_back()
        return 0

    def close(self):
        """End the session; changes that were not committed are gone. What was loaded stays readable."""
        self.shut()

    cdef int shut(self) except -1:
        self.require_alone()
        if not self._closed:
            self._closed = True
            self.end_snapshot()
            self._parts = {}  # which hold the session: most sessions need no collector of garbage
        return 0

    def __enter__(self):
        self.require_usable()
        self._entered = True
        return self

    def __exit__(self, kind, error, trace):
        cdef bint committed = False
        try:
            if kind is None and self._managed:
                self._write(self._terms(False, None, None))
                committed = True
            elif kind is None and not self._closed and not self._doomed:
                self.warn_of_changes()
        finally:
            self.leave(committed)
        if committed:
            self._run_hooks("after_commit")

    cdef int warn_of_changes(self) except -1:
        for part in self._parts.values():
            if part._changed:
                _log.warning("a session with changes was left without commit() or rollback(); they are gone")
                break
        return 0

    cdef int leave(self, bint committed) except -1:
        """Close; what was begun and not committed counts as rolled back."""
        cdef bint undone = self._snapshot is not None and not committed and not self._doomed
        self.shut()
        if undone:
            self._run_hooks("after_rollback")
        return 0

    # What changed, and who wants to know

    def _changes_of(self, int which):
        return tuple([item for part in self._parts.values() for item in part.changed()[which]])

    @property
    def new(self):
        """Rows and objects that the commit will create."""
        return self._changes_of(0)

    @property
    def dirty(self):
        """Rows and objects that the commit will change."""
        return self._changes_of(1)

    @property
    def deleted(self):
        """Rows and objects that the commit will delete."""
        return self._changes_of(2)

    def before_commit(self, fn):
        """Call `fn()` at the start of each commit; an exception in it stops the commit."""
        self._hook("before_commit", fn)

    def after_commit(self, fn):
        """Call `fn()` after each commit that succeeded."""
        self._hook("after_commit", fn)

    def after_rollback(self, fn):
        """Call `fn()` after each rollback, be it asked for, or because an exception or a failed commit ended it."""
        self._hook("after_rollback", fn)

    cdef int _hook(self, name, fn) except -1:
        if not callable(fn):
            raise TypeError(f"{name} takes a function of no arguments, not {type(fn).__name__}")
        if self._hooks is None:
            self._hooks = {}
        self._hooks.setdefault(name, []).append(fn)
        return 0

    cdef int _run_hooks(self, name) except -1:
        if self._hooks is not None:
            for fn in self._hooks.get(name, ()):
                fn()
        return 0


@cython.final
cdef class Savepoint:
    """A block of a session, to whose beginning it goes back if an exception leaves it."""

    cdef Session _session
    cdef dict _saved
    cdef list _schema
    cdef long _epoch

    def __init__(self, Session session not None):
        self._session = session

    def __enter__(self):
        session = self._session
        session.require_usable()
        self._epoch = session._epoch
        self._saved = {name: part.save() for name, part in session._parts.items()}
        self._schema = list(session._schema)

    def __exit__(self, kind, error, trace):
        session = self._session
        if kind is None or session._closed or session._epoch != self._epoch:
            return  # what had been saved ended with its snapshot
        for name, part in list(session._parts.items()):
            part.restore(self._saved.get(name))
        session._schema = self._schema


def one_of(name, value, allowed):
    """`value`, or UsageError if it is none of those allowed."""
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
    return value


cdef object _value(encoded):
    """An encoded value or key for people: decoded if it can be."""
    if type(encoded) is tuple:
        return tuple([_value(one) for one in encoded])
    try:
        return decode(encoded)
    except CodecError:
        return encoded
