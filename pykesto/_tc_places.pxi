# Rows where they lie, many at a time. Each has to be waited for several times: for its bucket, for those that share that,
# for itself. Taken in turn, a step each, those waits overlap, and nothing is copied on the way.

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
    cdef Py_ssize_t start
    table._enter()
    try:
        for start in range(0, len(keys), AT_ONCE):
            some_in_place(table, keys, start, min(start + AT_ONCE, len(keys)), take_row, found)
    finally:
        release(table.handle)
    return found


cdef int some_in_place(
    Table table, list keys, Py_ssize_t start, Py_ssize_t stop, TakeRow take_row, list found
) except -1:
    cdef TCHDB *hdb = table.handle.tdb.hdb
    cdef Wanted wanted[AT_ONCE]
    cdef Block block
    cdef Py_ssize_t i
    cdef bytes key
    for i in range(stop - start):
        key = <bytes?>keys[start + i]
        wanted[i].key, wanted[i].key_size, wanted[i].offset = PyBytes_AS_STRING(key), size_of(key), 0
    if not hdb.zmode:
        find_many(hdb, wanted, <int>(stop - start))
    for i in range(stop - start):
        key = keys[start + i]
        if wanted[i].offset == 0 or not get_block(hdb, wanted[i].offset, &block):
            found.append(found_in_place(table, key, take_row))
            continue
        try:
            found.append(take_row(key, block.value, block.value_size, table))
        finally:
            let_go(&block)
    return 0


cdef int apply_in_place(object of_table, Change *changes, Py_ssize_t count) except -1:
    """`Table.apply_raw` of rows that lie where nobody changes them meanwhile."""
    cdef Table table = of_table
    cdef Py_ssize_t i
    for i in range(count):
        if changes[i].row is not NULL:
            check_layout(changes[i].row, changes[i].row_size)
    return table._apply(changes, count)
