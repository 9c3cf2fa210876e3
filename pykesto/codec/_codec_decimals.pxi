# Decimals: those of up to 18 digits in C, all others through Python's ints and exact.py.

cdef extern from *:
    """
    static inline uint64_t pykesto_muldiv(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest) {
        unsigned __int128 product = (unsigned __int128)a * b;
        uint64_t quotient = (uint64_t)(product / c);
        *rest = (uint64_t)(product - (unsigned __int128)quotient * c);
        return quotient;
    }
    static inline uint64_t pykesto_mulshift(uint64_t a, uint64_t b, uint64_t *rest) {
        unsigned __int128 product = (unsigned __int128)a * b;
        *rest = (uint64_t)product & (((uint64_t)1 << 56) - 1);
        return (uint64_t)(product >> 56);
    }
    static inline int pykesto_same(uint64_t a, uint64_t b, uint64_t c, int shift) {
        return (unsigned __int128)a * b == (unsigned __int128)c << shift;
    }
    """
    uint64_t muldiv "pykesto_muldiv"(uint64_t a, uint64_t b, uint64_t c, uint64_t *rest) noexcept  # a * b / c
    uint64_t mulshift "pykesto_mulshift"(uint64_t a, uint64_t b, uint64_t *rest) noexcept  # a * b / 2**56
    bint same "pykesto_same"(uint64_t a, uint64_t b, uint64_t c, int shift) noexcept  # a * b == c * 2**shift

cdef enum:
    SHORT_DIGITS = 18  # of which any number fits into 60 bits
    DECIMAL_BYTES_MAX = 4153  # of 10,000 digits

cdef uint64_t POWERS[SHORT_DIGITS + 1]  # of ten
cdef uint64_t FIVES[SHORT_DIGITS + 1]


cdef int fill_powers() noexcept:
    cdef int i
    POWERS[0] = FIVES[0] = 1
    for i in range(1, SHORT_DIGITS + 1):
        POWERS[i] = POWERS[i - 1] * 10
        FIVES[i] = FIVES[i - 1] * 5
    return 0


fill_powers()


cdef struct Digits:
    bint negative
    bint short
    int64_t exponent
    uint64_t coefficient  # where it is short
    int last  # of the digits
    char odd  # of what is no number, a letter


cdef str digits_of(x, Digits *out):
    """Take a Decimal apart. Its text, which C made, is read; `as_tuple` would make a tuple of every digit."""
    cdef str text = str(x)
    cdef Py_ssize_t size = 0, i = 0, digits = 0, after = 0
    cdef const char *at = utf8(text, &size)
    cdef bint point = False
    out.negative = at[0] == c"-"
    out.coefficient = out.last = 0
    out.exponent = 0
    out.odd = 0
    i = out.negative
    if at[i] > c"9":
        out.odd = at[i]
        return text
    while i < size:
        if at[i] == c".":
            point = True
        elif c"0" <= at[i] <= c"9":
            digits += 1 if digits or at[i] != c"0" else 0
            after += point
            out.last = at[i] - c"0"
            if digits <= SHORT_DIGITS:
                out.coefficient = out.coefficient * 10 + <uint64_t>(at[i] - c"0")
        else:
            out.exponent = int(text[i + 1 :])
            break
        i += 1
    out.exponent -= after
    out.short = digits <= SHORT_DIGITS
    if digits > exact.DIGITS_MAX or not -exact.DIGITS_MAX <= out.exponent <= exact.DIGITS_MAX:
        raise _Fault(f"a Decimal of more than {exact.DIGITS_MAX} digits, or with an exponent beyond that")
    return text


cdef object decimal_at(int64_t coefficient, int64_t exponent):
    cdef char text[48]
    cdef int size = snprintf(text, sizeof(text), b"%lldE%lld", <long long>coefficient, <long long>exponent)
    return Decimal(text[:size].decode("ascii"))


cdef object long_decimal(coefficient, int64_t exponent):
    return bounded(exact.EXACT.scaleb(Decimal(coefficient), exponent))


cdef object bounded(x):
    """A Decimal that was read. It is refused if none is written so."""
    if not exact.is_bounded(x):
        raise _Fault(f"a Decimal of more than {exact.DIGITS_MAX} digits, or with an exponent beyond that")
    return x


# The ordered form.

cdef int put_ordered_decimal(Writer *out, x) except -1:
    cdef Digits parts
    cdef str text = digits_of(x, &parts)
    cdef object num, den
    cdef int64_t exponent = parts.exponent
    if parts.odd:
        return put_odd_decimal(out, text, &parts)
    if parts.short and not parts.coefficient:
        put_byte(&out.body, ZERO)
        return put_decimal_suffix(out, exponent, parts.negative)
    if parts.short and -SHORT_DIGITS <= exponent <= 0:
        return put_short_decimal(out, &parts)
    num, den = x.as_integer_ratio()
    if den == 1:
        put_integer(&out.body, num)
        return put_decimal_suffix(out, exponent, False)
    put_rational(&out.body, num, den)
    if parts.last and not exact.is_float(num, den):
        return put_plain(out)
    return put_decimal_suffix(out, exponent, False)


cdef int put_short_decimal(Writer *out, Digits *parts) except -1:
    cdef Buffer *body = &out.body
    cdef int places = <int>-parts.exponent
    cdef uint64_t den = POWERS[places], num = parts.coefficient % den, whole = parts.coefficient // den
    if not num:
        put_whole(body, -<int64_t>whole if parts.negative else <int64_t>whole)
        return put_decimal_suffix(out, parts.exponent, False)
    if not whole and num < (den + 63) >> 6:
        put_byte(body, NEG_SMALL if parts.negative else SMALL)
        put_small_ratio(body, num, den, parts.negative)
    elif parts.negative:
        put_whole(body, -<int64_t>whole - 1)
        put_hundredths(body, den - num, den)
    else:
        put_whole(body, <int64_t>whole)
        put_hundredths(body, num, den)
    if parts.coefficient % 10 and not is_short_float(parts.coefficient, places):
        return put_plain(out)
    return put_decimal_suffix(out, parts.exponent, False)


cdef bint is_short_float(uint64_t coefficient, int places) noexcept:
    """Whether coefficient / 10**places, without zeros at its end, is exactly a float."""
    return coefficient % FIVES[places] == 0 and coefficient // FIVES[places] < <uint64_t>1 << 53


cdef int put_hundredths(Buffer *out, uint64_t num, uint64_t den) except -1:
    """What follows an integer part: 0 < num/den < 1."""
    cdef uint64_t rest = 0, digit = muldiv(num, 100, den, &rest)
    cdef unsigned char group[GROUPS]
    cdef int size
    put_byte(out, SUFFIXES + 2 * <int>digit + (rest != 0))
    if not rest:
        return 0
    size = groups_of(&rest, den, group)
    put_fine_groups(out, group, size)
    return put_short_tail(out, rest, den, False)


cdef int put_small_ratio(Buffer *out, uint64_t num, uint64_t den, bint negative) except -1:
    """0 < num/den < 1/64."""
    cdef int exponent = 0, size, i
    cdef unsigned char group[GROUPS]
    while num < den:
        num <<= 1
        exponent -= 1
    # Now den <= num: one step less, and it is a fraction from a half up.
    put_count(out, -7 - exponent, not negative)
    den <<= 1
    size = groups_of(&num, den, group)
    for i in range(size):
        put_byte(out, 256 - group[i] if negative else group[i])
    return put_short_tail(out, num, den, negative)


cdef int groups_of(uint64_t *num, uint64_t den, unsigned char *group) noexcept:
    """The groups of num/den below 1, and what is left of it."""
    cdef int size = 0
    cdef uint64_t bits
    while size < GROUPS and num[0]:
        bits = muldiv(num[0], 128, den, num)
        group[size] = <unsigned char>(bits << 1 | (num[0] != 0))
        size += 1
    return size


cdef int put_short_tail(Buffer *out, uint64_t num, uint64_t den, bint flip) except -1:
    """Digits of base 100, of which a Decimal of few digits has few."""
    cdef int byte
    while num:
        byte = <int>muldiv(num, 100, den, &num) << 1
        byte |= num != 0
        put_byte(out, 256 - byte if flip else byte)
    return 0


cdef int put_decimal_suffix(Writer *out, int64_t exponent, bint negative_zero) except -1:
    if out.keyed:
        return 0
    put_suffix(out, AS_NEGATIVE_DECIMAL if negative_zero else AS_DECIMAL)
    return put_count(&out.suffixes, <uint64_t>(2 * exponent if exponent >= 0 else -2 * exponent - 1), False)


cdef int put_odd_decimal(Writer *out, str text, Digits *parts) except -1:
    if parts.odd == c"I":
        put_byte(&out.body, NEG_INF if parts.negative else INF)
        return put_decimal_suffix(out, 0, False)
    if out.keyed:
        return put_nan_core(out)
    if len(text) > exact.DIGITS_MAX:
        raise _Fault(f"a NaN of more than {exact.DIGITS_MAX} characters")
    put_byte(&out.body, NAN)
    put_suffix(out, AS_NAN)
    put_bytes(&out.suffixes, text.encode())
    return put_byte(&out.suffixes, END)


cdef int64_t take_exponent(uint64_t n) except? -1:
    if n > 2 * <uint64_t>exact.DIGITS_MAX:
        raise _Fault("a Decimal's exponent is out of range")
    return <int64_t>(n >> 1) if not n & 1 else -<int64_t>(n >> 1) - 1


cdef object decimal_from_bits(Reader *source, int64_t n, uint64_t bits, Py_ssize_t start, bint goes_on):
    """The Decimal of n + bits / (100 * 2**56) and, if it goes on, the tail; None if it has more than 16 places.

    Each number of places allows one candidate. If there is a tail, it is written and compared with what is read.
    """
    cdef int places
    cdef uint64_t part, rest = 0
    cdef uint64_t magnitude = <uint64_t>n if n >= 0 else <uint64_t>-(n + 1) + 1
    for places in range(1 if not goes_on else 3, 17):
        if magnitude >= POWERS[SHORT_DIGITS - places]:
            return None
        if places == 1:
            part, rest = bits // (10 * (MASK56 + 1)), bits % (10 * (MASK56 + 1))
        else:
            part = mulshift(bits, POWERS[places - 2], &rest)
        if not goes_on:
            if not rest:
                return decimal_at(n * <int64_t>POWERS[places] + <int64_t>part, -places)
        elif MASK56 + 1 - rest < POWERS[places - 2] and is_written(source, start, part + 1, places):
            return decimal_at(n * <int64_t>POWERS[places] + <int64_t>part + 1, -places)
    return None


cdef bint is_written(Reader *source, Py_ssize_t start, uint64_t part, int places) except -1:
    """Whether part / 10**places is what stands at the reader's start; then it is read."""
    cdef Buffer out
    cdef unsigned char first[64]
    if part >= POWERS[places]:
        return False
    open_buffer(&out, first, sizeof(first))
    put_hundredths(&out, part, POWERS[places])
    start -= 1  # of the hundredths
    if out.used > source.end - start or memcmp(out.at, source.at + start, out.used):
        return False
    source.pos = start + out.used
    return True


cdef object retyped_decimal(x, int64_t exponent, int kind):
    cdef object found = None
    if kind == AS_NEGATIVE_DECIMAL:
        if x != 0:
            raise _Fault("a negative zero is not zero")
        return Decimal((1, (0,), exponent))
    if x == 0:
        return decimal_at(0, exponent)
    if type(x) is float:
        if x != x:
            raise _Fault("NaN has no exponent")
        if isinf(x):
            return Decimal("Infinity" if x > 0 else "-Infinity")
    if -SHORT_DIGITS <= exponent <= 0:
        found = scaled(x, <int>-exponent)
    if found is not None:
        return found
    try:
        return bounded(exact.decimal_of(*x.as_integer_ratio(), exponent))
    except ValueError as error:
        raise _Fault(str(error)) from None


cdef object scaled(x, int places):
    """x as a Decimal with so many places, if that is easily seen."""
    cdef int overflow = 0, exponent = 0
    cdef int64_t n
    cdef double real, wanted
    if type(x) is int:
        n = PyLong_AsLongLongAndOverflow(x, &overflow)
        if overflow or not -<int64_t>POWERS[SHORT_DIGITS - places] < n < <int64_t>POWERS[SHORT_DIGITS - places]:
            return None
        return decimal_at(n * <int64_t>POWERS[places], -places)
    if type(x) is float and places <= 15:
        # m * 2**-shift is a whole number of 10**-places: seen in whole numbers.
        real = abs(<double>x)
        wanted = rint(real * <double>POWERS[places])
        if wanted < 1e18 and real < 1e15:
            real = ldexp(frexp(real, &exponent), 53)
            if 0 <= 53 - exponent <= 64 and same(<uint64_t>real, POWERS[places], <uint64_t>wanted, 53 - exponent):
                return decimal_at(-<int64_t>wanted if x < 0 else <int64_t>wanted, -places)
    return None


cdef object take_odd_decimal(Reader *source):
    cdef bytes text = take_escaped(source, -1)
    cdef bytes digits = text.removeprefix(b"-").removeprefix(b"s")
    take_byte(source)
    if digits[:3] != b"NaN" or len(digits) > 3 and not digits[3:].isdigit() or len(text) > exact.DIGITS_MAX:
        raise _Fault("a Decimal is no NaN")
    return Decimal(text.decode())


# The plain form.

cdef int put_plain_decimal(Writer *out, x) except -1:
    cdef Digits parts
    cdef str text = digits_of(x, &parts)
    cdef int64_t exponent = parts.exponent, coefficient
    cdef bytes block
    cdef int size, i
    if parts.odd or (parts.negative and parts.short and not parts.coefficient):
        return put_wrapped(out, x)
    put_byte(&out.body, P_DECIMAL)
    put_size(&out.body, 2 * exponent if exponent >= 0 else -2 * exponent - 1)
    if not parts.short:
        number = int(x.scaleb(-exponent, exact.EXACT))
        block = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
        return put_block(&out.body, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))
    size = 1
    while parts.coefficient >> (8 * size - 1):
        size += 1
    coefficient = -<int64_t>parts.coefficient if parts.negative else <int64_t>parts.coefficient
    put_byte(&out.body, size)
    return put_big_endian(&out.body, <uint64_t>coefficient, size)


cdef object take_plain_decimal(Reader *source):
    cdef int64_t exponent = take_exponent(<uint64_t>take_size(source)), n
    cdef Py_ssize_t size = take_size(source)
    cdef const unsigned char *at = take(source, size)
    if size > DECIMAL_BYTES_MAX:
        raise _Fault(f"a Decimal of more than {exact.DIGITS_MAX} digits")
    if 0 < size <= 8:
        return decimal_at(take_big_endian(at, <int>size), exponent)
    return long_decimal(_PyLong_FromByteArray(at, size, False, True), exponent)
