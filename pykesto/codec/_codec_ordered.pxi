# The ordered form: a scalar, or a tuple of them, as a core and then suffixes.

cdef int put_ordered(Writer *out, x) except -1:
    cdef Py_ssize_t start = out.body.used
    out.suffixes.used = out.marks.used = 0
    out.plain = out.nodes = 0
    put_core(out, x, False)
    if out.suffixes.used or out.marks.used:
        if out.body.at[start] == STR:
            put_byte(&out.body, END)
        put(&out.body, out.suffixes.at, out.suffixes.used)
        put(&out.body, out.marks.at, out.marks.used)
    return 0


cdef int put_core(Writer *out, x, bint nested) except -1:
    """What x is equal to. Nested ones end by themselves."""
    cdef Buffer *body = &out.body
    cdef object t = type(x)
    cdef Py_ssize_t size = 0
    cdef const char *text
    out.nodes += 1
    if t is str:
        text = utf8(x, &size)
        put_byte(body, STR)
        put_escaped(body, <const unsigned char *>text, size)
    elif t is int:
        put_integer(body, x)
        put_plain(out)
    elif t is float:
        put_real(out, x)
    elif x is None:
        return put_byte(body, NONE)
    elif t is bool:
        put_byte(body, 0x31 if x else ZERO)
        put_suffix(out, AS_BOOL)
    elif t is bytes:
        put_byte(body, BYTES)
        put_escaped(body, <const unsigned char *>PyBytes_AS_STRING(x), PyBytes_GET_SIZE(x))
    elif t is datetime:
        put_moment(out, x)
    elif t is date:
        return put_day(body, x)
    elif t is UUID:
        return put_id(body, ID, x.bytes)
    elif t is tuple:
        return put_tuple_core(out, <tuple>x)
    elif t is Decimal:
        put_ordered_decimal(out, x)
    elif t is time:
        put_clock(out, x)
    elif t is timedelta:
        put_span(body, x)
    elif t is Fraction:
        put_fraction(out, x)
    else:
        return put_other_core(out, x, t, nested)
    return put_byte(body, END) if nested else 0


cdef int put_id(Buffer *out, int tag, bytes block) except -1:
    put_byte(out, tag)
    return put_escaped(out, <const unsigned char *>PyBytes_AS_STRING(block), 16)


cdef int put_tuple_core(Writer *out, tuple x) except -1:
    cdef Py_ssize_t i
    enter(out, x)
    put_byte(&out.body, TUPLE)
    for i in range(len(x)):
        out.trail[out.depth - 1].index = i
        put_core(out, x[i], True)
    leave(out)
    return put_byte(&out.body, END)


cdef int put_other_core(Writer *out, x, t, bint nested) except -1:
    """A registered type, or a reference."""
    cdef Type kind = type_of(x, t)
    if kind is None:
        return put_id(&out.body, REFERENCE, identity(out, x))
    if not kind.ordered:
        raise _Fault(refusal(x, out.keyed))
    return put_mark(out, kind, x, nested) if kind.equal else put_typed_core(out, kind, x)


cdef int put_typed_core(Writer *out, Type kind, x) except -1:
    put_byte(&out.body, TYPED)
    put_name(&out.body, kind.name)
    enter(out, x)
    out.trail[out.depth - 1].index = NOWHERE
    put_core(out, dumped(kind, x), True)
    leave(out)
    return 0


cdef int put_mark(Writer *out, Type kind, x, bint nested) except -1:
    """What x is equal to, and behind all suffixes that this part of the value is of a registered type."""
    if not out.keyed:
        put_byte(&out.marks, AS_TYPE)
        put_count(&out.marks, out.nodes - 1, False)
        put_name(&out.marks, kind.name)
    out.nodes -= 1
    enter(out, x)
    out.trail[out.depth - 1].index = NOWHERE
    put_core(out, dumped(kind, x), nested)
    leave(out)
    return 0


cdef bytes identity(Writer *out, x):
    """The id of a persistent object."""
    cdef object found = None
    if type(x) is Reference:
        return (<Reference>x).id
    if out.reference != NULL and type(x) not in UNORDERED and type(x) not in _containers:
        found = (<object>out.reference)(x)
    if found is None:
        raise _Fault(refusal(x, out.keyed))
    if type(found) is not bytes or len(<bytes>found) != 16:
        raise TypeError(f"an id must be 16 bytes, not {found!r}")
    return <bytes>found


cdef object take_ordered(Reader *source, int tag):
    """A scalar, or a tuple of them, that fills the bytes; then what its suffixes say."""
    cdef dict marks = None
    cdef object value
    source.unfinished = source.long_decimals = False
    value = take_core(source, tag, False)
    if source.pos != source.end:
        if (tag == STR or tag == BYTES) and (take_byte(source) != END or source.pos == source.end):
            raise _Fault("more bytes follow the value")
        if source.at[source.pos] != AS_TYPE:
            value = retyped(source, value)
        if source.pos != source.end:
            marks = take_marks(source)
    if source.long_decimals:
        require_bounded(value)
    if marks is not None or source.unfinished:
        return finished(source, value, marks)
    return value


cdef int require_bounded(value) except -1:
    """Refuse a Decimal that no Decimal is written as: only a Fraction may be of that value."""
    if type(value) is tuple:
        for item in <tuple>value:
            require_bounded(item)
    elif type(value) is Unknown:
        require_bounded((<Unknown>value).value)
    elif type(value) is Decimal:
        bounded(value)
    return 0


cdef object take_core(Reader *source, int tag, bint nested):
    cdef object out
    if tag == STR:
        out = text_of(take_escaped(source, -1)) if nested else take_last_text(source)
    elif SUFFIXES < tag < STR:
        out = take_ordered_number(source, tag)
    elif tag == NONE:
        return None
    elif tag == BYTES:
        out = take_escaped(source, -1) if nested else take_last_bytes(source)
    elif tag == DATETIME or tag == AWARE:
        out = take_moment(source, tag == AWARE)
    elif tag == DATE:
        return take_day(source)
    elif tag == ID:
        return uuid_of(take_escaped(source, 16))
    elif tag == REFERENCE:
        source.unfinished = True
        return Reference(take_escaped(source, 16))
    elif tag == TUPLE:
        return take_tuple_core(source)
    elif tag == TIME or tag == AWARE_TIME:
        out = take_clock(source, tag == AWARE_TIME)
    elif tag == TIMEDELTA:
        out = take_span(source)
    elif tag == TYPED:
        return take_typed_core(source)
    else:
        raise _Fault(f"no value begins with the byte {tag:#04x}")
    if nested and take_byte(source) != END:
        raise _Fault("a part of a tuple does not end")
    return out


cdef object take_tuple_core(Reader *source):
    cdef list out = []
    cdef int tag
    descend(source, NULL, 0)
    while True:
        tag = take_byte(source)
        if tag == END:
            break
        out.append(take_core(source, tag, True))
        source.trail[source.depth - 1].index += 1
    climb(source)
    return tuple(out)


cdef object take_typed_core(Reader *source):
    """A stand-in: what it is of, and what it is an instance of, is seen when all suffixes are read."""
    cdef str name = take_name(source)
    cdef object value
    descend(source, NULL, NOWHERE)
    source.unfinished = True
    value = take_core(source, take_byte(source), True)
    climb(source)
    return Unknown(name, value)


cdef object retyped(Reader *source, x):
    """x with its own types: each number and each time takes a suffix."""
    cdef object t = type(x)
    if t is tuple:
        return tuple([retyped(source, item) for item in <tuple>x])
    if t is Unknown:
        return Unknown((<Unknown>x).name, retyped(source, (<Unknown>x).value))
    if t is int or t is float or t is Decimal or t is Fraction:
        return retyped_number(source, x, take_byte(source))
    if t is datetime or t is time:
        return retyped_time(source, x, take_byte(source))
    return x


cdef dict take_marks(Reader *source):
    cdef dict marks = {}
    cdef uint64_t node
    while source.pos != source.end:
        if take_byte(source) != AS_TYPE:
            raise _Fault("more bytes follow the value")
        node = take_count(source, False)
        marks[node] = take_name(source)
    return marks


cdef object finished(Reader *source, x, dict marks):
    cdef uint64_t nodes = 0
    cdef object out = finished_part(source, x, marks, &nodes)
    if marks is not None and max(marks) >= nodes:
        raise _Fault("a type is that of no part of the value")
    return out


cdef object finished_part(Reader *source, x, dict marks, uint64_t *nodes):
    """x with objects for references and instances for what is of a registered type, from the inside out."""
    cdef object t = type(x), name = None if marks is None else marks.get(nodes[0])
    nodes[0] += 1
    if t is tuple:
        x = tuple([finished_part(source, item, marks, nodes) for item in <tuple>x])
    elif t is Unknown:
        x = made(source, (<Unknown>x).name, finished_part(source, (<Unknown>x).value, marks, nodes), False)
    elif t is Reference and source.reference != NULL:
        x = (<object>source.reference)((<Reference>x).id)
    return x if name is None else made(source, name, x, True)


cdef object made(Reader *source, str name, value, bint equal):
    """An instance of a registered type; what its class makes of damaged data is a fault of the data."""
    if source.as_stored:
        return Unknown(name, value, equal)
    try:
        return instance(name, value, equal)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _Fault(f"a {name} can't be made of {value!r:.100}: {error}") from None
