"""What is hot of persistent objects: their state, the identity map of a session, loading and packing.

An object that is read is an instance of its class, with its attributes in its `__dict__`, and nothing of ours is in the
way. One that is not read yet, or lacks a declared attribute, is an instance of its class's *shell*: a subclass without
additions but for `__getattribute__`, which loads, and then gives the object its class.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyObject_GenericGetAttr, PyObject_GenericSetAttr
from cpython.weakref cimport PyWeakref_GetObject, PyWeakref_NewRef

import os
import time
from collections import deque

from pykesto.codec import decode_row, encode_row
from pykesto.errors import ClosedError, CodecError, UsageError
from pykesto import store
from pykesto.tracked import HOLDERS as _HOLDERS
from pykesto.tracked import TrackedBytearray, TrackedDict, TrackedList, TrackedSet, detach

class _Unset:
    """The type of Unset."""

    __slots__ = ()

    def __repr__(self):
        return "Unset"

    def __bool__(self):
        return False


UNSET = _Unset()

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        unsigned long tp_flags
    const unsigned long Py_TPFLAGS_IMMUTABLETYPE
    int PyObject_GenericSetDict(object, object, void *) except -1
    object PyObject_GenericGetDict(object, void *)


def freeze(type cls not None):
    """Let nobody change a class any more.

    What is of such a class can stand in another class under the name of an attribute, and the interpreter still takes
    its short way to that attribute of the objects: it need not fear that the class becomes a descriptor.
    """
    (<PyTypeObject *>cls).tp_flags |= Py_TPFLAGS_IMMUTABLETYPE

TRANSIENT, NEW, CLEAN, DIRTY, DELETED, DETACHED = range(6)
STATES = ("transient", "new", "clean", "dirty", "deleted", "detached")
CACHE_BYTES = 256 << 20
OBJECT_BYTES = 500  # what an object takes beside what is stored of it, about
UNSTORED = "!"  # begins the column of an attribute that was never stored, which only this session knows
UNHINTED = 0xFFF  # in an id: nothing is said of the class

cdef enum:
    transient_, new_, clean_, dirty_, deleted_, detached_

cdef object new_list = list.__new__, new_dict = dict.__new__, new_set = set.__new__
cdef frozenset HOLDERS = _HOLDERS
cdef frozenset TRACKED = frozenset({TrackedBytearray, TrackedDict, TrackedList, TrackedSet, tuple})
cdef str SCOPE = store.SCOPE_COLUMN
cdef frozenset OWN = frozenset(
    {"_k_space", "_k_key", "_k_state", "_k_awake", "_k_kept", "_k_version", "_k_kind", "_k_given"}
)


cdef bytes chance = b""  # random bytes, drawn ahead
cdef Py_ssize_t drawn = 0


def _forked():
    global chance, last_ms
    chance, last_ms = b"", 0  # the parent goes on with the same


os.register_at_fork(after_in_child=_forked)


cdef unsigned long long last_ms = 0, last_tail = 0


cpdef bytes new_id(Py_ssize_t number):
    """An id of version 7 (RFC 9562): milliseconds of the clock, the class's number as a hint, 62 bits of chance.

    Within a millisecond the last bits grow, so that the ids that a process gives to the objects of a class are in order.
    """
    global chance, drawn, last_ms, last_tail
    cdef unsigned long long now = <unsigned long long>time.time_ns() // 1_000_000, tail = 0
    cdef unsigned char out[16]
    cdef const unsigned char *at
    cdef int i
    if drawn + 8 > PyBytes_GET_SIZE(chance):
        chance, drawn = os.urandom(2048), 0
    at = <const unsigned char *>PyBytes_AS_STRING(chance) + drawn
    drawn += 8
    for i in range(8):
        tail = tail << 8 | at[i]
    if now > last_ms:
        last_ms, last_tail = now, tail & 0x1FFFFFFFFFFFFFFF
    else:
        last_tail += 1 + (tail & 0xFFFFFFFF)
    for i in range(6):
        out[i] = <unsigned char>(last_ms >> (40 - 8 * i))
    number = min(number, UNHINTED)
    out[6] = 0x70 | <unsigned char>(number >> 8)
    out[7] = <unsigned char>(number & 0xFF)
    for i in range(8):
        out[8 + i] = <unsigned char>(last_tail >> (56 - 8 * i))
    out[8] = 0x80 | (out[8] & 0x3F)
    return PyBytes_FromStringAndSize(<char *>out, 16)


cpdef object tracked(value, owner):
    """`value`, or a copy of it that tells its owner of changes if it is a list, dict or set."""
    kind = type(value)
    if kind is list or kind is TrackedList:
        found = new_list(TrackedList)
        list.extend(<list>found, tracked_items(<list>value, owner))
    elif kind is dict or kind is TrackedDict:
        found = new_dict(TrackedDict)
        for key, item in (<dict>value).items():
            dict.__setitem__(found, key, tracked(item, owner) if type(item) in HOLDERS else item)
    elif kind is set or kind is TrackedSet:
        found = new_set(TrackedSet)
        set.update(found, value)
    elif kind is tuple:
        for item in <tuple>value:
            if type(item) in HOLDERS:
                return tuple([tracked(item, owner) for item in <tuple>value])
        return value
    elif kind is bytearray or kind is TrackedBytearray:
        return TrackedBytearray(owner, value)
    else:
        return value
    found._owner = owner
    return found


cdef list tracked_items(list items, owner):
    for item in items:
        if type(item) in HOLDERS:
            return [tracked(item, owner) for item in items]
    return items


cpdef bint is_own(str name):
    """Whether an attribute is the program's own, and not stored: `_v_...`, and `__...__`, which Python sets."""
    return len(name) > 2 and name[0] == "_" and (name[1] == "_" and name.endswith("__") or name.startswith("_v_"))


cdef class Stored:
    """The state of a persistent object, beside its attributes."""

    cdef object __weakref__
    cdef public Space _k_space  # None: it belongs to no session
    cdef public bytes _k_key  # 16 bytes, the id
    cdef public int _k_state
    cdef public bint _k_awake  # __dict__ holds what the snapshot holds
    cdef public bint _k_kept  # not awake, but __dict__ holds what an earlier snapshot held
    cdef public object _k_version
    cdef public dict _k_given  # of one that is transient: the attributes that were not left to their defaults
    cdef public object _k_kind  # what the catalog knows of the stored class, of what was read

    def __cinit__(self):
        self._k_awake = True
        cls = <object>type(self)
        cdef tuple initial = cls._k_initial
        if cls._k_starts_bare:  # its own __init__ may ask for what is not there yet
            PyObject_GenericSetAttr(self, "__class__", shell_of(cls))
        for name, value, factory in initial:
            PyObject_GenericSetAttr(self, name, value if factory is None else factory())

    def __init__(self, **attributes):
        self._k_given = attributes
        for name, value in list(attributes.items()):
            set_attribute(self, name, value)
        if (<object>type(self))._k_required:
            settle(self)

    def _k_touch(self):
        """Before a change of this object, or of a container in it."""
        if self._k_space is not None:
            self._k_space.touch(self)

    def _k_load(self):
        if not self._k_awake and self._k_space is not None:
            self._k_space.wake(self)


cdef inline bint complete(Stored obj, cls) except -1:
    """Whether every declared attribute is there."""
    cdef dict attributes
    cdef tuple required = cls._k_required
    if not required:
        return True
    attributes = PyObject_GenericGetDict(obj, NULL)
    for name in required:
        if name not in attributes:
            return False
    return True


def settle(Stored obj not None):
    """Make an object that is awake an instance of its class, or of the shell if a declared attribute is missing."""
    cls = (<object>type(obj))._k_class
    wanted = cls if complete(obj, cls) else shell_of(cls)
    if wanted is not type(obj):
        PyObject_GenericSetAttr(obj, "__class__", wanted)


cpdef object shell_of(cls):
    """What objects of a class are made of until they are read."""
    found = cls.__dict__.get("_k_shell")
    return cls._k_make_shell() if found is None else found


def get_attribute(Stored self not None, str name not None):
    """`__getattribute__` of a shell."""
    cdef dict attributes
    cls = (<object>type(self))._k_class
    if name == "__class__":
        return cls
    if name.startswith(("k_", "_k_")) or (name.startswith("__") and name != "__dict__"):
        return PyObject_GenericGetAttr(self, name)
    if not self._k_awake:
        if self._k_space is None:
            raise UsageError(f"{self!r} was detached before it was read")
        self._k_space.wake(self)
    if type(self) is cls:
        return getattr(self, name)
    if name in cls._k_attributes:
        attributes = PyObject_GenericGetDict(self, NULL)
        if name not in attributes:
            raise AttributeError(f"{cls.__name__} object has no attribute {name!r}", name=name, obj=self)
    return PyObject_GenericGetAttr(self, name)


def set_attribute(Stored self not None, str name not None, value):
    """`__setattr__` of persistent objects."""
    cdef Space space = self._k_space
    cdef dict attributes
    if name.startswith(("k_", "_k")):
        if name not in OWN:
            raise AttributeError(f"{name} is reserved")
        PyObject_GenericSetAttr(self, name, value)
        return
    if space is None or is_own(name):
        if value is UNSET:
            PyObject_GenericGetDict(self, NULL).pop(name, None)
            if self._k_given is not None:
                self._k_given.pop(name, None)
        else:
            PyObject_GenericSetAttr(self, name, value)
            if self._k_given is not None:
                self._k_given[name] = value
        if type(self) is not (<object>type(self))._k_class:
            settle(self)
        return
    space.touch(self)
    attributes = PyObject_GenericGetDict(self, NULL)
    old = attributes.get(name)
    if old is None or old is not value:  # `obj.tags += [...]` assigns what is there already
        if type(value) in HOLDERS:
            value = tracked(value, self)
        elif isinstance(value, Stored) and (<Stored>value)._k_space is None and (<object>type(value))._k_added is not None:
            space.reached(<Stored>value)  # large containers are used at once
        PyObject_GenericSetAttr(self, name, value)
        if type(old) in TRACKED:
            detach([old])
        if type(self) is not (<object>type(self))._k_class:
            settle(self)


def delete_attribute(Stored self not None, str name not None):
    """`__delattr__` of persistent objects."""
    self._k_load()
    cdef dict attributes = PyObject_GenericGetDict(self, NULL)
    if name not in attributes:
        raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}", name=name, obj=self)
    self._k_touch()
    del attributes[name]
    settle(self)


@cython.final
cdef class Reference:
    """Gives the codec the id of an object; what a session packs is added to it on the way."""

    cdef Space space

    def __init__(self, Space space):
        self.space = space

    def __call__(self, value):
        if not isinstance(value, Stored):
            return None
        cdef Stored obj = <Stored>value
        if self.space is None:
            return obj._k_key
        if obj._k_space is not self.space or obj._k_state == deleted_:
            self.space.reached(obj)
        return obj._k_key


cdef bint is_shared(Stored obj):
    """Whether somebody else has a container of the object's in hand, of which changes must be seen."""
    cdef dict attributes = PyObject_GenericGetDict(obj, NULL)
    for value in attributes.values():
        if type(value) in HOLDERS and holds_shared(value):
            return True
    return False


cdef bint holds_shared(value):
    # Two references are ours: that of what it is in, and that of the loop around this call.
    if (<PyObject *>value).ob_refcnt > 2 and type(value) is not tuple:
        return True
    if isinstance(value, bytearray):
        return False
    for item in (value.values() if isinstance(value, dict) else value):
        if type(item) in HOLDERS and holds_shared(item):
            return True
    return False


cdef class Space:
    """The objects of one session. What is not hot is in `space.ObjectSpace`."""

    cdef public object _session
    cdef public object _catalog
    cdef public dict _changed  # id -> object, held until the session ends
    cdef public dict _sent  # id -> packed row, of what a commit may have merged with others
    cdef dict _known  # id -> weak reference
    cdef Py_ssize_t sweep_at
    cdef list shells
    cdef dict names
    cdef public long epoch
    cdef public long loads  # objects that were read one by one, because they were touched
    cdef public object loads_max
    cdef public Py_ssize_t cache_bytes  # how much of what was read is held on to
    cdef Py_ssize_t cached
    cdef object cache
    cdef readonly object reference  # for the codec: gives an object's id, and adds the object
    cdef bint may_name  # whether new names may be given numbers
    cdef str table_name

    def __init__(self, session, catalog, str table):
        self._session, self._catalog, self.table_name = session, catalog, table
        self._changed, self._known, self._sent = {}, {}, {}
        self.sweep_at = 1024
        self.shells, self.names = catalog.shells, catalog.names
        self.reference = Reference(self)
        self.may_name = not session._options.read_only
        self.cache_bytes = CACHE_BYTES
        self.cache = deque()

    # Identity

    cpdef Stored known(self, bytes id):
        """The session's object with that id, if there is one in memory."""
        ref = self._known.get(id)
        if ref is None:
            return None
        found = <object>PyWeakref_GetObject(ref)
        return None if found is None else <Stored>found

    cpdef know(self, Stored obj):
        """Remember an object by its id."""
        self._known[obj._k_key] = PyWeakref_NewRef(obj, None)
        if len(self._known) > self.sweep_at:
            self._known = {id: ref for id, ref in self._known.items() if <object>PyWeakref_GetObject(ref) is not None}
            self.sweep_at = 2 * len(self._known) + 1024

    cpdef forget(self, bytes id):
        self._known.pop(id, None)

    def everyone(self):
        """All objects in memory."""
        objects = [<object>PyWeakref_GetObject(ref) for ref in self._known.values()]
        return [obj for obj in objects if obj is not None]

    def __call__(self, bytes reference not None):
        """The object that a stored reference means, for the codec; it is read only when touched."""
        found = self.known(reference)
        return self.ghost(reference) if found is None else found

    cdef Stored ghost(self, bytes id):
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(id)
        cdef Py_ssize_t number = UNHINTED
        cdef object shell = None
        if PyBytes_GET_SIZE(id) == 16 and at[6] >> 4 == 7:
            number = (at[6] & 0xF) << 8 | at[7]
        if number < len(self.shells):
            shell = self.shells[number]
        if shell is None:
            shell = self.shell_for(id, number)
        return self.made(shell, id)

    def refuse_missing(self, obj):
        """Nothing is under the object's id."""
        raise NotImplementedError

    cpdef bytes row_key(self, bytes id):
        """The encoded key of an id: that of the UUID."""
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(id)
        cdef unsigned char out[33]
        cdef Py_ssize_t i, size = 1
        out[0] = 0xC8
        for i in range(PyBytes_GET_SIZE(id)):
            if at[i] < 3:
                out[size] = 2
                size += 1
                out[size] = at[i] + 1
            else:
                out[size] = at[i]
            size += 1
        return PyBytes_FromStringAndSize(<char *>out, size)

    cpdef bytes id_of(self, bytes key):
        """The id that an encoded key is of."""
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(key)
        cdef unsigned char out[16]
        cdef Py_ssize_t i = 1, size = 0, end = PyBytes_GET_SIZE(key)
        while i < end and size < 16:
            if at[i] == 2 and i + 1 < end:
                i += 1
                out[size] = at[i] - 1
            else:
                out[size] = at[i]
            i += 1
            size += 1
        if at[0] != 0xC8 or size != 16 or i != end:
            raise CodecError(f"{key!r} is no key of an object")
        return PyBytes_FromStringAndSize(<char *>out, 16)

    def shell_for(self, bytes id, Py_ssize_t number):
        """The shell of an object's class, where the id alone does not tell it."""
        raise NotImplementedError

    cdef Stored made(self, shell, bytes id):
        """An object that is not read yet."""
        cdef Stored obj = Stored.__new__(shell)
        obj._k_space, obj._k_key, obj._k_state, obj._k_awake = self, id, clean_, False
        self.know(obj)
        return obj

    # Loading

    cpdef wake(self, Stored obj):
        """Fill an object from the snapshot; after close() give back what was read before."""
        cdef object row
        if self._session._closed:
            if not obj._k_kept:
                raise ClosedError(
                    f"{obj!r} was not read before its session ended",
                    hint="read what is needed while the session is open",
                )
            obj._k_awake, obj._k_kept = True, False
            settle(obj)
            return
        self.loads += 1
        if self.loads_max is not None and self.loads > self.loads_max:
            raise UsageError(
                f"reading {obj!r} is one load more than was said there would be", hint="s.prefetch() what is needed"
            )
        row = self._session._get(self.table_name, self.row_key(obj._k_key))
        if row is None:
            self.refuse_missing(obj)
        self.awaken(obj, row)

    cdef awaken(self, Stored obj, row):
        if self._sent and self._sent.pop(obj._k_key, row.image) != row.image:
            obj._k_version = None  # the commit merged it with what another made of it
        if obj._k_kept and obj._k_version == row.version:
            obj._k_awake, obj._k_kept = True, False
            settle(obj)
        else:
            self.fill(obj, row.image, row.version)

    def read(self, bytes id not None, row):
        """The object of a row of the snapshot that was asked for, filled."""
        cdef Stored obj = self.known(id)
        if obj is None:
            obj = self.ghost(id)
        if not obj._k_awake:
            self.awaken(obj, row)
        return obj

    cpdef fill(self, Stored obj, bytes image, version):
        """Give an object the attributes of a packed row."""
        cdef dict attributes = self.unpacked(obj, image), old
        if obj._k_kept:
            old = PyObject_GenericGetDict(obj, NULL)
            detach(old.values())
            for name, value in old.items():
                if is_own(<str>name):
                    attributes[name] = value
        obj._k_version, obj._k_kept, obj._k_awake = version, False, True
        PyObject_GenericSetDict(obj, attributes, NULL)
        settle(obj)
        self.hold(obj, PyBytes_GET_SIZE(image))
        if (<object>type(obj))._k_watches_loads:
            self.filled(obj)

    def filled(self, obj):
        """After an object was read, of a class that wants to know."""

    cdef hold(self, Stored obj, Py_ssize_t size):
        """Hold on to an object that was read, and let go of those read longest ago when there are too many."""
        size += OBJECT_BYTES
        self.cache.append((obj, size))
        self.cached += size
        while self.cached > self.cache_bytes and len(self.cache) > 1:
            oldest, size = self.cache.popleft()
            self.cached -= size
            if (<Stored>oldest)._k_state == clean_ and (<Stored>oldest)._k_awake and not is_shared(<Stored>oldest):
                self.unload(<Stored>oldest)

    cpdef dict unpacked(self, Stored obj, bytes image):
        """The attributes of a packed row."""
        cdef dict columns = decode_row(image, self), out = {}, names = self.names
        cdef object kind = self._catalog.kind(columns.pop(SCOPE))
        cdef object cls = self.class_of(obj, kind)
        obj._k_kind = kind
        renamed, weak = cls._k_renamed, cls._k_weak
        for column, value in columns.items():
            name = names.get(column)
            if name is None:
                name = self._catalog.name(column)
            if renamed:
                name = renamed.get(name, name)
            if weak and name in weak:
                value = self.strong(value)
            out[name] = tracked(value, obj) if type(value) in HOLDERS else value
        for name, default, factory in cls._k_initial:
            if name not in out:  # stored before the attribute was declared
                out[name] = default if factory is None else tracked(factory(), obj)
        return out

    def class_of(self, Stored obj, kind):
        """The class of an object that is being read, which becomes the object's if it was not told rightly."""
        cdef object cls = kind.cls
        if (<object>type(obj))._k_class is not cls:
            PyObject_GenericSetAttr(obj, "__class__", shell_of(cls))
        return cls

    def sleep(self):
        """The snapshot is over: each object reads the new one when it is touched."""
        cdef Stored obj
        self.epoch += 1
        for ref in self._known.values():
            found = <object>PyWeakref_GetObject(ref)
            if found is not None:
                obj = <Stored>found
                if obj._k_awake:
                    self.put_to_sleep(obj)

    cdef put_to_sleep(self, Stored obj):
        obj._k_awake, obj._k_kept = False, True
        cls = (<object>type(obj))._k_class
        if type(obj) is cls:
            PyObject_GenericSetAttr(obj, "__class__", shell_of(cls))

    cpdef uncache(self):
        """Hold on to nothing that nobody else does."""
        self.cache.clear()
        self.cached = 0

    cpdef unload(self, Stored obj):
        """Take an object's attributes away; what was read out of it can't be changed any more."""
        cdef dict old = PyObject_GenericGetDict(obj, NULL)
        detach(old.values())
        PyObject_GenericSetDict(obj, {name: value for name, value in old.items() if is_own(<str>name)}, NULL)
        self.put_to_sleep(obj)
        obj._k_kept = False

    # Changing

    cpdef add_under(self, bytes id, Stored obj):
        """Add a transient object under an id; one that this session deleted there gives way."""
        cdef Stored deleted
        self._session._require_writable()
        self._session._begin()
        deleted = self._changed.get(id)
        if deleted is not None:
            obj._k_version = deleted._k_version
        obj._k_space, obj._k_key, obj._k_given = self, id, None
        obj._k_state = new_ if obj._k_version is None else dirty_
        cdef dict attributes = PyObject_GenericGetDict(obj, NULL)
        for name, value in attributes.items():
            if type(value) in HOLDERS and not is_own(<str>name):
                attributes[name] = tracked(value, obj)
        self.know(obj)
        self._changed[id] = obj
        for value in list(attributes.values()):
            if isinstance(value, Stored) and (<Stored>value)._k_space is None and (<object>type(value))._k_added is not None:
                self.reached(<Stored>value)  # large containers are used at once

    cpdef touch(self, Stored obj):
        """Before a change of an object."""
        self._session._require_writable()
        if obj._k_state == deleted_:
            raise UsageError(f"{obj!r} is deleted")
        if not obj._k_awake:
            self.wake(obj)
        if obj._k_state == clean_:
            self._session._begin()
            obj._k_state = dirty_
            self._changed[obj._k_key] = obj

    def weakened(self, value):
        """What is stored of a weak reference, or of a container of them."""
        raise NotImplementedError

    def strong(self, value):
        """The objects that are there of those that a stored weak reference, or a container of them, means."""
        raise NotImplementedError

    def reached(self, Stored obj):
        """An object that is being packed refers to this one, which is not of this session yet."""
        raise NotImplementedError

    cpdef bytes pack(self, Stored obj):
        """The object as a row; what it refers to is added on the way."""
        cdef dict columns = {}, stored = self._catalog.columns
        cdef object cls = (<object>type(obj))._k_class
        cdef object kind = self._catalog.kind_of(obj._k_kind, cls, add=self.may_name)
        cdef object transient = cls._k_transient, names = cls._k_stored, weak = cls._k_weak
        cdef dict attributes = PyObject_GenericGetDict(obj, NULL)
        for name, value in list(attributes.items()):
            if is_own(<str>name) or name in transient:
                continue
            if weak and name in weak:
                value = self.weakened(value)
            if names:
                name = names.get(name, name)
            column = stored.get(name)
            if column is None:
                column = self._catalog.column(name, attributes) if self.may_name else UNSTORED + name
            columns[column] = value
        try:
            return kind.column + encode_row(columns, self.reference)
        except CodecError:
            try:
                encode_row({self._catalog.names.get(c, c): v for c, v in columns.items()}, self.reference)  # tells where it is by names that people know
            except CodecError as error:
                raise CodecError(f"{cls.__name__}: {error.args[0]}", path=error.path) from error
            raise
