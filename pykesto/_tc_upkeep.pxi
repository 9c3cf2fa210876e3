# Transactions, and what keeps the files of a table in order.

cdef class _Upkeep(_Changes):
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
            self._check_name("begin")
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
        """Remove all rows at once; indexes, `id_seed` and `opaque` stay."""
        cdef char kept[128]
        self._enter_to_maintain("vanish")
        try:
            self._check_name("vanish")
            self.handle.changes += 1
            memcpy(kept, own_header(self.handle.tdb), sizeof(kept))  # the library drops it, ids already given included
            self._run("vanish", tctdbvanish)
            memcpy(own_header(self.handle.tdb), kept, sizeof(kept))
            self._adopt(True)
        finally:
            release(self.handle)

    def optimize(self, bnum=0, *, apow=None, fpow=None, large=None, deflate=None, bzip=None, tcbs=None):
        """Rebuild the table without holes, with `bnum` buckets (0: twice the rows), and its indexes from the rows.

        Args: as for a new table; None leaves an option as it is.

        New files are built beside the old, synced, and take their names: killed at any point, the table is the old one
        or the new one, and either is whole. Meanwhile the disk holds both. A process that waits for the table's lock
        may get it in the instant before this one has it again.

        Raises:
            StorageError: no space, or the file was moved; the table is as it was.
        """
        cdef dict wanted = dict(apow=apow, fpow=fpow, large=large, deflate=deflate, bzip=bzip, tcbs=tcbs)
        within("bnum", bnum, 0, 1 << 38)
        self._enter_to_maintain("optimize")
        try:
            self._check_name("optimize")
            self._run("optimize", flush)
            self._build_beside(self._beside(bnum or len_of(self) * 2 + 1, wanted))
            self._take_new_files()
        finally:
            release(self.handle)

    @cython.final
    cdef dict _beside(self, int64_t bnum, dict wanted):
        """The arguments of the new table: what the file has, save what is wanted otherwise."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int storage = tctdbopts(tdb)
        arguments = dict(
            bnum=bnum, apow=tctdbalign(tdb).bit_length() - 1, fpow=tctdbfbpmax(tdb).bit_length() - 1,
            large=bool(storage & TDBTLARGE), deflate=bool(storage & TDBTDEFLATE), bzip=bool(storage & TDBTBZIP),
            tcbs=bool(storage & TDBTTCBS), lock=False,
        )
        if any(wanted[name] for name in _COMPRESSIONS):
            arguments.update(dict.fromkeys(_COMPRESSIONS, False))
        arguments.update({name: value for name, value in wanted.items() if value is not None})
        if self.options.codec is not None:
            arguments["codec"] = (self.options.codec.encode, self.options.codec.decode)
        return arguments

    @cython.final
    cdef _build_beside(self, dict arguments):
        cdef Table fresh
        cdef bytes path = self.path_bytes + _NEW
        remove_table(path)
        try:
            with Table(path, "n", **arguments) as opened:
                fresh = opened
                copy_rows(self.handle.tdb, fresh.handle.tdb)
                self._check_read("optimize", first_error(self.handle.tdb) == TCESUCCESS, first_error(self.handle.tdb))
                fresh._check_write("optimize", first_error(fresh.handle.tdb) == TCESUCCESS, io_errno())
                for i in range(self.handle.tdb.inum):
                    fresh._set_index("optimize", self.handle.tdb.idxs[i].name, self.handle.tdb.idxs[i].type)
                opened.sync()
            status = os.stat(self.path_bytes)
            for name in [path, *index_files(path)]:
                os.chmod(name, stat.S_IMODE(status.st_mode))
                sync_file(os.fsdecode(name))  # what closing wrote
        except BaseException:
            remove_table(path)
            raise

    @cython.final
    cdef _take_new_files(self):
        """An index of the one beside the table of the other serves as well: they hold the same rows."""
        cdef bytes path = self.path_bytes + _NEW
        cdef Failure failure
        self.handle.changes += 1
        failure = shut(self.handle)
        delist(self.handle)
        if failure.code != TCESUCCESS:
            remove_table(path)
            raise error_of(failure, "optimize", self.path)
        for name in [*index_files(path), path]:
            os.rename(name, self.path_bytes + name[len(path) :])
        sync_directory(self.path_bytes)
        self._open_anew(self.options.mode & ~(TDBOCREAT | TDBOTRUNC), False)

    def defrag(self, steps=0):
        """Move rows together to fill the holes between them: `steps` of them, 0 goes through the whole file."""
        cdef int64_t count = within("steps", steps, 0, INT64_MAX)
        cdef TCTDB *tdb
        cdef int error
        cdef bint done
        self._enter_to_maintain("defrag")
        try:
            self._check_movable()
            tdb = self.handle.tdb
            self.handle.changes += 1
            with nogil:
                done = tctdbdefrag(tdb, count)
                error = io_errno()
            self._check_write("defrag", done, error)
        finally:
            release(self.handle)

    def clear_caches(self):
        """Give back the memory of cached rows and index pages; what they hold unwritten is written first."""
        cdef bint done
        self._enter()
        try:
            self.handle.changes += 1
            with nogil:
                done = tctdbcacheclear(self.handle.tdb)
            if self.handle.tdb.wmode:
                self._check_write("clear_caches", done, io_errno())
            else:
                self._check_read("clear_caches", done, tctdbecode(self.handle.tdb))
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
        if os.path.lexists(target) or os.path.islink(path):
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

    # Read-outs

    @property
    def opaque(self):
        """64 bytes of the file's header that are yours; may be set, to 64 bytes or fewer, filled up with NULs.

        `vanish` and `optimize` keep them. An aborted transaction takes a change back.
        """
        self._enter()
        try:
            return PyBytes_FromStringAndSize(tctdbopaque(self.handle.tdb), _OPAQUE_BYTES)
        finally:
            release(self.handle)

    @opaque.setter
    def opaque(self, value):
        if not isinstance(value, bytes):
            raise TypeError(f"opaque must be bytes, not {type(value).__name__}")
        if len(value) > _OPAQUE_BYTES:
            raise UsageError(f"opaque holds {_OPAQUE_BYTES} bytes, not {len(value)}")
        cdef bytes padded = value.ljust(_OPAQUE_BYTES, b"\0")
        self._enter_to_write("opaque")
        try:
            memcpy(tctdbopaque(self.handle.tdb), PyBytes_AS_STRING(padded), _OPAQUE_BYTES)
        finally:
            release(self.handle)

    def info(self):
        """What the library tells of the open table: an `Info`.

        >>> with Table("people.tct", "n", bnum=100, deflate=True) as t:
        ...     found = t.info()
        ...     found.rows, found.bnum_used, found.options
        (0, 0, ('large', 'deflate'))
        """
        cdef TCTDB *tdb
        self._enter()
        try:
            tdb = self.handle.tdb
            return Info(
                path=self.path, size=tctdbfsiz(tdb), rows=tctdbrnum(tdb), bnum=tctdbbnum(tdb),
                bnum_used=tctdbbnumused(tdb), alignment=tctdbalign(tdb), free_blocks_max=tctdbfbpmax(tdb),
                inode=tctdbinode(tdb), modified=tctdbmtime(tdb), writable=bool(tdb.wmode),
                flags=names_of(tctdbflags(tdb), _FLAGS), options=names_of(tctdbopts(tdb), _STORAGE),
                indexes=self._kinds(), id_seed=tctdbuidseed(tdb), defrag_steps=tctdbdfunit(tdb),
            )
        finally:
            release(self.handle)

    @cython.final
    cdef dict _kinds(self):
        cdef TCTDB *tdb = self.handle.tdb
        return {<bytes>tdb.idxs[i].name: kind_name(tdb.idxs[i].type) for i in range(tdb.inum)}


_NEW = b".new"  # the files that `optimize` builds
_OPAQUE_BYTES = 64  # the library says 128, of which it uses the first half itself
_COMPRESSIONS = ("deflate", "bzip", "tcbs")
_FLAGS = {"open": TDBFOPEN, "fatal": TDBFFATAL}
_STORAGE = {"large": TDBTLARGE, "deflate": TDBTDEFLATE, "bzip": TDBTBZIP, "tcbs": TDBTTCBS, "codec": TDBTEXCODEC}


class Info(typing.NamedTuple):
    """What `Table.info` tells: sizes in bytes, `modified` in seconds since 1970, as the file was opened."""

    path: str
    size: int
    rows: int
    bnum: int
    bnum_used: int
    alignment: int
    free_blocks_max: int
    inode: int
    modified: int
    writable: bool
    flags: tuple[str, ...]
    options: tuple[str, ...]
    indexes: dict[bytes, str]
    id_seed: int
    defrag_steps: int


cdef char *own_header(TCTDB *tdb) noexcept nogil:
    """128 bytes of the header: the first half holds the seed of ids, the second is the user's."""
    return tctdbopaque(tdb) - 64


cdef tuple names_of(int flags, dict names):
    return tuple([name for name, flag in names.items() if flags & flag])


cdef int64_t len_of(_OpenTable table) noexcept:
    return <int64_t>tctdbrnum(table.handle.tdb)


cdef remove_table(bytes path):
    """Files that a cut-short `optimize` left, or this one gives up."""
    for name in [path, path + b".wal", *index_files(path)]:
        if os.path.lexists(name):
            os.unlink(name)


cdef copy_rows(TCTDB *source, TCTDB *target):
    """Put all rows as they are stored, and what the header holds for the user; errors stay with the two."""
    cdef TCXSTR *key = tcxstrnew()
    cdef TCXSTR *row = tcxstrnew()
    if key is NULL or row is NULL:
        raise MemoryError
    forget_errors(source)
    with nogil:
        memcpy(own_header(target), own_header(source), 128)
        source.hdb.iter = source.hdb.frec
        while tchdbiternext3(source.hdb, key, row):
            if not tchdbput(
                target.hdb, tcxstrptr(key), tcxstrsize(key), tcxstrptr(row), tcxstrsize(row)
            ) or io_failure.error:
                break
    tcxstrdel(key)
    tcxstrdel(row)


cdef c_bool flush(TCTDB *tdb) noexcept nogil:
    return tctdbmemsync(tdb, False)


@cython.final
cdef class Transaction:
    """The context of `Table.transaction`."""

    cdef Table table

    def __cinit__(self, Table table not None):
        self.table = table

    def __enter__(self):
        self.table.begin()
        return self.table

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.table.commit()
        else:
            self.table.abort()
