# Names that were seen before: rows and records of one shape come again and again.
#
# A name is a str made once; a shape is a dict of the names, each with None, which is copied and then filled: that is
# half the work of a dict built from nothing. Both tables have one place for each hash; what is new takes it, a shape
# when it comes the second time. Names of rows are compared byte by byte: a hash alone decides nothing.

cdef enum:
    NAMES = 1024
    SHAPES = 1024
    NAME_BYTES_MAX = 64
    COLUMNS_MAX = 64

cdef uint64_t MIX = 0x9E3779B97F4A7C15

cdef struct Shape:
    uint64_t hash
    Py_ssize_t size  # how many names
    PyObject *names  # bytes: each with its size before it
    PyObject *model

cdef PyObject *names_seen[NAMES]
cdef Shape shapes_seen[SHAPES]

cdef extern from *:
    """
    /* CPython 3.12 never frees an interned str; names come from data. */
    #if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
    #define PYKESTO_INTERN(text)
    #else
    #define PYKESTO_INTERN(text) PyUnicode_InternInPlace(text)
    #endif
    """
    void intern "PYKESTO_INTERN"(PyObject **text)


cdef inline uint64_t hash_of(const unsigned char *at, Py_ssize_t size) noexcept:
    """Of a name; the beginning, and from 16 bytes up the end, and the size."""
    cdef uint64_t word = 0, last = 0
    cdef uint32_t half = 0
    if size >= 8:
        memcpy(&word, at, 8)
        memcpy(&last, at + size - 8, 8)
    elif size >= 4:
        memcpy(&half, at, 4)
        word = half
        memcpy(&half, at + size - 4, 4)
        last = half
    elif size:
        word = at[0] | <uint64_t>at[size >> 1] << 8 | <uint64_t>at[size - 1] << 16
    word = (word ^ last * MIX ^ <uint64_t>size << 56) * MIX
    return word ^ word >> 29


cdef inline uint64_t mixed(uint64_t hash, uint64_t more) noexcept:
    hash = (hash ^ more) * MIX
    return hash ^ hash >> 32


cdef object name_at(const unsigned char *at, Py_ssize_t size):
    """The str of a name, mostly the one that was made before."""
    cdef PyObject **place
    cdef const char *known
    cdef Py_ssize_t known_size = 0
    if not 0 < size <= NAME_BYTES_MAX:
        return text_at(at, size)
    place = &names_seen[hash_of(at, size) % NAMES]
    if place[0] != NULL:
        known = utf8(<object>place[0], &known_size)
        if known_size == size and memcmp(known, at, size) == 0:
            return <object>place[0]
    return new_name(place, text_at(at, size))


cdef object new_name(PyObject **place, object text):
    cdef PyObject *name = <PyObject *>text
    Py_INCREF(text)
    intern(&name)
    place[0], name = name, place[0]
    Py_XDECREF(name)
    return <object>place[0]


cdef inline PyObject *model_of(uint64_t hash, Py_ssize_t n, Shape **place) noexcept:
    """What may be the model of a shape, not owned: its names are still to be compared. NULL: there is none."""
    place[0] = &shapes_seen[hash % SHAPES]
    return place[0].model if place[0].hash == hash and place[0].size == n else NULL


cdef int keep_model(Shape *place, uint64_t hash, dict model, bytes names) except -1:
    """Keep the model of a shape, if it comes the second time in a row."""
    cdef PyObject *old_names = place.names
    cdef PyObject *old_model = place.model
    cdef bint again = place.hash == hash and place.size == PyDict_Size(model) and old_model == NULL
    place.hash, place.size, place.names, place.model = hash, PyDict_Size(model), NULL, NULL
    if again:
        Py_INCREF(model)
        Py_INCREF(names)
        place.model, place.names = <PyObject *>model, <PyObject *>names
    Py_XDECREF(old_names)
    Py_XDECREF(old_model)
    return 0
