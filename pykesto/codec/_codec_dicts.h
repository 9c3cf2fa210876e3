/* The entries of a dict in place.

   A dict of a row is copied from one that has all names, and then filled. To find each name again, which PyDict_SetItem
   must, takes longer than to make the value. In CPython 3.11 the entries of such a dict are an array in the order of the
   names (Include/internal/pycore_dict.h); elsewhere they are found by name. */

#if PY_VERSION_HEX < 0x030C0000 && !defined(PYPY_VERSION)
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include "internal/pycore_dict.h"

/* Whether a dict has just `count` entries, in an array of its own. */
static inline int dict_is_flat(PyObject *dict, Py_ssize_t count)
{
    PyDictObject *found = (PyDictObject *)dict;
    PyDictKeysObject *keys = found->ma_keys;
    return found->ma_values == NULL && DK_IS_UNICODE(keys) && keys->dk_nentries == count && found->ma_used == count;
}

/* Set the value of an entry of such a dict, which nobody else knows yet. */
static inline void dict_put_at(PyObject *dict, Py_ssize_t at, PyObject *value)
{
    PyDictUnicodeEntry *entry = DK_UNICODE_ENTRIES(((PyDictObject *)dict)->ma_keys) + at;
    PyObject *old = entry->me_value;
    Py_INCREF(value);
    entry->me_value = value;
    Py_DECREF(old);
    if (PyType_IS_GC(Py_TYPE(value)) && !PyObject_GC_IsTracked(dict)) /* its collector need not look at most of them */
        PyObject_GC_Track(dict);
}

#else

static inline int dict_is_flat(PyObject *dict, Py_ssize_t count)
{
    return 0;
}

static inline void dict_put_at(PyObject *dict, Py_ssize_t at, PyObject *value)
{
}

#endif
