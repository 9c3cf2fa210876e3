# What failed: the library's code, and the call of the system behind it.

VERSION = tcversion.decode()


class Error(StorageError):
    """Tokyo Cabinet could not do what it was asked.

    Attributes:
        code: the library's number, such as 3 for "file not found".
        operation: what was tried: "open", "put", ...
        path: the table's file, or None.
        errno: the operating system's number at that moment, or None; the message names the call that failed.
    """

    def __init__(self, code, operation, *, path=None, errno=None, call="", hint=""):
        self.code = code
        self.operation = operation
        where = "" if path is None else f" {os.fspath(path)}"
        why = f": {call}: {os.strerror(errno)}" if call and errno is not None else ""
        super().__init__(
            f"{operation}{where}: {_message_of(code)} (code {code}){why}", errno=errno, path=path, hint=hint
        )


Error.__module__ = "pykesto.tc"  # the public face; pickles find it there


def _message_of(int code):
    return tctdberrmsg(code).decode("ascii", "replace")


cdef Failure failure_of(int code, int error) noexcept nogil:
    """The call of the system that failed, where one was noted; else what the library and the system left."""
    cdef Failure failure = io_failure
    if not failure.error:
        failure.code = TCEMISC if code == TCESUCCESS else code
        failure.error, failure.call = error, NULL
    return failure


cdef object error_of(Failure failure, str operation, object path, str hint=""):
    call = "" if failure.call is NULL else failure.call.decode()
    if call == "malloc":
        return MemoryError(f"{operation} {path}" + (f" ({hint})" if hint else ""))
    return Error(failure.code, operation, path=path, errno=failure.error or None, call=call, hint=hint)


cdef void forget_errors(TCTDB *tdb) noexcept:
    """The library keeps its first grave error for good, and tells no other from then on."""
    cdef TCHDB *hdb
    cdef int i
    if is_lost(tdb):
        return
    for i in range(-1, tdb.inum):
        hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
        hdb.ecode = TCESUCCESS
        hdb.fatal = False


cdef int first_error(TCTDB *tdb) noexcept:
    """An error that happened since `forget_errors`; that a record isn't there is none."""
    cdef int i, code
    if is_lost(tdb):
        return TCEMISC
    for i in range(-1, tdb.inum):
        code = (tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb).ecode
        if code != TCESUCCESS and code != TCENOREC:
            return code
    return TCESUCCESS


cdef object damage_of(str operation):
    """What the thread's last call found in a file."""
    return CorruptionError(f"{operation} found damage", path=os.fsdecode(damage.path), offset=damage.offset or None)
