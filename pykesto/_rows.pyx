"""Tables and rows of one session: what is read, what was changed, and that each key has one row.

`pykesto.rows` is the face. A change is kept as what it costs least to keep: a row that was assigned and that nobody
looked into since stays the packed row that it will be in the journal. Whether it is new or replaces another is found
out when somebody asks.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from cpython.weakref cimport PyWeakref_NewRef

from pykesto.codec._codec cimport image_of, key_of, row_of

from collections.abc import Mapping, MutableMapping
from copy import deepcopy

from pykesto.codec import decode_key
from pykesto.errors import CodecError, UsageError
from pykesto.merging import difference as _difference
from pykesto.store import KEY_BYTES_MAX as _KEY_BYTES_MAX
from pykesto.store import Merge as _Merge
from pykesto.tokens import Edited as _Edited
from pykesto.tokens import pack_token as _pack_token
from pykesto.tracked import HOLDERS as _HOLDERS
from pykesto.tracked import PLAIN as _PLAIN
from pykesto.tracked import detach, tracked

cdef Py_ssize_t KEY_BYTES_MAX = _KEY_BYTES_MAX
cdef Py_ssize_t _PRUNE_AT = 512
cdef object _holders = _HOLDERS, _plain = _PLAIN
cdef object _absent = object()

cdef enum:
    CLEAN
    DIRTY  # changed, and in the snapshot
    NEW  # changed, and not in the snapshot
    WRITTEN  # changed, and nobody asked yet whether it is in the snapshot
    DELETED

cdef tuple _STATES = ("clean", "dirty", "new", "written", "deleted")
PREFIX = "t_"  # tables of rows and those of objects are apart
MERGES = "merges"  # the table of all tables' policies
cdef str _prefix = PREFIX, _merges = MERGES


cdef class RowCore:
    """One row, live in its session.

    What it holds is in `_columns`, or packed in `_image`, or, where both are there, in both alike. A change drops
    the image. Neither: not loaded, or, if it was looked up in this epoch, not there. `_base` is the image in the
    snapshot of a row that was read and not replaced since, `_sent` one that a commit may have merged with others.
    """

    @property
    def k_key(self):
        """The key."""
        return decode_key(self._key)

    @property
    def k_version(self):
        """The number of the commit that wrote this row; None before there is one."""
        self.require()
        self.settle_version()
        return self._version

    @property
    def k_token(self):
        """A URL-safe text that stands for this version of the row: what `session.apply` takes; fit for an ETag.

        Raises:
            UsageError: the row has changes that are not committed.
        """
        self.require()
        if self._state != CLEAN:
            raise UsageError(f"{self!r} has changes that are not committed, so it has no version", hint="commit first")
        edited = _Edited(self._table.label, self.k_key, self._version)
        return _pack_token(edited, self._table._session._options.token_key)

    @property
    def _state(self):
        return _STATES[self._state]

    def to_dict(self):
        """A plain dict of plain values."""
        self.require()
        return plain(self.packed())

    # What it holds

    cdef dict read(self):
        """The columns; KeyError if there is no such row."""
        self.require()
        if self._columns is None:
            self.unpack()
        return self._columns

    cdef int require(self) except -1:
        """See that there is such a row, and have it as the session sees it."""
        cdef Session session = self._table._session
        if self._loaded != session._epoch and not session._closed or self._columns is None and self._image is None:
            self.fill(self._table.lookup(self._key))
        if self._state == DELETED or self._columns is None and self._image is None:
            raise KeyError(self.k_key)
        return 0

    cdef int unpack(self) except -1:
        """Make columns of the image: lists, dicts and sets as ones that tell this row when they are changed."""
        cdef dict columns = plain(self._image)
        cdef Py_ssize_t at = 0
        cdef PyObject *name
        cdef PyObject *value
        self._opaque = False
        while PyDict_Next(columns, &at, &name, &value):
            kind = type(<object>value)
            if kind is not str and kind is not int and kind is not float and kind not in _plain:
                self._opaque = True
                if kind in _holders:
                    columns[<object>name] = tracked(<object>value, self)
        self._columns = columns
        return 0

    cdef int fill(self, found) except -1:
        """Have what was found in the snapshot."""
        self._loaded = self._table._session._epoch
        if found is None:
            self.become(None, None)
            self._version = None
        else:
            version = found.version
            self._base = found.image
            if self._sent is not None and self._sent != self._base:
                self._version = None  # the commit merged it with another
            self._sent = None
            if version != self._version or self._columns is None and self._image is None:
                self.become(None, self._base)
                self._version = version
        return 0

    cdef int become(self, dict columns, bytes image) except -1:
        """Have other columns; what was read out of the old ones can't be changed any more."""
        old, self._columns, self._image = self._columns, columns, image
        if old:
            detach(old.values())
        return 0

    cdef int unload(self) except -1:
        """Be as one that was never read."""
        self.become(None, None)
        self._state, self._version, self._loaded, self._base = CLEAN, None, -1, None
        return 0

    cdef bytes packed(self):
        """The image of what it holds; kept only of values that can't change unseen."""
        if self._image is not None:
            return self._image
        try:
            image = image_of(self._columns, None)
        except CodecError as error:
            raise error.of(f"{self._table.label}[{self.k_key!r}]") from error
        if not self._opaque:
            self._image = image
        return image

    # Changes

    cdef dict require_writable(self):
        """The columns; UsageError if they can't be changed, a row that is gone included."""
        self._table._session.require_writable()
        try:
            return self.read()
        except KeyError:
            raise UsageError(
                f"{self._table.label}[{self.k_key!r}] is deleted", hint="assign a new row to its key"
            ) from None

    cdef int touch(self) except -1:
        """Before a change of this row, or of a container in it."""
        self.require_writable()
        if self._state == CLEAN:
            self._state = DIRTY
        self._image = None
        self._table.note(self)
        return 0

    def _k_touch(self):
        self.touch()

    cdef int assign(self, bytes image) except -1:
        """Have what was assigned to the key, whatever was there."""
        cdef long epoch = self._table._session._epoch
        if self._state == DELETED or self._state == CLEAN and self._loaded == epoch:
            self._state = NEW if self._version is None else DIRTY
        elif self._state == CLEAN:
            self._state, self._version = WRITTEN, None
        self.become(None, image)
        self._loaded, self._base = epoch, None
        self._table.note(self)
        return 0

    cdef int settle_version(self) except -1:
        """Find out whether a row that was written blindly replaces another."""
        if self._state == WRITTEN:
            found = self._table.lookup(self._key)
            self._version = None if found is None else found.version
            self._state = NEW if found is None else DIRTY
        return 0

    cdef int delete(self) except -1:
        self.settle_version()
        self._state = DELETED
        self._table.note(self)
        return 0

    # The mapping

    def __getitem__(self, column):
        return self.read()[column]

    def __setitem__(self, column, value):
        cdef dict columns
        named(column)
        self.touch()
        columns = self._columns
        old = columns.get(column, _absent)
        if old is value:
            return  # `row["tags"] += [...]` assigns what is there already
        if type(value) not in _plain:
            self._opaque = True
            value = tracked(value, self)
        columns[column] = value
        if old is not _absent and type(old) not in _plain:
            detach((old,))

    def __delitem__(self, column):
        if column not in self.require_writable():
            raise KeyError(column)
        self.touch()
        old = self._columns.pop(column)
        detach((old,))

    def __contains__(self, column):
        return column in self.read()

    def __iter__(self):
        return iter(self.read())

    def __len__(self):
        return len(self.read())

    def keys(self):
        """The columns' names, as they are now."""
        return self.read().keys()

    def values(self):
        """The columns' values, as they are now."""
        return self.read().values()

    def items(self):
        """The columns, name and value, as they are now."""
        return self.read().items()

    def get(self, column, default=None):
        """A column's value, or `default` where there is none."""
        return self.read().get(column, default)

    def setdefault(self, column, default=None):
        """A column's value, once it was set to `default` if there was none."""
        if self._state == DELETED or column not in self.read():
            self[column] = default
        return self.read()[column]  # the tracked copy, so that a change of it is seen

    def pop(self, column, default=_absent):
        """Take a column out and return its value, a plain one; `default`, or KeyError, if there is none."""
        columns = self.require_writable()
        if column not in columns:
            if default is _absent:
                raise KeyError(column)
            return default
        value = columns[column]
        if type(value) not in _plain:
            value = deepcopy(value)  # not the row's any more, so whoever takes it out may change it
        del self[column]
        return value

    def popitem(self):
        """Take the first column out and return its name and value; KeyError if there is none."""
        for column in self.require_writable():
            return column, self.pop(column)
        raise KeyError(f"{self!r} is empty")

    def clear(self):
        """Take all columns out."""
        self.touch()
        self.become({}, None)

    def __eq__(self, other):
        if isinstance(other, RowCore):
            other = (<RowCore>other).read()
        elif type(other) is not dict:
            if not isinstance(other, Mapping):
                return NotImplemented
            other = dict(other)
        return self.read() == other

    def __repr__(self):
        if self._state == DELETED:
            shown = "deleted"
        elif self._columns is not None:
            shown = repr(self._columns)
        else:
            shown = "not loaded" if self._image is None else repr(plain(self._image))
        return f"<Row {self._table.label}[{self.k_key!r}] {shown}>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"a row of {self._table.label!r} belongs to its session: copy or pickle row.to_dict()")


class Row(RowCore, MutableMapping):
    """One row, live in its session: after a commit it reads the new snapshot, after a rollback its changes are gone.

    Nested lists, dicts and sets are tracked: a change in place is seen. Rows equal mappings by content.

    Example:
        >>> import pykesto
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     s.table("people")["ann"] = {"age": 40, "tags": ["admin"]}
        ...     row = s.table("people")["ann"]
        ...     row["tags"].append("editor")
        ...     row
        <Row people['ann'] {'age': 40, 'tags': ['admin', 'editor']}>
    """

    __slots__ = ()
    __hash__ = None


cdef object _Row = Row


cdef class TableCore:
    """The rows of one table in one session.

    `_changed` has what differs from the snapshot: for a key the row, or, while nobody holds one, its image, or None
    for a row of the snapshot that is deleted. `_rows` has a weak reference to each row that somebody may hold.
    """

    def __init__(self, Session session not None, str name not None, str prefix not None=_prefix):
        self._session = session
        self.label = name
        self.table = prefix + name
        self._rows = {}
        self._changed = {}
        self._plain = True
        self._prune_at = _PRUNE_AT
        self._keys_epoch = -1

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


cdef dict plain(bytes image):
    """The columns of a packed row."""
    return row_of(PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), None)


def require_column(name):
    """Refuse what can be no column's name."""
    named(name)


cdef int named(name) except -1:
    if type(name) is not str and not isinstance(name, str):
        raise TypeError(f"a column's name is a str, not {type(name).__name__}")
    if not name:
        raise UsageError("a column's name must not be empty")
    return 0


cdef bytes packed_row(columns):
    """The packed row of what is assigned; what can't be stored is refused here, before anything changes."""
    if type(columns) is not dict:
        if isinstance(columns, RowCore):
            (<RowCore>columns).require()
            return (<RowCore>columns).packed()
        if not isinstance(columns, Mapping):
            raise TypeError(f"a row is a mapping of columns to values, not {type(columns).__name__}")
    try:
        return image_of(columns, None)
    except CodecError:
        for name in columns:
            named(name)
        raise
