# Rows where they lie, many at a time. Each has to be waited for several times: for its bucket, for those that share that,
# for itself. Taken in turn, a step each, those waits overlap, and nothing is copied on the way.

cdef object row_in_place(object of_table, const char *key, int key_size, TakeRow take_row):
    """What `take_row` makes of the key's row; None where there is none."""
    cdef Table table = of_table
    table._enter()
    try:
        return found_in_place(table, key, key_size, take_row)
    finally:
        release(table.handle)


cdef object found_in_place(Table table, const char *key, int key_size, TakeRow take_row):
    """The same; the caller holds the lock."""
    cdef Block block
    if not table._find_at(key, key_size, &block):
        return None
    try:
        return take_row(key, key_size, block.value, block.value_size, table)
    finally:
        let_go(&block)


cdef list rows_in_place(object of_table, list keys, PutKey put_key, int tail, TakeRow take_row):
    """What `take_row` makes of each key's row; None where there is no row. `put_key` makes a key so many bytes longer."""
    cdef Table table = of_table
    cdef list found = []
    cdef Py_ssize_t start
    table._enter()
    try:
        for start in range(0, len(keys), AT_ONCE):
            some_in_place(table, keys[start : start + AT_ONCE], put_key, tail, take_row, found)
    finally:
        release(table.handle)
    return found


cdef int some_in_place(Table table, list keys, PutKey put_key, int tail, TakeRow take_row, list found) except -1:
    cdef TCHDB *hdb = table.handle.tdb.hdb
    cdef Wanted wanted[AT_ONCE]
    cdef Wanted *one
    cdef Block block
    cdef Py_ssize_t size = 1
    cdef Py_ssize_t i
    for key in keys:
        size += size_of(<bytes?>key) + tail
    cdef char *stored = <char *>malloc(size)
    cdef char *at = stored
    if stored is NULL:
        raise MemoryError
    try:
        for i in range(len(keys)):
            key = keys[i]
            wanted[i].key, wanted[i].key_size, wanted[i].offset = at, size_of(<bytes>key) + tail, 0
            at = put_key(at, PyBytes_AS_STRING(<bytes>key), PyBytes_GET_SIZE(<bytes>key))
        if not hdb.zmode:
            find_many(hdb, wanted, <int>len(keys))
        for i in range(len(keys)):
            one = &wanted[i]
            if one.offset == 0 or not get_block(hdb, one.offset, &block):
                found.append(found_in_place(table, one.key, one.key_size, take_row))
                continue
            try:
                found.append(take_row(one.key, one.key_size, block.value, block.value_size, table))
            finally:
                let_go(&block)
    finally:
        free(stored)
    return 0


cdef int apply_in_place(object of_table, Change *changes, Py_ssize_t count) except -1:
    """`Table.apply_raw` of rows that lie where nobody changes them meanwhile."""
    cdef Table table = of_table
    cdef Py_ssize_t i
    for i in range(count):
        if changes[i].row is not NULL:
            check_layout(changes[i].row, changes[i].row_size)
    return table._apply(changes, count)
