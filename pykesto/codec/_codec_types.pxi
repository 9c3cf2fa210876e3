# What is stored besides Python's own types: references, and types that were registered.


@cython.final
cdef class Reference:
    """The id of a persistent object, where nobody was asked for the object itself.

    >>> Reference(b"0123456789abcdef").id
    b'0123456789abcdef'
    """

    cdef readonly bytes id

    def __init__(self, bytes id not None):
        if len(id) != 16:
            raise CodecError(f"a reference is an id of 16 bytes, not {len(id)}")
        self.id = id

    def __eq__(self, other):
        return self.id == (<Reference>other).id if type(other) is Reference else NotImplemented

    def __hash__(self):
        return hash((Reference, self.id))

    def __repr__(self):
        return f"Reference({self.id!r})"

    def __reduce__(self):
        return Reference, (self.id,)


@cython.final
cdef class Unknown:
    """A value of a registered type, read where no such type is registered. Stored again, it is what it was.

    `name` is the type's, `value` what it was stored as; `equal` tells that it was equal to `value` itself, as a member
    of an IntEnum is equal to its int.
    """

    cdef readonly str name
    cdef readonly object value
    cdef readonly bint equal

    def __init__(self, str name not None, value, bint equal=False):
        if equal and type(value) not in (int, float, str, tuple):
            raise CodecError(f"no instance of {name} can be equal to a {type(value).__name__}")
        self.name, self.value, self.equal = name, value, equal

    def __eq__(self, other):
        cdef Unknown twin
        if type(other) is not Unknown:
            return NotImplemented
        twin = <Unknown>other
        return self.name == twin.name and self.equal == twin.equal and self.value == twin.value

    def __hash__(self):
        try:
            return hash((Unknown, self.name, self.value))
        except TypeError:  # its type has a hash of its own, so it may be in a set
            return hash((Unknown, self.name))

    def __repr__(self):
        return f"Unknown({self.name!r}, {self.value!r})"

    def __reduce__(self):
        return Unknown, (self.name, self.value, self.equal)


@cython.final
cdef class Type:
    """How the instances of a registered class are stored."""

    cdef str name
    cdef object dump, load
    cdef bint equal  # instances are equal to what they are stored as
    cdef bint ordered  # and they are scalars


cdef dict _containers = {}
cdef dict _types = {}  # by class
cdef dict _named = {}  # by name


def register_container(cls, as_type):
    """Let instances of `cls`, a subclass of a plain container, be stored as that container."""
    if as_type not in (list, dict, set, frozenset, bytearray) or not issubclass(cls, as_type):
        raise TypeError(f"{cls!r} is no subclass of a container that can be stored as {as_type!r}")
    _containers[cls] = as_type


def add_type(cls, str name not None, dump, load, bint equal, bint ordered):
    """Store instances of `cls` under a name, as what `dump` gives; `load` makes them of it again."""
    cdef Type kind = Type.__new__(Type)
    kind.name, kind.dump, kind.load, kind.equal, kind.ordered = name, dump, load, equal, ordered
    for old in [other for other, known in _types.items() if (<Type>known).name == name]:
        del _types[old]
    _types[cls] = kind
    _named[name] = kind


cdef Type type_of(object x, object t, int depth=0):
    """How x is stored, if its type is registered, or was where it comes from."""
    cdef Type kind
    cdef Unknown unknown
    if t is not Unknown:
        return <Type>_types.get(t)
    unknown = <Unknown>x
    kind = Type.__new__(Type)
    kind.name, kind.equal, kind.ordered = unknown.name, unknown.equal, is_scalar(unknown.value, depth + 1)
    return kind


cdef object dumped(Type kind, object x):
    return kind.dump(x) if kind.dump is not None else (<Unknown>x).value


cdef object instance(str name, value, bint equal):
    """What a stored value is the instance of; a type that is not known here gives an Unknown."""
    cdef object found = _named.get(name), out
    cdef Type kind
    if found is not None:
        kind = <Type>found
        if kind.equal == equal:
            out = kind.load(value)
            if out is not NotImplemented:
                return out
    return Unknown(name, value, equal)


cdef frozenset UNORDERED = frozenset({list, dict, set, frozenset, bytearray, complex, range})
cdef frozenset PLAIN_TYPES = frozenset(
    {int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, Decimal, Fraction, UUID,
     date, datetime, time, timedelta}
)


cdef bint is_scalar(x, int depth=0) except -1:
    """Whether x can be in the ordered form."""
    cdef object t = type(x)
    cdef Type kind
    if depth > DEPTH_MAX:
        raise _Fault(f"nested more than {DEPTH_MAX} deep, or within itself")
    if t is str or t is int:
        return True
    if t is tuple:
        for item in <tuple>x:
            if not is_scalar(item, depth + 1):
                return False
        return True
    if t in UNORDERED or t in _containers:
        return False
    kind = type_of(x, t, depth)
    if kind is None:
        return True
    return kind.ordered and (not isinstance(x, tuple) or is_scalar(dumped(kind, x), depth + 1))


cdef str refusal(x, bint keyed):
    cdef object t = type(x)
    name = f"{t.__module__}.{t.__qualname__}" if t.__module__ != "builtins" else t.__qualname__
    if keyed:
        return f"{name} can't be a key or be in one: keys are scalars or tuples of scalars"
    for base in t.__mro__[1:]:
        if base in PLAIN_TYPES:
            return f"{name} would be read back as a plain {base.__name__}: register it, or convert it first"
    return f"{name} is no type that can be stored, unless it is registered"
