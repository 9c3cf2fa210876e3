# Lists, dicts, sets and bytearrays of objects, which tell their owner of changes.

cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char *where) except -1
    void Py_LeaveRecursiveCall()


cpdef object tracked(value, owner):
    """`value`, or a copy of it that tells its owner of changes if it is a list, dict or set."""
    Py_EnterRecursiveCall("")  # a list within itself must not end the process
    try:
        return tracked_copy(value, owner)
    except RecursionError:
        raise too_deep() from None
    finally:
        Py_LeaveRecursiveCall()


cdef object too_deep():
    return CodecError("a container nested too deep, or within itself, can't be stored")


cdef object tracked_copy(value, owner):
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


cdef bint holds(values, Stored obj) except -1:
    """Whether an object is among some values, or in containers there."""
    Py_EnterRecursiveCall("")
    try:
        for value in values:
            if value is obj:
                return True
            if type(value) in HOLDERS and not isinstance(value, bytearray):
                if holds(value, obj) or isinstance(value, dict) and holds(value.values(), obj):
                    return True
        return False
    except RecursionError:
        raise too_deep() from None
    finally:
        Py_LeaveRecursiveCall()


cdef bint is_shared(Stored obj):
    """Whether somebody else has a container of the object's in hand, of which changes must be seen."""
    cdef Py_ssize_t at = 0
    cdef PyObject *name
    cdef PyObject *found
    while held_next(obj, &at, &name, &found):
        value = <object>found
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
