# Pieces of the ordered form: numbers of a known and of an open length, each ended by itself and without a zero byte.

cdef uint64_t MASK56 = (<uint64_t>1 << 56) - 1
cdef int64_t MICROS = 1000000


cdef int put_digits(Buffer *out, uint64_t n, int size, bint flip) except -1:
    """n in base 255, big-endian, without zeros."""
    cdef int i
    cdef unsigned char digit
    need(out, size)
    for i in range(size - 1, -1, -1):
        digit = <unsigned char>(n % 255 + 1)
        out.at[out.used + i] = <unsigned char>(256 - digit) if flip else digit
        n //= 255
    out.used += size
    return 0


cdef uint64_t take_digits(Reader *source, int size, bint flip) except? 0:
    cdef const unsigned char *at
    cdef uint64_t n = 0
    cdef int i
    if not size:
        return 0
    at = take(source, size)
    for i in range(size):
        if not at[i]:
            raise _Fault("a NUL byte in a number")
        n = n * 255 + ((256 - at[i] if flip else at[i]) - 1)
    return n


cdef int put_micros(Buffer *out, int64_t us) except -1:
    if us:
        put_byte(out, SUFFIXES + <int>(us // 65025))
        put_digits(out, us % 65025, 2, False)
    return 0


cdef int64_t take_micros(Reader *source) except -1:
    cdef int64_t us
    if source.pos >= source.end or source.at[source.pos] < SUFFIXES:
        return 0
    us = (take_byte(source) - SUFFIXES) * 65025
    us += take_digits(source, 2, False)
    if us >= MICROS:
        raise _Fault("a second has no so many microseconds")
    return us


cdef int put_signed(Buffer *out, int64_t n) except -1:
    cdef uint64_t magnitude = n if n >= 0 else -n, left = magnitude
    cdef int size = 0
    while left:
        size += 1
        left //= 255
    put_byte(out, 0x80 - size if n < 0 else 0x80 + size)
    return put_digits(out, magnitude, size, n < 0)


cdef int64_t take_signed(Reader *source) except? -1:
    cdef int size = take_byte(source) - 0x80
    cdef int64_t n
    if not -7 <= size <= 7:
        raise _Fault("a count of seconds is out of range")
    n = <int64_t>take_digits(source, -size if size < 0 else size, size < 0)
    return -n if size < 0 else n


cdef int put_count(Buffer *out, uint64_t n, bint flip) except -1:
    cdef unsigned char block[12]
    cdef int size = 0, i, shift
    if n < 208:
        return put_byte(out, 0xF0 - <int>n if flip else 0x10 + <int>n)
    while size < 10 and n >> (7 * size):
        size += 1
    block[0] = 0xE0 + size
    for i in range(size):
        shift = 7 * (size - 1 - i)
        block[1 + i] = 0x80 | (n >> shift & 0x7F)
    if flip:
        for i in range(size + 1):
            block[i] = <unsigned char>(256 - block[i])
    return put(out, block, size + 1)


cdef uint64_t take_count(Reader *source, bint flip) except? 0:
    cdef int head = take_byte(source), i, byte
    cdef uint64_t n = 0
    if flip:
        head = 256 - head
    if 0x10 <= head < 0xE0:
        return head - 0x10
    if not 0xE2 <= head <= 0xE9:
        raise _Fault("a count is out of range")
    for i in range(head - 0xE0):
        byte = take_byte(source)
        n = n << 7 | ((256 - byte if flip else byte) & 0x7F)
    return n


cdef int put_groups(Buffer *out, uint64_t bits, bint flip) except -1:
    """The upper bits of 56, seven to a byte, until the rest is zero."""
    cdef int byte
    while True:
        byte = group_of(&bits)
        put_byte(out, 256 - byte if flip else byte)
        if not bits:
            return 0


cdef inline int group_of(uint64_t *bits) noexcept:
    """The upper seven of 56 bits, and whether there are more."""
    cdef int byte = <int>(bits[0] >> 49 & 0x7F) << 1
    bits[0] = bits[0] << 7 & MASK56
    return byte | (bits[0] != 0)


cdef uint64_t take_groups(Reader *source, bint flip, bint *goes_on) except? 0:
    cdef uint64_t bits = 0
    cdef int i, byte
    for i in range(GROUPS):
        byte = take_byte(source)
        if flip:
            byte = 256 - byte
        bits |= <uint64_t>(byte >> 1 & 0x7F) << (49 - 7 * i)
        if not byte & 1:
            goes_on[0] = False
            return bits
    goes_on[0] = True
    return bits


# What follows the hundredths of a number is mostly next to nothing, or to a hundredth: 3.14 has no exact float. So equal
# groups at its beginning, all zeros or all ones, are counted.

cdef enum:
    GROUPS = 8
    ZEROS = 0x01  # a group of seven zeros, after which there is more
    ONES = 0xFF
    RUN = 0x18  # the byte of a run: this less the further zeros, or plus the further ones


cdef int put_fine_groups(Buffer *out, const unsigned char *group, int size) except -1:
    """Groups with their runs counted; there are no more than eight."""
    cdef int i = 1
    put_byte(out, group[0])
    if group[0] == ZEROS or group[0] == ONES:
        while i < size and group[i] == group[0]:
            i += 1
        put_byte(out, RUN - (i - 1) if group[0] == ZEROS else RUN + (i - 1))
    return put(out, group + i, size - i)


cdef int put_fine(Buffer *out, uint64_t bits) except -1:
    cdef unsigned char group[GROUPS]
    cdef int size = 0
    while size < GROUPS:
        group[size] = <unsigned char>group_of(&bits)
        size += 1
        if not bits:
            break
    return put_fine_groups(out, group, size)


cdef uint64_t take_fine(Reader *source, bint *goes_on) except? 0:
    cdef uint64_t bits = 0
    cdef int i = 0, byte = take_byte(source), run
    if byte == ZEROS or byte == ONES:
        run = take_byte(source) - RUN
        run = -run if byte == ZEROS else run
        if not 0 <= run < GROUPS:
            raise _Fault("a run of groups is out of range")
        i = run + 1
        if byte == ONES:
            bits = MASK56 ^ MASK56 >> (7 * i)
        if i < GROUPS:
            byte = take_byte(source)
    while i < GROUPS:
        bits |= <uint64_t>(byte >> 1 & 0x7F) << (49 - 7 * i)
        if not byte & 1:
            goes_on[0] = False
            return bits
        i += 1
        if i < GROUPS:
            byte = take_byte(source)
    goes_on[0] = True
    return bits


cdef int put_size(Buffer *out, Py_ssize_t n) except -1:
    """A length of the plain form."""
    while n >= 0x80:
        put_byte(out, n & 0x7F | 0x80)
        n >>= 7
    return put_byte(out, <int>n)


cdef Py_ssize_t take_size(Reader *source) except -1:
    cdef uint64_t n = 0
    cdef int shift = 0, byte
    while True:
        byte = take_byte(source)
        n |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return <Py_ssize_t>n
        shift += 7
        if shift > 49:
            raise _Fault("a length is out of range")


cdef Py_ssize_t take_number(Reader *source, int least) except -1:
    """A number of items, each of which takes at least so many bytes."""
    cdef Py_ssize_t n = take_size(source)
    if n > (source.end - source.pos) // least:
        raise _Fault("more items are announced than there are bytes")
    return n


cdef int put_block(Buffer *out, const void *block, Py_ssize_t size) except -1:
    put_size(out, size)
    return put(out, block, size)


cdef bytes take_block(Reader *source):
    cdef Py_ssize_t size = take_size(source)
    return PyBytes_FromStringAndSize(<const char *>take(source, size), size)
