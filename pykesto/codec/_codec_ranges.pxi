# Ranges of bytes that hold the encodings of certain values: what an index is asked for.

cdef tuple FAMILIES = (
    ("none", NONE, NONE + 1),
    ("number", NEG_INF, NAN),
    ("nan", NAN, NAN + 1),
    ("str", STR, STR + 1),
    ("bytes", BYTES, BYTES + 1),
    ("date", DATE, DATE + 1),
    ("datetime", DATETIME, DATETIME + 1),
    ("aware datetime", AWARE, AWARE + 1),
    ("time", TIME, TIME + 1),
    ("aware time", AWARE_TIME, AWARE_TIME + 1),
    ("timedelta", TIMEDELTA, TIMEDELTA + 1),
    ("uuid", ID, ID + 1),
    ("reference", REFERENCE, REFERENCE + 1),
    ("tuple", TUPLE, TUPLE + 1),
    ("typed", TYPED, TYPED + 1),
    ("list", P_LIST, P_LIST + 1),
    ("plain tuple", P_TUPLE, P_TUPLE + 1),
    ("dict", P_DICT, P_DICT + 1),
    ("set", P_SET, P_SET + 1),
    ("frozenset", P_FROZENSET, P_FROZENSET + 1),
    ("bytearray", P_BYTEARRAY, P_BYTEARRAY + 1),
    ("complex", P_COMPLEX, P_COMPLEX + 1),
    ("range", P_RANGE, P_RANGE + 1),
    ("plain typed", P_OWN, P_EQUAL + 1),
    ("dict", P_RECORD, P_RECORD + 1),
    ("dict", P_RECORD0, P_RECORD0 + FEW),
    ("list", P_LIST0, P_LIST0 + FEW),
)


def range_of(value):
    """(lo, hi): an encoded scalar e equals the value if and only if lo <= e < hi.

    >>> lo, hi = range_of(1)
    >>> [lo <= encode(x) < hi for x in (1, 1.0, True, 1.5, "1")]
    [True, True, True, False, False]
    """
    cdef bint nan_met = False
    cdef bytes lo = key_of(value, &nan_met)
    if nan_met:
        return lo, lo  # it equals nothing, but has its place in the order
    return lo, lo + (b"\x02" if (<const unsigned char *>PyBytes_AS_STRING(lo))[0] in (STR, BYTES) else b"\x10")


def family(data):
    """The name of the family that an encoded value belongs to: values of one family can be compared.

    >>> family(encode(1)), family(encode(Decimal("0.5"))), family(encode("1"))
    ('number', 'number', 'str')
    """
    cdef int tag = data[0] if len(data) else 0
    for name, lo, hi in FAMILIES:
        if lo <= tag < hi:
            return name
    raise CodecError("no value is encoded so")


def family_range(value):
    """(lo, hi): the bytes of all values of the value's family; for numbers, NaN is left out.

    >>> family_range(1), family_range("a")
    ((b'\\x11', b'\\xbb'), (b'\\xc0', b'\\xc1'))
    """
    cdef bytes lo
    cdef unsigned char tag
    if type(value) is float or type(value) is Decimal:
        return b"\x11", b"\xbb"  # NaN can't be a key
    lo = key_of(value)
    tag = (<const unsigned char *>PyBytes_AS_STRING(lo))[0]
    if NEG_INF <= tag < NAN:
        return b"\x11", b"\xbb"
    if tag == TYPED:  # a family for each type
        lo = lo[: lo.index(b"\x01")]
        return lo + b"\x01", lo + b"\x02"
    return bytes((tag,)), bytes((tag + 1,))


def prefix_range(prefix):
    """(lo, hi): the bytes of every str, or bytes, that starts with the prefix.

    >>> lo, hi = prefix_range("An")
    >>> [lo <= encode(name) < hi for name in ("An", "Ann", "Bob")]
    [True, True, False]
    """
    if type(prefix) is not str and type(prefix) is not bytes:
        raise CodecError(f"a prefix is a str or bytes, not {type(prefix).__name__}")
    lo = key_of(prefix)
    hi = lo.rstrip(b"\xff")
    return lo, hi[:-1] + bytes((hi[-1] + 1,))


def is_scalar_encoding(data):
    """Whether encoded bytes hold a scalar or a tuple of scalars: what an index can hold.

    >>> is_scalar_encoding(encode((1, "a"))), is_scalar_encoding(encode([1]))
    (True, False)
    """
    cdef int tag = data[0] if len(data) else 0
    return SUFFIXES <= tag <= TYPED
