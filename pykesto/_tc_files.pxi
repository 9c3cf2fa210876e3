# Looking at files before the library does, and what it would do wrong with them.

_WAIT_S = 0.01
cdef int64_t _LITTLE_BYTES = 1 << 20  # that a new file takes without a look at the disk


cdef list index_files(bytes path):
    """The files that the library would take for indexes of the table."""
    directory, name = os.path.split(path)
    prefix = name + b".idx."
    return [
        os.path.join(directory, entry)
        for entry in sorted(os.listdir(directory or b"."))
        if entry.startswith(prefix) and entry[len(prefix) :].rpartition(b".")[2] in _SUFFIXES
    ]


cdef bytes table_path(object path):
    """The absolute path as bytes: the library opens files again by it after a chdir."""
    cdef bytes name = os.fsencode(path)
    c_string(name, "path")
    # Not by the name of a link: the indexes would lie beside that, and who writes by the file's own name miss them.
    name = os.path.realpath(name)
    if any(character in b"*?[\\" for character in name):
        raise UsageError(
            f"path {os.fsdecode(name)!r} holds one of * ? [ \\",
            hint="Tokyo Cabinet finds index files by a glob pattern made of the path; choose another path",
        )
    return name


cdef refuse_second_handle(bytes path, object status):
    cdef Handle *handle = open_handles
    while handle is not NULL:
        if (
            handle.tdb is not NULL  # else it was lost
            and handle.inode == <uint64_t>status.st_ino
            and handle.device == <uint64_t>status.st_dev
        ):
            raise already_open(path)
        handle = handle.following


cdef object already_open(bytes path):
    return UsageError(
        f"{os.fsdecode(path)} is open in this process already",
        hint="share the Table among threads; a second handle of one file would misread or damage it",
    )


cdef int lock_holder(bytes path) except -1:
    """The process that has the file locked, or 0."""
    cdef flock_t lock
    cdef int found
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        lock.l_type, lock.l_whence, lock.l_start, lock.l_len, lock.l_pid = F_WRLCK, 0, 0, 0, 0
        found = c_fcntl(fd, F_GETLK, &lock)
        return lock.l_pid if found == 0 and lock.l_type != F_UNLCK else 0
    finally:
        os.close(fd)


cdef set_cloexec(TCHDB *hdb):
    for fd in (hdb.fd, hdb.walfd):
        if fd >= 0:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


cdef extern from *:
    """
    /* Of a table that is written. The blocks are allocated first (_tc_io.h); without the archive only the buckets'. */
    #ifdef PYKESTO_TC_ARCHIVE
    #define KESTO_WRITER_MAP_BYTES (sizeof(void *) > 4 ? 1 << 30 : 1 << 26)
    #else
    #define KESTO_WRITER_MAP_BYTES 0
    #endif
    """
    int64_t WRITER_MAP_BYTES "KESTO_WRITER_MAP_BYTES"


cdef allocate_map(TCHDB *hdb):
    """Give the mapped part of the file its blocks now: a store into a hole of it on a full disk is SIGBUS."""
    cdef int64_t size = min(os.fstat(hdb.fd).st_size, <int64_t>max(hdb.msiz, hdb.xmsiz))
    cdef int64_t hole = 0
    cdef int failed
    with suppress(OSError):  # a file system that can't tell where holes are
        hole = os.lseek(hdb.fd, 0, os.SEEK_HOLE)
    if hole >= size:
        return
    with nogil:
        failed = posix_fallocate(hdb.fd, hole, size - hole)
    if failed in (ENOSPC, EDQUOT, EFBIG):
        raise StorageError("no space for the mapped part of the file", errno=failed, path=os.fsdecode(hdb.path))


cdef require_space(object path, int64_t size, str what):
    """Before the library fills a file without a look at the disk: that would end in an error late, or in SIGBUS."""
    status = os.statvfs(path)
    if status.f_bavail * status.f_frsize < size:
        raise StorageError(f"{what} needs {size} bytes of free disk", errno=ENOSPC, path=os.fsdecode(path))


# --- An index that is being built: a file beside the table says which, so that one that a killed process left half-built
# is never taken for whole ---------------------------------------------------------------------------------------------

cdef bytes _UNFINISHED = b".building"


cdef mark_unfinished(bytes path, bytes column, str kind):
    with translated("write", os.fsdecode(path + _UNFINISHED)), open(path + _UNFINISHED, "wb", buffering=0) as file:
        file.write(kind.encode() + b" " + column)


cdef remove_unfinished(bytes path):
    with translated("remove", os.fsdecode(path + _UNFINISHED)), suppress(FileNotFoundError):
        os.unlink(path + _UNFINISHED)


cdef tuple unfinished_index(bytes path):
    """Column and kind of the index that is half-built, or None."""
    with translated("read", os.fsdecode(path + _UNFINISHED)):
        try:
            with open(path + _UNFINISHED, "rb", buffering=0) as file:
                kind, _, column = file.readall().partition(b" ")
        except FileNotFoundError:
            return None
    kind = kind.decode("ascii", "replace")
    return (column, kind) if kind in _KINDS else None  # killed before it was written, and before anything was built


cdef clear_unfinished(bytes path, bint writing):
    """Before the library takes a half-built index for one; `_finish_index` builds it again."""
    cdef tuple unfinished = unfinished_index(path)
    if unfinished is None:
        return
    if not writing:
        raise StorageError(
            f"an index of {os.fsdecode(path)} was left half-built", path=os.fsdecode(path),
            hint="open the table for writing once: that builds it again",
        )
    for name in index_files(path):
        if parts_of(path, name) == unfinished:
            for file in (name, name + b".wal"):
                with suppress(FileNotFoundError):
                    os.unlink(file)


cdef tuple parts_of(bytes path, bytes index):
    """Column and kind of an index, by the name of its file."""
    column, _, suffix = index[len(path) + 5 :].rpartition(b".")
    return urllib.parse.unquote_to_bytes(column), kind_name(_SUFFIXES[suffix])


cdef copy_file(int source, int64_t size, object path):
    """Copy through the descriptor that is open: opening the file anew and closing it would drop our lock."""
    cdef int64_t offset = 0
    with translated("copy to", os.fsdecode(path)), open(path, "xb", buffering=0) as target:
        while offset < size:
            sent = os.sendfile(target.fileno(), source, offset, size - offset)
            if sent == 0:
                raise CorruptionError("the file is shorter than its header says", path=os.fsdecode(path), offset=offset)
            offset += sent
        # The writer's mark "open": the copy is not.
        os.pwrite(target.fileno(), bytes([os.pread(source, 1, FLAGS_OFFSET)[0] & ~FLAG_OPEN]), FLAGS_OFFSET)
        os.fsync(target.fileno())


cdef sync_directory(object path):
    _sync_directory(os.path.dirname(os.fsdecode(path)))
