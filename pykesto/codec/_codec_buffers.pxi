# What is written to and read from, on the stack of the call, and what is known when it fails.


class _Fault(Exception):
    """A CodecError in the making: the path is added on the way out."""


cdef struct Step:
    PyObject *holder  # owned: a container, or where Step.index is AT_KEY a key; NULL in a sequence that is read
    Py_ssize_t index

cdef enum:
    IN_SET = -1
    AT_KEY = -2
    NOWHERE = -3

cdef enum:
    DEEPEST = 200
    SHAPES_MAX = 64  # of which a value remembers the names


cdef str step(key):
    cdef str shown
    try:
        shown = repr(key)
    except ValueError:  # an int of too many digits
        shown = f"<{type(key).__name__}>"
    return f"[{shown}]" if len(shown) <= 60 else f"[{shown[:57]}...]"


cdef str path_of(Step *trail, int depth):
    """The way to where it failed, as one would write it in Python."""
    cdef str path = ""
    cdef int i
    for i in range(depth):
        path += part_of_path(trail[i].holder, trail[i].index)
    return path


cdef str part_of_path(PyObject *holder, Py_ssize_t index):
    if index == IN_SET:
        return "{...}"
    if index == NOWHERE:
        return ""
    if index == AT_KEY:
        return step(<object>holder)
    if holder == NULL or not isinstance(<object>holder, dict):
        return f"[{index}]"
    for i, key in enumerate(dict.__iter__(<object>holder)):
        if i == index:
            return step(key)
    return ""


cdef struct Buffer:
    unsigned char *at
    Py_ssize_t used
    Py_ssize_t room
    unsigned char *first  # where it began, which is not to be freed


cdef inline void open_buffer(Buffer *out, unsigned char *first, Py_ssize_t room) noexcept:
    out.at = out.first = first
    out.used = 0
    out.room = room


cdef inline void close_buffer(Buffer *out) noexcept:
    if out.at != out.first:
        PyMem_Free(out.at)


cdef int grow(Buffer *out, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = out.room
    cdef unsigned char *at
    while room - out.used < more:
        room *= 2
    if out.at == out.first:
        at = <unsigned char *>PyMem_Malloc(room)
        if at != NULL:
            memcpy(at, out.first, out.used)
    else:
        at = <unsigned char *>PyMem_Realloc(out.at, room)
    if at == NULL:
        raise MemoryError
    out.at = at
    out.room = room
    return 0


cdef inline int need(Buffer *out, Py_ssize_t more) except -1:
    if out.room - out.used < more:
        grow(out, more)
    return 0


cdef inline int put_byte(Buffer *out, int byte) except -1:
    if out.used == out.room:
        grow(out, 1)
    out.at[out.used] = <unsigned char>byte
    out.used += 1
    return 0


cdef inline int put(Buffer *out, const void *block, Py_ssize_t size) except -1:
    need(out, size)
    memcpy(out.at + out.used, block, size)
    out.used += size
    return 0


cdef inline int put_bytes(Buffer *out, bytes block) except -1:
    return put(out, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))


cdef inline bytes taken(Buffer *out):
    return PyBytes_FromStringAndSize(<char *>out.at, out.used)


cdef struct Writer:
    Buffer body
    Buffer suffixes  # of the ordered value that is being written
    Buffer marks  # which of its parts are instances of registered types
    PyObject *reference  # not owned; NULL where nobody is asked
    bint keyed  # a key has no suffixes
    bint nan_too  # what is only sorted by may be NaN
    bint nan_met
    Py_ssize_t plain  # suffixes that would say nothing, so far
    uint64_t nodes  # parts of the ordered value, so far
    int depth
    int shapes
    uint64_t shape_hash[SHAPES_MAX]
    Py_ssize_t shape_size[SHAPES_MAX]
    Py_ssize_t shape_at[SHAPES_MAX]  # where its names are written
    Step trail[DEEPEST]
    unsigned char first_body[1536]
    unsigned char first_suffixes[64]
    unsigned char first_marks[64]


cdef inline void begin(Writer *out, object reference) noexcept:
    open_buffer(&out.body, out.first_body, sizeof(out.first_body))
    open_buffer(&out.suffixes, out.first_suffixes, sizeof(out.first_suffixes))
    open_buffer(&out.marks, out.first_marks, sizeof(out.first_marks))
    out.reference = NULL if reference is None else <PyObject *>reference
    out.keyed = out.nan_too = out.nan_met = False
    out.depth = out.shapes = 0


cdef inline void finish(Writer *out) noexcept:
    close_buffer(&out.body)
    close_buffer(&out.suffixes)
    close_buffer(&out.marks)
    while out.depth:
        leave(out)


cdef inline int enter(Writer *out, object holder) except -1:
    if out.depth == DEPTH_MAX:
        raise _Fault(f"nested more than {DEPTH_MAX} deep, or within itself")
    Py_INCREF(holder)
    out.trail[out.depth].holder = <PyObject *>holder
    out.trail[out.depth].index = 0
    out.depth += 1
    return 0


cdef inline void leave(Writer *out) noexcept:
    out.depth -= 1
    Py_XDECREF(out.trail[out.depth].holder)


cdef struct Reader:
    const unsigned char *at  # not owned
    Py_ssize_t pos
    Py_ssize_t end
    PyObject *reference  # not owned; NULL: a reference is a Reference
    bint unfinished  # there are references, or instances of registered types, to be made
    bint long_decimals  # among the numbers read is a Decimal longer than one may be
    bint as_stored  # no instances are made
    int depth
    int shapes
    PyObject *shape[SHAPES_MAX]  # owned: dicts of the names
    Step trail[DEEPEST]


cdef inline void open_reader(Reader *source, const char *at, Py_ssize_t size, object reference) noexcept:
    source.at = <const unsigned char *>at
    source.pos = 0
    source.end = size
    source.reference = NULL if reference is None else <PyObject *>reference
    source.unfinished = source.as_stored = source.long_decimals = False
    source.depth = source.shapes = 0


cdef inline void close_reader(Reader *source) noexcept:
    while source.shapes:
        source.shapes -= 1
        Py_XDECREF(source.shape[source.shapes])
    while source.depth:
        climb(source)


cdef inline int descend(Reader *source, PyObject *holder, Py_ssize_t index) except -1:
    if source.depth == DEPTH_MAX:
        raise _Fault(f"nested more than {DEPTH_MAX} deep")
    if holder != NULL:
        Py_INCREF(<object>holder)
    source.trail[source.depth].holder = holder
    source.trail[source.depth].index = index
    source.depth += 1
    return 0


cdef inline void climb(Reader *source) noexcept:
    source.depth -= 1
    Py_XDECREF(source.trail[source.depth].holder)


cdef inline int take_byte(Reader *source) except -1:
    if source.pos >= source.end:
        raise _Fault("the bytes end too early")
    source.pos += 1
    return source.at[source.pos - 1]


cdef inline const unsigned char *take(Reader *source, Py_ssize_t size) except NULL:
    if size < 0 or size > source.end - source.pos:
        raise _Fault("the bytes end too early")
    source.pos += size
    return source.at + source.pos - size
