# Values and keys by themselves: the functions that Python and other compiled modules call.

cdef frozenset SCALARS = frozenset({bool, bytes, Decimal, Fraction, UUID, date, datetime, time, timedelta, Reference})


cdef int put_top(Writer *out, x) except -1:
    """A value by itself: ordered if it can be, else plain."""
    cdef object t = type(x)
    if t is str or t is int or t is float or x is None:
        return put_ordered(out, x)
    if t is dict:
        return put_mapping(out, <dict>x)
    if t in SCALARS:
        return put_ordered(out, x)
    if t in UNORDERED or t in _containers:
        return put_container(out, x, t)
    if t is tuple:
        return put_ordered(out, x) if is_scalar(x) else put_tuple(out, <tuple>x)
    if (t in _types or t is Unknown) and not is_scalar(x):
        return put_typed(out, x, type_of(x, t))
    return put_ordered(out, x)


cdef object take_top(Reader *source):
    cdef int tag = take_byte(source)
    cdef Py_ssize_t start = source.pos
    if tag == STR:  # most values are a str or an int without suffixes
        out = take_last_text(source)
        if source.pos == source.end:
            return out
        source.pos = start
    elif 0x30 <= tag < 0xB0:
        if start == source.end:
            return tag - 0x30
    elif 0xB0 <= tag < BIG:
        if source.end - start == tag - 0xAF:
            return take_whole(source, tag)
    if tag < P_LIST:
        return take_ordered(source, tag)
    source.shapes = 0
    out = take_container(source, tag)
    if source.pos != source.end and not (ACTIVE and off("codec.end")):
        raise _Fault("more bytes follow the value")
    return out


cdef bytes bytes_of(value, reference):
    cdef Writer out
    begin(&out, reference)
    try:
        put_top(&out, value)
        return taken(&out.body)
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(out.trail, out.depth)) from None
    finally:
        finish(&out)


cdef object value_of(const char *data, Py_ssize_t size, reference, bint as_stored=False):
    cdef Reader source
    open_reader(&source, data, size, reference)
    source.as_stored = as_stored
    try:
        return take_top(&source)
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(source.trail, source.depth)) from None
    finally:
        close_reader(&source)


cdef bytes key_of(value, bint *nan_met=NULL):
    """With `nan_met`, which tells of it, there may be NaN."""
    cdef Writer out
    begin(&out, None)
    out.keyed, out.nan_too = True, nan_met is not NULL
    out.plain = out.nodes = 0
    try:
        put_core(&out, value, False)
        if nan_met is not NULL:
            nan_met[0] = out.nan_met
        return taken(&out.body)
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(out.trail, out.depth)) from None
    finally:
        finish(&out)


cdef bytes plain_bytes(data):
    return <bytes>data if type(data) is bytes else bytes(memoryview(data))


def encode(value, reference=None):
    """The bytes of a value. `reference(obj)` gives the 16 bytes of an unknown object's id, or None.

    CodecError: something in the value can't be stored; its `path` says where.

    >>> encode("Ann"), encode(["Ann", 40])
    (b'\\xc0Ann', b'\\xf2\\x03Ann\\xb0')
    """
    return bytes_of(value, reference)


def decode(data, reference=None):
    """The value of bytes. `reference(id)` makes the object of an id; without it, it is a Reference.

    CodecError: the bytes are no value; its `path` says where.

    >>> decode(encode({"name": "Ann", "born": datetime.date(1985, 4, 1)}))
    {'name': 'Ann', 'born': datetime.date(1985, 4, 1)}
    """
    cdef bytes block = plain_bytes(data)
    return value_of(PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), reference)


def decode_stored(data):
    """The value of bytes, with an Unknown for each of a registered type: the same in every process, without a call.

    >>> decode_stored(encode([1, "Ann"]))
    [1, 'Ann']
    """
    cdef bytes block = plain_bytes(data)
    return value_of(PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), None, True)


def encode_key(value):
    """The bytes of a key: values that are equal have the same, and their order is the order of values.

    CodecError: the value is no scalar or tuple of scalars, or NaN.

    >>> encode_key(1) == encode_key(1.0) < encode_key(1.5) < encode_key("1")
    True
    """
    return key_of(value)


def decode_key(data):
    """The plainest of the values that are equal to the key's.

    >>> decode_key(encode_key((1.0, True, "Ann")))
    (1, 1, 'Ann')
    """
    cdef bytes block = plain_bytes(data)
    cdef Reader source
    open_reader(&source, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), None)
    try:
        out = take_core(&source, take_byte(&source), False)
        if source.pos != source.end:
            raise _Fault("more bytes follow the key")
        return finished(&source, out, None) if source.unfinished else out
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(source.trail, source.depth)) from None
    finally:
        close_reader(&source)
