# Rows where they lie, many at a time. Each has to be waited for twice, for its place and for itself; asked for before they
# are needed, those waits overlap, and nothing is copied on the way.

cdef enum:
    ROWS_AT_ONCE = 64
    LINE_BYTES = 64  # what a processor gets of memory at once


cdef object row_in_place(object of_table, bytes key, TakeRow take_row):
    """What `take_row` makes of the key's row; None where there is none."""
    cdef Table table = of_table
    table._enter()
    try:
        return found_in_place(table, key, take_row)
    finally:
        release(table.handle)


cdef object found_in_place(Table table, bytes key, TakeRow take_row):
    """The same; the caller holds the lock."""
    cdef Block block
    if not table._find(key, &block):
        return None
    try:
        return take_row(key, block.value, block.value_size, table)
    finally:
        let_go(&block)


cdef list rows_in_place(object of_table, list keys, TakeRow take_row):
    """What `take_row` makes of each key's row; None where there is no row."""
    cdef Table table = of_table
    cdef list found = []
    cdef Py_ssize_t start, stop, i
    table._enter()
    try:
        for start in range(0, len(keys), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(keys))
            ask_for(table.handle.tdb.hdb, keys, start, stop)
            for i in range(start, stop):
                found.append(found_in_place(table, <bytes?>keys[i], take_row))
    finally:
        release(table.handle)
    return found


cdef int ask_for(TCHDB *hdb, list keys, Py_ssize_t start, Py_ssize_t stop) except -1:
    """Have the first record of each key's bucket on its way from memory."""
    cdef uint8_t hash = 0
    cdef uint64_t places[ROWS_AT_ONCE]
    cdef uint64_t mapped = size_of_map(hdb)
    cdef Py_ssize_t i
    cdef bytes key
    for i in range(stop - start):
        key = <bytes?>keys[start + i]
        places[i] = first_of(hdb, PyBytes_AS_STRING(key), size_of(key), &hash)
        if places[i] + 3 * LINE_BYTES > mapped:
            places[i] = 0
    for i in range(stop - start):
        look_at(hdb.map + places[i])
    for i in range(stop - start):
        prefetch(hdb.map + places[i] + LINE_BYTES)
        prefetch(hdb.map + places[i] + 2 * LINE_BYTES)
    return 0


cdef int apply_in_place(object of_table, Change *changes, Py_ssize_t count) except -1:
    """`Table.apply_raw` of rows that lie where nobody changes them meanwhile."""
    cdef Table table = of_table
    cdef Py_ssize_t i
    for i in range(count):
        if changes[i].row is not NULL:
            check_layout(changes[i].row, changes[i].row_size)
    return table._apply(changes, count)
