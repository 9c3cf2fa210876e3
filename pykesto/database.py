"""Open databases, and run transactions on them."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from ._attempts import Attempts, refuse_late, run
from ._database import DatabaseCore
from .engine.attachments import Attachment, attach, detach
from .engine.backup import backup
from .engine.check import Report, check
from .engine.checkpoint import Outcome
from .engine.repair import repair
from .engine.stats import Stats, stats
from .errors import ReadOnlyError, UsageError
from .objects import Catalog, ObjectSession, Persistent
from .objects.collection import Collected, collect
from .rows import forget_policies, names_of_tables
from .session import Options
from .store import Durability, Isolation, SchemaChange, Store

R = TypeVar("R")
A = ParamSpec("A")


class Database(DatabaseCore):
    """A handle of a database directory, shared by all threads and kept across fork. Made by `pykesto.open`."""

    def __init__(
        self, path: str | os.PathLike[str], *, create: bool, mode: int, network: bool, options: Options
    ) -> None:
        super().__init__(Path(os.path.abspath(path)), options)
        self._mode, self._network = mode, network
        self._attach(create=create and not options.read_only)
        self._temporary: weakref.finalize[Any, Any] | None = None

    def _attach(self, *, create: bool = False) -> None:
        """Attach this process. Another's catalog may be locked by a thread that is not here."""
        self._attachment = attach(self.path, create=create, mode=self._mode, network=self._network)
        self._catalog = Catalog(self._store)

    @property
    def version(self) -> int:
        """The number of the newest commit."""
        return self._attached().store.view.version()

    def _store(self) -> Store:
        return self._attached()

    # Transactions

    def run(
        self, fn: Callable[..., R], *args: Any, attempts: int = 10, retry_for: float | None = None, **kwargs: Any
    ) -> R:
        """Call `fn(session, *args, **kwargs)` in a transaction, again in a fresh one after each ConcurrencyConflict.

        Pauses between attempts grow, with jitter. After `attempts`, or when `retry_for` seconds have passed, the
        conflict is let out; nothing else is retried, nor is what is not `retryable`.

        Example:
            >>> import pykesto
            >>> def count(s, name):
            ...     row = s.table("visits").setdefault(name, {"n": 0})
            ...     row["n"] += 1
            ...     return row["n"]
            >>> with pykesto.temporary() as db:
            ...     db.run(count, "home"), db.run(count, "home", attempts=100, retry_for=2.5)
            (1, 2)
        """
        refuse_late(fn)
        return run(Attempts(self, self._options, None, attempts, retry_for), fn, args, kwargs)

    @overload
    def transactional(self, fn: Callable[A, R], /) -> Callable[..., R]: ...
    @overload
    def transactional(
        self,
        fn: None = None,
        /,
        *,
        attempts: int = 10,
        retry_for: float | None = None,
        isolation: Isolation | None = None,
        durability: Durability | None = None,
        note: str | None = None,
    ) -> Callable[[Callable[A, R]], Callable[..., R]]: ...
    def transactional(self, fn: Any = None, /, **terms: Any) -> Any:
        """Decorate a function of (session, ...) so that it runs as `run` does, called without the session.

        `terms`: attempts, retry_for, isolation, durability, note, as for `attempts`.
        """
        if fn is None:
            return functools.partial(self.transactional, **terms)
        refuse_late(fn)

        @functools.wraps(fn)
        def runs(*args: Any, **kwargs: Any) -> Any:
            return run(self.attempts(**terms), fn, args, kwargs)

        return runs

    def attempts(
        self,
        attempts: int = 10,
        *,
        retry_for: float | None = None,
        isolation: Isolation | None = None,
        durability: Durability | None = None,
        note: str | None = None,
    ) -> Attempts:
        """For a block: `for attempt in db.attempts(10): with attempt as s: ...`.

        Leave the block at its end, or by an exception: after `return` or `break` no further attempt can follow, and if
        the commit met a conflict nothing was written. `run` has no such edge.

        Args:
            attempts: how often to try at most.
            retry_for: no attempt begins when so many seconds have passed since the first; None: `attempts` decides.
        """
        options = self._terms(False, isolation, durability, None)
        return Attempts(self, options, note, attempts, retry_for)

    # Maintenance

    def checkpoint(self) -> Outcome:
        """Bring a base forward to the end of the journal now. Runs in the background by itself."""
        return self._attached().checkpoint(self._options.lock_timeout_s)

    def backup(self, path: str | os.PathLike[str]) -> int:
        """Copy the database into a new directory while it is in use; return the version that the copy holds.

        Example:
            >>> import pykesto, tempfile
            >>> with pykesto.temporary() as db:
            ...     version = db.backup(tempfile.mkdtemp() + "/copy.kesto")
        """
        return backup(self._attached(), Path(os.path.abspath(path)), self._options.lock_timeout_s)

    def check(self) -> Report:
        """Verify MANIFEST, stamps, rows, indexes and journal; `.problems` is empty when all is well."""
        return check(self._attached(), self._options.lock_timeout_s)

    def repair(self) -> Report:
        """Rebuild what `check` finds damaged, from other copies of the same rows; then check again.

        A base is rebuilt from another one and the journal, or from its own rows where only an index is damaged. Nothing
        is guessed: CorruptionError names rows that no other place has, and then nothing was changed.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db:
            ...     db.repair().problems
            ()
        """
        return repair(self._attached(), self._options.lock_timeout_s)

    def stats(self) -> Stats:
        """Sizes and counts of the moment."""
        return stats(self._attached())

    def tables(self) -> tuple[str, ...]:
        """The names of the tables of rows."""
        with self.session(read_only=True) as session:
            return names_of_tables(session._begin().tables())

    def drop_table(self, name: str) -> None:
        """Delete all rows and indexes of a table, in a transaction of its own."""
        if self._options.read_only:
            raise ReadOnlyError("the database was opened read-only")

        def drop(session: ObjectSession) -> None:
            table = session.table(name)
            table.query.delete()
            forget_policies(table)
            session._change_schema(SchemaChange("drop_table", table.table))

        # Rows that others add meanwhile must be seen, whatever the handle's isolation: they would have no table.
        run(self.attempts(isolation="serializable"), drop, (), {})

    def upgrade(
        self, cls: type[Persistent], *, batch: int = 1000, progress: Callable[[int], object] | None = None
    ) -> int:
        """Write the objects of a class and those below it that earlier versions of it stored, upgraded; how many.

        Args:
            batch: how many are written in one transaction.
            progress: called with the number of objects written so far, after each transaction.

        Example:
            >>> import pykesto
            >>> class Leaf(pykesto.Persistent):
            ...     colour: str
            >>> with pykesto.temporary() as db:
            ...     db.upgrade(Leaf)
            0
        """
        done = 0
        while count := self.run(lambda s: s._upgrade(cls, batch)):
            done += count
            if progress is not None:
                progress(done)
        return done

    def collect(self, *, dry_run: bool = False, from_root_only: bool = False) -> Collected:
        """Remove the objects that nothing reaches; others may work meanwhile.

        Reached are the values of the root, the objects of classes with an extent (all but those declared with
        `extent=False`, and large containers and blobs), and what these refer to.

        Args:
            dry_run: only find out what would be removed.
            from_root_only: being of a class with an extent is not enough: only what the root reaches is kept.

        Example:
            >>> import pykesto
            >>> class Node(pykesto.Persistent, extent=False):
            ...     label: str
            >>> with pykesto.temporary() as db:
            ...     with db.transaction() as s:
            ...         s.root["first"] = Node(label="kept")
            ...         _ = s.add(Node(label="lost"))
            ...     found = db.collect(dry_run=True).unreachable, db.collect().unreachable, db.collect().unreachable
            ...     found
            (1, 1, 0)
        """
        if self._options.read_only and not dry_run:
            raise ReadOnlyError("the database was opened read-only")
        reader = self.session(read_only=True)

        def swept(sweep: Callable[[ObjectSession], Any]) -> Any:
            return run(self.attempts(20, isolation="serializable"), sweep, (), {})

        return collect(swept, reader, dry_run=dry_run, from_root_only=from_root_only)

    # Closing

    def close(self) -> None:
        """Close this handle. Idempotent. Sessions of it can't be used any more.

        Also in a signal handler: one that interrupted a commit or a checkpoint of its own thread ends sessions, and
        leaves the rest to a thread that waits until what was interrupted is through.
        """
        if self._closed:
            return
        self._closed = True
        detach(self._attachment)
        if self._temporary is not None:
            self._temporary()

    def __enter__(self) -> Self:
        if self._closed:
            self._attached()  # says so
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{self!r} is open in this process: pass its path, and pykesto.open() it on the other side")

    def __repr__(self) -> str:
        return f"<Database {self.path}{' closed' if self._closed else ''}>"


def open(
    path: str | os.PathLike[str],
    *,
    create: bool = True,
    read_only: bool = False,
    mode: int = 0o600,
    durability: Durability = "full",
    isolation: Isolation = "serializable",
    lock_timeout: float | None = 10.0,
    token_key: bytes | None = None,
    network: bool = False,
) -> Database:
    """Open the database in the directory `path`. Any number of processes and threads may do so at once.

    Args:
        path: a directory. With `create` it is made if it is missing, or filled if it is empty.
        read_only: refuse all changes through this handle; implies not creating.
        mode: of the files that are made; directories get the matching search bits.
        durability: "full": a commit returns when it is on stable storage. "process": it survives the death of any
            process, not a power cut.
        isolation: "serializable": all that a session read is checked when it commits. "snapshot": only what it wrote.
        lock_timeout: seconds to wait for another process that commits; None for ever, 0 one try.
        token_key: a secret of at least 16 bytes to sign `row.k_token` with; None: tokens are not signed.
        network: open a directory on a network file system too, where only one machine may ever have it open.

    Raises:
        StorageError: the directory is missing (errno ENOENT) or can't be used.
        FormatError: it is no database, or one of another format.
        CorruptionError: it is damaged.
        UsageError: an unknown scheme, such as "kesto://", or ":memory:".

    Example:
        >>> import pykesto, tempfile
        >>> db = pykesto.open(tempfile.mkdtemp() + "/app.kesto")
        >>> db.close()
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path is a str or PathLike of str, not {type(text).__name__}")
    if "://" in text or text.startswith(":"):
        raise UsageError(f"{text!r} is no directory; only databases in a directory are supported so far")
    if not text or "\0" in text:
        raise UsageError(f"{text!r} can't be the path of a directory")
    if not isinstance(mode, int):
        raise TypeError(f"mode is an int such as 0o600, not {type(mode).__name__}")
    options = Options(durability, isolation, lock_timeout, read_only, token_key)
    return Database(text, create=create, mode=mode, network=network, options=options)


def temporary() -> Database:
    """A new database in a temporary directory, which goes away when it is closed.

    Example:
        >>> import pykesto
        >>> with pykesto.temporary() as db:
        ...     db.version
        0
    """
    directory = tempfile.mkdtemp(prefix="pykesto.")
    database = open(Path(directory) / "db.kesto")
    database._temporary = weakref.finalize(database, _discard, database._attachment, directory, os.getpid())
    return database


def _discard(attachment: Attachment, directory: str, pid: int) -> None:
    """Close what may still be open, then remove a temporary database; not in a forked child, whose it is not."""
    if os.getpid() == pid:
        if attachment.usable:
            attachment.close()
        shutil.rmtree(directory, ignore_errors=True)
