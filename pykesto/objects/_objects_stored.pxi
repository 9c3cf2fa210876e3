# An object: its state, and how its attributes are read, set and deleted.

cpdef bint is_own(str name):
    """Whether an attribute is the program's own, and not stored: `_v_...`, and `__...__`, which Python sets."""
    return len(name) > 2 and name[0] == "_" and (name[1] == "_" and name.endswith("__") or name.startswith("_v_"))


cpdef dict attributes_of(Stored obj):
    """The attributes of an object, in a dict of their own. To look into `__dict__` would make reading slower ever after."""
    complete(obj)
    return held_of(obj)


cdef dict held_of(Stored obj):
    """Those that are made."""
    cdef dict found = {}
    cdef Py_ssize_t at = 0
    cdef PyObject *name
    cdef PyObject *value
    while held_next(obj, &at, &name, &value):
        found[<object>name] = <object>value
    return found


def put_attribute(Stored obj not None, str name not None, value):
    """Set an attribute without telling anybody."""
    held_set(obj, name, value)


def get_dict(Stored self not None):
    """`__dict__` of persistent objects: with all attributes in it."""
    complete(self)
    return PyObject_GenericGetDict(self, NULL)


def set_dict(Stored self not None, dict value not None):
    """`obj.__dict__ = ...`"""
    complete(self)
    PyObject_GenericSetDict(self, value, NULL)


DICT = property(get_dict, set_dict)


cdef class Stored:
    """The state of a persistent object, beside its attributes."""

    cdef object __weakref__
    cdef public Space _k_space  # None: it belongs to no session
    cdef public bytes _k_key  # 16 bytes, the id
    cdef public signed char _k_state
    cdef public char _k_awake  # its attributes are what the snapshot holds
    cdef public char _k_kept  # not awake, but its attributes are what an earlier snapshot held
    cdef int _k_size  # bytes that are counted for it in the cache
    cdef public object _k_version
    cdef public dict _k_given  # of one that is transient: the attributes that were not left to their defaults
    cdef Layout _k_layout  # of what was read: what its row's columns are
    cdef bytes _k_late  # the row, as long as attributes are still to be made of it
    cdef short _k_waiting  # how many

    def __cinit__(self):
        cdef PyObject *initial = held_in_class(<object>type(self), INITIAL)
        if initial is NULL:
            raise TypeError(f"{type(self).__name__} is no persistent class")
        if <object>initial is None:  # what is not read yet needs no room for attributes
            return
        self._k_awake = True
        held_begin(self)
        for name, value, factory in <tuple?><object>initial:
            PyObject_GenericSetAttr(self, name, value if factory is None else factory())

    def __init__(self, **attributes):
        cdef dict declared = (<object>type(self))._k_attributes
        cdef list others = None
        self._k_given = attributes
        for name, value in attributes.items():
            if value is not UNSET and name in declared:
                held_set(self, name, value)
            else:
                others = others or []
                others.append((name, value))
        for name, value in others or ():
            set_attribute(self, name, value)

    @property
    def _k_kind(self):
        """What the catalog knows of the class that an object was read as; None of one that was not."""
        return None if self._k_layout is None else self._k_layout.kind

    def _k_touch(self):
        """Before a change of this object, or of a container in it."""
        if self._k_space is not None:
            self._k_space.touch(self)

    def _k_load(self):
        if not self._k_awake and self._k_space is not None:
            self._k_space.wake(self)


cdef inline bint is_late(Stored obj) except -1:
    """Whether an object is added with what refers to it, not at the commit: large containers are used at once."""
    return obj._k_space is None and (<object>type(obj))._k_added is not None


cdef int rouse(Stored obj) except -1:
    """Have an object, whose attributes are those of the snapshot, be of its class."""
    obj._k_awake, obj._k_kept = True, False
    cls = (<object>type(obj))._k_class
    if type(obj) is not cls:
        become(obj, cls)
    return 0


def have_places_of(cls, shell):
    """Let objects go between a class and its shell, which has no objects yet, with all their attributes."""
    held_alike(cls, shell)


cpdef object shell_of(cls):
    """What objects of a class are made of until they are read."""
    found = cls.__dict__.get("_k_shell")
    return cls._k_make_shell() if found is None else found


def get_attribute(Stored self not None, str name not None):
    """`__getattribute__` of a shell."""
    cls = (<object>type(self))._k_class
    if name == "__class__":
        return cls
    if name.startswith(("k_", "_k_")) or (name.startswith("__") and name != "__dict__"):
        return PyObject_GenericGetAttr(self, name)
    if not self._k_awake:
        if self._k_space is None:
            raise UsageError(f"{self!r} was detached before it was read")
        self._k_space.wake(self)
    return getattr(self, name)


def set_attribute(Stored self not None, str name not None, value):
    """`__setattr__` of persistent objects."""
    cdef Space space = self._k_space
    cdef object old = None
    cdef PyObject *found
    if name.startswith(("k_", "_k")):
        if name not in OWN:
            raise AttributeError(f"{name} is reserved")
        PyObject_GenericSetAttr(self, name, value)
        return
    if space is None or is_own(name):
        if value is UNSET:
            if held_get(self, name) is not NULL:
                held_del(self, name)
            if self._k_given is not None:
                self._k_given.pop(name, None)
        else:
            PyObject_GenericSetAttr(self, name, value)
            if self._k_given is not None:
                self._k_given[name] = value
        return
    space.touch(self)
    found = held_get(self, name)
    if found is not NULL:
        old = <object>found
    if old is None or old is not value:  # `obj.tags += [...]` assigns what is there already
        if type(value) in HOLDERS:
            value = tracked(value, self)
        elif isinstance(value, Stored) and is_late(<Stored>value):
            space.reached(<Stored>value)
        PyObject_GenericSetAttr(self, name, value)
        if type(old) in TRACKED:
            detach([old])


def delete_attribute(Stored self not None, str name not None):
    """`__delattr__` of persistent objects."""
    self._k_load()
    complete(self)
    if held_get(self, name) is NULL:
        raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}", name=name, obj=self)
    self._k_touch()
    held_del(self, name)
