"""A lock between threads and processes that no interrupt can leave half taken.

`pykesto.files` is the face. Python may run a signal handler, and raise KeyboardInterrupt, after any call that it
makes; between two statements here it can't. So what is taken is always known, and given back.
"""

cimport cython

from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint32_t, uint64_t

from pykesto._system cimport (
    SharedWords, current_pid, kesto_add, kesto_load, kesto_spin, kesto_store, kesto_swap, kesto_wait, kesto_wake_some,
)

import os
import time

import portalocker
import portalocker.portalocker

from pykesto.errors import LockTimeout

cdef extern from "pythread.h":
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock lock)
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) nogil
    void PyThread_release_lock(PyThread_type_lock lock)

# flock, whatever an application makes of portalocker's LOCKER: a POSIX lock would go with any descriptor of its file.
# Its bare callable: what portalocker's functions add takes five times as long as the lock, and every commit pays it.
flock = (
    portalocker.portalocker.FlockLocker().locker
    if hasattr(portalocker.portalocker, "FlockLocker")
    else portalocker.portalocker.LOCKER
)
EXCLUSIVE = int(portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
SHARED = int(portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
UNLOCK = int(portalocker.LockFlags.UNBLOCK)

cdef enum:
    SEQUENCE = 0
    WAITERS = 1
    HOLDER = 2
    TAKEN = 3

LOOK_AGAIN_S = 0.005  # a holder that was killed wakes nobody, so waiters look for themselves this often
# How often to look at the holder's word before sleeping: some 15 us, in which most holders are through. To sleep and be
# woken takes longer, and leaves the caches cold.
cdef int SPINS = 600 if len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else "12") > 1 else 0
cdef int64_t LOOK_AGAIN_NS = <int64_t>(LOOK_AGAIN_S * 1e9)


@cython.final
cdef class Mutex:
    """A re-entrant lock between threads, for moments: threading.RLock without a call through Python, or a look at the clock.

    Who enters and leaves has the interpreter, which guards these words. Those who have to wait sleep on `bell`.
    """

    def __cinit__(self):
        self.bell = PyThread_allocate_lock()
        if self.bell == NULL:
            raise MemoryError("can't make a lock")
        PyThread_acquire_lock(self.bell, 1)  # not rung

    def __dealloc__(self):
        if self.bell != NULL:
            PyThread_free_lock(self.bell)

    cdef bint try_enter(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.owner != me:
            if self.owner != 0:
                return False
            self.owner = me
        self.depth += 1
        return True

    cdef int enter(self) except -1:
        while not self.try_enter():
            self.sleepers += 1
            with nogil:
                PyThread_acquire_lock(self.bell, 1)
            self.sleepers -= 1
            self.rung = False
        return 0

    cdef int leave(self) except -1:
        self.depth -= 1
        if self.depth == 0:
            self.owner = 0
            if self.sleepers and not self.rung:
                self.rung = True
                PyThread_release_lock(self.bell)
        return 0

    cpdef bint is_mine(self):
        """Whether this thread has the lock."""
        return self.owner == PyThread_get_thread_ident()

    def __enter__(self):
        self.enter()
        return self

    def __exit__(self, *_):
        self.leave()


@cython.final
cdef class ProcessLock:
    """An exclusive lock with a bounded wait, on a `FileLock` and three words of a shared page.

    A blocking flock can't time out, and sleeping between tries starves. So: try, then sleep on a futex, of which the
    holder wakes the longest waiting when it lets go. Who has had the lock `burst` times running while others wait
    stands in line like them: a process that asks again at once would else always be there first.

    The words are a sequence to sleep on, the number of sleepers, the holder's pid, and how often the lock was taken.
    The pid spares waiters a system call that fails; it is never believed for long, as one who is killed leaves it.
    """
    def __init__(self, file, SharedWords words not None, Py_ssize_t first_word, *, int burst=32):
        self.burst = burst
        self.file = file
        self.words = words
        self.first = first_word

    cdef bint has_holder(self) except -1:
        return kesto_load(self.words.at(self.first + HOLDER)) != 0

    @property
    def holder(self):
        """The pid that the holder wrote down; 0: nobody, or one that died."""
        return self.words.load(self.first + HOLDER)

    cdef bint take(self) except -1:
        """Take both locks, or neither."""
        if self.in_use:
            return False
        self.in_use = True
        self.user = PyThread_get_thread_ident()
        cdef bint got = False
        try:
            got = self.ask()
            if got:
                kesto_store(self.words.at(self.first + HOLDER), current_pid())
                self.count()
        except BaseException:
            # The kernel may have given the lock before the exception came: give it back, held or not.
            self.file.release()
            self.in_use = False
            raise
        if not got:
            self.in_use = False
        return got

    cdef bint ask(self) except -1:
        fd = self.file.fd
        if fd < 0:
            return self.file.try_acquire()  # which says that it is closed
        try:
            flock(fd, EXCLUSIVE)
        except OSError:
            return self.file.try_acquire()  # which says what it is
        return True

    cdef int count(self) except -1:
        """Note how often running this process has had the lock."""
        cdef uint64_t taken = kesto_add(self.words.at(self.first + TAKEN), 1)
        self.in_a_row = self.in_a_row + 1 if taken == self.last_taken + 1 else 1
        self.last_taken = taken
        self.owner = PyThread_get_thread_ident()
        return 0

    cdef bint take_if_free(self) except -1:
        """Take both locks, or neither, without asking for one that someone seems to have."""
        return kesto_load(self.words.at(self.first + HOLDER)) == 0 and self.take()

    cdef int give(self) except -1:
        cdef uint64_t *words
        self.owner = 0
        try:
            fd = self.file.fd
            if fd >= 0:
                flock(fd, UNLOCK)
        except BaseException:
            # An interrupt that came during C code is raised where Python is entered again: before the release.
            self.file.release()
            raise
        finally:
            self.in_use = False
            words = self.words.at(self.first)  # now: another thread may have closed the database during the call
            kesto_swap(words + HOLDER, <uint64_t>current_pid(), 0)  # unless the next one has written itself down
        if kesto_load(words + WAITERS):
            kesto_add(words + SEQUENCE, 1)
            kesto_wake_some(words + SEQUENCE, 1)
        return 0

    cdef int take_in_time(self, object timeout_s) except -1:
        """Take the lock, or raise LockTimeout after `timeout_s` seconds (None: wait for ever)."""
        if self.in_a_row >= self.burst and kesto_load(self.words.at(self.first + WAITERS)):
            self.let_others()
        if self.take_if_free():
            return 0
        # A thread of this process may need the interpreter, which this one has, to go on.
        if not self.in_use and kesto_spin(self.words.at(self.first + HOLDER), SPINS) and self.take_if_free():
            return 0
        cdef double began = time.monotonic()
        cdef double waited_s = 0
        cdef bint refused = False
        while timeout_s is None or waited_s < timeout_s:
            if self.sleep(refused) and self.has_holder():
                refused = False  # someone let go, and another was quicker
            elif self.take():
                return 0
            else:
                refused = True
            waited_s = time.monotonic() - began
        if not self.take():
            raise LockTimeout(self.file.path.name, holder_pid=self.holder, waited_s=waited_s)
        return 0

    cdef int let_others(self) except -1:
        """Stand in line once. If nobody came meanwhile, those who were counted as waiting are dead."""
        cdef uint64_t taken = kesto_load(self.words.at(self.first + TAKEN))
        self.in_a_row = 0
        self.sleep(True)
        if kesto_load(self.words.at(self.first + TAKEN)) == taken:
            kesto_store(self.words.at(self.first + WAITERS), 0)
        return 0

    cdef bint sleep(self, bint anyway) except -1:
        """Sleep until someone lets go, or a moment, unless nobody seems to have the lock; whether someone let go."""
        cdef uint64_t *word = self.words.at(self.first + SEQUENCE)
        cdef uint64_t sequence = kesto_load(word)
        self.words.add(self.first + WAITERS, 1)
        try:
            if not anyway and not self.has_holder():
                return True
            with nogil:
                kesto_wait(word, <uint32_t>sequence, LOOK_AGAIN_NS)
            return kesto_load(self.words.at(self.first + SEQUENCE)) != sequence
        finally:
            self.words.lower(self.first + WAITERS, 1)

    def held(self, timeout_s):
        """For a block: `with lock.held(10.0): ...`; LockTimeout, naming the holder, after so many seconds."""
        return Held(self, timeout_s, True)

    def tried(self):
        """For a block, without waiting: `with lock.tried() as got: ...`."""
        return Held(self, 0, False)

    @property
    def taken(self):
        """How often the lock was taken since the first process attached."""
        return kesto_load(self.words.at(self.first + TAKEN))

    def acquire(self, timeout_s):
        """Take the lock, or raise LockTimeout; `let_go` gives it back."""
        self.take_in_time(timeout_s)

    def is_mine(self):
        """Whether this thread has the lock."""
        return self.owner == PyThread_get_thread_ident()

    def is_used_here(self):
        """Whether this thread has the lock, or was interrupted where it takes it or lets go: it can't wait for it."""
        return self.in_use and self.user == PyThread_get_thread_ident()

    def adopt(self):
        """Have this thread be the one that lets go; the one that took it knows."""
        self.user = self.owner = PyThread_get_thread_ident()

    def let_go(self):
        """Give the lock back before its block ends, if this thread has it."""
        self.give_mine()

    cdef int give_mine(self) except -1:
        if self.owner == PyThread_get_thread_ident():
            self.give()
        return 0

    def close(self):
        """Close the descriptor. In a forked child this releases nothing of the parent's."""
        self.owner = 0  # what the thread that forked held is the parent's
        self.file.close()


@cython.final
cdef class Held:
    """What `held` and `tried` give. Entered and left in C, where no signal handler runs in between."""
    cdef ProcessLock lock
    cdef object timeout_s
    cdef bint wait
    cdef bint got

    def __init__(self, ProcessLock lock not None, timeout_s, bint wait):
        self.lock = lock
        self.timeout_s = timeout_s
        self.wait = wait

    def __enter__(self):
        if self.wait:
            self.lock.take_in_time(self.timeout_s)
            self.got = True
        else:
            self.got = self.lock.take()
        return self.got

    def __exit__(self, *_):
        if self.got:
            self.got = False
            self.lock.give_mine()
