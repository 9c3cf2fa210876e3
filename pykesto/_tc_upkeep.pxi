# Transactions, and what keeps the files of a table in order.

cdef class _Upkeep(_Rows):
    """Transactions and maintenance."""

    # Transactions

    @property
    def in_transaction(self):
        """Whether a transaction is open."""
        self._enter()
        try:
            return bool(self.handle.tdb.tran)
        finally:
            release(self.handle)

    def begin(self):
        """Begin a transaction. It belongs to the table: what other threads write meanwhile is part of it.

        Raises:
            UsageError: one is open already (the library would wait for ever).
        """
        self._enter_to_write("begin")
        try:
            if self.handle.tdb.tran:
                raise UsageError("a transaction is open already; they don't nest")
            try:
                self._run("begin", tctdbtranbegin)
            finally:
                self._adopt_log()
        finally:
            release(self.handle)

    cdef _adopt_log(self):
        """The log of the transaction is a descriptor more, of the table and of each index."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        set_cloexec(tdb.hdb)
        for i in range(tdb.inum):
            set_cloexec((<TCBDB *>tdb.idxs[i].db).hdb)

    def commit(self):
        """Make what was written since `begin` stay."""
        self._end("commit", tctdbtrancommit)

    def abort(self):
        """Undo what was written since `begin`."""
        self._end("abort", tctdbtranabort)

    cdef _end(self, str operation, c_bool (*call)(TCTDB *) noexcept nogil):
        self._enter_to_write(operation)
        try:
            if not self.handle.tdb.tran:
                if self.broken is not None:  # the commit failed
                    raise error_again(self.broken)
                raise UsageError(f"{operation} without a transaction", hint="call begin() first")
            self.handle.changes += 1
            self._run(operation, call)
        finally:
            release(self.handle)

    cdef _run(self, str operation, c_bool (*call)(TCTDB *) noexcept nogil):
        """Call the library without the GIL; the caller holds the lock."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int error
        cdef bint done
        with nogil:
            pthread_rwlock_rdlock(&gate)
            done = call(tdb)
            error = io_errno()
            pthread_rwlock_unlock(&gate)
        self._check_write(operation, done, error)

    def transaction(self):
        """A context that begins a transaction, commits at its end, and aborts where an exception leaves it."""
        return Transaction(self)

    # Maintenance

    def sync(self):
        """Write everything to stable storage (fsync), the names of new files included."""
        self._enter_to_maintain("sync")
        try:
            self._run("sync", tctdbsync)
            if self.names_changed:
                sync_directory(self.path_bytes)
                self.names_changed = False
        finally:
            release(self.handle)

    def vanish(self):
        """Remove all rows at once; indexes stay."""
        self._enter_to_maintain("vanish")
        try:
            self.handle.changes += 1
            self._run("vanish", tctdbvanish)
            self._adopt(True)
        finally:
            release(self.handle)

    def optimize(self, int64_t bnum=0):
        """Rebuild the file with `bnum` buckets (0: twice the rows), without holes, and its indexes.

        A crash in the midst of it may leave the file under another name, `PATH.tmp.NUMBER`: copy first.
        """
        cdef TCTDB *tdb
        cdef int error
        cdef bint done
        if bnum < 0:
            raise UsageError("bnum can't be negative")
        self._enter_to_maintain("optimize")
        try:
            tdb = self.handle.tdb
            buckets = bnum or tctdbrnum(tdb) * 2 + 1
            require_space(self.path_bytes, 2 * tctdbfsiz(tdb) + 8 * buckets + (64 << 20))
            self.handle.changes += 1
            with nogil:
                pthread_rwlock_rdlock(&gate)
                done = tctdboptimize(tdb, bnum, -1, -1, 255)
                error = io_errno()
                pthread_rwlock_unlock(&gate)
            try:
                self._check_write("optimize", done, error)
            finally:
                self._adopt(True)
        finally:
            release(self.handle)

    def copy(self, path):
        """Copy the table and its indexes, as they are now, to files that don't exist yet; the copies are synced.

        Raises:
            UsageError: a transaction is open, the target exists, or its path begins with `@`.
        """
        if os.fsencode(path).startswith(b"@"):
            raise UsageError("a path that begins with '@' is a shell command to Tokyo Cabinet", hint="write ./@...")
        cdef bytes target = table_path(path)
        if os.path.lexists(target):
            raise UsageError(f"{os.fsdecode(target)} exists already")
        stale = index_files(target)
        if stale:
            raise UsageError(f"{os.fsdecode(stale[0])} exists already")
        self._enter()
        try:
            if self.handle.tdb.tran:
                raise UsageError("copy can't run inside a transaction", hint="commit or abort it first")
            if self.broken is not None:
                raise error_again(self.broken)
            if self.handle.tdb.wmode:
                self._run("copy", flush)
            self._copy_files(target)
        finally:
            release(self.handle)
        sync_directory(target)

    cdef _copy_files(self, bytes target):
        cdef TCTDB *tdb = self.handle.tdb
        cdef TCHDB *hdb
        made = []
        try:
            # The table last: a copy cut short is no table.
            for i in range(tdb.inum - 1, -2, -1):
                hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
                made.append(target + hdb.path[len(self.path_bytes) :])
                copy_file(hdb.fd, <int64_t>hdb.fsiz, made[-1])
        except BaseException:
            for path in made:
                if os.path.exists(path):
                    os.unlink(path)
            raise


cdef c_bool flush(TCTDB *tdb) noexcept nogil:
    return tctdbmemsync(tdb, False)


@cython.final
cdef class Transaction:
    """The context of `Table.transaction`."""

    cdef Table table

    def __init__(self, Table table not None):
        self.table = table

    def __enter__(self):
        self.table.begin()
        return self.table

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.table.commit()
        else:
            self.table.abort()
