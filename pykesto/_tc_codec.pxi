# A codec of the user's: what is called for each record on its way to the file and back.

cdef extern from *:
    """
    static __thread int kesto_in_codec; /* this thread runs Python inside the library */
    """
    int in_codec "kesto_in_codec"


@cython.final
cdef class _Functions:
    """Two functions of bytes to bytes, and what the last call of one raised.

    Each record is stored with a checksum of what it held before: what a wrong function gives back, or a damaged
    record, never reaches the library's parser of index pages, which trusts its input.
    """

    cdef object encode
    cdef object decode
    cdef object raised

    def __init__(self, pair):
        try:
            self.encode, self.decode = pair
        except (TypeError, ValueError):
            raise TypeError("codec must be a pair of functions: (encode, decode)") from None
        if not callable(self.encode) or not callable(self.decode):
            raise TypeError("codec must be a pair of functions: (encode, decode)")

    cdef bytes packed(self, bytes record):
        return checksum_of(record) + self._result("encode", self.encode(record))

    cdef bytes unpacked(self, bytes stored):
        record = self._result("decode", self.decode(stored[4:]))
        if checksum_of(record) != stored[:4]:
            raise CorruptionError("a record does not match its checksum: damage, or a codec of other functions")
        return record

    cdef bytes _result(self, str which, object result):
        if not isinstance(result, bytes):
            raise TypeError(f"codec: {which} must give bytes, not {type(result).__name__}")
        size_of(result)
        return result


cdef bytes checksum_of(bytes record):
    return crc32c(record).to_bytes(4)


cdef void *encode_record(const void *data, int size, int *result_size, void *codec) noexcept nogil:
    with gil:
        return through_codec(<_Functions>codec, True, data, size, result_size)


cdef void *decode_record(const void *data, int size, int *result_size, void *codec) noexcept nogil:
    with gil:
        return through_codec(<_Functions>codec, False, data, size, result_size)


cdef void *through_codec(_Functions codec, bint encoding, const void *data, int size, int *result_size) noexcept:
    """A block of the library's allocator, or NULL: the library then fails, and the error is kept for the caller."""
    global in_codec
    cdef Failure outer = io_failure  # the function may use another table
    cdef CallState call
    cdef bytes record, result
    cdef char *block
    in_codec += 1
    suspend(&call)
    try:
        record = PyBytes_FromStringAndSize(<const char *>data, size)
        result = codec.packed(record) if encoding else codec.unpacked(record)
        block = <char *>malloc(PyBytes_GET_SIZE(result) + 1)
        if block is NULL:
            raise MemoryError
        memcpy(block, PyBytes_AS_STRING(result), PyBytes_GET_SIZE(result) + 1)
        result_size[0] = <int>PyBytes_GET_SIZE(result)
        return block
    except BaseException as error:
        if codec.raised is None:
            codec.raised = error
        return NULL
    finally:
        in_codec -= 1
        resume(&call)
        restore_failure(outer)


cdef inline void restore_failure(Failure failure) noexcept nogil:
    global io_failure
    io_failure = failure
