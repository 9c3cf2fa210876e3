"""What every transaction asks of a handle of a database: a session, and this process's attachment.

`pykesto.database` is the face.
"""

from pykesto._rows cimport TableSession
from pykesto._system cimport current_pid

from pykesto.errors import ClosedError
from pykesto.objects import ObjectSession as _ObjectSession
from pykesto.session import Options

cdef enum:
    KEPT = 100  # options at most


cdef class DatabaseCore:
    """The part of a handle that is compiled. `_attach` attaches this process anew."""

    def __init__(self, path, options):
        self._path = path
        self._options = options
        self._others = {}

    @property
    def path(self):
        """The database's directory."""
        return self._path

    def session(self, *, read_only=False, isolation=None, durability=None, note=None, token_key=None):
        """A session that commits when told to; leaving it without commit() rolls back.

        Args:
            read_only: refuse changes. Such a session never conflicts, and remembers nothing of what it read.
            isolation, durability, token_key: others than the handle's, see `pykesto.open`.
            note: who commits and why; stored with the commit, and named by conflicts with it.

        Example:
            >>> import pykesto
            >>> db = pykesto.temporary()
            >>> with db.session() as s:
            ...     s.table("people")["ann"] = {"age": 40}
            ...     number = s.commit()
            >>> db.close()
        """
        return self.begun(self.options_of(read_only, isolation, durability, token_key), note, False)

    def transaction(self, *, read_only=False, isolation=None, durability=None, note=None, token_key=None):
        """A session that commits at the end of its `with` block, and rolls back on an exception.

        The arguments are those of `session`.

        Example:
            >>> import pykesto
            >>> db = pykesto.temporary()
            >>> with db.transaction() as s:
            ...     s.table("people")["ann"] = {"age": 40}
            >>> db.close()
        """
        return self.begun(self.options_of(read_only, isolation, durability, token_key), note, True)

    cdef object begun(self, options, note, bint managed):
        cdef TableSession session = TableSession.__new__(_ObjectSession)
        session.set_up(self._attached, options, note, managed)
        session._catalog = self._catalog
        return session

    cdef object options_of(self, read_only, isolation, durability, token_key):
        """The handle's options with what differs, made once for each combination. The handle must be open."""
        if self._closed:
            self.attached()  # says so
        if isolation is None and durability is None and token_key is None and not read_only:
            return self._options
        asked = (read_only, isolation, durability, token_key)
        found = self._others.get(asked)
        if found is None:
            if len(self._others) > KEPT:
                self._others.clear()
            mine = self._options
            found = self._others[asked] = Options(
                durability=durability or mine.durability,
                isolation=isolation or mine.isolation,
                lock_timeout_s=mine.lock_timeout_s,
                read_only=read_only or mine.read_only,
                token_key=mine.token_key if token_key is None else token_key,
            )
        return found

    def _terms(self, read_only, isolation, durability, token_key):
        """For the handle's Python: the options of a session."""
        return self.options_of(read_only, isolation, durability, token_key)

    cdef object attached(self):
        """This process's attachment; made anew in a forked child."""
        if self._closed:
            raise ClosedError(f"the database {self._path} is closed", hint="open it again with pykesto.open()")
        store = self._attachment.store
        if store.closed or store.pid != current_pid():
            self._attach()
        return self._attachment

    def _attached(self):
        """This process's attachment; made anew in a forked child."""
        return self.attached()
