"""A lock between threads and processes that no interrupt can leave half taken.

`pykesto.files` is the face. Python may run a signal handler, and raise KeyboardInterrupt, after any call that it
makes; between two statements here it can't. So what is taken is always known, and given back.
"""

cimport cython

from pykesto._system cimport SharedWords, kesto_load, kesto_store

import threading
import time

from pykesto.errors import LockTimeout

cdef extern from "<unistd.h>" nogil:
    int getpid()

cdef enum:
    SEQUENCE = 0
    WAITERS = 1
    HOLDER = 2

LOOK_AGAIN_S = 0.005  # a holder that was killed wakes nobody, so waiters look for themselves this often


@cython.final
cdef class ProcessLock:
    """An exclusive lock with a bounded wait, on a `FileLock` and three words of a shared page.

    A blocking flock can't time out, and sleeping between tries starves. So: try, then sleep on a futex that the
    holder wakes when it lets go. The words are a sequence to sleep on, the number of sleepers, and the holder's pid,
    which is for people to read only.
    """
    cdef readonly object file
    cdef SharedWords words
    cdef Py_ssize_t first
    cdef object threads

    def __init__(self, file, SharedWords words not None, Py_ssize_t first_word):
        self.file = file
        self.words = words
        self.first = first_word
        self.threads = threading.Lock()

    @property
    def holder(self):
        """The pid that the holder wrote down; 0: nobody, or one that died."""
        return self.words.load(self.first + HOLDER)

    cdef bint take(self) except -1:
        """Take both locks, or neither."""
        if not self.threads.acquire(False):
            return False
        cdef bint got = False
        try:
            got = self.file.try_acquire()
            if got:
                kesto_store(self.words.at(self.first + HOLDER), getpid())
        except BaseException:
            # The kernel may have given the lock before the exception came: give it back, held or not.
            self.file.release()
            self.threads.release()
            raise
        if not got:
            self.threads.release()
        return got

    cdef int give(self) except -1:
        try:
            kesto_store(self.words.at(self.first + HOLDER), 0)
        finally:
            try:
                self.file.release()
            finally:
                self.threads.release()
        if kesto_load(self.words.at(self.first + WAITERS)):
            self.words.add(self.first + SEQUENCE, 1)
            self.words.wake(self.first + SEQUENCE)
        return 0

    cdef int take_in_time(self, object timeout_s) except -1:
        """Take the lock, or raise LockTimeout after `timeout_s` seconds (None: wait for ever)."""
        cdef double began = time.monotonic()
        cdef double waited_s
        while not self.take():
            waited_s = time.monotonic() - began
            if timeout_s is not None and waited_s >= timeout_s:
                raise LockTimeout(self.file.path.name, holder_pid=self.holder, waited_s=waited_s)
            self.sleep()
        return 0

    cdef int sleep(self) except -1:
        sequence = self.words.load(self.first + SEQUENCE)
        self.words.add(self.first + WAITERS, 1)
        try:
            self.words.wait(self.first + SEQUENCE, sequence, LOOK_AGAIN_S)
        finally:
            self.words.lower(self.first + WAITERS, 1)
        return 0

    def held(self, timeout_s):
        """For a block: `with lock.held(10.0): ...`; LockTimeout, naming the holder, after so many seconds."""
        return Held(self, timeout_s, True)

    def tried(self):
        """For a block, without waiting: `with lock.tried() as got: ...`."""
        return Held(self, 0, False)

    def close(self):
        """Close the descriptor. In a forked child this releases nothing of the parent's."""
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
            self.lock.give()
