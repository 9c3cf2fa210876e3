# The ids of objects, and the keys of their rows.

cdef bytes chance = b""  # random bytes, drawn ahead
cdef Py_ssize_t drawn = 0


def _forked():
    global chance, last_ms
    chance, last_ms = b"", 0  # the parent goes on with the same


os.register_at_fork(after_in_child=_forked)


cdef unsigned long long last_ms = 0, last_tail = 0


cpdef bytes new_id(Py_ssize_t number):
    """An id of version 7 (RFC 9562): milliseconds of the clock, the class's number as a hint, 62 bits of chance.

    Within a millisecond the last bits grow, so that the ids that a process gives to the objects of a class are in order.
    """
    global chance, drawn, last_ms, last_tail
    cdef unsigned long long now = <unsigned long long>time.time_ns() // 1_000_000, tail = 0
    cdef unsigned char out[16]
    cdef const unsigned char *at
    cdef int i
    if drawn + 8 > PyBytes_GET_SIZE(chance):
        chance, drawn = os.urandom(2048), 0
    at = <const unsigned char *>PyBytes_AS_STRING(chance) + drawn
    drawn += 8
    for i in range(8):
        tail = tail << 8 | at[i]
    if now > last_ms:
        last_ms, last_tail = now, tail & 0x1FFFFFFFFFFFFFFF
    else:
        last_tail += 1 + (tail & 0xFFFFFFFF)
    for i in range(6):
        out[i] = <unsigned char>(last_ms >> (40 - 8 * i))
    number = min(number, UNHINTED)
    out[6] = 0x70 | <unsigned char>(number >> 8)
    out[7] = <unsigned char>(number & 0xFF)
    for i in range(8):
        out[8 + i] = <unsigned char>(last_tail >> (56 - 8 * i))
    out[8] = 0x80 | (out[8] & 0x3F)
    return PyBytes_FromStringAndSize(<char *>out, 16)


cdef Py_ssize_t hinted(bytes id) noexcept:
    """The number of the class that an id hints at."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(id)
    return (at[6] & 0xF) << 8 | at[7] if PyBytes_GET_SIZE(id) == 16 and at[6] >> 4 == 7 else unhinted_


cdef bytes key_of_id(bytes id):
    """The encoded key of an id: that of the UUID."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(id)
    cdef unsigned char out[33]
    cdef Py_ssize_t i, size = 1
    out[0] = 0xC8
    for i in range(PyBytes_GET_SIZE(id)):
        if at[i] < 3:
            out[size] = 2
            size += 1
            out[size] = at[i] + 1
        else:
            out[size] = at[i]
        size += 1
    return PyBytes_FromStringAndSize(<char *>out, size)


cdef bytes id_of_key(bytes key):
    """The id that an encoded key is of."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(key)
    cdef unsigned char out[16]
    cdef Py_ssize_t i = 1, size = 0, end = PyBytes_GET_SIZE(key)
    while i < end and size < 16:
        if at[i] == 2 and i + 1 < end:
            i += 1
            out[size] = at[i] - 1
        else:
            out[size] = at[i]
        i += 1
        size += 1
    if at[0] != 0xC8 or size != 16 or i != end:
        raise CodecError(f"{key!r} is no key of an object")
    return PyBytes_FromStringAndSize(<char *>out, 16)


def uuid_of(bytes id not None):
    """An id as users have it. The codec makes UUIDs faster than UUID does."""
    return decode_key(key_of_id(id))
