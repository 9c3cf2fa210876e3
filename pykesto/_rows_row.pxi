# One row, live in its session.

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
