# A table from opening to closing: its lock, its errors, what it is.

cdef class Table


cdef str LOST = (
    "memory ran out inside Tokyo Cabinet, and the table was let go of as if the process had ended; open it again"
)


cdef class _OpenTable:
    """A table of Tokyo Cabinet, and how every call enters and leaves it."""

    cdef Handle *handle
    cdef bytes path_bytes
    cdef _Options options
    cdef bint names_changed
    cdef bint movable  # records may be moved: see `_check_movable`
    cdef object broken  # the error of the write that failed
    cdef object __weakref__

    def __cinit__(self):
        if not isinstance(self, Table):
            raise TypeError("a table is a tc.Table")
        self.handle = <Handle *>calloc(1, sizeof(Handle))
        if self.handle is NULL:
            raise MemoryError
        self.handle.lock = PyThread_allocate_lock()
        if self.handle.lock is NULL:
            raise MemoryError
        self.handle.pid = current_pid

    def __init__(
        self, path, flag="r", *, bnum=0, apow=-1, fpow=-1, large=True, deflate=False, bzip=False, tcbs=False,
        codec=None, lock=True, timeout=None, tsync=False, cache_rows=0, cache_leaves=0, cache_nodes=0, map_bytes=None,
        defrag_steps=0, inverted_bytes=0, inverted_ratio=0.0, verify=False,
    ):
        if self.handle.tdb is not NULL or self.path_bytes is not None:
            raise UsageError("a Table is opened once")
        self.options = _Options(
            flag, bnum=bnum, apow=apow, fpow=fpow, large=large, deflate=deflate, bzip=bzip, tcbs=tcbs, codec=codec,
            lock=lock, timeout=timeout, tsync=tsync, cache_rows=cache_rows, cache_leaves=cache_leaves,
            cache_nodes=cache_nodes, map_bytes=map_bytes, defrag_steps=defrag_steps, inverted_bytes=inverted_bytes,
            inverted_ratio=inverted_ratio,
        )
        self.path_bytes = table_path(path)
        self._open_anew(self.options.mode, bool(verify))

    @cython.final
    cdef _open_anew(self, int mode, bint verifying):
        """Open the files; the handle has no table of the library yet, or no more."""
        self._renew()
        try:
            self._open(mode, verifying)
            self._settle(bool(mode & TDBOWRITER))
        except BaseException:
            self._discard()
            raise

    def __dealloc__(self):
        cdef Handle *handle = self.handle
        if handle is NULL:
            return
        if handle.pid == current_pid:
            shut(handle)
            delist(handle)
            Py_XDECREF(handle.codec)
            if handle.lock is not NULL:
                PyThread_free_lock(handle.lock)
        free(handle)

    # Opening and closing

    @cython.final
    cdef _open(self, int mode, bint verifying):
        """Wait for locks by looking again: the library's own wait can't be interrupted, and would hold up forks."""
        begun = time.monotonic()
        while not self._tried(mode, verifying):
            waited = time.monotonic() - begun
            timeout = self.options.timeout
            if timeout is not None and waited >= timeout:
                raise LockTimeout(self.path, holder_pid=lock_holder(self.path_bytes), waited_s=waited)
            time.sleep(_WAIT_S if timeout is None else min(_WAIT_S, timeout - waited))

    @cython.final
    cdef bint _tried(self, int mode, bint verifying) except -1:
        """Open the files; false where another process has them locked, or has put others in their place."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef const char *path = PyBytes_AS_STRING(self.path_bytes)
        cdef int error
        cdef bint done
        if not self._looks_sound(mode, verifying):
            return False
        if not io_ready():
            raise MemoryError
        # In the list first: a child forked between the library's return and ours must find it.
        enlist(self.handle)
        with nogil:
            pthread_rwlock_rdlock(&gate)
            io_begin()
            done = tctdbopen(tdb, path, mode)
            error = io_errno()
            if done and io_failure.error:
                # It went on without a log or an index that it could not open. Closing would take the mark "open"
                # from the file, and the log would never be rolled back.
                abandon(tdb)
                self.handle.tdb = NULL
            pthread_rwlock_unlock(&gate)
        if done and not io_failure.error:
            return self._is_in_place()
        delist(self.handle)
        self._raise_codec()
        if done:
            raise error_of(io_failure, "open", self.path)
        code = tctdbecode(tdb)
        if code == TCETHREAD and not io_failure.error:
            raise already_open(self.path_bytes)
        if code != TCELOCK:
            raise error_of(failure_of(code, error), "open", self.path)
        return False

    @cython.final
    cdef bint _is_in_place(self) except -1:
        """Whether the file that was opened is still the one of that name: `optimize` elsewhere may have replaced it
        while this process waited for the lock of the old one."""
        try:
            if os.path.samestat(os.fstat(self.handle.tdb.hdb.fd), os.stat(self.path_bytes)):
                return True
        except FileNotFoundError:
            pass
        self._discard()
        self._renew()
        return False

    @cython.final
    cdef _renew(self):
        """The library's table that is to be opened, with the settings of this one."""
        cdef Handle *handle = self.handle
        handle.tdb = self.options.new_table(self.path_bytes)
        if handle.codec is NULL and self.options.codec is not None:
            handle.codec = <PyObject *>self.options.codec
            Py_INCREF(self.options.codec)

    @cython.final
    cdef _raise_codec(self):
        """Raise what a function of the codec raised inside the library."""
        cdef _Functions codec = None if self.options is None else self.options.codec
        if codec is not None and codec.raised is not None:
            raised, codec.raised = codec.raised, None
            raise raised

    @cython.final
    cdef bint _looks_sound(self, int mode, bint verifying) except -1:
        """Check the files that the library is about to trust; false where another process has them locked."""
        try:
            return self._files_look_sound(mode, verifying)
        except StorageError:
            raise
        except OSError as e:
            raise StorageError(f"open {self.path}: {e.strerror}", errno=e.errno, path=self.path) from e

    cdef bint _files_look_sound(self, int mode, bint verifying) except -1:
        cdef bint locking = not mode & TDBONOLCK
        try:
            status = os.stat(self.path_bytes)
        except FileNotFoundError:
            return self._may_create(mode)
        refuse_second_handle(self.path_bytes, status)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{self.path} is not a regular file", path=self.path)
        if mode & TDBOTRUNC:
            return self._may_begin(status.st_blocks * 512)
        fd = os.open(self.path_bytes, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if locking:
                try:
                    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return False
            clear_unfinished(self.path_bytes, bool(mode & TDBOWRITER))
            self._check_file(self.path_bytes, fd, TCDBTTABLE, mode)
            for path in index_files(self.path_bytes):
                with open(path, "rb", buffering=0) as file:
                    self._check_file(path, file.fileno(), TCDBTBTREE, mode)
            if verifying:
                for problem in problems_of(self.path_bytes, fd, self.options.codec):
                    raise problem
        finally:
            os.close(fd)
        return True

    cdef bint _may_create(self, int mode) except -1:
        if not mode & TDBOCREAT:
            raise Error(TCENOFILE, "open", path=self.path, errno=ENOENT)
        if not os.path.isdir(os.path.dirname(self.path_bytes)):
            return True  # the library will say so
        if not mode & TDBOTRUNC:
            stale = index_files(self.path_bytes)
            if stale:
                raise CorruptionError("an index without its table", path=os.fsdecode(stale[0]))
        return self._may_begin(0)

    cdef bint _may_begin(self, int64_t freed) except -1:
        """Before a new file: the library writes its buckets out, as many as there are, until the disk is full."""
        cdef int64_t needed = self.options.bnum * (8 if self.options.storage & TDBTLARGE else 4)
        if needed > freed + _LITTLE_BYTES:
            require_space(os.path.dirname(self.path_bytes), needed - freed, f"bnum={self.options.bnum}")
        remove_unfinished(self.path_bytes)
        return True

    @cython.final
    cdef _check_file(self, bytes path, int fd, int kind, int mode):
        header = check_file(path, fd, kind, mode)
        check_codec(path, header, self.options.codec is not None)

    cdef _settle(self, bint writing):
        """Make what the library opened as we promise it; its open ignores an index that it can't open."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef set found = {(<TCBDB *>tdb.idxs[i].db).hdb.path for i in range(tdb.inum)}
        for path in index_files(self.path_bytes):
            if path not in found:
                raise CorruptionError("Tokyo Cabinet can't open this index", path=os.fsdecode(path))
        self._adopt(writing)
        self.movable = False
        if writing:
            (<Table>self)._finish_index()
            if self.options.defrag_steps:
                self._check_movable()

    cdef _check_movable(self):
        """Look at all records once before the library moves any; the caller has the table to itself."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef bint sound = True
        cdef int i
        if self.movable:
            return
        with nogil:
            io_begin()
            for i in range(-1, tdb.inum):
                sound = sound and is_forest(tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb)
        self._check_read("defrag", sound, TCEMISC)
        self.movable = True

    cdef _adopt(self, bint writing):
        """After files were opened, or opened anew."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef TCHDB *hdb
        cdef int i
        for i in range(-1, tdb.inum):
            hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
            if hdb.fd < 0:
                continue
            set_cloexec(hdb)
            if writing:
                allocate_map(hdb)
        if tdb.hdb.fd >= 0:
            status = os.fstat(tdb.hdb.fd)
            self.handle.device, self.handle.inode = status.st_dev, status.st_ino
        self.names_changed = writing

    cdef _discard(self):
        shut(self.handle)
        delist(self.handle)

    def close(self):
        """Close the files; an open transaction is aborted. Closing twice does nothing.

        Raises:
            tc.Error: the last writes failed, or one before them did.
        """
        cdef Failure failure
        if self.handle.pid != current_pid:
            return  # the parent's: it was let go of at the fork
        if not io_ready():
            raise MemoryError  # still open
        acquire(self.handle)
        try:
            # Out of the list only afterwards: a child forked meanwhile must find the table there.
            failure = shut(self.handle)
            delist(self.handle)
        finally:
            release(self.handle)
        broken, self.broken = self.broken, None
        if broken is not None:
            raise error_again(broken)
        self._raise_codec()
        if failure.code != TCESUCCESS:
            raise error_of(failure, "close", self.path)

    def __enter__(self):
        self._enter()
        release(self.handle)
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        cdef Handle *handle = self.handle
        state = "open" if handle.tdb is not NULL and handle.pid == current_pid else "closed"
        return f"<tc.Table {self.path!r} {state}>"

    # Entering: every call does, so that it has the table to itself and the table is open

    @cython.final
    cdef int _enter(self) except -1:
        if self.handle.pid != current_pid:
            # Before the lock: another thread of the parent may have held it at the fork.
            raise UsageError(
                f"{self.path} was opened by process {self.handle.pid}, before fork",
                hint="open the table again in the child",
            )
        acquire(self.handle)
        if self.handle.tdb is NULL:
            release(self.handle)
            raise ClosedError(f"{self.path} is closed", hint=LOST if self.handle.lost else "")
        if not io_ready():
            release(self.handle)
            raise MemoryError
        io_begin()
        return 0

    @cython.final
    cdef int _enter_to_write(self, str operation) except -1:
        self._enter()
        if not self.handle.tdb.wmode:
            release(self.handle)
            raise ReadOnlyError(f"{operation}: {self.path} was opened for reading", hint="open it with flag 'w' or 'c'")
        if self.broken is not None and operation != "abort":
            release(self.handle)
            raise error_again(self.broken)
        return 0

    @cython.final
    cdef int _enter_to_maintain(self, str operation) except -1:
        self._enter_to_write(operation)
        if self.handle.tdb.tran:
            release(self.handle)
            raise UsageError(f"{operation} can't run inside a transaction", hint="commit or abort it first")
        return 0

    @cython.final
    cdef int _check_name(self, str operation) except -1:
        """Before files are made or replaced by their names: another table may have them by now."""
        try:
            if os.path.samestat(os.fstat(self.handle.tdb.hdb.fd), os.stat(self.path_bytes)):
                return 0
        except FileNotFoundError:
            pass
        raise StorageError(
            f"{operation} {self.path}: the file of this table was moved, replaced or deleted", path=self.path,
            hint="close it, and open it by the name that it has",
        )

    # Leaving: an error of the library, or a call of the system that failed though the library said success

    @cython.final
    cdef int _check_read(self, str operation, bint done, int code) except -1:
        """After a call that reads. The next one may succeed, so the library must forget this one."""
        if (done or code == TCENOREC) and not io_failure.error and not damage.found and not self._codec_raised():
            return 0
        raised = self._failed(operation, failure_of(code, io_errno()))
        forget_errors(self.handle.tdb)
        self._raise_codec()
        raise raised

    @cython.final
    cdef object _failed(self, str operation, Failure failure, str hint=""):
        if is_lost(self.handle.tdb):
            lost = MemoryError(f"{operation} {self.path}: {LOST}")
            if self.handle.tdb.wmode:
                self.broken = error_again(lost)
            return lost
        if damage.found and not io_failure.error:
            return damage_of(operation)
        return error_of(failure, operation, self.path, hint)

    @cython.final
    cdef int _check_write(self, str operation, bint done, int error) except -1:
        """After a call that writes: the table takes no more writes once one has failed."""
        if done and not io_failure.error and not damage.found and not self._codec_raised():
            return 0
        cdef Failure failure = failure_of(first_error(self.handle.tdb), error)
        forget_errors(self.handle.tdb)
        if failure.code in (TCENOFILE, TCENOPERM, TCEOPEN) and self._began_nothing(operation):
            raise error_of(failure, operation, self.path)
        failed = self._failed(operation, failure, "nothing more is written to this table: close it")
        if self.broken is None:
            self.broken = error_again(failed)
        self._raise_codec()
        raise failed

    @cython.final
    cdef inline bint _codec_raised(self) noexcept:
        return self.options.codec is not None and self.options.codec.raised is not None

    cdef bint _began_nothing(self, str operation) noexcept:
        """Whether the table is as it was, when a file that an operation needs could not be opened."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        for i in range(tdb.inum):
            if (<TCBDB *>tdb.idxs[i].db).hdb.tran:
                return False
        return operation == "create_index" or (operation == "begin" and not tdb.hdb.tran)

    # What it is

    @property
    def path(self):
        """The absolute path of the table's file, as str."""
        return "" if self.path_bytes is None else os.fsdecode(self.path_bytes)

    @property
    def size(self):
        """Bytes of the table's file and its indexes."""
        self._enter()
        try:
            return tctdbfsiz(self.handle.tdb)
        finally:
            release(self.handle)

    @property
    def bnum(self):
        """Buckets of the hash file."""
        self._enter()
        try:
            return tctdbbnum(self.handle.tdb)
        finally:
            release(self.handle)

    def __len__(self):
        self._enter()
        try:
            return <Py_ssize_t>tctdbrnum(self.handle.tdb)
        finally:
            release(self.handle)
