"""What other compiled modules use of `_system`, without a call through Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "pykesto/crc32c.h" nogil:
    uint32_t kesto_crc32c(uint32_t seed, const void *data, size_t size)


cdef extern from "pykesto/words.h" nogil:
    uint64_t kesto_load(uint64_t *word)
    void kesto_store(uint64_t *word, uint64_t value)
    uint64_t kesto_add(uint64_t *word, uint64_t value)
    int kesto_swap(uint64_t *word, uint64_t was, uint64_t value)
    void kesto_fence()
    void kesto_wait(uint64_t *word, uint32_t expected, int64_t ns)
    void kesto_wait_among(uint64_t *word, uint32_t expected, int64_t ns, uint32_t groups)
    int kesto_spin(uint64_t *word, int rounds)
    void kesto_wake(uint64_t *word)
    void kesto_wake_some(uint64_t *word, int count)
    void kesto_wake_among(uint64_t *word, int count, uint32_t groups)


cdef int current_pid() noexcept nogil


cdef class SharedWords:
    cdef uint64_t *words
    cdef readonly Py_ssize_t count
    cdef void unmap(self) noexcept
    cdef uint64_t *at(self, Py_ssize_t i) except NULL
