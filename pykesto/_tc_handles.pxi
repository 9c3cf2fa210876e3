# Open tables: a list in C, so that a forked child finds them whatever Python is doing.

cdef struct Handle:
    TCTDB *tdb  # NULL once closed
    PyThread_type_lock lock
    unsigned long owner  # the thread that holds `lock`
    int pid  # who opened it
    uint64_t device
    uint64_t inode
    PyObject *codec  # ours as long as the library may call it
    uint64_t changes  # counts what moves rows or index entries, so that iterators and cursors notice
    bint lost  # the library was left in the midst of a call, without memory
    Handle *previous
    Handle *following


cdef Handle *open_handles = NULL  # changed only under the GIL
cdef int current_pid = c_getpid()  # kept by pthread_atfork: a system call less on every read

# Held shared by whatever takes the library's own global locks (open, close, index files), and alone around a fork,
# so that no child inherits one of those locks taken.
cdef pthread_rwlock_t gate


cdef void note_child() noexcept nogil:
    global current_pid
    current_pid = c_getpid()


cdef void enlist(Handle *handle) noexcept:
    global open_handles
    handle.previous = NULL
    handle.following = open_handles
    if open_handles is not NULL:
        open_handles.previous = handle
    open_handles = handle


cdef void delist(Handle *handle) noexcept:
    global open_handles
    if handle.previous is not NULL:
        handle.previous.following = handle.following
    elif open_handles is handle:
        open_handles = handle.following
    if handle.following is not NULL:
        handle.following.previous = handle.previous
    handle.previous = handle.following = NULL


cdef void abandon_file(TCHDB *hdb) noexcept nogil:
    """Let go of a file that belongs to the parent: its locks stay with the parent, its path may be opened anew."""
    if hdb.fd >= 0:
        c_close(hdb.fd)
    if hdb.walfd >= 0:
        c_close(hdb.walfd)
    if hdb.rpath is not NULL:
        tcpathunlock(hdb.rpath)


cdef void abandon(TCTDB *tdb) noexcept nogil:
    """Never close it: a child would write the parent's caches a second time. The memory is leaked on purpose."""
    cdef int i
    if tdb.open:
        for i in range(tdb.inum):
            abandon_file((<TCBDB *>tdb.idxs[i].db).hdb)
        abandon_file(tdb.hdb)


def _before_fork():
    if in_codec:
        return  # this thread holds the gate open itself
    with nogil:
        pthread_rwlock_wrlock(&gate)


def _after_fork_in_parent():
    if not in_codec:
        pthread_rwlock_unlock(&gate)


def _after_fork_in_child():
    pthread_rwlock_init(&gate, NULL)
    while open_handles is not NULL:
        if open_handles.tdb is not NULL:
            abandon(open_handles.tdb)
        delist(open_handles)


def _close_all():
    """At exit: a table left open would lose what its index caches hold."""
    cdef Handle *handle
    while open_handles is not NULL:
        handle = open_handles
        delist(handle)
        if handle.pid == current_pid:
            acquire(handle)
            shut(handle)
            release(handle)


pthread_rwlock_init(&gate, NULL)
pthread_atfork(NULL, NULL, note_child)
os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(_close_all)


cdef int acquire(Handle *handle) except -1:
    """Take the table's lock, waiting without the GIL."""
    if not PyThread_acquire_lock(handle.lock, NOWAIT_LOCK):
        if handle.owner == <unsigned long>PyThread_get_thread_ident():
            raise UsageError("the table is in use by this very thread (from a finalizer or a signal handler?)")
        with nogil:
            PyThread_acquire_lock(handle.lock, WAIT_LOCK)
    handle.owner = <unsigned long>PyThread_get_thread_ident()
    return 0


cdef inline void release(Handle *handle) noexcept nogil:
    if handle.tdb is not NULL and is_lost(handle.tdb):
        let_go_of_lost(handle)
    handle.owner = 0
    PyThread_release_lock(handle.lock)


cdef void let_go_of_lost(Handle *handle) noexcept nogil:
    forsake(handle.tdb)
    handle.tdb = NULL
    handle.lost = True


cdef Failure shut(Handle *handle) noexcept:
    """Close the library's table and free it; its code is 0 unless the last writes failed."""
    global io_failure
    cdef Failure outer = io_failure  # a finalizer may close one table in the midst of the work on another
    cdef Failure failure
    cdef bint done = True
    failure.code = TCESUCCESS
    if handle.tdb is NULL:
        return failure
    with nogil:
        pthread_rwlock_rdlock(&gate)
        io_begin()
        if handle.tdb.open and not is_lost(handle.tdb):
            done = tctdbclose(handle.tdb)
        if not done or io_failure.error:
            failure = failure_of(tctdbecode(handle.tdb), io_errno())
        if is_lost(handle.tdb):
            let_go_of_lost(handle)
        else:
            tctdbdel(handle.tdb)
            handle.tdb = NULL
        pthread_rwlock_unlock(&gate)
    io_failure = outer
    return failure
