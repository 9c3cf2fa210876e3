# The rows of one table in one session: which there are, their identity, and what was changed.

cdef object _table_type = None


def use_for_tables(cls):
    """The class of what `TableSession.table` gives; a subclass of TableCore that has no __init__ of its own."""
    global _table_type
    _table_type = cls


cdef class TableSession(Session):
    """A session that has tables of rows."""

    def table(self, name):
        """The table of rows of that name; it comes to be when it is first written to."""
        cdef TableCore made
        if not isinstance(name, str):
            raise TypeError(f"a table's name is a str, not {type(name).__name__}")
        if not name:
            raise UsageError("a table's name must not be empty")
        self.require_usable()
        found = self._parts.get(_prefix + <str>name)
        if found is None:
            if not (<str>name).isascii():
                key_of(name)  # CodecError: what UTF-8 can't hold
            made = TableCore.__new__(_table_type)
            made.set_up(self, name, _prefix)
            found = self._parts[made.table] = made
        return found


cdef class TableCore:
    """The rows of one table in one session.

    `_changed` has what differs from the snapshot: for a key the row, or, while nobody holds one, its image, or None
    for a row of the snapshot that is deleted. `_rows` has a weak reference to each row that somebody may hold.
    """

    def __init__(self, Session session not None, str name not None, str prefix not None=_prefix):
        self.set_up(session, name, prefix)

    cdef int set_up(self, Session session, str name, str prefix) except -1:
        self._session = session
        self.label = name
        self.table = prefix + name
        self._rows = {}
        self._changed = {}
        self._plain = True
        self._prune_at = _PRUNE_AT
        self._keys_epoch = -1
        return 0

    # Rows and their identity

    cdef object lookup(self, bytes key):
        """A row of the snapshot, and remember that it was read."""
        cdef Session session = self._session
        cdef bint taken
        snapshot = session.begin()
        taken = session.take()
        try:
            if not session._read_only:
                if self._keys_epoch != session._epoch:
                    self._keys, self._keys_epoch = session.keys_read(self.table), session._epoch
                self._keys.add(key)
            return snapshot.get(self.table, key)
        finally:
            if taken:
                session._user = 0

    cdef RowCore known(self, bytes key):
        """The row of a key if somebody may hold it, or None."""
        reference = self._rows.get(key)
        return None if reference is None else reference()

    cdef RowCore held(self, bytes key):
        """The one row of a key, even of a deleted one."""
        cdef RowCore row = self.known(key)
        return row if row is not None else self.adopt(key)

    cdef RowCore adopt(self, bytes key):
        cdef RowCore row = _Row.__new__(_Row)
        row._table, row._key, row._loaded = self, key, -1
        if len(self._rows) >= self._prune_at:
            self.prune()
        self._rows[key] = PyWeakref_NewRef(row, None)
        return row

    cdef int prune(self) except -1:
        """Forget the rows that nobody holds any more; again when there are twice as many as are left."""
        self._rows = {key: reference for key, reference in self._rows.items() if reference() is not None}
        self._prune_at = max(_PRUNE_AT, 2 * len(self._rows))
        return 0

    cdef RowCore find(self, bytes key):
        """The row of the session's view, or None."""
        cdef RowCore row
        if self._changed:
            change = self._changed.get(key, _absent)
            if change is not _absent:
                return None if change is None else self.row_of_change(key, change)
        row = self.known(key)
        if row is not None and row._loaded == self._session._epoch and not self._session._closed:
            return None if row._columns is None and row._image is None else row
        found = self.lookup(key)
        if found is None:
            return None
        if row is None:
            row = self.adopt(key)
        row.fill(found)
        return row

    cdef RowCore row_of_change(self, bytes key, change):
        """The row of a change that is no deletion, or None if it is one."""
        cdef RowCore row
        if isinstance(change, RowCore):
            row = <RowCore>change
            return None if row._state == DELETED else row
        row = self.adopt(key)
        row.assign(change)
        return row

    cdef int note(self, RowCore row) except -1:
        self._changed[row._key] = row
        self._plain = False
        return 0

    # Changes by key

    cdef int assign(self, bytes key, bytes image) except -1:
        cdef RowCore row = None
        if not self._plain:
            change = self._changed.get(key)
            if isinstance(change, RowCore):
                row = <RowCore>change
        if row is None and self._rows:
            row = self.known(key)
        if row is None:
            self._changed[key] = image
        else:
            row.assign(image)
        return 0

    cdef bint remove(self, bytes key) except -1:
        """Delete the row of a key; False if there is none."""
        cdef RowCore row
        change = self._changed.get(key, _absent)
        if change is None:
            return False
        if isinstance(change, RowCore):
            row = <RowCore>change
            if row._state == DELETED:
                return False
            row.delete()
            return True
        found = self.lookup(key)
        if change is _absent:
            if found is None:
                return False
            row = self.known(key)
            if row is not None:
                row.fill(found)
                row.delete()
                return True
        if found is not None:
            self._changed[key] = None
        else:
            del self._changed[key]
        return True

    # The mapping

    def __getitem__(self, key):
        row = self.find(key_of(key))
        if row is None:
            raise KeyError(key)
        return row

    def get(self, key, default=None):
        """The row of a key, or `default` where there is none."""
        row = self.find(key_of(key))
        return default if row is None else row

    def __setitem__(self, key, columns):
        cdef Session session = self._session
        cdef bytes encoded, image
        cdef bint taken
        session.require_writable()
        taken = session.take()
        try:
            image = packed_row(columns)
            encoded = key_of(key)
            if len(encoded) > KEY_BYTES_MAX:
                raise UsageError(
                    f"a key of {self.label!r} takes {len(encoded)} bytes; at most {KEY_BYTES_MAX} can be stored"
                )
            session.begin()
            self.assign(encoded, image)
        finally:
            if taken:
                session._user = 0

    def __delitem__(self, key):
        self._session.require_writable()
        if not self.remove(key_of(key)):
            raise KeyError(key)

    def __contains__(self, key):
        cdef bytes encoded = key_of(key)
        change = self._changed.get(encoded, _absent)
        if change is _absent:
            return self.lookup(encoded) is not None
        return change is not None and not (isinstance(change, RowCore) and (<RowCore>change)._state == DELETED)

    def __repr__(self):
        return f"<Table {self.label!r}>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{self!r} belongs to its session: pass its name on, and take s.table() of another session")

    # For queries

    def snapshot(self):
        """What the session sees of the database; begun at the first use."""
        return self._session.begin()

    def require_same(self, snapshot):
        """Refuse to go on in a loop whose snapshot has ended."""
        self._session._require_same(snapshot)

    def pending(self):
        """The session's own changes, key and new image."""
        return self.changes().items() if self._changed else ()

    def observe(self, condition):
        """Remember that the session asked this of the table."""
        self._session.observe(self.table, condition)

    def item(self, bytes key not None, found):
        """The live row of one that was found, or None if the session deleted it."""
        cdef RowCore row
        if self._changed:
            change = self._changed.get(key, _absent)
            if change is not _absent:
                return None if change is None else self.row_of_change(key, change)
        row = self.held(key)
        if row._loaded != self._session._epoch or row._columns is None and row._image is None:
            row.fill(found)
        return row

    def set_beginning(self, RowCore row not None):
        """Let a new row count as one that was empty, where it is merged with one that another session made."""
        row.settle_version()
        if row._state == NEW:
            row._base = b""

    def delete(self, RowCore item not None):
        """Delete a row."""
        self._session.require_writable()
        if item._state != DELETED:
            item.require()
            item.delete()

    def refresh(self, RowCore row not None):
        """Drop a row's unsaved changes."""
        if row._table is self:
            row.settle_version()
        if row._table is not self or row._version is None:
            raise UsageError(f"{row!r} was not loaded by this session, so there is nothing to refresh it from")
        self._changed.pop(row._key, None)
        row.unload()

    def key_of(self, RowCore item not None):
        """A row's encoded key."""
        return item._key

    # As a part of its session

    cdef bint has_policies(self) except -1:
        """Whether columns of the table may have policies: whether the table of all tables' policies has a row of it."""
        cdef Session session = self._session
        if _merges in session._parts:
            return True
        if self._policies_key is None:
            self._policies_key = key_of(self.table)
        return session.begin().get(_merges, self._policies_key) is not None

    def merges(self):
        """The policies of columns, by name; `pykesto.rows.Table` knows them."""
        raise NotImplementedError

    def merge_of(self, dict changes not None):
        """How these changes may be merged with what other commits make of the rows, by the policies of columns."""
        cdef RowCore row
        cdef dict rows = {}
        self._merging = None
        if self._plain or not self.has_policies():
            return None
        policies = self.merges()
        if not policies:
            return None
        self._merging = []
        for change in self._changed.values():
            if isinstance(change, RowCore):
                row = <RowCore>change
                if row._base is not None and row._state != DELETED:
                    done = _difference(policies, row._base, changes[row._key])
                    if done is not None:
                        rows[row._key] = policies, done
                        self._merging.append((row, changes[row._key]))
        return _Merge(rows) if rows else None

    def require_indexes(self):
        """None: a table has the indexes that were made by hand."""

    def changes(self):
        """Packed rows by encoded key; None deletes."""
        cdef dict found = {}
        cdef RowCore row
        if self._plain:
            return self._changed
        for key, change in self._changed.items():
            if not isinstance(change, RowCore):
                found[key] = change
                continue
            row = <RowCore>change
            if row._state != DELETED:
                found[key] = row.packed()
            elif row._version is not None:
                found[key] = None
        return found

    def changed(self):
        """The rows that are new, dirty, deleted."""
        cdef RowCore row
        cdef list new = [], dirty = [], deleted = []
        for key, change in list(self._changed.items()):
            row = <RowCore>change if isinstance(change, RowCore) else self._row_for_people(key, change)
            row.settle_version()
            if row._state == DELETED:
                if row._version is not None:
                    deleted.append(row)
            else:
                (new if row._state == NEW else dirty).append(row)
        return tuple(new), tuple(dirty), tuple(deleted)

    def _row_for_people(self, bytes key, change):
        cdef RowCore row
        if change is not None:
            return self.row_of_change(key, change)
        row = self.adopt(key)
        row.fill(self.lookup(key))
        row.delete()
        return row

    def committed(self, number):
        cdef RowCore row
        if not self._plain:
            for change in self._changed.values():
                if isinstance(change, RowCore):
                    row = <RowCore>change
                    if row._state == DELETED:
                        row._version = None
                        self._rows.pop(row._key, None)
                    else:
                        row._state, row._version = CLEAN, number
            for merged, image in self._merging or ():
                (<RowCore>merged)._sent = image
            self._merging = None
        self._changed, self._plain = {}, True

    def rolled_back(self):
        self.restore(None)

    def save(self):
        """The changes as they are now, for `restore`."""
        cdef dict saved = {}
        cdef RowCore row
        for key, change in self._changed.items():
            if isinstance(change, RowCore):
                row = <RowCore>change
                image = None if row._state == DELETED else row.packed()
                saved[key] = _Saved(row, row._state, row._version, image, row._base)
            else:
                saved[key] = change
        return saved

    def restore(self, saved):
        """Undo what was changed since `save` (None: since the snapshot began)."""
        cdef dict changed = self._changed
        self._changed, self._plain = {}, True
        for change in changed.values():
            if isinstance(change, RowCore):
                (<RowCore>change).unload()
        for key, change in (saved or {}).items():
            if isinstance(change, _Saved):
                (<_Saved>change).give_back(self)
            elif change is None:
                self.remove(key)
            else:
                self.assign(key, change)

    def readable_key(self, bytes key not None):
        """A key as users know it."""
        return decode_key(key)

    def prepare(self):
        """Rows have nothing to do before a commit."""

    def readable_column(self, column):
        """A column, or a tuple of them, as users know it."""
        return column


@cython.final
cdef class _Saved:
    """A changed row as it was at a savepoint."""

    cdef RowCore row
    cdef int state
    cdef object version
    cdef bytes image, base

    def __init__(self, RowCore row, int state, version, bytes image, bytes base):
        self.row, self.state, self.version, self.image, self.base = row, state, version, image, base

    cdef int give_back(self, TableCore table) except -1:
        cdef RowCore row = self.row
        row.become(None, self.image)
        row._state, row._version, row._loaded = self.state, self.version, table._session._epoch
        row._base = self.base
        table._rows[row._key] = PyWeakref_NewRef(row, None)
        table.note(row)
        return 0
