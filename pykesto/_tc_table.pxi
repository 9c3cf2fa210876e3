# The table itself: indexes of columns, and the way to queries and cursors.

@cython.final
cdef class Table(_Upkeep):
    """A table file of Tokyo Cabinet and its index files: a mutable mapping of bytes to dicts of bytes.

    Args:
        path: the file, or a symbolic link to it; its indexes are files beside it, `PATH.idx.COLUMN.lex` and the like.
        flag: as in dbm: "r" reads a file that exists, "w" writes one that exists, "c" creates it where it is
            missing, "n" begins with an empty one.
        bnum: buckets of a new file, fixed until `optimize`; 0 is the library's 131,071. One to four times the
            rows that you expect.
        apow, fpow: alignment of rows and size of the pool of free blocks, as powers of 2; -1 is the default.
        large: allow a new file to outgrow 2 GB.
        deflate, bzip, tcbs: compress the rows and indexes of a new file; at most one of them.
        codec: two functions of bytes to bytes, `(encode, decode)`, through which rows and indexes are stored, to
            compress or encrypt them; the same must be given each time. A checksum goes with each record.
        lock: wait for other processes that write the file (any that use it, when writing), and keep them out.
            Without it, all that a writer elsewhere does leads to wrong answers or damage.
        timeout: how many seconds to wait for them; None is for ever, 0 doesn't wait.
        tsync: sync to the disk at each transaction.
        cache_rows, cache_leaves, cache_nodes: rows, and leaves and nodes of each index, kept in memory; 0 is the
            library's none, 4,096, 512.
        map_bytes: how much of the file is mapped; None is all of it, and for a writer a GB more, whose
            new blocks are allocated before they are written: a mapped file that grows on a full disk would kill the
            process. On a file system that copies what it changes (btrfs, ZFS) that is no promise: 0 maps only the
            buckets.
        defrag_steps: fill holes between rows as they arise, this many at a time; 0 doesn't.
        inverted_bytes, inverted_ratio: how much a token or qgram index may gather before it is written, and the part of
            it that is written then; 0 is the library's 64 MB, and 0.01.
        verify: walk through all files first, as `verify` does, and raise what is wrong.

    Raises:
        LockTimeout: another process has the file locked for longer than `timeout`.
        tc.Error: the file is missing, not permitted, or an I/O error.
        CorruptionError, FormatError: the file is damaged, or no table.
        UsageError: the file is open in this process already, or the path holds one of `* ? [ \\` or a NUL.

    Keys are not empty. Equality of tables is identity. Threads may share a table; a transaction belongs to the
    table, not to the thread that began it. After fork, a child opens its own.

    >>> with Table("people.tct", "n") as t:
    ...     t[b"ann"] = {b"name": b"Ann", b"age": b"41"}
    ...     t[b"ann"][b"age"]
    b'41'
    """

    # Indexes

    def create_index(self, name, kind="lexical", keep=False):
        """Index a column, over the rows that there are and all to come.

        Args:
            name: the column, str or bytes; "" is the primary key.
            kind: "lexical" (equality, prefixes, order of bytes), "decimal" (numbers), "token" (words),
                "qgram" (any part of a text).
            keep: leave an index of that name as it is; otherwise it is replaced.

        Raises:
            UsageError: a transaction is open, or a row has an empty value in the column (lexical, decimal).

        Killed meanwhile, the table is whole, and whoever opens it for writing next has the index built again first.
        """
        cdef bytes column = encoded(name, "column name")
        if kind not in _KINDS:
            raise UsageError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
        cdef int number = _KINDS[kind]
        self._enter_to_maintain("create_index")
        try:
            if keep and self._index(column) is not NULL:
                return
            self._check_name("create_index")
            self._check_rows(column, number)
            try:
                self._build_index("create_index", column, kind, number)
            except Error:
                if self._index(column) is not NULL:
                    self._set_index("create_index", column, TDBITVOID)
                remove_unfinished(self.path_bytes)
                raise
        finally:
            release(self.handle)

    cdef _build_index(self, str operation, bytes column, str kind, int number):
        """Let the library build an index so that a half of it is never taken for one."""
        try:
            mark_unfinished(self.path_bytes, column, kind)
        except OSError as e:
            raise StorageError(
                f"{operation} {self.path}: {e.strerror}", errno=e.errno, path=self.path,
                hint="the directory must be writable",
            ) from e
        self._set_index(operation, column, number)
        self._run(operation, flush)
        remove_unfinished(self.path_bytes)

    cdef _finish_index(self):
        """Build what a killed process began to; the caller has the table to itself."""
        cdef tuple unfinished = unfinished_index(self.path_bytes)
        if unfinished is not None:
            column, kind = unfinished
            self._build_index("open", column, kind, _KINDS[kind])
        remove_unfinished(self.path_bytes)

    def drop_index(self, name):
        """Remove the index of a column and its file. UsageError where there is none, or in a transaction."""
        self._maintain_index("drop_index", encoded(name, "column name"), TDBITVOID)

    def optimize_index(self, name):
        """Rebuild the file of an index without holes."""
        self._maintain_index("optimize_index", encoded(name, "column name"), TDBITOPT)

    cdef _maintain_index(self, str operation, bytes column, int number):
        self._enter_to_maintain(operation)
        try:
            if self._index(column) is NULL:
                raise UsageError(f"column {column!r} has no index")
            self._check_name(operation)
            if number == TDBITOPT:
                require_space(self.path_bytes, 2 * tctdbfsiz(self.handle.tdb) + (64 << 20), "rebuilding")
                self._build_index(operation, column, kind_name(self._index(column).type), number)
            else:
                self._set_index(operation, column, number)
        finally:
            release(self.handle)

    cdef _set_index(self, str operation, bytes column, int number):
        cdef TCTDB *tdb = self.handle.tdb
        cdef const char *name = PyBytes_AS_STRING(column)
        cdef int error
        cdef bint done
        self.handle.changes += 1
        with nogil:
            pthread_rwlock_rdlock(&gate)
            io_begin()
            done = tctdbsetindex(tdb, name, number)
            error = io_errno()
            pthread_rwlock_unlock(&gate)
        self._check_write(operation, done, error)
        self._adopt(True)

    cdef _check_rows(self, bytes index, int number):
        """Refuse what the library would abort on while it indexes the rows that there are."""
        cdef uint64_t offset = self.handle.tdb.hdb.frec
        cdef Column column
        cdef const unsigned char *at
        cdef const unsigned char *end
        cdef str reason
        while True:
            rows = self._rows(&offset, 1000, RAW)
            if not rows:
                return
            for key, row in rows:
                reason = misfit_key(PyBytes_AS_STRING(index), number, PyBytes_AS_STRING(key), size_of(key))
                if reason is not None:
                    raise UsageError(reason)
                at = <const unsigned char *>PyBytes_AS_STRING(row)
                end = at + PyBytes_GET_SIZE(row)
                while at < end:
                    if not next_column(&at, end, &column):
                        raise CorruptionError(f"the row of {key!r} is malformed", path=self.path)
                    reason = misfit(PyBytes_AS_STRING(index), number, &column)
                    if reason is not None:
                        raise UsageError(f"row {key!r}: {reason}")

    cdef TDBIDX *_index(self, bytes column) noexcept:
        """The index of a column, or NULL; the caller holds the lock."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        for i in range(tdb.inum):
            if len(column) == <Py_ssize_t>strlen(tdb.idxs[i].name) and not memcmp(
                PyBytes_AS_STRING(column), tdb.idxs[i].name, len(column)
            ):
                return &tdb.idxs[i]
        return NULL

    def indexes(self):
        """The indexed columns and the kind of each, as in `create_index`."""
        self._enter()
        try:
            return {
                <bytes>self.handle.tdb.idxs[i].name: kind_name(self.handle.tdb.idxs[i].type)
                for i in range(self.handle.tdb.inum)
            }
        finally:
            release(self.handle)

    def has_index(self, bytes name not None):
        """Whether the column has an index, of any kind."""
        self._enter()
        try:
            return self._index(name) is not NULL
        finally:
            release(self.handle)

    def index_cursor(self, bytes name not None):
        """A cursor over the lexical index of a column (b"": the primary key); it stands nowhere until it seeks."""
        return IndexCursor(self, name)

    @property
    def query(self):
        """A query that matches every row; narrow it with `col`."""
        return Query(self)


MutableMapping.register(Table)
