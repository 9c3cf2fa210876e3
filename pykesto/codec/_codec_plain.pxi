# The plain form of scalars: what stands in containers is not compared by its bytes.

cdef object unknown_safety = SafeUUID.unknown, new_uuid = UUID.__new__


cdef inline int put_big_endian(Buffer *out, uint64_t n, int size) except -1:
    cdef int i
    need(out, size)
    for i in range(size - 1, -1, -1):
        out.at[out.used + i] = <unsigned char>(n & 0xFF)
        n >>= 8
    out.used += size
    return 0


cdef inline int64_t take_big_endian(const unsigned char *at, int size) noexcept:
    cdef int64_t n = <signed char>at[0]
    cdef int i
    for i in range(1, size):
        n = <int64_t>(<uint64_t>n << 8 | at[i])
    return n


cdef int put_plain_integer(Buffer *out, n) except -1:
    cdef int overflow = 0, size = 1
    cdef int64_t small = PyLong_AsLongLongAndOverflow(n, &overflow)
    cdef uint64_t bits = <uint64_t>(small ^ small >> 63)
    cdef bytes block
    if overflow:
        block = n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)
        put_byte(out, P_INT)
        return put_block(out, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))
    if P_INT_MIN <= small <= P_INT_MAX:
        return put_byte(out, P_INT0 + <int>small)
    while bits >> (8 * size - 1):
        size += 1
    put_byte(out, P_INT1 - 1 + size)
    return put_big_endian(out, <uint64_t>small, size)


cdef inline void big_endian_double(double x, unsigned char *to) noexcept:
    cdef uint64_t bits
    cdef int i
    memcpy(&bits, &x, 8)
    for i in range(8):
        to[i] = <unsigned char>(bits >> (56 - 8 * i))


cdef inline double double_at(const unsigned char *at) noexcept:
    cdef uint64_t bits = 0
    cdef double x
    cdef int i
    for i in range(8):
        bits = bits << 8 | at[i]
    memcpy(&x, &bits, 8)
    return x


cdef int put_plain_real(Buffer *out, double x) except -1:
    cdef float narrow = <float>x
    cdef uint32_t bits = 0
    if <double>narrow == x:
        memcpy(&bits, &narrow, 4)
        put_byte(out, P_FLOAT32)
        return put_big_endian(out, bits, 4)
    put_byte(out, P_FLOAT)
    need(out, 8)
    big_endian_double(x, out.at + out.used)
    out.used += 8
    return 0


cdef inline double float_at(const unsigned char *at) noexcept:
    cdef uint32_t bits = <uint32_t>take_big_endian(at, 4)
    cdef float x
    memcpy(&x, &bits, 4)
    return x


cdef int put_plain_text(Buffer *out, text) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *at = utf8(text, &size)
    if size < SHORT:
        put_byte(out, <int>size)
        return put(out, at, size)
    put_byte(out, P_STR)
    return put_block(out, at, size)


cdef object uuid_of(bytes block):
    # What UUID(bytes=...) does, without its checks: five times faster.
    cdef object out = new_uuid(UUID)
    PyObject_GenericSetAttr(
        out, "int", _PyLong_FromByteArray(<const unsigned char *>PyBytes_AS_STRING(block), 16, False, False)
    )
    PyObject_GenericSetAttr(out, "is_safe", unknown_safety)
    return out


cdef int put_wrapped(Writer *out, x) except -1:
    """The ordered form within the plain one, its size before it."""
    cdef Py_ssize_t start
    put_byte(&out.body, P_ORDERED)
    # One byte for the size, which is not known yet; a longer size moves what follows.
    start = out.body.used
    put_byte(&out.body, 0)
    put_ordered(out, x)
    return put_size_before(&out.body, start)


cdef int put_size_before(Buffer *out, Py_ssize_t start) except -1:
    """A length into the byte kept at `start`, of all that was written behind it."""
    cdef Py_ssize_t size = out.used - start - 1, more
    cdef unsigned char number[10]
    if size < 0x80:
        out.at[start] = <unsigned char>size
        return 0
    put_size(out, size)
    more = out.used - start - 1 - size
    memcpy(number, out.at + start + 1 + size, more)
    memmove(out.at + start + more, out.at + start + 1, size)
    memcpy(out.at + start, number, more)
    out.used -= 1
    return 0


cdef object take_rare(Reader *source, int tag):
    cdef Py_ssize_t size, end
    cdef const unsigned char *at
    if tag == P_INT:
        size = take_size(source)
        at = take(source, size)
        return _PyLong_FromByteArray(at, size, False, True)
    if tag == P_DECIMAL:
        return take_plain_decimal(source)
    if tag == P_REFERENCE:
        found = PyBytes_FromStringAndSize(<const char *>take(source, 16), 16)
        return Reference(found) if source.reference == NULL else (<object>source.reference)(found)
    if tag == P_ORDERED:
        size = take_size(source)
        take(source, size)
        source.pos -= size
        end, source.end = source.end, source.pos + size
        tag = take_byte(source)
        if tag == TUPLE:
            raise _Fault("a tuple in the ordered form is inside a container")
        out = take_ordered(source, tag)
        source.end = end
        return out
    raise _Fault(f"no value begins with the byte {tag:#04x}")
