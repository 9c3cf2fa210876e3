# Rows as Tokyo Cabinet lays them out: for each column the name's size, the name, the value's size, the value.


cdef int put_row_size(Buffer *out, Py_ssize_t n) except -1:
    """The library's own number: seven bits a byte, the lowest first, complemented where more follow."""
    if n > INT_MAX:
        raise _Fault(f"{n} bytes; Tokyo Cabinet stores at most {INT_MAX}")
    while n >= 0x80:
        put_byte(out, ~(<int>n & 0x7F) & 0xFF)
        n >>= 7
    return put_byte(out, <int>n)


cdef inline Py_ssize_t take_row_size(Reader *source) except -1:
    cdef int byte = take_byte(source)
    return byte if byte < 0x80 else take_long_row_size(source, byte)


cdef Py_ssize_t take_long_row_size(Reader *source, int byte) except -1:
    cdef int64_t n = 0
    cdef int shift = 0
    while byte >= 0x80 and shift < 28:
        n |= <int64_t>(0xFF - byte) << shift
        shift += 7
        byte = take_byte(source)
    n |= <int64_t>byte << shift
    if byte >= 0x80 or n > INT_MAX:
        raise _Fault("a row's sizes are damaged")
    return n


cdef inline int take_column(Reader *source, Column *column) except -1:
    cdef Py_ssize_t size
    column.name_size = take_row_size(source)
    column.name = take(source, column.name_size)
    size = take_row_size(source)
    column.at = source.pos
    take(source, size)
    column.end = source.pos
    return 0


cdef inline bytes name_of(Column *column):
    return PyBytes_FromStringAndSize(<const char *>column.name, column.name_size)


cdef bytes bytes_in(Reader *source, Column *column):
    return PyBytes_FromStringAndSize(<const char *>source.at + column.at, column.end - column.at)


cdef Py_ssize_t next_column(const char *image, Py_ssize_t size, Py_ssize_t at, Column *column) except -1:
    cdef const unsigned char *begin = <const unsigned char *>image + at
    cdef Py_ssize_t left = size - at, name_size, value_size
    if left > 1 and begin[0] < 0x80 and begin[0] + 1 < left:
        name_size = begin[0]
        value_size = begin[1 + name_size]
        if value_size < 0x80 and name_size + value_size + 2 <= left:
            column.name, column.name_size = begin + 1, name_size
            column.at = at + name_size + 2
            column.end = column.at + value_size
            return column.end
    return next_long_column(image, size, at, column)


cdef Py_ssize_t next_long_column(const char *image, Py_ssize_t size, Py_ssize_t at, Column *column) except -1:
    """One whose sizes take several bytes, or are damaged."""
    cdef Reader source
    open_reader(&source, image, size, None)
    source.pos = at
    try:
        take_column(&source, column)
    except _Fault as fault:
        raise CodecError(f"a row is damaged: {fault}") from None
    return source.pos


cdef bint find_in(
    const char *image, Py_ssize_t size, const char *name, Py_ssize_t name_size, Column *column
) except -1:
    cdef Py_ssize_t at = 0
    while at < size:
        at = next_column(image, size, at, column)
        if column.name_size == name_size and memcmp(column.name, name, name_size) == 0:
            return True
    return False


cdef bytes column_of(const char *image, Py_ssize_t size, const char *name, Py_ssize_t name_size):
    cdef Column column
    if not find_in(image, size, name, name_size, &column):
        return None
    return PyBytes_FromStringAndSize(image + column.at, column.end - column.at)


cdef bytes image_of(row, reference):
    cdef Writer out
    begin(&out, reference)
    try:
        if type(row) is dict and reference is None and not _types:
            put_row(&out, <dict>row)
        else:
            put_row(&out, dict(row.items()))  # `reference` and what was registered may run anything
        return taken(&out.body)
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(out.trail, out.depth)) from None
    finally:
        finish(&out)


cdef int put_row(Writer *out, dict row) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject *name
    cdef PyObject *value
    enter(out, row)
    while PyDict_Next(row, &position, &name, &value):
        put_column(out, <object>name, <object>value)
        out.trail[0].index += 1
    leave(out)
    return 0


cdef int put_column(Writer *out, name, value) except -1:
    cdef Py_ssize_t size = 0, start
    cdef const char *text
    if type(name) is not str or not name:
        raise _Fault("a column's name is a str that is not empty")
    text = utf8(name, &size)
    put_row_size(&out.body, size)
    put(&out.body, text, size)
    # One byte for the value's size, which is not known yet; a longer size moves the value.
    start = out.body.used
    put_byte(&out.body, 0)
    out.shapes = 0
    put_top(out, value)
    size = out.body.used - start - 1
    if size < 0x80:
        out.body.at[start] = <unsigned char>size
        return 0
    return put_row_size_before(&out.body, start, size)


cdef int put_row_size_before(Buffer *out, Py_ssize_t start, Py_ssize_t size) except -1:
    cdef unsigned char number[8]
    cdef Py_ssize_t end = out.used, more
    put_row_size(out, size)
    more = out.used - end
    memcpy(number, out.at + end, more)
    memmove(out.at + start + more, out.at + start + 1, size)
    memcpy(out.at + start, number, more)
    out.used -= 1
    return 0


cdef dict row_of(const char *image, Py_ssize_t size, reference):
    cdef Reader source
    open_reader(&source, image, size, reference)
    try:
        return take_row(&source)
    except _Fault as fault:
        raise CodecError(fault.args[0], path=path_of(source.trail, source.depth)) from None
    finally:
        close_reader(&source)


cdef dict take_row(Reader *source):
    cdef Column columns[COLUMNS_MAX]
    cdef Py_ssize_t n = 0, size = source.end
    cdef uint64_t hash = 0
    cdef dict model
    while source.pos < size:
        if n == COLUMNS_MAX:
            source.pos = 0
            return take_wide_row(source)
        take_column(source, &columns[n])
        hash = mixed(hash, hash_of(columns[n].name, columns[n].name_size))
        n += 1
    if not n:
        return {}
    model = row_model(columns, n, hash)
    return take_columns(source, columns, model)


cdef extern from "_codec_dicts.h":
    bint dict_is_flat(dict, Py_ssize_t count)
    void dict_put_at(dict, Py_ssize_t at, object value)


cdef dict take_columns(Reader *source, Column *columns, dict model):
    cdef dict out = PyDict_Copy(model)
    cdef Py_ssize_t position = 0, i
    cdef PyObject *name
    cdef Py_ssize_t count = PyDict_Size(model)
    cdef bint flat = dict_is_flat(out, count)
    descend(source, <PyObject *>model, 0)
    for i in range(count):
        source.trail[0].index = i
        source.pos, source.end = columns[i].at, columns[i].end
        value = take_top(source)
        if flat:
            dict_put_at(out, i, value)
        else:
            PyDict_Next(model, &position, &name, NULL)
            PyDict_SetItem(out, <object>name, value)
    climb(source)
    return out


cdef dict take_wide_row(Reader *source):
    """One of many columns."""
    cdef Py_ssize_t size = source.end
    cdef Column column
    cdef dict out = {}
    cdef object name
    while source.pos < size:
        take_column(source, &column)
        name = name_at(column.name, column.name_size)
        descend(source, <PyObject *>name, AT_KEY)
        if name in out:
            raise _Fault("a row has a column twice")
        source.pos, source.end = column.at, column.end
        out[name] = take_top(source)
        source.end = size
        climb(source)
    return out


cdef dict row_model(Column *columns, Py_ssize_t n, uint64_t hash):
    """A dict of the columns' names; one that was seen before if there is."""
    cdef Shape *place
    cdef PyObject *found = model_of(hash, n, &place)
    cdef dict model
    cdef Py_ssize_t i
    cdef Buffer names
    cdef unsigned char first[512]
    if found != NULL and has_columns(<bytes>place.names, columns, n):
        return <dict>found
    model = {}
    for i in range(n):
        model[name_at(columns[i].name, columns[i].name_size)] = None
    if PyDict_Size(model) != n:
        raise _Fault("a row has a column twice")
    for i in range(n):
        if columns[i].name_size >= NAME_BYTES_MAX:
            return model
    open_buffer(&names, first, sizeof(first))
    try:
        for i in range(n):
            put_block(&names, columns[i].name, columns[i].name_size)
        keep_model(place, hash, model, taken(&names))
    finally:
        close_buffer(&names)
    return model


cdef bint has_columns(bytes names, Column *columns, Py_ssize_t n) noexcept:
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(names)
    cdef Py_ssize_t i, size
    for i in range(n):
        size = columns[i].name_size
        if at[0] != size or memcmp(at + 1, columns[i].name, size) != 0:
            return False
        at += 1 + size
    return True


cdef int require_start(Py_ssize_t start, Py_ssize_t end) except -1:
    if not 0 <= start <= end:
        raise CodecError(f"a row can't start at byte {start} of {end}")
    return 0


def pack_columns(columns):
    """A row as Tokyo Cabinet lays it out, from a dict or pairs of name and value, all of them bytes.

    >>> pack_columns({b"name": b"Ann"})
    b'\\x04name\\x03Ann'
    """
    cdef Buffer out
    cdef unsigned char first[512]
    cdef bytes name, value
    open_buffer(&out, first, sizeof(first))
    try:
        for name, value in (columns.items() if isinstance(columns, dict) else columns):
            put_row_size(&out, PyBytes_GET_SIZE(name))
            put_bytes(&out, name)
            put_row_size(&out, PyBytes_GET_SIZE(value))
            put_bytes(&out, value)
        return taken(&out)
    except _Fault as fault:
        raise CodecError(fault.args[0]) from None
    finally:
        close_buffer(&out)


def parse_columns(bytes image not None, Py_ssize_t start=0):
    """The columns of a row as Tokyo Cabinet lays it out, as a dict of bytes.

    >>> parse_columns(b"\\x04name\\x03Ann")
    {b'name': b'Ann'}
    """
    cdef Reader source
    cdef Column column
    cdef dict out = {}
    require_start(start, PyBytes_GET_SIZE(image))
    open_reader(&source, PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), None)
    source.pos = start
    try:
        while source.pos < source.end:
            take_column(&source, &column)
            out[name_of(&column)] = bytes_in(&source, &column)
    except _Fault as fault:
        raise CodecError(f"a row is damaged: {fault}") from None
    return out


def find_column(bytes image not None, bytes name not None, Py_ssize_t start=0):
    """The bytes of one column, or None. No other is looked into.

    >>> find_column(encode_row({"name": "Ann", "age": 40}), b"name")
    b'\\xc0Ann'
    """
    cdef Py_ssize_t end = PyBytes_GET_SIZE(image)
    require_start(start, end)
    return column_of(PyBytes_AS_STRING(image) + start, end - start, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))


def encode_row(row, reference=None):
    """A mapping of column names to values, as the image of a row.

    >>> encode_row({"name": "Ann"})
    b'\\x04name\\x04\\xc0Ann'
    """
    return image_of(row, reference)


def decode_row(bytes image not None, reference=None, Py_ssize_t start=0):
    """The image of a row as a dict of column names to values.

    >>> decode_row(b"\\x04name\\x04\\xc0Ann")
    {'name': 'Ann'}
    """
    cdef Py_ssize_t end = PyBytes_GET_SIZE(image)
    require_start(start, end)
    return row_of(PyBytes_AS_STRING(image) + start, end - start, reference)
