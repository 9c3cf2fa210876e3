# Numbers in order, across int, float, Decimal and Fraction: whole part and fraction, or a power of two and its bits.

cdef object ONE = 1, FRACTION = 100 << 56  # ints of Python: what is done with them does not fit into C

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030D0000
    PyAPI_FUNC(PyObject *) _PyLong_FromByteArray(const unsigned char *, size_t, int, int);
    #endif
    """
    object _PyLong_FromByteArray(const unsigned char *at, size_t size, int little_endian, int is_signed)


cdef inline int put_plain(Writer *out) except -1:
    """The number or time just written is what its core says by itself."""
    if out.suffixes.used:
        return put_byte(&out.suffixes, AS_PLAIN)
    out.plain += 1
    return 0


cdef int put_suffix(Writer *out, int kind) except -1:
    if out.keyed:
        return 0
    if not out.suffixes.used:
        while out.plain:
            put_byte(&out.suffixes, AS_PLAIN)
            out.plain -= 1
    return put_byte(&out.suffixes, kind)


cdef int put_whole(Buffer *out, int64_t n) except -1:
    """The integer part of a number; 0x30 even where it is zero."""
    cdef uint64_t left, span = 255
    cdef int size = 1
    if -16 <= n <= 127:
        return put_byte(out, <int>n + (0x30 if n >= 0 else 0x2D))
    left = <uint64_t>(n - 128) if n > 0 else <uint64_t>(-17 - n)
    while left >= span and size < 8:
        left -= span
        span *= 255
        size += 1
    put_byte(out, 0xAF + size if n > 0 else 0x1D - size)
    return put_digits(out, left, size, n < 0)


cdef int put_integer(Buffer *out, n) except -1:
    cdef int overflow = 0
    cdef int64_t small = PyLong_AsLongLongAndOverflow(n, &overflow)
    if overflow:
        return put_big_integer(out, n)
    if small == 0:
        return put_byte(out, ZERO)
    return put_whole(out, small)


cdef int put_big_integer(Buffer *out, n) except -1:
    cdef bint negative = n < 0
    cdef object magnitude = -n if negative else n
    cdef Py_ssize_t bits = magnitude.bit_length(), size = (bits + 6) // 7, filled
    cdef bytes block = magnitude.to_bytes((bits + 7) // 8, "big")
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(block)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(block), position, i, room
    cdef bint huge = bits > exact.BITS_MAX
    cdef int byte
    cdef unsigned int window
    cdef Py_ssize_t start = length * 8 - bits
    if huge:
        put_byte(out, NEG_HUGE if negative else HUGE)
        # Whole groups, with the first one filled up at the left.
        put_count(out, size, negative)
        start -= size * 7 - bits
    else:
        put_byte(out, NEG_BIG if negative else BIG)
        put_count(out, bits - 64, negative)
    need(out, size)
    room = out.used
    filled = 0
    for i in range(size):
        position = start + i * 7
        if position < 0:
            window = at[0] >> (1 - position)
        else:
            window = <unsigned int>at[position >> 3] << 8
            if (position >> 3) + 1 < length:
                window |= at[(position >> 3) + 1]
            window = window >> (9 - (position & 7)) & 0x7F
        if huge:
            byte = 0x80 | window
        else:
            byte = window << 1 | 1
            if window:
                filled = i
        out.at[room + i] = <unsigned char>(256 - byte if negative else byte)
    if not huge:
        # The last group that is not zero ends the number.
        out.at[room + filled] += 1 if negative else -1
        size = filled + 1
    out.used += size
    return 0


cdef int put_nan_core(Writer *out) except -1:
    if not out.nan_too:
        raise _Fault("NaN can't be a key: it equals nothing, itself included")
    out.nan_met = True
    return put_byte(&out.body, NAN)


cdef int put_real(Writer *out, double x) except -1:
    cdef Buffer *body = &out.body
    cdef double magnitude = -x if x < 0 else x, part
    cdef int64_t n
    cdef uint64_t bits
    cdef int exponent = 0
    if isnan(x):
        if out.keyed:
            return put_nan_core(out)
        put_byte(body, NAN)
        return put_plain(out)
    if x == 0:
        put_byte(body, ZERO)
        return put_suffix(out, AS_NEGATIVE_ZERO if signbit(x) else AS_FLOAT)
    if isinf(x):
        put_byte(body, NEG_INF if x < 0 else INF)
        return put_plain(out)
    if magnitude >= 9223372036854775808.0:
        if x == -9223372036854775808.0:
            put_whole(body, <int64_t>x)
            return put_suffix(out, AS_FLOAT)
        bits = <uint64_t>ldexp(frexp(magnitude, &exponent), 56)
        put_byte(body, NEG_BIG if x < 0 else BIG)
        put_count(body, exponent - 64, x < 0)
        put_groups(body, bits, x < 0)
        return put_suffix(out, AS_FLOAT)
    if magnitude < 0.015625:
        bits = <uint64_t>ldexp(frexp(magnitude, &exponent), 56)
        put_byte(body, NEG_SMALL if x < 0 else SMALL)
        put_count(body, -6 - exponent, x > 0)
        put_groups(body, bits, x < 0)
        return put_plain(out)
    n = <int64_t>magnitude
    part = magnitude - <double>n
    if part == 0:
        put_whole(body, -n if x < 0 else n)
        return put_suffix(out, AS_FLOAT)
    bits = <uint64_t>ldexp(part, 58)
    if x < 0:
        n = -n - 1
        bits = (<uint64_t>1 << 58) - bits
    put_whole(body, n)
    # Hundredths first, so that prices are short: a quarter of them is lost to no bit, as 100 is 4 times 25.
    bits *= 25
    put_byte(body, SUFFIXES + 2 * <int>(bits >> 56) + ((bits & MASK56) != 0))
    if bits & MASK56:
        put_fine(body, bits & MASK56)
    return put_plain(out)


cdef int put_rational(Buffer *out, num, den) except -1:
    """num/den in lowest terms, not integral."""
    cdef object magnitude = abs(num), floored
    cdef bint negative = num < 0
    cdef int overflow = 0
    cdef int64_t n
    cdef bytes body
    if magnitude << 6 < den:
        put_byte(out, NEG_SMALL if negative else SMALL)
        body = exact.small(magnitude, den)
        return put_bytes(out, body.translate(exact.FLIPPED) if negative else body)
    floored = num // den
    n = PyLong_AsLongLongAndOverflow(floored, &overflow)
    if not overflow:
        put_whole(out, n)
        return put_bytes(out, exact.fraction(num - floored * den, den))
    put_byte(out, NEG_BIG if negative else BIG)
    body = exact.large(magnitude, den)
    return put_bytes(out, body.translate(exact.FLIPPED) if negative else body)


cdef int put_fraction(Writer *out, x) except -1:
    cdef object num = x.numerator, den = x.denominator
    if den == 1:
        put_integer(&out.body, num)
        return put_suffix(out, AS_FRACTION)
    if num.bit_length() > 32768 or den.bit_length() > 32768:
        raise _Fault("a Fraction of more than 32,768 bits")
    put_rational(&out.body, num, den)
    if out.keyed or type(exact.canonical(num, den)) is Fraction:
        return put_plain(out)
    return put_suffix(out, AS_FRACTION)


cdef object plainest(Reader *source, num, den):
    """The plainest number of this value. One that is a Decimal only on the way to a Fraction is looked at in the end."""
    cdef object found = exact.canonical(num, den)
    if type(found) is Decimal and not exact.is_bounded(found):
        source.long_decimals = True
    return found


cdef object take_ordered_number(Reader *source, int tag):
    """The plainest number of the value that follows."""
    cdef int64_t n
    if tag == ZERO:
        return 0
    if 0x1D <= tag < NEG_SMALL:
        n = tag - 0x2D
    elif 0x30 <= tag < 0xB0:
        n = tag - 0x30
    elif 0xB0 <= tag < BIG or 0x15 <= tag < 0x1D:
        n = take_whole(source, tag)
    elif tag == SMALL or tag == NEG_SMALL:
        return take_small(source, tag == NEG_SMALL)
    elif tag == BIG or tag == NEG_BIG:
        return take_big(source, tag == NEG_BIG)
    elif tag == HUGE or tag == NEG_HUGE:
        return take_huge(source, tag == NEG_HUGE)
    elif tag == INF or tag == NEG_INF:
        return float("inf") if tag == INF else float("-inf")
    elif tag == NAN:
        return float("nan")
    else:
        raise _Fault(f"no value begins with the byte {tag:#04x}")
    if source.pos < source.end and source.at[source.pos] >= SUFFIXES:
        return take_fraction(source, n)
    return n


cdef int64_t take_whole(Reader *source, int tag) except? -1:
    cdef int size = tag - 0xAF if tag >= 0xB0 else 0x1D - tag, i
    cdef uint64_t left = take_digits(source, size, tag < 0x1D), span = 0, power = 1
    for i in range(size - 1):
        power *= 255
        span += power
    if left > <uint64_t>9223372036854775807 - span - (128 if tag >= 0xB0 else 16):
        raise _Fault("a number is longer than it should be")
    left += span
    return <int64_t>left + 128 if tag >= 0xB0 else -17 - <int64_t>left


cdef object take_fraction(Reader *source, int64_t n):
    cdef int head = take_byte(source) - SUFFIXES
    cdef bint goes_on = False
    cdef uint64_t bits = 0, fine
    cdef int64_t floor = n
    cdef Py_ssize_t start = source.pos
    cdef double part, total
    cdef object found
    if head >= 200 or head <= 0:
        raise _Fault("a fraction is out of range")
    if head & 1:
        bits = take_fine(source, &goes_on)
    bits |= <uint64_t>(head >> 1) << 56
    if not goes_on and bits % 25 == 0:
        fine = bits // 25
        if n < 0:
            fine = (<uint64_t>1 << 58) - fine
            floor = -(n + 1)
        part = ldexp(<double>fine, -58)
        if floor < <int64_t>1 << 53 and <uint64_t>ldexp(part, 58) == fine:
            total = <double>floor + part
            if part - (total - <double>floor) == 0:
                return -total if n < 0 else total
    found = decimal_from_bits(source, n, bits, start, goes_on)
    if found is not None:
        return found
    if goes_on:
        num, den = take_tail(source, False)
        return plainest(source, (n * FRACTION + bits) * den + num, FRACTION * den)
    return plainest(source, n * FRACTION + bits, FRACTION)


cdef tuple take_tail(Reader *source, bint flip):
    """What goes beyond 56 bits, as a numerator and denominator."""
    cdef bytes rest = PyBytes_FromStringAndSize(<const char *>source.at + source.pos, source.end - source.pos)
    try:
        num, den, size = exact.read_tail(rest.translate(exact.FLIPPED) if flip else rest)
    except ValueError as error:
        raise _Fault(str(error)) from None
    source.pos += size
    return num, den


cdef object take_small(Reader *source, bint negative):
    cdef uint64_t shift = take_count(source, not negative) + 6, bits
    cdef bint goes_on = False
    cdef double x
    if shift > 1 << 17:
        raise _Fault("a number is too small")
    bits = take_groups(source, negative, &goes_on)
    if not goes_on:
        x = ldexp(<double>bits, -56 - <int>shift)
        if <uint64_t><double>bits == bits and x and ldexp(ldexp(x, <int>shift - 500), 556) == <double>bits:
            return -x if negative else x
        num, den = bits, ONE << (56 + shift)
    else:
        above, below = take_tail(source, negative)
        num, den = bits * below + above, below << (56 + shift)
    return plainest(source, -num if negative else num, den)


cdef object take_big(Reader *source, bint negative):
    cdef uint64_t bits = take_count(source, negative) + 64
    cdef Py_ssize_t size, i
    cdef int byte
    cdef bint goes_on = True
    if bits > 1 << 17:
        raise _Fault("a number is longer than it should be")
    size = (bits + 6) // 7
    for i in range(size):
        byte = take_byte(source)
        goes_on = (256 - byte if negative else byte) & 1
        if not goes_on:
            size = i + 1
            break
    whole = gathered(source.at + source.pos - size, size, negative, 1)
    shift = <Py_ssize_t>bits - size * 7
    whole = whole << shift if shift >= 0 else whole >> -shift
    if goes_on:
        num, den = take_tail(source, negative)
        return plainest(source, -(whole * den + num) if negative else whole * den + num, den)
    return -whole if negative else whole


cdef object take_huge(Reader *source, bint negative):
    cdef Py_ssize_t size = <Py_ssize_t>take_count(source, negative)
    whole = gathered(take(source, size), size, negative, 0)
    return -whole if negative else whole


cdef object gathered(const unsigned char *at, Py_ssize_t size, bint flip, int shift):
    """The int of groups of seven bits."""
    cdef Py_ssize_t length = (size * 7 + 7) // 8, i, to
    cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
    cdef unsigned char *block = <unsigned char *>PyBytes_AS_STRING(out)
    cdef unsigned int window = 0, byte
    cdef int held = 0
    to = length
    for i in range(size - 1, -1, -1):
        byte = 256 - at[i] if flip else at[i]
        window |= (byte >> shift & 0x7F) << held
        held += 7
        if held >= 8:
            to -= 1
            block[to] = <unsigned char>window
            window >>= 8
            held -= 8
    while to > 0:
        to -= 1
        block[to] = <unsigned char>window
        window >>= 8
    return _PyLong_FromByteArray(block, length, False, False)


cdef object retyped_number(Reader *source, x, int kind):
    cdef double real
    if kind == AS_PLAIN:
        return x
    if kind == AS_FLOAT and type(x) is int:
        try:
            real = x
        except OverflowError:
            raise _Fault("an int marked as a float is none") from None
        if real == x:
            return real
    elif kind == AS_BOOL and (x == 0 or x == 1):
        return x == 1
    elif kind == AS_NEGATIVE_ZERO and x == 0:
        return -0.0
    elif kind == AS_FRACTION and (type(x) is not float or not isnan(x) and not isinf(x)):
        return Fraction(x)
    elif kind == AS_NAN and x != x:
        return take_odd_decimal(source)
    elif kind == AS_DECIMAL or kind == AS_NEGATIVE_DECIMAL:
        return retyped_decimal(x, take_exponent(take_count(source, False)), kind)
    raise _Fault(f"a number can't have the suffix {kind:#04x}")
