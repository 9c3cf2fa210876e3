# Walking a lexical index.

@cython.final
cdef class IndexCursor:
    """A place in the lexical index of a column, whose entries are ordered by value, bytewise.

    Values that hold NUL bytes may be out of order by the width of the NUL and two bytes more: the index appends
    those to every value. After any change of the table the cursor must seek again (UsageError).

    >>> with Table("people.tct", "n") as t:
    ...     t.create_index("age")
    ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}})
    ...     cursor = t.index_cursor(b"age")
    ...     cursor.seek(b"30")
    ...     cursor.next_batch(10)
    True
    [(b'41', b'ann')]
    """

    cdef Table table
    cdef bytes name
    cdef BDBCUR *cursor
    cdef uint64_t changes
    cdef uint64_t given  # entries in this direction: more than there are mean that leaves lead in a circle
    cdef bint forward

    def __cinit__(self, Table table not None, bytes name not None):
        self.table, self.name = table, name
        table._enter()
        try:
            self._renew()
        finally:
            release(table.handle)

    def __dealloc__(self):
        if self.cursor is not NULL:
            tcbdbcurdel(self.cursor)  # frees the struct alone; it never looks at the tree

    cdef TCBDB *_renew(self) except NULL:
        """A fresh cursor on the index as it is now: the old one may point into a tree that is no more."""
        cdef TDBIDX *index = self.table._index(self.name)
        if index is NULL:
            raise UsageError(f"column {self.name!r} has no index")
        if index.type != TDBITLEXICAL:
            raise UsageError(f"the index of column {self.name!r} is {kind_name(index.type)}, not lexical")
        if self.cursor is not NULL:
            tcbdbcurdel(self.cursor)
        self.cursor = tcbdbcurnew(<TCBDB *>index.db)
        if self.cursor is NULL:
            self.changes = UINT64_MAX
            raise MemoryError
        self.changes = self.table.handle.changes
        self.given = 0
        return <TCBDB *>index.db

    cdef bint _found(self, TCBDB *bdb, bint found) except -1:
        self.table._check_read("seek", found, tcbdbecode(bdb))
        return found

    def seek(self, bytes value not None):
        """Stand on the first entry whose value is `value` or greater; false where there is none."""
        cdef int size = size_of(value)
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurjump(self.cursor, PyBytes_AS_STRING(value), size))
        finally:
            release(self.table.handle)

    def seek_before(self, bytes value not None):
        """Stand on the last entry whose value is less than `value`; false where there is none."""
        cdef int size = size_of(value)
        cdef int key_size = 0
        cdef TCBDB *bdb
        cdef const void *key
        cdef bint found
        self.table._enter()
        try:
            bdb = self._renew()
            found = tcbdbcurjumpback(self.cursor, PyBytes_AS_STRING(value), size)
            # Entries of columns are longer than their value; those of the primary key may equal it.
            while found:
                key = tcbdbcurkey3(self.cursor, &key_size)
                if key is NULL:
                    found = False
                    break
                if not at_least(<const char *>key, key_size, PyBytes_AS_STRING(value), size):
                    break
                found = tcbdbcurprev(self.cursor)
            return self._found(bdb, found)
        finally:
            release(self.table.handle)

    def seek_first(self):
        """Stand on the first entry; false where there is none."""
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurfirst(self.cursor))
        finally:
            release(self.table.handle)

    def seek_last(self):
        """Stand on the last entry; false where there is none."""
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurlast(self.cursor))
        finally:
            release(self.table.handle)

    def next_batch(self, int count):
        """At most `count` pairs (value, key) from where the cursor stands, ascending; it then stands behind them."""
        return self._batch(count, tcbdbcurnext)

    def prev_batch(self, int count):
        """At most `count` pairs (value, key) from where the cursor stands, descending; it then stands before them."""
        return self._batch(count, tcbdbcurprev)

    cdef list _batch(self, int count, c_bool (*step)(BDBCUR *) noexcept nogil):
        cdef list entries = []
        cdef const char *value
        cdef const char *key
        cdef int value_size, key_size
        cdef TDBIDX *index
        cdef bint forward = step == tcbdbcurnext
        cdef int suffix = 3 if self.name else 0  # a NUL and two bytes of the key's hash
        self.table._enter()
        try:
            if self.changes != self.table.handle.changes:
                raise UsageError("the table changed under the cursor", hint="seek again")
            while len(entries) < count:
                value = <const char *>tcbdbcurkey3(self.cursor, &value_size)
                if value is NULL:
                    break
                if value_size < suffix:
                    raise CorruptionError(f"an entry of the index of {self.name!r} is too short", path=self.table.path)
                entry = PyBytes_FromStringAndSize(value, value_size - suffix)
                key = <const char *>tcbdbcurval3(self.cursor, &key_size)
                if key is NULL:
                    break
                entries.append((entry, PyBytes_FromStringAndSize(key, key_size)))
                if not step(self.cursor):
                    break
            try:
                index = self.table._index(self.name)
                self.given = len(entries) + (self.given if self.forward == forward else 0)
                self.forward = forward
                if self.given > (<TCBDB *>index.db).rnum:
                    note_damage((<TCBDB *>index.db).hdb, 0)
                self.table._check_read("seek", len(entries) == count, tcbdbecode(<TCBDB *>index.db))
            except StorageError:
                self.changes = UINT64_MAX  # where the cursor stands now is anybody's guess: it must seek again
                raise
        finally:
            release(self.table.handle)
        return entries


cdef bint at_least(const char *a, int a_size, const char *b, int b_size) noexcept nogil:
    cdef int order = memcmp(a, b, min(a_size, b_size))
    return order > 0 if order else a_size >= b_size
