# Rows where they lie, in the mapped file of a table that nobody writes. The library finds one row at a time and waits for
# memory twice for each; here many are asked for at once, so that those waits overlap, and nothing is copied on the way.

cdef enum:
    ROWS_AT_ONCE = 64
    RECORD_HEAD = 20  # magic, hash, two offsets of eight bytes, size of the padding
    ROW_MAGIC = 0xC8
    STEPS_MAX = 4096  # from record to record in one bucket


cdef struct Sought:
    const char *key
    int size
    unsigned char hash
    uint64_t bucket
    uint64_t offset


cdef inline void hash_key(Sought *sought, uint64_t buckets) noexcept nogil:
    """The bucket, and the byte by which a bucket's records are ordered, as the library computes them."""
    cdef uint64_t index = 19780211
    cdef uint32_t order = 751
    cdef int i
    for i in range(sought.size):
        index = index * 37 + <unsigned char>sought.key[i]
        order = (order * 31) ^ <unsigned char>sought.key[sought.size - 1 - i]
    sought.bucket, sought.hash = index % buckets, <unsigned char>order


cdef inline bint find_in_place(TCHDB *hdb, Sought *sought, const char **row, int *size) noexcept nogil:
    """The row of a key; false where it is not found, or something is odd: the library is to be asked then."""
    cdef const unsigned char *map = <const unsigned char *>hdb.map
    cdef const unsigned char *end = map + hdb.xmsiz
    cdef const unsigned char *at
    cdef uint64_t offset = sought.offset, children[2]
    cdef int64_t key_size, row_size
    cdef int steps = 0, order
    while offset and offset + RECORD_HEAD < hdb.xmsiz and steps < STEPS_MAX:
        steps += 1
        at = map + offset
        if at[0] != ROW_MAGIC:
            return False
        memcpy(children, at + 2, 16)
        order = <int>sought.hash - <int>at[1]
        at += RECORD_HEAD
        if not order:
            key_size, row_size = varint(&at, end), varint(&at, end)
            if key_size < 0 or row_size < 0 or key_size + row_size > end - at:
                return False
            order = sought.size - <int>key_size
            if not order:
                order = memcmp(sought.key, at, sought.size)
            if not order:
                row[0], size[0] = <const char *>at + key_size, <int>row_size
                return True
        offset = le64toh(children[0] if order > 0 else children[1]) << hdb.apow
    return False


cdef list rows_in_place(object of_table, list keys, TakeRow take_row):
    """What `take_row` makes of each key's row; None where there is no row."""
    cdef Table table = of_table
    cdef list found = []
    cdef Py_ssize_t start
    table._enter()
    try:
        for start in range(0, len(keys), ROWS_AT_ONCE):
            _take_some(table, keys, start, min(start + ROWS_AT_ONCE, len(keys)), found, take_row)
    finally:
        release(table.handle)
    return found


cdef int _take_some(
    Table table, list keys, Py_ssize_t start, Py_ssize_t stop, list found, TakeRow take_row
) except -1:
    cdef TCHDB *hdb = table.handle.tdb.hdb
    cdef Sought sought[ROWS_AT_ONCE]
    cdef const char *row
    cdef void *block
    cdef int size = 0
    cdef Py_ssize_t i
    cdef bytes key
    # One with compressed rows, 32-bit buckets, changes under way, or none of the file mapped is the library's alone.
    cdef bint direct = hdb.ba64 is not NULL and not hdb.zmode and not table.handle.tdb.wmode and hdb.map is not NULL
    for i in range(start, stop):
        key = <bytes?>keys[i]
        sought[i - start].key, sought[i - start].size = PyBytes_AS_STRING(key), size_of(key)
        if direct:
            hash_key(&sought[i - start], hdb.bnum)
            prefetch(&hdb.ba64[sought[i - start].bucket])
    if direct:
        for i in range(stop - start):
            sought[i].offset = le64toh(hdb.ba64[sought[i].bucket]) << hdb.apow
            if sought[i].offset + RECORD_HEAD < hdb.xmsiz:
                prefetch(hdb.map + sought[i].offset)
                prefetch(hdb.map + sought[i].offset + 64)
    for i in range(stop - start):
        if direct and find_in_place(hdb, &sought[i], &row, &size):
            found.append(take_row(<bytes>keys[start + i], row, size, table))
            continue
        block = tchdbget(hdb, sought[i].key, sought[i].size, &size)
        try:
            table._check_read("get", block is not NULL, tctdbecode(table.handle.tdb))
            found.append(None if block is NULL else take_row(<bytes>keys[start + i], <char *>block, size, table))
        finally:
            tcfree(block)
    return 0
