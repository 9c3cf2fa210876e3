"""The inner loops of queries: testing packed rows, and what rows are sorted by.

A condition is made into a matcher once; it compares encoded columns where they lie, and decodes nothing. What only
Python can tell is asked of the condition itself.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp

from pykesto._stored cimport Row
from pykesto.codec._codec cimport column_of, row_of
from pykesto.query._ranges cimport encoded_at, is_in

from pykesto.codec import decode, is_scalar_encoding, range_of
from pykesto.query._ranges import KEY_COLUMNS as _KEY_COLUMNS
from pykesto.query.expressions import All, And, Exists, InRanges, Not, Or

cdef enum:
    LAST_SCALAR = 0xCA  # the greatest first byte of what has an order
    FIRST_IN_CORE = 0x10
    UNORDERED = 0xFF  # stands for all containers

cdef extern from "Python.h":
    PyObject **PySequence_Fast_ITEMS(list)
    char *bytes_at "PyBytes_AS_STRING"(PyObject *) nogil
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject *) nogil

cdef bytes REVERSED = bytes(range(255, -1, -1))
cdef object the_all = All, the_and = And, the_exists = Exists, the_in_ranges = InRanges, the_not = Not, the_or = Or
cdef object key_columns = _KEY_COLUMNS


cdef class Matcher:
    """Every row."""

    cdef bint test(self, bytes key, bytes image) except -1:
        return True

    def matches(self, bytes key not None, bytes image not None):
        """Whether a packed row meets the condition."""
        return self.test(key, image)


@cython.final
cdef class Asks(Matcher):
    """What only Python can tell."""
    cdef object condition

    def __init__(self, condition):
        self.condition = condition

    cdef bint test(self, bytes key, bytes image) except -1:
        return self.condition.matches(key, image)


@cython.final
cdef class Opposite(Matcher):
    cdef Matcher part

    def __init__(self, Matcher part):
        self.part = part

    cdef bint test(self, bytes key, bytes image) except -1:
        return not self.part.test(key, image)


@cython.final
cdef class Several(Matcher):
    """All parts, or any of them."""
    cdef tuple parts
    cdef bint every

    def __init__(self, tuple parts, bint every):
        self.parts, self.every = parts, every

    cdef bint test(self, bytes key, bytes image) except -1:
        for part in self.parts:
            if (<Matcher>part).test(key, image) != self.every:
                return not self.every
        return self.every


@cython.final
cdef class Within(Matcher):
    """The encoded value of a column is in one of some ranges; without any, there is a value."""
    cdef str path
    cdef bytes name
    cdef tuple ranges

    def __init__(self, str path, ranges):
        self.path, self.ranges = path, ranges
        self.name = None if "." in path or path in key_columns else path.encode()

    cdef bint test(self, bytes key, bytes image) except -1:
        cdef bytes value
        if self.name is None:
            value = encoded_at(self.path, key, image)
        else:
            value = column_of(
                PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image),
                PyBytes_AS_STRING(self.name), PyBytes_GET_SIZE(self.name),
            )
        return value is not None and (self.ranges is None or is_in(value, self.ranges))


cpdef Matcher matcher(condition):
    """A condition, ready to test many rows."""
    kind = type(condition)
    if kind is the_in_ranges:
        return Within(condition.column, condition.ranges)
    if kind is the_and or kind is the_or:
        return Several(tuple([matcher(part) for part in condition.parts]), kind is the_and)
    if kind is the_not:
        return Opposite(matcher(condition.part))
    if kind is the_exists:
        return Within(condition.column, None)
    if kind is the_all:
        return Matcher()
    return Asks(condition)


def all_of(conditions):
    """A matcher for several conditions that must all be met; None if there are none."""
    if not conditions:
        return None
    if len(conditions) == 1:
        return matcher(conditions[0])
    return Several(tuple([matcher(condition) for condition in conditions]), True)


def passing(list keys not None, list rows not None, Matcher rest):
    """The (key, row) pairs of rows that are there and pass `rest`, which may be None."""
    cdef list found = []
    cdef Py_ssize_t i
    for i in range(len(keys)):
        row = rows[i]
        if row is not None and (rest is None or rest.test(<bytes>keys[i], (<Row?>row).image)):
            found.append((keys[i], row))
    return found


cdef struct Begun:
    uint64_t begin  # the first eight bytes, as a number
    PyObject *key


cdef int in_order(const void *a, const void *b) noexcept nogil:
    """As qsort asks."""
    cdef const Begun *one = <const Begun *>a
    cdef const Begun *other = <const Begun *>b
    cdef Py_ssize_t size, other_size
    cdef int order
    if one.begin != other.begin:
        return -1 if one.begin < other.begin else 1
    size, other_size = bytes_size(one.key), bytes_size(other.key)
    order = memcmp(bytes_at(one.key), bytes_at(other.key), min(size, other_size))
    return order if order else (size > other_size) - (size < other_size)


cdef uint64_t begin_of(const unsigned char *at, Py_ssize_t size) noexcept:
    cdef uint64_t begin = 0
    cdef Py_ssize_t i
    for i in range(8):
        begin = begin << 8 | (at[i] if i < size else 0)
    return begin


cpdef int sort_keys(list keys, bint down=False) except -1:
    """Sort encoded keys in place: as list.sort does, without objects between."""
    cdef Py_ssize_t count = len(keys), i
    cdef PyObject **places
    cdef bytes key
    cdef Begun *begun
    if count < 2:
        return 0
    begun = <Begun *>malloc(count * sizeof(Begun))
    if begun is NULL:
        raise MemoryError
    try:
        for i in range(count):
            key = <bytes?>keys[i]
            begun[i].key = <PyObject *>key
            begun[i].begin = begin_of(<const unsigned char *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        qsort(begun, count, sizeof(Begun), in_order)
        places = PySequence_Fast_ITEMS(keys)
        for i in range(count):
            places[count - 1 - i if down else i] = begun[i].key
    finally:
        free(begun)
    return 0


cpdef bytes core_at(str column, bytes key, bytes image):
    """What a row is sorted by in one column: nothing where there is no value; equal numbers alike."""
    if column in key_columns:
        return key
    cdef bytes value = encoded_at(column, key, image)
    return b"" if value is None else core_of(value)


cpdef bytes core_of(bytes value):
    """What an encoded value is sorted by."""
    cdef Py_ssize_t size = core_size(<const unsigned char *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    if size == PyBytes_GET_SIZE(value):
        return value
    if size >= 0:
        return value[:size]
    return range_of(decode(value))[0] if is_scalar_encoding(value) else value


cdef inline bint is_ordered(bytes value) noexcept:
    return <unsigned char>PyBytes_AS_STRING(value)[0] <= LAST_SCALAR


cdef Py_ssize_t core_size(const unsigned char *at, Py_ssize_t size) noexcept:
    """How many bytes of an encoded value say what it is equal to (docs/codec.md); -1 where only decoding tells."""
    cdef int tag
    cdef Py_ssize_t end
    if not size:
        return 0
    tag = at[0]
    if 0x30 <= tag <= 0xAF or 0x1D <= tag <= 0x2C:
        return fraction_end(at, size, 1)
    if 0xB0 <= tag <= 0xB7:
        return fraction_end(at, size, 1 + tag - 0xAF)
    if 0x15 <= tag <= 0x1C:
        return fraction_end(at, size, 1 + 0x1D - tag)
    if tag in (0x10, 0x11, 0x2E, 0xBA, 0xBB):
        return 1
    if tag in (0xC0, 0xC1, 0xC2, 0xC8, 0xC9):
        return size  # equal ones are the same
    if tag == 0xC3 or tag == 0xC4 or tag == 0xC5 or tag == 0xC6:
        end = 6 if tag <= 0xC4 else 4
        return end if size <= end or at[end] < FIRST_IN_CORE else end + 3  # microseconds
    return -1


cdef inline Py_ssize_t fraction_end(const unsigned char *at, Py_ssize_t size, Py_ssize_t end) noexcept:
    """The end of a number whose integer part ends there: hundredths may follow, and groups of seven bits."""
    cdef int more
    if size <= end or at[end] < FIRST_IN_CORE:
        return end
    more = at[end] & 1
    end += 1
    for _ in range(8):
        if not more or end >= size:
            return end
        more = at[end] & 1
        end += 1
    return -1 if more else end


@cython.final
cdef class Order:
    """Makes of each row one bytes that sorts as the columns say, then by key."""
    cdef list columns  # of (column, descending)

    def __init__(self, columns):
        self.columns = [(term.removeprefix("-"), term.startswith("-")) for term in columns]

    cpdef bytes of(self, bytes key, bytes image):
        """What a row is sorted by."""
        cdef list parts = []
        for column, descending in self.columns:
            core = core_at(column, key, image)
            if descending:
                parts.append(core.translate(REVERSED))
                parts.append(b"\xff")
            else:
                parts.append(core)
                parts.append(b"\0")
        parts.append(key)
        return b"".join(parts)

    def decorated(self, list matches not None):
        """(what it is sorted by, match) of each match."""
        return [(self.of(match[0], (<Row?>match[1]).image), match) for match in matches]


def groups(batches, Py_ssize_t skip, bint joined):
    """The keys of entries (term, key) in order, in lists of those whose values are equal.

    Containers, which have no order, come as one list.
    """
    cdef list keys = []
    cdef bytes core, last = None
    cdef tuple entry
    for batch in batches:
        for entry in <list?>batch:
            core = core_of_term(<bytes>entry[0], skip, joined)
            if last is not None and core != last:
                yield keys
                keys = []
            last = core
            keys.append(entry[1])
    if keys:
        yield keys


def keys_along(batches, Py_ssize_t skip, bint joined, Py_ssize_t enough):
    """The first keys, `enough` or a few more, of entries (term, key) in order; those of equal values in their own order.

    None where there are containers, whose order only rows tell.
    """
    cdef list found = []
    cdef bytes core, last = None
    cdef Py_ssize_t begin = 0  # where the keys of the last value are
    cdef tuple entry
    for batch in batches:
        for entry in <list?>batch:
            core = core_of_term(<bytes>entry[0], skip, joined)
            if last is None or core != last:
                if len(found) - begin > 1:
                    found[begin:] = sorted(found[begin:])
                if len(found) >= enough:
                    return found
                begin, last = len(found), core
                if <unsigned char>PyBytes_AS_STRING(core)[0] == UNORDERED:
                    return None
            found.append(entry[1])
    if len(found) - begin > 1:
        found[begin:] = sorted(found[begin:])
    return found


cdef bytes core_of_term(bytes term, Py_ssize_t skip, bint joined):
    """What a term is sorted by in one column: in one of several columns, what is between `skip` bytes and a NUL."""
    if joined:
        return term[skip:term.index(b"\0", skip)]
    return core_of(term) if PyBytes_GET_SIZE(term) and is_ordered(term) else b"\xff"


def columns_of(Row row not None):
    """A row as a dict of plain values."""
    return row_of(PyBytes_AS_STRING(row.image), PyBytes_GET_SIZE(row.image), None)
