/* Where the interpreter keeps the attributes of an object.

   CPython 3.11 keeps those of most objects as an array beside the object, whose order the class knows, and makes a
   dict of them only for who asks for `__dict__`. Such an attribute is read in a fraction of the time and of the memory
   that a dict takes. To fill an object so, and to read all of it without making its dict, one has to know the layout,
   which is settled for 3.11 (Include/internal/pycore_dict.h, Objects/dictobject.c). For other versions all of this
   works on the object's dict.

   Nothing here looks at the class: descriptors are not asked. Names are exact strs. */

#if PY_VERSION_HEX < 0x030C0000 && !defined(PYPY_VERSION)
#define HELD_BESIDE 1
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include "internal/pycore_dict.h"
#else
#define HELD_BESIDE 0
#endif

/* What a class, or one above it, has under a name, borrowed; NULL, without an error, if there is nothing. */
static inline PyObject *held_in_class(PyObject *cls, PyObject *name)
{
    return _PyType_Lookup((PyTypeObject *)cls, name);
}

/* Let go of all attributes, and begin anew, in a dict. */
static int held_begin_apart(PyObject *obj)
{
    PyObject *dict = PyDict_New();
    int failed = dict == NULL ? -1 : PyObject_GenericSetDict(obj, dict, NULL);
    Py_XDECREF(dict);
    return failed;
}

#if HELD_BESIDE

static inline PyDictKeysObject *held_keys(PyTypeObject *cls)
{
    return ((PyHeapTypeObject *)cls)->ht_cached_keys;
}

static inline PyDictValues **held_values(PyObject *obj)
{
    return (PyDictValues **)obj - 4;
}

static inline PyObject **held_dict(PyObject *obj)
{
    return (PyObject **)obj - 3;
}

/* Whether objects of the class may have attributes beside them. */
static inline int held_room(PyTypeObject *cls)
{
    return (cls->tp_flags & Py_TPFLAGS_MANAGED_DICT) && held_keys(cls) != NULL;
}

/* The attributes that are beside the object; NULL where there is a dict, or nothing yet. */
static inline PyDictValues *held_beside(PyObject *obj)
{
    return held_room(Py_TYPE(obj)) ? *held_values(obj) : NULL;
}

/* Its dict otherwise, borrowed; NULL where there is nothing yet. */
static inline PyObject *held_apart(PyObject *obj)
{
    PyObject **found = held_room(Py_TYPE(obj)) ? held_dict(obj) : _PyObject_GetDictPtr(obj);
    return found == NULL ? NULL : *found;
}

static inline PyObject *held_name(PyDictKeysObject *keys, Py_ssize_t at)
{
    return DK_UNICODE_ENTRIES(keys)[at].me_key;
}

/* The place of a name, -1 if the class has none for it. */
static Py_ssize_t held_place(PyDictKeysObject *keys, PyObject *name)
{
    Py_ssize_t at;
    for (at = 0; at < keys->dk_nentries; at++)
        if (held_name(keys, at) == name)
            return at;
    for (at = 0; at < keys->dk_nentries; at++)
        if (PyUnicode_Compare(held_name(keys, at), name) == 0)
            return at;
    return -1;
}

/* Have the places of one class in another, which has no objects yet, so that an object may go between them. */
static void held_alike(PyObject *cls, PyObject *shell)
{
    PyDictKeysObject *keys = held_keys((PyTypeObject *)cls);
    PyTypeObject *type = (PyTypeObject *)shell;
    if (!held_room((PyTypeObject *)cls) || !held_room(type))
        return;
    keys->dk_refcnt++;
    ((PyHeapTypeObject *)shell)->ht_cached_keys = keys;  /* its own, empty ones are lost: nobody may free them */
}

/* Give an object another class of the same layout. `__class__ = ...` looks at both first, and tells auditors; what
   we go between are a class and its shell, thousands of times a commit. */
static int become(PyObject *obj, PyObject *cls)
{
    PyTypeObject *old = Py_TYPE(obj);
    if (held_keys(old) != held_keys((PyTypeObject *)cls) && held_beside(obj) != NULL) {
        PyObject *dict = PyObject_GenericGetDict(obj, NULL);
        if (dict == NULL)
            return -1;
        Py_DECREF(dict);
    }
    Py_INCREF(cls);
    Py_SET_TYPE(obj, (PyTypeObject *)cls);
    Py_DECREF(old);
    return 0;
}

/* Let go of all attributes, and begin anew, beside the object. */
static int held_begin(PyObject *obj)
{
    PyDictKeysObject *keys = held_keys(Py_TYPE(obj));
    PyDictValues *old = held_beside(obj);
    PyObject *dict;
    size_t room, size, prefix;
    unsigned char *block;
    int at;
    if (!held_room(Py_TYPE(obj)))
        return held_begin_apart(obj);
    /* As for any new object: the fewer names a class turns out to need, the less room is left for others. */
    if (keys->dk_usable > 1)
        keys->dk_usable--;
    room = (size_t)(keys->dk_nentries + keys->dk_usable);
    prefix = (room + 2 + sizeof(PyObject *) - 1) / sizeof(PyObject *) * sizeof(PyObject *);
    size = prefix + room * sizeof(PyObject *);
    block = PyMem_Malloc(size);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(block, 0, size);
    block[prefix - 1] = (unsigned char)prefix;
    *held_values(obj) = (PyDictValues *)(block + prefix);
    dict = *held_dict(obj);
    *held_dict(obj) = NULL;
    Py_XDECREF(dict); /* only now, for this may run any code */
    if (old != NULL) {
        unsigned char *order = (unsigned char *)old - 2;
        for (at = 1; at <= *order; at++)
            Py_DECREF(old->values[order[-at]]);
        PyMem_Free((char *)old - ((unsigned char *)old)[-1]);
    }
    return 0;
}

/* The next attribute, borrowed; `at` is 0 first. */
static int held_next(PyObject *obj, Py_ssize_t *at, PyObject **name, PyObject **value)
{
    PyDictValues *values = held_beside(obj);
    PyObject *dict;
    if (values != NULL) {
        unsigned char *order = (unsigned char *)values - 2;
        int place;
        if (*at >= *order)
            return 0;
        place = order[-++*at];
        *name = held_name(held_keys(Py_TYPE(obj)), place);
        *value = values->values[place];
        return 1;
    }
    dict = held_apart(obj);
    return dict != NULL && PyDict_Next(dict, at, name, value);
}

/* An attribute, borrowed; NULL, without an error, if it is not there. */
static PyObject *held_get(PyObject *obj, PyObject *name)
{
    PyDictValues *values = held_beside(obj);
    PyObject *dict;
    if (values != NULL) {
        Py_ssize_t place = held_place(held_keys(Py_TYPE(obj)), name);
        return place < 0 ? NULL : values->values[place];
    }
    dict = held_apart(obj);
    return dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
}

static int held_set(PyObject *obj, PyObject *name, PyObject *value)
{
    PyDictValues *values = held_beside(obj);
    PyObject *dict;
    int failed;
    if (values != NULL) {
        Py_ssize_t place = held_place(held_keys(Py_TYPE(obj)), name);
        PyObject *descriptor;
        if (place >= 0) {
            PyObject *old = values->values[place];
            Py_INCREF(value);
            values->values[place] = value;
            if (old == NULL)
                _PyDictValues_AddToInsertionOrder(values, place);
            Py_XDECREF(old);
            return 0;
        }
        descriptor = _PyType_Lookup(Py_TYPE(obj), name);
        if (descriptor == NULL || Py_TYPE(descriptor)->tp_descr_set == NULL)
            return PyObject_GenericSetAttr(obj, name, value);
    }
    dict = PyObject_GenericGetDict(obj, NULL);
    failed = dict == NULL ? -1 : PyDict_SetItem(dict, name, value);
    Py_XDECREF(dict);
    return failed;
}

/* As held_set, of a name that may be at `place`, which is set to where it is; -1: not known. */
static int held_put(PyObject *obj, PyObject *name, PyObject *value, Py_ssize_t *place)
{
    PyDictValues *values = held_beside(obj);
    PyDictKeysObject *keys;
    if (values == NULL)
        return held_set(obj, name, value);
    keys = held_keys(Py_TYPE(obj));
    if (*place < 0 || *place >= keys->dk_nentries || held_name(keys, *place) != name)
        *place = held_place(keys, name);
    if (*place < 0 || values->values[*place] != NULL)
        return held_set(obj, name, value);
    Py_INCREF(value);
    values->values[*place] = value;
    _PyDictValues_AddToInsertionOrder(values, *place);
    return 0;
}

/* Whether there is any. */
static int holds_any(PyObject *obj)
{
    PyDictValues *values = held_beside(obj);
    PyObject *dict;
    if (values != NULL)
        return ((unsigned char *)values)[-2] != 0;
    dict = held_apart(obj);
    return dict != NULL && PyDict_GET_SIZE(dict) != 0;
}

static int held_del(PyObject *obj, PyObject *name)
{
    PyObject *dict, *descriptor = _PyType_Lookup(Py_TYPE(obj), name);
    int failed;
    if (held_beside(obj) != NULL && (descriptor == NULL || Py_TYPE(descriptor)->tp_descr_set == NULL))
        return PyObject_GenericSetAttr(obj, name, NULL);
    dict = PyObject_GenericGetDict(obj, NULL);
    failed = dict == NULL ? -1 : PyDict_DelItem(dict, name);
    Py_XDECREF(dict);
    return failed;
}

#else

static void held_alike(PyObject *cls, PyObject *shell)
{
}

static int become(PyObject *obj, PyObject *cls)
{
    int failed;
    PyObject *name = PyUnicode_InternFromString("__class__");
    if (name == NULL)
        return -1;
    failed = PyObject_GenericSetAttr(obj, name, cls);
    Py_DECREF(name);
    return failed;
}

static int held_begin(PyObject *obj)
{
    return held_begin_apart(obj);
}

/* The object's dict, borrowed from it. */
static PyObject *held_dict(PyObject *obj)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    Py_XDECREF(dict);
    return dict;
}

static int held_next(PyObject *obj, Py_ssize_t *at, PyObject **name, PyObject **value)
{
    PyObject *dict = held_dict(obj);
    return dict == NULL ? -1 : PyDict_Next(dict, at, name, value);
}

static PyObject *held_get(PyObject *obj, PyObject *name)
{
    PyObject *dict = held_dict(obj);
    return dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
}

static int held_set(PyObject *obj, PyObject *name, PyObject *value)
{
    PyObject *dict = held_dict(obj);
    return dict == NULL ? -1 : PyDict_SetItem(dict, name, value);
}

static int held_put(PyObject *obj, PyObject *name, PyObject *value, Py_ssize_t *place)
{
    return held_set(obj, name, value);
}

static int holds_any(PyObject *obj)
{
    PyObject *dict = held_dict(obj);
    return dict == NULL ? -1 : PyDict_GET_SIZE(dict) != 0;
}

static int held_del(PyObject *obj, PyObject *name)
{
    PyObject *dict = held_dict(obj);
    return dict == NULL ? -1 : PyDict_DelItem(dict, name);
}

#endif
