# The plain form of anything: dispatch by type and tag, lists, dicts, sets and registered types.
cdef extern from "Python.h":
    void PyObject_GC_Track(void *container)
    void PyObject_GC_UnTrack(void *container)


cdef int put_value(Writer *out, x) except -1:
    """Anything, inside a container."""
    cdef object t = type(x)
    if t is str:
        return put_plain_text(&out.body, x)
    if t is int:
        return put_plain_integer(&out.body, x)
    if x is None:
        return put_byte(&out.body, P_NONE)
    if t is float:
        return put_plain_real(&out.body, x)
    if t is bool:
        return put_byte(&out.body, P_TRUE if x else P_FALSE)
    if t is dict:
        return put_mapping(out, <dict>x)
    if t is list:
        return put_list(out, <list>x)
    if t is tuple:
        return put_tuple(out, <tuple>x)
    return put_rare(out, x, t)


cdef int put_rare(Writer *out, x, t) except -1:
    if t is bytes:
        put_byte(&out.body, P_BYTES)
        return put_block(&out.body, PyBytes_AS_STRING(x), PyBytes_GET_SIZE(x))
    if t is UUID:
        put_byte(&out.body, P_UUID)
        return put_bytes(&out.body, x.bytes)
    if t is Decimal:
        return put_plain_decimal(out, x)
    if t is datetime or t is date or t is time or t is timedelta or t is Fraction:
        return put_wrapped(out, x)
    if t in UNORDERED or t in _containers:
        return put_container(out, x, t)
    if t in _types or t is Unknown:
        return put_typed(out, x, type_of(x, t))
    put_byte(&out.body, P_REFERENCE)
    return put_bytes(&out.body, identity(out, x))


cdef int put_container(Writer *out, x, t) except -1:
    """One that is of such a type, or of one that is registered as such."""
    cdef list members
    t = _containers.get(t, t)
    if t is dict:
        return put_mapping(out, <dict>x)
    if t is list:
        return put_list(out, <list>x)
    if t is tuple:
        return put_tuple(out, <tuple>x)
    if t is set or t is frozenset:
        # Iterated raw: a subclass may have an __iter__ of its own.
        members = list(set.__iter__(x) if t is set else frozenset.__iter__(x))
        put_byte(&out.body, P_SET if t is set else P_FROZENSET)
        return put_members(out, x, members)
    return put_rare_container(out, x, t)


cdef int put_rare_container(Writer *out, x, t) except -1:
    cdef bytes block
    if t is bytearray:
        block = bytes(x)
        put_byte(&out.body, P_BYTEARRAY)
        return put_block(&out.body, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))
    if t is complex:
        put_byte(&out.body, P_COMPLEX)
        need(&out.body, 16)
        big_endian_double(x.real, out.body.at + out.body.used)
        big_endian_double(x.imag, out.body.at + out.body.used + 8)
        out.body.used += 16
        return 0
    put_byte(&out.body, P_RANGE)
    put_plain_integer(&out.body, x.start)
    put_plain_integer(&out.body, x.stop)
    return put_plain_integer(&out.body, x.step)


cdef int put_list(Writer *out, list x) except -1:
    cdef Py_ssize_t i = 0, size = len(x)
    enter(out, x)
    if size < FEW:
        put_byte(&out.body, P_LIST0 + <int>size)
    else:
        put_byte(&out.body, P_LIST)
        put_size(&out.body, size)
    # `reference` and what was registered may run anything, so the size is looked at anew each time.
    while i < size and i < len(x):
        out.trail[out.depth - 1].index = i
        put_value(out, x[i])
        i += 1
    if len(x) != size:
        raise _Fault("the list changed while it was encoded")
    leave(out)
    return 0


cdef int put_tuple(Writer *out, tuple x) except -1:
    cdef Py_ssize_t i
    enter(out, x)
    put_byte(&out.body, P_TUPLE)
    put_size(&out.body, len(x))
    for i in range(len(x)):
        out.trail[out.depth - 1].index = i
        put_value(out, x[i])
    leave(out)
    return 0


cdef int put_members(Writer *out, x, list members) except -1:
    enter(out, x)
    out.trail[out.depth - 1].index = IN_SET
    put_size(&out.body, len(members))
    for member in members:
        put_value(out, member)
    leave(out)
    return 0


cdef int put_mapping(Writer *out, dict x) except -1:
    cdef Py_ssize_t size = PyDict_Size(x)
    cdef dict whole = x
    if out.reference != NULL or _types:
        x = raw_copy(x)  # `reference` and what was registered may run anything
    enter(out, x)
    if not size:
        put_byte(&out.body, P_RECORD0)
    elif put_names(out, x, size):
        put_items(out, x, False)
    else:
        put_byte(&out.body, P_DICT)
        put_size(&out.body, size)
        put_items(out, x, True)
    if PyDict_Size(whole) != size:
        raise _Fault("the dict changed while it was encoded")
    leave(out)
    return 0


cdef dict raw_copy(dict x):
    """A plain dict of the same; a subclass may have an __iter__ of its own."""
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *item
    cdef dict out
    if type(x) is dict:
        return PyDict_Copy(x)
    out = {}
    while PyDict_Next(x, &position, &key, &item):
        PyDict_SetItem(out, <object>key, <object>item)
    return out


cdef int put_items(Writer *out, dict x, bint with_keys) except -1:
    cdef Py_ssize_t position = 0, i = 0
    cdef PyObject *key
    cdef PyObject *item
    while PyDict_Next(x, &position, &key, &item):
        out.trail[out.depth - 1].index = i
        if with_keys:
            put_value(out, <object>key)
        put_value(out, <object>item)
        i += 1
    return 0


cdef bint put_names(Writer *out, dict x, Py_ssize_t size) except -1:
    """The names of a record, or which earlier one had the same; False if they are not all str."""
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef uint64_t hash = <uint64_t>size
    cdef int i
    while PyDict_Next(x, &position, &key, NULL):
        if type(<object>key) is not str:
            return False
        hash = mixed(hash, <uint64_t>PyObject_Hash(<object>key))
    for i in range(out.shapes):
        if out.shape_hash[i] == hash and out.shape_size[i] == size and has_names(out, x, out.shape_at[i]):
            put_byte(&out.body, P_SHAPE)
            put_byte(&out.body, i)
            return True
    if size < FEW:
        put_byte(&out.body, P_RECORD0 + <int>size)
    else:
        put_byte(&out.body, P_RECORD)
        put_size(&out.body, size)
    if out.shapes < SHAPES_MAX:
        out.shape_hash[out.shapes], out.shape_size[out.shapes] = hash, size
        out.shape_at[out.shapes] = out.body.used
        out.shapes += 1
    put_all_names(out, x)
    return True


cdef int put_all_names(Writer *out, dict x) except -1:
    cdef Py_ssize_t position = 0, size = 0
    cdef PyObject *key
    cdef const char *text
    while PyDict_Next(x, &position, &key, NULL):
        text = utf8(<object>key, &size)
        put_block(&out.body, text, size)
        out.trail[out.depth - 1].index += 1
    out.trail[out.depth - 1].index = 0
    return 0


cdef bint has_names(Writer *out, dict x, Py_ssize_t at) except -1:
    """Whether the names written there are those of x."""
    cdef Py_ssize_t position = 0, size = 0, written
    cdef PyObject *key
    cdef const char *text
    cdef int shift
    while PyDict_Next(x, &position, &key, NULL):
        text = utf8(<object>key, &size)
        written = out.body.at[at] & 0x7F
        shift = 7
        while out.body.at[at] & 0x80:
            at += 1
            written |= <Py_ssize_t>(out.body.at[at] & 0x7F) << shift
            shift += 7
        at += 1
        if written != size or memcmp(out.body.at + at, text, size) != 0:
            return False
        at += size
    return True


cdef int put_typed(Writer *out, x, Type kind) except -1:
    put_byte(&out.body, P_EQUAL if kind.equal else P_OWN)
    put_block_of(&out.body, kind.name)
    enter(out, x)
    out.trail[out.depth - 1].index = NOWHERE
    put_value(out, dumped(kind, x))
    leave(out)
    return 0


cdef int put_block_of(Buffer *out, str text) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *at = utf8(text, &size)
    return put_block(out, at, size)


cdef object take_value(Reader *source):
    cdef int tag = take_byte(source)
    cdef Py_ssize_t size
    if tag < SHORT:
        return text_at(take(source, tag), tag)
    if tag < P_NONE:
        return tag - P_INT0
    if tag >= P_LIST:
        return take_container(source, tag)
    if tag == P_NONE:
        return None
    if tag <= P_TRUE:
        return tag == P_TRUE
    if tag == P_FLOAT:
        return double_at(take(source, 8))
    if tag == P_FLOAT32:
        return float_at(take(source, 4))
    if tag == P_STR:
        size = take_size(source)
        return text_at(take(source, size), size)
    if tag == P_BYTES:
        return take_block(source)
    if tag == P_UUID:
        return uuid_of(PyBytes_FromStringAndSize(<const char *>take(source, 16), 16))
    if tag < P_INT:
        size = tag - P_INT1 + 1
        return take_big_endian(take(source, size), <int>size)
    return take_rare(source, tag)


cdef object take_container(Reader *source, int tag):
    if tag >= P_LIST0:
        return take_list(source, tag - P_LIST0)
    if tag >= P_RECORD0:
        return take_record(source, tag - P_RECORD0)
    if tag == P_SHAPE:
        return take_shaped(source)
    if tag == P_LIST:
        return take_list(source, take_number(source, 1))
    if tag == P_TUPLE:
        return take_tuple(source, take_number(source, 1))
    if tag == P_DICT:
        return take_mapping(source, take_number(source, 2))
    if tag == P_RECORD:
        return take_record(source, take_number(source, 2))
    if tag == P_SET or tag == P_FROZENSET:
        return take_members(source, tag)
    return take_rare_container(source, tag)


cdef object take_rare_container(Reader *source, int tag):
    cdef const unsigned char *at
    if tag == P_BYTEARRAY:
        return bytearray(take_block(source))
    if tag == P_COMPLEX:
        at = take(source, 16)
        return complex(double_at(at), double_at(at + 8))
    if tag == P_RANGE:
        return take_range(source)
    if tag == P_OWN or tag == P_EQUAL:
        return take_typed(source, tag == P_EQUAL)
    raise _Fault(f"no value begins with the byte {tag:#04x}")


cdef object take_range(Reader *source):
    cdef object start = take_value(source), stop = take_value(source), step = take_value(source)
    if type(start) is not int or type(stop) is not int or type(step) is not int or step == 0:
        raise _Fault("a range is not three ints, or stands still")
    return range(start, stop, step)


cdef list take_list(Reader *source, Py_ssize_t n):
    cdef list out
    cdef Py_ssize_t i
    if n > source.end - source.pos:
        raise _Fault("more items are announced than there are bytes")
    descend(source, NULL, 0)
    out = PyList_New(n)
    PyObject_GC_UnTrack(<void *>out)  # nobody sees it while it has holes
    for i in range(n):
        source.trail[source.depth - 1].index = i
        item = take_value(source)
        Py_INCREF(item)
        PyList_SET_ITEM(out, i, item)
    PyObject_GC_Track(<void *>out)
    climb(source)
    return out


cdef tuple take_tuple(Reader *source, Py_ssize_t n):
    cdef tuple out
    cdef Py_ssize_t i
    descend(source, NULL, 0)
    out = PyTuple_New(n)
    if n:
        PyObject_GC_UnTrack(<void *>out)
    for i in range(n):
        source.trail[source.depth - 1].index = i
        item = take_value(source)
        Py_INCREF(item)
        PyTuple_SET_ITEM(out, i, item)
    if n:  # the empty tuple is everybody's
        PyObject_GC_Track(<void *>out)
    climb(source)
    return out


cdef object take_members(Reader *source, int tag):
    cdef Py_ssize_t n = take_number(source, 1), i
    cdef set out = set()
    descend(source, NULL, IN_SET)
    for i in range(n):
        member = take_value(source)
        try:
            out.add(member)
        except TypeError as error:
            raise _Fault(f"a member of a set: {error}") from None
    if len(out) != n and source.reference == NULL and not (ACTIVE and off("codec.members")):
        raise _Fault("a set has a member twice")
    climb(source)
    return out if tag == P_SET else frozenset(out)


cdef dict take_mapping(Reader *source, Py_ssize_t n):
    cdef dict out = {}
    cdef Py_ssize_t i
    cdef Step *at
    descend(source, NULL, NOWHERE)
    at = &source.trail[source.depth - 1]
    for i in range(n):
        key = take_value(source)
        Py_XDECREF(at.holder)
        Py_INCREF(key)
        at.holder, at.index = <PyObject *>key, AT_KEY
        item = take_value(source)
        try:
            out[key] = item
        except TypeError as error:
            raise _Fault(f"a key: {error}") from None
    if len(out) != n and source.reference == NULL:
        raise _Fault("a dict has a key twice")
    climb(source)
    return out


cdef dict take_record(Reader *source, Py_ssize_t n):
    """A dict of names: first these, then the values."""
    cdef dict model
    if not n:
        return {}
    model = take_model(source, n)
    if source.shapes < SHAPES_MAX:
        Py_INCREF(model)
        source.shape[source.shapes] = <PyObject *>model
        source.shapes += 1
    return take_items(source, model)


cdef dict take_shaped(Reader *source):
    cdef int i = take_byte(source)
    if i >= source.shapes:
        raise _Fault("a record has the names of one that is not there")
    return take_items(source, <dict>source.shape[i])


cdef dict take_items(Reader *source, dict model):
    cdef dict out = PyDict_Copy(model)
    cdef Py_ssize_t position = 0, i = 0
    cdef PyObject *name
    if PyDict_Size(model) > source.end - source.pos:
        raise _Fault("more items are announced than there are bytes")
    descend(source, <PyObject *>model, 0)
    while PyDict_Next(model, &position, &name, NULL):
        source.trail[source.depth - 1].index = i
        item = take_value(source)
        PyDict_SetItem(out, <object>name, item)
        i += 1
    climb(source)
    return out


cdef dict take_model(Reader *source, Py_ssize_t n):
    """The names of a record, as a dict of them; one that was seen before if there is."""
    cdef uint64_t hash = n
    cdef Py_ssize_t start = source.pos, at = start, i
    cdef int size
    cdef PyObject *found
    cdef Shape *place
    cdef dict model
    if n > COLUMNS_MAX:
        return new_model(source, n)
    for i in range(n):
        size = source.at[at] if at < source.end else 0x80
        if size >= NAME_BYTES_MAX or size > source.end - at - 1:
            return new_model(source, n)
        hash = mixed(hash, hash_of(source.at + at + 1, size))
        at += 1 + size
    found = model_of(hash, n, &place)
    size = <int>(at - start)
    if found != NULL and PyBytes_GET_SIZE(<bytes>place.names) == size:
        if memcmp(PyBytes_AS_STRING(<bytes>place.names), source.at + start, size) == 0:
            source.pos = at
            return <dict>found
    model = new_model(source, n)
    keep_model(place, hash, model, PyBytes_FromStringAndSize(<const char *>source.at + start, size))
    return model


cdef dict new_model(Reader *source, Py_ssize_t n):
    cdef dict model = {}
    cdef Py_ssize_t i, size
    for i in range(n):
        size = take_size(source)
        model[name_at(take(source, size), size)] = None
    if len(model) != n:
        raise _Fault("a dict has a key twice")
    return model


cdef object take_typed(Reader *source, bint equal):
    cdef Py_ssize_t size = take_size(source)
    cdef str name = text_at(take(source, size), size)
    cdef object value
    descend(source, NULL, NOWHERE)
    value = take_value(source)
    out = made(source, name, value, equal)
    climb(source)
    return out
