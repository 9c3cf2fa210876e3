# Text and blobs: UTF-8, and bytes without 0, 1 and 2 in them.

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 greatest)
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef uint64_t EACH_BYTE = 0x0101010101010101, HIGH_BITS = 0x8080808080808080


cdef inline const char *utf8(text, Py_ssize_t *size) except NULL:
    if PyUnicode_IS_COMPACT_ASCII(text):
        size[0] = PyUnicode_GET_LENGTH(text)
        return <const char *>PyUnicode_DATA(text)
    return utf8_of_any(text, size)


cdef const char *utf8_of_any(text, Py_ssize_t *size) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        raise _Fault(f"a str with a lone surrogate at {error.start} is no text that UTF-8 can hold") from None


cdef inline object text_at(const unsigned char *at, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
    except UnicodeDecodeError:
        raise _Fault("a str is no UTF-8") from None


cdef object text_of(bytes block):
    return text_at(<const unsigned char *>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))


cdef inline int look(const unsigned char *at, Py_ssize_t size, bint *is_ascii) noexcept:
    """Whether a byte is below 3, eight at a time."""
    cdef uint64_t word, low = 0, high = 0
    while size >= 8:
        memcpy(&word, at, 8)
        low |= (word - 3 * EACH_BYTE) & ~word
        high |= word
        at += 8
        size -= 8
    if size:
        word = 0x20 * EACH_BYTE
        memcpy(&word, at, size)
        low |= (word - 3 * EACH_BYTE) & ~word
        high |= word
    is_ascii[0] = not high & HIGH_BITS
    return (low & HIGH_BITS) != 0


cdef int put_escaped(Buffer *out, const unsigned char *text, Py_ssize_t size) except -1:
    """0, 1 and 2 become 2 and one more than they were."""
    cdef Py_ssize_t i, low = 0
    cdef unsigned char *to
    cdef bint is_ascii
    if not look(text, size, &is_ascii):
        return put(out, text, size)
    for i in range(size):
        low += text[i] < 3
    need(out, size + low)
    to = out.at + out.used
    for i in range(size):
        if text[i] < 3:
            to[0] = 2
            to[1] = text[i] + 1
            to += 2
        else:
            to[0] = text[i]
            to += 1
    out.used += size + low
    return 0


cdef bytes take_escaped(Reader *source, Py_ssize_t wanted):
    """Up to an END or the end of the bytes; or, where `wanted` is not negative, so many bytes."""
    cdef Py_ssize_t stop = source.pos, low = 0, i
    cdef unsigned char byte
    cdef unsigned char *to
    cdef bytes out
    while stop < source.end and stop - source.pos - low != wanted:
        byte = source.at[stop]
        if byte < 3:
            if byte != 2:
                break
            low += 1
            stop += 1
            if stop == source.end or not 1 <= source.at[stop] <= 3:
                raise _Fault("a byte is escaped that can't be")
        stop += 1
    if wanted >= 0 and stop - source.pos - low != wanted:
        raise _Fault("the bytes end too early")
    if not low:
        out = PyBytes_FromStringAndSize(<const char *>source.at + source.pos, stop - source.pos)
    else:
        out = PyBytes_FromStringAndSize(NULL, stop - source.pos - low)
        to = <unsigned char *>PyBytes_AS_STRING(out)
        i = source.pos
        while i < stop:
            if source.at[i] == 2:
                i += 1
                to[0] = source.at[i] - 1
            else:
                to[0] = source.at[i]
            to += 1
            i += 1
    source.pos = stop
    return out


cdef object take_last_text(Reader *source):
    """A str that ends with the bytes, or before an END."""
    cdef Py_ssize_t size = source.end - source.pos
    cdef const unsigned char *at = source.at + source.pos
    cdef bint is_ascii
    cdef object out
    if look(at, size, &is_ascii):
        return text_of(take_escaped(source, -1))
    source.pos = source.end
    if not is_ascii or size < 2:
        return text_at(at, size)
    out = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(out), at, size)
    return out


cdef object take_last_bytes(Reader *source):
    cdef Py_ssize_t size = source.end - source.pos
    cdef const unsigned char *at = source.at + source.pos
    cdef bint is_ascii
    if look(at, size, &is_ascii):
        return take_escaped(source, -1)
    source.pos = source.end
    return PyBytes_FromStringAndSize(<const char *>at, size)
