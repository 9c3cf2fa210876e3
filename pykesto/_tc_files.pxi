# Looking at files before the library does, and what it would do wrong with them.

cdef int HEADER_BYTES = 256
cdef int FLAGS_OFFSET = 33
cdef int FLAG_OPEN = 1
cdef int OPTIONS_OFFSET = 36
_MAGIC = b"ToKyO CaBiNeT"
_WAIT_S = 0.01


def _check_header(path, bytes header, Py_ssize_t size, int kind):
    """Raise where a header would crash the library, or isn't one.

    The library stores numbers in the byte order that it was built for; a damaged one is plausible in neither.
    """
    if len(header) < HEADER_BYTES:
        raise CorruptionError(f"{size} bytes, less than a header", path=path, offset=0)
    if not header.startswith(_MAGIC):
        raise FormatError(f"{path} is no Tokyo Cabinet file", path=path)
    if header[32] != kind:
        expected = "a table" if kind == TCDBTTABLE else "an index"
        raise FormatError(f"{path} is a Tokyo Cabinet file, but not {expected}", path=path)
    if header[34] > 16 or header[35] > 20:
        raise CorruptionError("the header's alignment or pool size is out of range", path=path, offset=34)
    if not any(_is_plausible(header, size, order) for order in ("little", "big")):
        raise CorruptionError("the header's sizes don't fit the file", path=path, offset=40)


def _is_plausible(bytes header, Py_ssize_t size, str order):
    buckets, rows, file_bytes, first_row = (int.from_bytes(header[at : at + 8], order) for at in (40, 48, 56, 64))
    bucket_bytes = 8 if header[OPTIONS_OFFSET] & TDBTLARGE else 4
    if header[32] == TCDBTBTREE:
        # The entries of a leaf and of a node: the library allocates as many.
        members = [int.from_bytes(header[at : at + 4], order) for at in (136, 140)]
        if not all(0 < count < 1 << 20 for count in members):
            return False
    return (
        buckets > 0
        and rows <= file_bytes
        and HEADER_BYTES + buckets * bucket_bytes < first_row <= file_bytes <= size
    )


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
    name = os.path.abspath(name)
    if any(character in b"*?[\\" for character in name):
        raise UsageError(
            f"path {os.fsdecode(name)!r} holds one of * ? [ \\",
            hint="Tokyo Cabinet finds index files by a glob pattern made of the path; choose another path",
        )
    return name


cdef refuse_second_handle(bytes path, object status):
    cdef Handle *handle = open_handles
    while handle is not NULL:
        if handle.inode == <uint64_t>status.st_ino and handle.device == <uint64_t>status.st_dev:
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


cdef allocate_map(TCHDB *hdb):
    """Give the mapped part of the file its blocks now: a store into a hole of it on a full disk is SIGBUS."""
    cdef int failed
    with nogil:
        failed = posix_fallocate(hdb.fd, 0, <int64_t>hdb.msiz)
    if failed == ENOSPC:
        raise StorageError("no space for the bucket array", errno=ENOSPC, path=os.fsdecode(hdb.path))


cdef require_space(object path, int64_t size):
    """The library rebuilds a file through a mapping of a new one: on a full disk that is SIGBUS."""
    status = os.statvfs(path)
    if status.f_bavail * status.f_frsize < size:
        raise StorageError(f"rebuilding needs {size} bytes of free disk", errno=ENOSPC, path=os.fsdecode(path))


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
