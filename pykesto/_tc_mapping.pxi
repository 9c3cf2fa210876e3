# The rows of a table, as a mapping of bytes to dicts of bytes and as the library stores them.

cdef enum:  # of each row
    KEYS, RAW, ROWS

cdef int64_t _BATCH_BYTES = 1 << 20  # of rows that are read ahead


cdef class _Rows(_OpenTable):
    """Getting, putting, deleting and iterating."""

    def get_raw(self, bytes key not None):
        """The row as it is stored, or None: for each column the name, then the value, each after its size as a varint.

        For engines that decode rows by themselves: no dict is built. A varint holds 7 bits a byte, lowest first, every
        byte but the last complemented: 300 is `d3 02`.
        """
        cdef Block block
        self._enter()
        try:
            if not self._find(key, &block):
                return None
            try:
                return PyBytes_FromStringAndSize(block.value, block.value_size)
            finally:
                let_go(&block)
        finally:
            release(self.handle)

    @cython.final
    cdef bint _find(self, bytes key, Block *block) except -1:
        """Find a row in the file, and let go of it then; the caller holds the lock."""
        return self._find_at(PyBytes_AS_STRING(key), size_of(key), block)

    @cython.final
    cdef bint _find_at(self, const char *key, int key_size, Block *block) except -1:
        cdef TCHDB *hdb = self.handle.tdb.hdb
        cdef int found = find_record(hdb, key, key_size, block)
        if found != FOUND:
            self._check_read("get", False, tchdbecode(hdb))
            return False
        if not hdb.zmode:
            return True
        # Compressed; the library does that.
        let_go(block)
        check_room(block.value_size)
        block.copy = tchdbget(hdb, key, key_size, &block.value_size)
        block.value = <const char *>block.copy
        self._check_read("get", block.copy is not NULL, tchdbecode(hdb))
        return True

    def get(self, key, default=None):
        """The row of `key`, a dict of bytes to bytes, or `default`."""
        check_key(key)
        row = self._get(key)
        return default if row is None else row

    @cython.final
    cdef dict _get(self, bytes key):
        cdef Block block
        self._enter()
        try:
            if not self._find(key, &block):
                return None
            try:
                return self._columns(key, block.value, block.value_size)
            finally:
                let_go(&block)
        finally:
            release(self.handle)

    @cython.final
    cdef dict _columns(self, bytes key, const char *row, int size):
        cdef dict columns = columns_of(row, size)
        if columns is None:
            raise CorruptionError(f"the row of {key!r} is malformed", path=self.path)
        return columns

    def __getitem__(self, key):
        check_key(key)
        row = self._get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key):
        check_key(key)
        cdef Block block
        self._enter()
        try:
            found = self._find(key, &block)
            if found:
                let_go(&block)
            return found
        finally:
            release(self.handle)

    def __setitem__(self, key, row):
        check_key(key)
        cdef Packed packed
        pack(row, &packed)
        try:
            self._put(key, packed.data, packed.size)
        finally:
            free(packed.data)

    def put(self, key, row):
        """Store `row`, a mapping of bytes to bytes, under `key`; same as `table[key] = row`.

        Raises:
            TypeError: naming the key, column name or value that isn't bytes.
            UsageError: an empty key or column name, or an empty value in a column with a lexical or decimal index.
            tc.Error: the library could not write.
        """
        self[key] = row

    def put_raw(self, bytes key not None, bytes row not None):
        """Store a row given in the layout of `get_raw`, checked strictly.

        For engines that encode rows by themselves.

        Raises:
            UsageError: a malformed row, one column twice, or what `put` refuses.
        """
        check_raw(row)
        self._put(key, PyBytes_AS_STRING(row), <int>PyBytes_GET_SIZE(row))

    def apply_raw(self, list changes not None):
        """Store rows given in the layout of `get_raw`, or delete them; a key that is not there is no error.

        Everything is checked before the first change, then the GIL is released once for all of it: a thread that
        gives it up for each row waits for its turn each time while others compute.

        Args:
            changes: tuples of (key, row), or (key, None) to delete.

        Raises:
            UsageError: a malformed row, or what `put` refuses; nothing was changed.
            tc.Error: the library failed; the changes before it were made.
        """
        # Tuples of our own keep keys and rows alive, whatever another thread does to the caller's lists.
        cdef list own = [tuple(change) for change in changes]
        cdef Py_ssize_t count = len(own), i
        cdef Change *made = <Change *>calloc(count + 1, sizeof(Change))
        cdef bytes key
        if made == NULL:
            raise MemoryError
        try:
            for i in range(count):
                key, row = own[i]
                check_key(key)
                made[i].key, made[i].key_size = PyBytes_AS_STRING(key), size_of(key)
                if row is not None:
                    check_raw(row)
                    made[i].row, made[i].row_size = PyBytes_AS_STRING(row), <int>PyBytes_GET_SIZE(row)
            self._apply(made, count)
        finally:
            free(made)

    @cython.final
    cdef int _apply(self, Change *changes, Py_ssize_t count) except -1:
        """Make changes of sound rows in the library's layout, once all are known to be possible."""
        cdef Py_ssize_t i
        cdef Change *change
        self._enter_to_write("put")
        try:
            for i in range(count):
                change = &changes[i]
                if change.key_size == 0:
                    raise UsageError(EMPTY_KEY)
                if change.row is NULL:
                    self._check_removable(change.key, change.key_size)
                elif asks_for_columns(self.handle.tdb):
                    change.columns, change.row = loaded(change.row, change.row_size), NULL
                    self._check_indexable(change.key, change.key_size, change.columns)
            self._make("put", changes, count)
        finally:
            release(self.handle)
            for i in range(count):
                if changes[i].columns is not NULL:
                    tcmapdel(changes[i].columns)
                    changes[i].columns = NULL
        return 0

    @cython.final
    cdef int _make(self, str operation, Change *changes, Py_ssize_t count) except -1:
        """Make changes that were checked; the caller holds the lock."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef Py_ssize_t i
        cdef int error
        cdef bint done = True
        with nogil:
            io_begin()
            for i in range(count):
                done = make(tdb, &changes[i])
                if not done or io_failure.error:
                    break
            error = io_errno()
        self.handle.changes += 1
        return self._check_write(operation, done, error)

    @cython.final
    cdef int _put(self, bytes key, const char *row, int size) except -1:
        """Store a row in the library's own layout."""
        cdef Change change = [PyBytes_AS_STRING(key), size_of(key), NULL, row, size]
        return self._apply(&change, 1)

    @cython.final
    cdef int _check_indexable(self, const char *key, int key_size, TCMAP *columns) except -1:
        """Refuse a row that would make the library abort, or mistake one row for another in an index."""
        cdef TCTDB *tdb = self.handle.tdb
        if tdb.inum == 0:
            return 0
        cdef Column column
        cdef TDBIDX *index
        cdef int i
        self._check_removable(key, key_size)
        for i in range(tdb.inum):
            index = &tdb.idxs[i]
            reason = misfit_key(index.name, index.type, key, key_size)
            if reason is not None:
                raise UsageError(reason)
            column.name, column.name_size = index.name, <int>strlen(index.name)
            column.value = <const char *>tcmapget(columns, column.name, column.name_size, &column.value_size)
            if column.value is not NULL:
                self._check_fit(index, &column)
        tcmapiterinit(columns)
        while True:
            column.name = <const char *>tcmapiternext(columns, &column.name_size)
            if column.name is NULL:
                return 0
            if memchr(column.name, 0, column.name_size):
                for i in range(tdb.inum):
                    self._check_fit(&tdb.idxs[i], &column)

    @cython.final
    cdef int _check_fit(self, TDBIDX *index, Column *column) except -1:
        reason = misfit(index.name, index.type, column)
        if reason is not None:
            raise UsageError(reason)
        return 0

    @cython.final
    cdef int _check_removable(self, const char *key, int size) except -1:
        """Refuse to change the row b"012" beside the row b"12": an index of words puts entries in under the text of
        the one, and takes them out under its number, which are those of the other."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        if not (size > 1 and key[0] == 48 or size >= 20):
            return 0
        for i in range(tdb.inum):
            if is_inverted(tdb.idxs[i].type):
                break
        else:
            return 0
        twin = b"%d" % number_of_key(key, size)
        if twin != b"0" and twin != key[:size] and tchdbvsiz(tdb.hdb, PyBytes_AS_STRING(twin), len(twin)) >= 0:
            raise UsageError(
                f"row {key[:size]!r} can't change: a token or qgram index takes its entries for those of {twin!r}",
                hint="drop the index first, or use keys that aren't the same number",
            )
        return 0

    def __delitem__(self, key):
        check_key(key)
        cdef const char *name = PyBytes_AS_STRING(key)
        cdef int size = size_of(key)
        cdef int error
        cdef bint done
        self._enter_to_write("delete")
        try:
            self._check_removable(name, size)
            with nogil:
                done = tctdbout(self.handle.tdb, name, size)
                error = io_errno()
            if not done and not io_failure.error and tctdbecode(self.handle.tdb) == TCENOREC:
                raise KeyError(key)
            self.handle.changes += 1
            self._check_write("delete", done, error)
        finally:
            release(self.handle)

    def __iter__(self):
        """The keys, in no order. Any number of iterations may run at once; a change of the table ends them all
        with RuntimeError: take `list(table)` first."""
        return _flatten(Batches(self, 256, KEYS))

    def keys(self):
        return KeysView(self)

    def values(self):
        return _Values(self)

    def items(self):
        return _Items(self)

    def pop(self, key, *default):
        """Remove a row and return it; `default` where there is none, else KeyError."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        row = self.get(key)
        if row is not None:
            del self[key]
            return row
        if not default:
            raise KeyError(key)
        return default[0]

    def setdefault(self, key, default):
        """The row of `key`, stored from `default` where there is none."""
        return MutableMapping.setdefault(self, key, default)

    def update(self, rows=(), /):
        """Store each row of a mapping, or of an iterable of keys and rows."""
        MutableMapping.update(self, rows)

    def clear(self):
        """Remove all rows, in a transaction too."""
        if not self.in_transaction:
            return self.vanish()
        for key in list(self):
            del self[key]

    def raw_batches(self, int count):
        """Iterate over all rows in no order, as lists of at most `count` pairs (key, row as in `get_raw`).

        Raises:
            RuntimeError: the table was changed meanwhile.
        """
        if count < 1:
            raise UsageError("count must be at least 1")
        return Batches(self, count, RAW)

    # For the iterators and queries below; the caller holds the lock

    @cython.final
    cdef uint64_t _offset_of(self, bytes key) except 0:
        """Where in the file the row of a key lies."""
        cdef TCHDB *hdb = self.handle.tdb.hdb
        found = tchdbiterinit2(hdb, PyBytes_AS_STRING(key), size_of(key))
        self._check_read("iterate", found, tchdbecode(hdb))
        if not found:
            raise KeyError(key)
        return hdb.iter

    @cython.final
    cdef list _rows(self, uint64_t *offset, int count, int what):
        """The next rows from a place in the file, which moves on. The library has one iterator; this is none."""
        cdef TCHDB *hdb = self.handle.tdb.hdb
        cdef list rows = []
        cdef int64_t room = _BATCH_BYTES if what == ROWS else INT64_MAX
        cdef bint more = True
        cdef Block block
        while more and len(rows) < count and room > 0:
            more = next_record(hdb, offset, &block)
            if more:
                room -= block.value_size
                try:
                    rows.append(self._item(&block, what))
                finally:
                    let_go(&block)
        self._check_read("iterate", more, tchdbecode(hdb))
        return rows

    @cython.final
    cdef object _item(self, Block *block, int what):
        """A key, or a pair of it and its row, raw or as a dict."""
        cdef bytes key = PyBytes_FromStringAndSize(block.key, block.key_size)
        if what == KEYS:
            return key
        if self.handle.tdb.hdb.zmode:
            let_go(block)
            if not self._find(key, block):
                raise CorruptionError(f"row {key!r} is not found by its key", path=self.path, offset=block.offset)
        if what == RAW:
            return key, PyBytes_FromStringAndSize(block.value, block.value_size)
        return key, self._columns(key, block.value, block.value_size)


@cython.final
cdef class Batches:
    """Lists of keys, or of pairs (key, raw row): see `Table.raw_batches`."""

    cdef Table table
    cdef uint64_t offset
    cdef uint64_t changes
    cdef int count
    cdef int what

    def __cinit__(self, Table table not None, int count, int what, bytes start=None):
        self.table, self.count, self.what = table, count, what
        table._enter()
        try:
            self.offset = table.handle.tdb.hdb.frec if start is None else table._offset_of(start)
            self.changes = table.handle.changes
        finally:
            release(table.handle)

    def __iter__(self):
        return self

    def __next__(self):
        self.table._enter()
        try:
            if self.changes != self.table.handle.changes:
                raise RuntimeError("the table changed during iteration; take a list of the keys first")
            rows = self.table._rows(&self.offset, self.count, self.what)
        finally:
            release(self.table.handle)
        if not rows:
            raise StopIteration
        return rows


class _Items(ItemsView):
    """The rows with their keys, read in batches and not one by one."""

    def __iter__(self):
        return _flatten(Batches(self._mapping, 256, ROWS))


class _Values(ValuesView):
    def __iter__(self):
        return (row for _, row in _flatten(Batches(self._mapping, 256, ROWS)))


def _flatten(batches):
    for batch in batches:
        yield from batch
