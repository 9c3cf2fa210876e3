# How the columns of a row become attributes, at once or when they are first asked for.
#
# Most attributes are made when the object is read. What refers to other objects, or holds several values, costs more than
# the rest of the row, and many who find an object never look at it: such an attribute is made of the row, which the
# object holds on to, when somebody reads it. Until then nothing is where the interpreter would find it, so it comes
# to what stands in the class under that name, and that gives the value, once.

cdef enum:
    FIRST_LATE = 0xC9  # the first byte of references, and behind it of tuples, instances and containers (docs/codec.md)


@cython.final
cdef class Slot:
    """Where the values of one column go, in objects of one class."""

    cdef str name
    cdef Py_ssize_t place  # among what is beside the object; -1: not known
    cdef bint late, weak, initial  # may be made later; a weak reference; has a default


@cython.final
cdef class Layout:
    """What rows of a stored class make of objects of the class that it is now."""

    cdef readonly object kind
    cdef object cls
    cdef bytes begin  # of the rows: the column that names the class
    cdef list slots  # by the attribute's number; None: not met yet
    cdef Py_ssize_t initials  # how many attributes have defaults
    cdef bint may_wait, watched
    cdef object names

    def __init__(self, kind, names):
        self.kind, self.cls, self.begin, self.names = kind, kind.cls, kind.column, names
        self.slots = []
        self.initials = len(self.cls._k_initial)
        self.watched = self.cls._k_watches_loads
        self.may_wait = in_class(self.cls, "__dict__") is DICT

    cdef Slot slot(self, const Column *column):
        cdef Py_ssize_t number = number_of(column)
        if 0 <= number < len(self.slots):
            found = self.slots[number]
            if found is not None:
                return <Slot>found
        return self.new_slot(column, number)

    cdef Slot new_slot(self, const Column *column, Py_ssize_t number):
        cdef object cls = self.cls
        cdef str name = self.names(PyBytes_FromStringAndSize(<const char *>column.name, column.name_size).decode())
        cdef Slot slot = Slot.__new__(Slot)
        slot.name = cls._k_renamed.get(name, name)
        slot.place = -1
        slot.weak = slot.name in cls._k_weak
        slot.initial = any([initial[0] == slot.name for initial in cls._k_initial])
        slot.late = self.may_wait and not slot.weak and isinstance(in_class(cls, slot.name), Attribute)
        while len(self.slots) <= number:
            self.slots.append(None)
        self.slots[number] = slot
        return slot


cdef object in_class(cls, str name):
    """What a class has under a name, itself or from one above it; None where there is nothing."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


cdef Py_ssize_t number_of(const Column *column) noexcept:
    """The number of the attribute that a column is of (`catalog.column_of`); -1 if it is of none."""
    cdef Py_ssize_t number = 0, i
    cdef unsigned char digit
    if column.name_size > 4:
        return -1
    for i in range(column.name_size):
        digit = column.name[i]
        if c"0" <= digit <= c"9":
            number = number * 36 + digit - c"0"
        elif c"a" <= digit <= c"z":
            number = number * 36 + digit - c"a" + 10
        else:
            return -1
    return number


cdef class Attribute:
    """What stands in a class under the name of an attribute, seen from the objects: the attribute, made of the row now.

    The interpreter looks here only where the object has nothing of that name.
    """

    def __get__(self, obj, owner):
        return late_attribute(<Stored>obj, self._name) if isinstance(obj, Stored) else self


cdef object late_attribute(Stored obj, str stored):
    """An attribute by the name that it is stored under; AttributeError if there is none."""
    cdef object cls = (<object>type(obj))._k_class
    cdef str name = cls._k_renamed.get(stored, stored)
    cdef PyObject *found
    if not obj._k_awake and obj._k_space is not None:
        obj._k_space.wake(obj)
    found = held_get(obj, name)
    if found is not NULL:
        return <object>found
    if obj._k_late is not None and obj._k_space is not None:
        column = obj._k_space.columns.get(stored)
        if column is not None and make_late(obj, <bytes>(<str>column).encode(), name):
            found = held_get(obj, name)
            if found is not NULL:
                return <object>found
    raise AttributeError(f"{cls.__name__} object has no attribute {name!r}", name=name, obj=obj)


cdef bint make_late(Stored obj, bytes name_of_column, str name) except -1:
    """Make one attribute of the row, if the row has it."""
    cdef Column column
    cdef bytes image = obj._k_late
    cdef const char *at = PyBytes_AS_STRING(image)
    cdef Py_ssize_t place = -1
    if not find_in(
        at, PyBytes_GET_SIZE(image), PyBytes_AS_STRING(name_of_column), PyBytes_GET_SIZE(name_of_column), &column
    ):
        return False
    value = value_of(at + column.at, column.end - column.at, obj._k_space)
    if type(value) in HOLDERS:
        value = tracked(value, obj)
    if held_get(obj, name) is NULL:  # else it was made meanwhile, and somebody has it
        held_put(obj, name, value, &place)
        obj._k_waiting -= 1
        if not obj._k_waiting:
            obj._k_late = None
    return True


cpdef int complete(Stored obj) except -1:
    """Make all attributes that are still to be made of the row."""
    cdef bytes image = obj._k_late
    cdef Column column
    cdef Py_ssize_t at = 0
    if image is None:
        return 0
    while obj._k_late is not None and at < PyBytes_GET_SIZE(image):
        at = next_column(PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), at, &column)
        if is_scope(&column):
            continue
        slot = obj._k_layout.slot(&column)
        if slot.late and held_get(obj, slot.name) is NULL:
            make_late(obj, PyBytes_FromStringAndSize(<const char *>column.name, column.name_size), slot.name)
    return 0


cdef bint has_column(bytes image, bytes name) except -1:
    cdef Column column
    return find_in(
        PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &column
    )


cdef inline bint is_scope(const Column *column) noexcept:
    return column.name_size == 1 and column.name[0] == SCOPE_BYTE
