"""The codec for other compiled modules: what the Python functions of the same subject do, without their call.

Pointers are only read, and not kept. `reference` is None, or as `encode` and `decode` take it. All raise CodecError.
"""


cdef bytes key_of(object value, bint *nan_met=*)  # encode_key
cdef bytes bytes_of(object value, object reference)  # encode
cdef object value_of(const char *data, Py_ssize_t size, object reference, bint as_stored=*)  # decode
cdef bytes image_of(object row, object reference)  # encode_row: a dict, or another mapping
cdef dict row_of(const char *image, Py_ssize_t size, object reference)  # decode_row
cdef bytes column_of(const char *image, Py_ssize_t size, const char *name, Py_ssize_t name_size)  # find_column, or None


cdef struct Column:  # of a packed row: where its name is, and where its value lies in the image
    const unsigned char *name
    Py_ssize_t name_size
    Py_ssize_t at
    Py_ssize_t end


cdef Py_ssize_t next_column(const char *image, Py_ssize_t size, Py_ssize_t at, Column *column) except -1  # its end
cdef bint find_in(const char *image, Py_ssize_t size, const char *name, Py_ssize_t name_size, Column *column) except -1
