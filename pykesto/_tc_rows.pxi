# Rows as the library stores them (for each column a varint size, the name, a varint size, the value), and as dicts.

# The library adds key, row, a header and padding up to the alignment in C ints.
cdef int RECORD_BYTES_MAX = INT_MAX - (1 << 17)


cdef int size_of(bytes data) except -1:
    """The size of `data` as the library counts it, in a C int."""
    if PyBytes_GET_SIZE(data) > RECORD_BYTES_MAX:
        raise UsageError(f"{len(data)} bytes; Tokyo Cabinet stores at most {RECORD_BYTES_MAX}")
    return <int>PyBytes_GET_SIZE(data)


cdef int check_room(int64_t size) except -1:
    """Refuse a row for whose copies the library would not get the memory."""
    if not has_room(size):
        raise MemoryError(f"a row of {size} bytes")
    return 0


cdef bytes take(void *block, int size):
    """Copy a block that the library allocated, and free it."""
    try:
        return PyBytes_FromStringAndSize(<char *>block, size)
    finally:
        tcfree(block)


cdef bytes c_string(bytes text, str what):
    """`text`, known to hold no NUL: the library would cut it there."""
    if 0 in text:
        raise UsageError(f"{what} {text!r} holds a NUL byte; Tokyo Cabinet cuts it there")
    return text


cdef bytes encoded(object text, str what):
    """A name or operand as bytes: text is encoded as UTF-8."""
    if isinstance(text, bytes):
        return c_string(text, what)
    if isinstance(text, str):
        return c_string((<str>text).encode(), what)
    raise TypeError(f"{what} must be str or bytes, not {type(text).__name__}")


cdef int check_key(object key) except -1:
    if type(key) is not bytes:
        raise TypeError(f"key must be bytes, not {type(key).__name__}")
    return 0


cdef struct Column:
    const char *name
    int name_size
    const char *value
    int value_size


cdef bint asks_for_columns(TCTDB *tdb) noexcept nogil:
    """Whether an index needs the columns of rows, or is of a kind that takes more than keys as they are."""
    if tdb.inum == 0:
        return False
    return tdb.inum > 1 or tdb.idxs[0].name[0] != 0 or tdb.idxs[0].type != TDBITLEXICAL


cdef bint make(TCTDB *tdb, Change *change) noexcept nogil:
    """Make a change that was checked. Where no index asks for it, the library need not read the old row."""
    if change.row is not NULL:
        if tdb.inum and not list_key(tdb, change):
            return False
        return tchdbput(tdb.hdb, change.key, change.key_size, change.row, change.row_size)
    if change.columns is not NULL:
        return tctdbput(tdb, change.key, change.key_size, change.columns)
    return tctdbout(tdb, change.key, change.key_size) or tctdbecode(tdb) == TCENOREC


cdef bint list_key(TCTDB *tdb, Change *change) noexcept nogil:
    """Put the key of a new row into the lexical index of keys, as the library does: under itself."""
    if tchdbvsiz(tdb.hdb, change.key, change.key_size) >= 0:
        return True
    tdb.hdb.ecode = TCESUCCESS  # that there is no such row is no error
    return tcbdbput(<TCBDB *>tdb.idxs[0].db, change.key, change.key_size, change.key, change.key_size)


cdef inline bint next_column(const unsigned char **at, const unsigned char *end, Column *column) noexcept nogil:
    """Read one column and move `at` past it; false where the row is malformed."""
    cdef int64_t size = varint(at, end)
    if size < 0 or size > end - at[0]:
        return False
    column.name = <const char *>at[0]
    column.name_size = <int>size
    at[0] += size
    size = varint(at, end)
    if size < 0 or size > end - at[0]:
        return False
    column.value = <const char *>at[0]
    column.value_size = <int>size
    at[0] += size
    return True


cdef dict columns_of(const char *row, int size):
    """The columns of a stored row; None where it is malformed."""
    cdef const unsigned char *at = <const unsigned char *>row
    cdef const unsigned char *end = at + size
    cdef Column column
    cdef dict columns = {}
    while at < end:
        if not next_column(&at, end, &column):
            return None
        columns[PyBytes_FromStringAndSize(column.name, column.name_size)] = PyBytes_FromStringAndSize(
            column.value, column.value_size
        )
    return columns


cdef str EMPTY_KEY = "the key is empty; Tokyo Cabinet can't store that"
cdef str EMPTY_NAME = "row has a column with an empty name; Tokyo Cabinet can't store that"


cdef int check_raw(object row) except -1:
    """Whether a row in the library's own layout is one that could have come from a dict."""
    if not isinstance(row, bytes):
        raise TypeError(f"row must be bytes, not {type(row).__name__}")
    return check_layout(PyBytes_AS_STRING(row), size_of(row))


cdef int check_layout(const char *row, int size) except -1:
    """The same of what lies somewhere."""
    cdef const unsigned char *at = <const unsigned char *>row
    cdef const unsigned char *end = at + size
    cdef Column column
    cdef uint64_t count = 0
    check_room(size)
    while at < end:
        if not next_column(&at, end, &column):
            raise UsageError(f"row is malformed after column {count}: {row[:min(size, 40)]!r}")
        if column.name_size == 0:
            raise UsageError(EMPTY_NAME)
        count += 1
    if not names_differ(<const unsigned char *>row, end, count):
        raise UsageError("row holds one column twice")
    return 0


cdef bint names_differ(const unsigned char *row, const unsigned char *end, uint64_t count) except -1:
    """Whether no two columns of a sound row have one name."""
    cdef Column columns[16]
    cdef uint64_t i, j, mark, met = 0
    cdef TCMAP *all_columns
    if count > 16:
        all_columns = loaded(<const char *>row, <int>(end - row))
        i = tcmaprnum(all_columns)
        tcmapdel(all_columns)
        return i == count
    for i in range(count):
        next_column(&row, end, &columns[i])
        mark = <uint64_t>1 << ((columns[i].name_size * 7 + columns[i].name[columns[i].name_size - 1]) & 63)
        for j in range(i if met & mark else 0):
            if columns[i].name_size == columns[j].name_size and not memcmp(
                columns[i].name, columns[j].name, columns[i].name_size
            ):
                return False
        met |= mark
    return True


cdef struct Packed:
    char *data  # from malloc; whoever has it frees it
    int size


cdef int pack(object row, Packed *packed) except -1:
    """A mapping of columns in the library's own layout."""
    if type(row) is not dict:
        if not isinstance(row, Mapping):
            raise TypeError(f"row must be a mapping of bytes to bytes, not {type(row).__name__}")
        row = dict(row)
    cdef dict columns = row
    cdef int64_t size = 0
    for name, value in columns.items():
        if type(name) is not bytes:
            raise TypeError(f"column name must be bytes, not {type(name).__name__}: {name!r}")
        if not name:
            raise UsageError(EMPTY_NAME)
        if type(value) is not bytes:
            raise TypeError(f"value of column {name!r} must be bytes, not {type(value).__name__}")
        size += size_of(name) + size_of(value) + 10
    if size > RECORD_BYTES_MAX:
        raise UsageError(f"row of {size} bytes; Tokyo Cabinet stores at most {RECORD_BYTES_MAX}")
    check_room(size)
    packed.data = <char *>malloc(size + 1)
    if packed.data is NULL:
        raise MemoryError
    cdef char *at = packed.data
    for name, value in columns.items():
        at = put_bytes(at, <bytes>name)
        at = put_bytes(at, <bytes>value)
    packed.size = <int>(at - packed.data)
    return 0


cdef inline char *put_bytes(char *at, bytes text) noexcept:
    """Write a size and bytes; where they end."""
    cdef size_t size = <size_t>PyBytes_GET_SIZE(text)
    cdef size_t rest = size
    while rest >= 0x80:
        at[0] = <char>((rest & 0x7F) ^ 0xFF)
        at += 1
        rest >>= 7
    at[0] = <char>rest
    memcpy(at + 1, PyBytes_AS_STRING(text), size)
    return at + 1 + size


cdef TCMAP *map_of_dict(object row) except NULL:
    """The library's map of a mapping of columns; the caller frees it."""
    cdef Packed packed
    pack(row, &packed)
    try:
        return loaded(packed.data, packed.size)
    finally:
        free(packed.data)


cdef TCMAP *loaded(const char *row, int size) except NULL:
    """The library's map of a row in its own layout, which is sound; the caller frees it."""
    cdef TCMAP *columns = tcmapload(row, size)
    if columns is NULL:
        raise MemoryError(f"a row of {size} bytes")
    return columns


cdef bint is_ordered(int kind) noexcept:
    """Whether the index is a B+ tree of values: those abort the process on an empty value."""
    return kind == TDBITLEXICAL or kind == TDBITDECIMAL


cdef str misfit(const char *index, int kind, Column *column):
    """Why the library can't index this column, or None. It compares names as C strings, so it takes a name with
    a NUL for its beginning."""
    cdef size_t size = strlen(index)
    if column.name_size < <int>size or memcmp(column.name, index, size) != 0:
        return None
    if column.name_size > <int>size:
        if column.name[size] != 0:
            return None
        return f"column {column.name[:column.name_size]!r} holds a NUL byte, and {index[:size]!r} has an index"
    if column.value_size == 0 and is_ordered(kind):
        return f"column {index[:size]!r} has a {kind_name(kind)} index, which can't hold an empty value"
    if kind == TDBITDECIMAL and not sorts_as_read(column.value, column.value_size):
        value = column.value[: min(column.value_size, 40)]
        return (
            f"column {index[:size]!r} has a decimal index, which orders {value!r} otherwise than a condition reads it:"
            " a plus sign, inf, nan, more than 18 digits, or NUL or DEL before the number"
        )
    return None


cdef bint sorts_as_read(const char *value, int size) noexcept nogil:
    """Whether a decimal index puts the value where the conditions on numbers, which read it otherwise, look for it."""
    cdef int i = 0, digits = 0
    while i < size and 0 < <unsigned char>value[i] <= 32:
        i += 1
    if i < size and value[i] in (0, 0x7F, 43):  # "+"
        return False
    if i < size and value[i] == 45:  # "-"
        i += 1
    if size - i >= 3 and (value[i] | 32) in (105, 110):  # inf, nan
        if strncasecmp(value + i, b"inf", 3) == 0 or strncasecmp(value + i, b"nan", 3) == 0:
            return False
    while i < size and value[i] == 48:
        i += 1
    while i < size and 48 <= value[i] <= 57:
        digits += 1
        i += 1
    return digits <= 18


cdef bint is_inverted(int kind) noexcept nogil:
    return kind == TDBITTOKEN or kind == TDBITQGRAM


cdef uint64_t number_of_key(const char *key, int size) noexcept nogil:
    """The number for which an index of words takes a key when it takes its entries out; 0 for a text.

    The library computes it in 64 bits, whatever the key's length.
    """
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        if not 48 <= key[i] <= 57:
            return 0
        number = number * 10 + <uint64_t>(key[i] - 48)
        if number > <uint64_t>INT64_MAX:
            return 0
    return number


cdef str misfit_key(const char *index, int kind, const char *key, int size):
    """Why the index can't hold a row of this key, or None."""
    if is_inverted(kind) and size >= 20 and key[0] != 48 and number_of_key(key, size):
        return f"key {key[:size]!r} is a number beyond 64 bits, which a {kind_name(kind)} index mistakes for another"
    if kind == TDBITDECIMAL and index[0] == 0 and not sorts_as_read(key, size):
        return f"key {key[: min(size, 40)]!r}: the decimal index of the keys orders it otherwise than it is read"
    return None


_KINDS = {"lexical": TDBITLEXICAL, "decimal": TDBITDECIMAL, "token": TDBITTOKEN, "qgram": TDBITQGRAM}
_SUFFIXES = {b"lex": TDBITLEXICAL, b"dec": TDBITDECIMAL, b"tok": TDBITTOKEN, b"qgr": TDBITQGRAM}


cdef str kind_name(int kind):
    for name, number in _KINDS.items():
        if number == kind:
            return name
    return f"unknown ({kind})"
