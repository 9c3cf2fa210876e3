# Changes of one row that read it first, and the ways to rows besides their keys.

cdef bytes COUNTER = b"_num"  # the column of the library's counters


cdef class _Changes(_Rows):
    """Storing under conditions, counters, callbacks, and iteration from a place on."""

    cdef uint64_t popped  # behind the row that `popitem` took last: nothing lies before
    cdef uint64_t popped_changes  # as long as nothing else was changed

    # Storing

    def putkeep(self, key, row):
        """Store `row` unless there is one under `key`; whether it was stored.

        >>> with Table("people.tct", "n") as t:
        ...     t.putkeep(b"ann", {b"age": b"41"}), t.putkeep(b"ann", {b"age": b"42"}), t[b"ann"]
        (True, False, {b'age': b'41'})
        """
        check_key(key)
        return self._put_by("putkeep", key, map_of_dict(row), tctdbputkeep)

    def putcat(self, key, row):
        """Add to the row of `key` those columns of `row` that it has not; those that it has keep their values.

        >>> with Table("people.tct", "n") as t:
        ...     t.putcat(b"ann", {b"age": b"41"})
        ...     t.putcat(b"ann", {b"age": b"42", b"name": b"Ann"})
        ...     t[b"ann"] == {b"age": b"41", b"name": b"Ann"}
        True
        """
        check_key(key)
        self._put_by("putcat", key, map_of_dict(row), tctdbputcat)

    cdef bint _put_by(
        self, str operation, bytes key, TCMAP *columns,
        c_bool (*call)(TCTDB *, const void *, int, TCMAP *) noexcept nogil,
    ) except -1:
        """Store a map, and free it; false where the library kept what there was."""
        cdef const char *name = PyBytes_AS_STRING(key)
        cdef int key_size, error
        cdef bint done
        try:
            key_size = size_of(key)
            if key_size == 0:
                raise UsageError(EMPTY_KEY)
            self._enter_to_write(operation)
            try:
                self._check_indexable(name, key_size, columns)
                with nogil:
                    done = call(self.handle.tdb, name, key_size, columns)
                    error = io_errno()
                if not done and not io_failure.error and tctdbecode(self.handle.tdb) == TCEKEEP:
                    return False
                self.handle.changes += 1
                self._check_write(operation, done, error)
            finally:
                release(self.handle)
        finally:
            tcmapdel(columns)
        return True

    def putproc(self, key, function, row=None):
        """Change the row of `key` in one step: store what `function(row)` gives for a copy of it.

        Args:
            function: gets the row, a dict, and gives the row to store, `REMOVE` to delete it, or None to leave it.
            row: stored where there is none; None stores nothing, and `function` isn't called either way.

        Returns:
            Whether anything was stored or removed.

        Raises:
            UsageError: `function` used this table, which is its own meanwhile.

        What `function` raises comes out, and nothing is changed.

        >>> with Table("people.tct", "n") as t:
        ...     for _ in range(2):
        ...         changed = t.putproc(b"n", lambda row: {b"n": row[b"n"] * 2}, {b"n": b"a"})
        ...     t[b"n"]
        {b'n': b'aa'}
        """
        check_key(key)
        self._enter_to_write("putproc")
        try:
            old = self._row_of(key)
            new = row if old is None else function(old)
            return self._store("putproc", key, new)
        finally:
            release(self.handle)

    @cython.final
    cdef dict _row_of(self, bytes key):
        """The row of a key, or None; the caller holds the lock."""
        cdef int size = 0
        cdef int key_size = size_of(key)
        cdef void *row = tchdbget(self.handle.tdb.hdb, PyBytes_AS_STRING(key), key_size, &size)
        try:
            self._check_read("get", row is not NULL, tctdbecode(self.handle.tdb))
            return None if row is NULL else self._columns(key, <const char *>row, size)
        finally:
            tcfree(row)

    @cython.final
    cdef bint _store(self, str operation, bytes key, object row) except -1:
        """Store a row, or what stands for none; whether anything was to do. The caller holds the lock."""
        if row is None:
            return False
        if size_of(key) == 0:
            raise UsageError(EMPTY_KEY)
        self._store_all([(key, row)], operation)
        return True

    def popitem(self):
        """Remove some row and return its key and columns; KeyError where there is none."""
        cdef uint64_t offset
        self._enter_to_write("popitem")
        try:
            offset = self.handle.tdb.hdb.frec
            if self.popped_changes == self.handle.changes and self.popped and not tctdbdfunit(self.handle.tdb):
                offset = self.popped  # else it would go over the holes of all that were taken before, each time
            for key, raw in self._rows(&offset, 1, RAW):
                row = self._columns(key, PyBytes_AS_STRING(raw), <int>PyBytes_GET_SIZE(raw))
                self._delete_all([key])
                self.popped, self.popped_changes = offset, self.handle.changes
                return key, row
            raise KeyError(f"popitem: {self.path} is empty")
        finally:
            release(self.handle)

    # Counters

    def add_int(self, key, number=1):
        """Add `number` to the column `_num` of a row, and return the sum. A missing row or column counts as 0.

        The sum is an int of any size; the library's own adds doubles and returns a C int.

        Raises:
            UsageError: the column holds no integer.

        >>> with Table("counters.tct", "n") as t:
        ...     t.add_int(b"visits"), t.add_int(b"visits", 2**40), t[b"visits"]
        (1, 1099511627777, {b'_num': b'1099511627777'})
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"number must be an int, not {type(number).__name__}")
        return self._add("add_int", key, number, int)

    def add_double(self, key, number):
        """Add `number` to the column `_num` of a row, and return the sum, a float. A missing row or column counts as 0.

        The sum is stored with all its digits; the library's own stores six after the point.

        Raises:
            UsageError: the column holds no number, or the sum is not finite.
        """
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"number must be a float, not {type(number).__name__}")
        return self._add("add_double", key, float(number), float)

    cdef object _add(self, str operation, object key, object amount, object kind):
        check_key(key)
        self._enter_to_write(operation)
        try:
            row = self._row_of(key) or {}
            text = row.get(COUNTER, b"0")
            try:
                total = kind(text) + amount
                row[COUNTER] = number(total)
            except ValueError as error:
                raise UsageError(f"{operation}: column {COUNTER!r} of row {key!r} is {text!r}: {error}") from None
            self._store(operation, key, row)
            return total
        finally:
            release(self.handle)

    def new_id(self):
        """A number that this table has not given before, counted from `id_seed`. An aborted transaction takes it back.

        >>> with Table("people.tct", "n") as t:
        ...     t.new_id(), t.new_id(), t.id_seed
        (1, 2, 2)
        """
        cdef int64_t number
        self._enter_to_write("new_id")
        try:
            if tctdbuidseed(self.handle.tdb) == INT64_MAX:
                raise UsageError(f"{self.path} has no numbers left", hint="set id_seed")
            number = tctdbgenuid(self.handle.tdb)
            self._check_write("new_id", number > 0, 0)
            return number
        finally:
            release(self.handle)

    @property
    def id_seed(self):
        """The number that `new_id` gave last; may be set, to any from 0 to 2^63 - 1."""
        self._enter()
        try:
            return tctdbuidseed(self.handle.tdb)
        finally:
            release(self.handle)

    @id_seed.setter
    def id_seed(self, seed):
        cdef int64_t number = within("id_seed", seed, 0, INT64_MAX)
        self._enter_to_write("id_seed")
        try:
            self._check_write("id_seed", tctdbsetuidseed(self.handle.tdb, number), 0)
        finally:
            release(self.handle)

    # Parts of a row

    def get_column(self, key, name, default=None):
        """The value of one column of a row, or `default` where there is no such row or column.

        >>> with Table("people.tct", "n") as t:
        ...     t[b"ann"] = {b"age": b"41"}
        ...     t.get_column(b"ann", b"age"), t.get_column(b"ann", b"name"), t.get_column(b"bob", b"age", b"?")
        (b'41', None, b'?')
        """
        check_key(key)
        if not isinstance(name, bytes):
            raise TypeError(f"column name must be bytes, not {type(name).__name__}")
        cdef bytes column = name
        cdef int key_size = size_of(key), name_size = size_of(column)
        cdef int size = 0
        cdef char *value
        self._enter()
        try:
            self.handle.tdb.hdb.ecode = TCESUCCESS  # a row that lacks the column sets none
            value = tctdbget4(
                self.handle.tdb, PyBytes_AS_STRING(key), key_size, PyBytes_AS_STRING(column), name_size, &size
            )
            if value is not NULL and not io_failure.error:
                return take(value, size)
            tcfree(value)
            code = tctdbecode(self.handle.tdb)
            self._check_read("get_column", code == TCESUCCESS, code)
            return default
        finally:
            release(self.handle)

    def row_size(self, key):
        """The bytes that the row takes as it is stored, in the layout of `get_raw`; KeyError where there is none."""
        check_key(key)
        cdef int key_size = size_of(key)
        cdef int size
        self._enter()
        try:
            size = tctdbvsiz(self.handle.tdb, PyBytes_AS_STRING(key), key_size)
            self._check_read("row_size", size >= 0, tctdbecode(self.handle.tdb))
        finally:
            release(self.handle)
        if size < 0:
            raise KeyError(key)
        return size

    # Ways to rows

    def keys_from(self, key):
        """Iterate over the keys from `key` on, in the order in which all are iterated; KeyError where there is none.

        What came before it stays out: so a long walk can be cut into pieces.
        """
        check_key(key)
        return _flatten(Batches(self, 256, KEYS, key))

    def keys_with_prefix(self, prefix, limit=None):
        """A list of the keys that begin with `prefix`, at most `limit`, in no order. It looks at every key.

        Where the key has a lexical index, `table.query.col("").startswith(prefix)` looks at those alone.
        """
        check_key(prefix)
        cdef int most = -1 if limit is None else within("limit", limit, 0, INT_MAX)
        cdef bytes name = prefix
        cdef const char *start = PyBytes_AS_STRING(name)
        cdef int size = size_of(name)
        cdef TCLIST *found
        self._enter()
        try:
            if most == 0:
                return []
            forget_errors(self.handle.tdb)
            with nogil:
                found = tctdbfwmkeys(self.handle.tdb, start, size, most)
            try:
                code = first_error(self.handle.tdb)
                self._check_read("keys_with_prefix", code == TCESUCCESS and found is not NULL, code)
                return list_of(found)
            finally:
                if found is not NULL:
                    tclistdel(found)
        finally:
            release(self.handle)

    def foreach(self, function):
        """Call `function(key, row)` for every row, in no order, while nobody else can use the table.

        The walk ends where `function` gives False (not None), or raises.

        Raises:
            UsageError: `function` used this table.
        """
        cdef uint64_t offset
        self._enter()
        try:
            offset = self.handle.tdb.hdb.frec
            while rows := self._rows(&offset, 256, RAW):
                for key, row in rows:
                    columns = self._columns(key, PyBytes_AS_STRING(row), <int>PyBytes_GET_SIZE(row))
                    if function(key, columns) is False:
                        return
                io_begin()  # whatever other tables `function` used
        finally:
            release(self.handle)


    # For searches; the caller holds the lock

    @cython.final
    cdef bytes _value_of(self, bytes key, bytes name):
        """The value of a column, of the key itself where the name is empty; None where there is none."""
        if not name:
            return key
        row = self._row_of(key)
        return None if row is None else row.get(name)

    @cython.final
    cdef list _sorted(self, list keys, tuple order):
        """Keys in the order of a column as the library sorts; those without it last."""
        name, kind = order
        found = [(self._value_of(key, name), key) for key in keys]
        read = bytes if kind in (TDBQOSTRASC, TDBQOSTRDESC) else number_read
        having = sorted(
            [(read(value), key) for value, key in found if value is not None],
            key=_first, reverse=kind in (TDBQOSTRDESC, TDBQONUMDESC),
        )
        return [key for _, key in having] + [key for value, key in found if value is None]

    @cython.final
    cdef int _delete_all(self, list keys) except -1:
        return self._store_all([(key, REMOVE) for key in keys], "delete")

    @cython.final
    cdef int _store_all(self, list changes, str operation="process") except -1:
        """Check all changes (key, row or REMOVE), then make them."""
        cdef Py_ssize_t count = len(changes), i
        cdef Change *made = <Change *>calloc(count + 1, sizeof(Change))
        cdef bytes key
        if made == NULL:
            raise MemoryError
        try:
            for i in range(count):
                key, row = changes[i]
                made[i].key, made[i].key_size = PyBytes_AS_STRING(key), <int>PyBytes_GET_SIZE(key)
                if row is REMOVE:
                    self._check_removable(made[i].key, made[i].key_size)
                else:
                    made[i].columns = map_of_dict(row)
                    self._check_indexable(made[i].key, made[i].key_size, made[i].columns)
            return self._make(operation, made, count)
        finally:
            for i in range(count):
                if made[i].columns != NULL:
                    tcmapdel(made[i].columns)
            free(made)


def _first(pair):
    return pair[0]


class _Sign(enum.Enum):
    """What a function of `putproc`, `update` or `process` gives besides rows."""

    REMOVE = "remove"
    STOP = "stop"

    def __repr__(self):
        return f"tc.{self.name}"


REMOVE = _Sign.REMOVE
STOP = _Sign.STOP
