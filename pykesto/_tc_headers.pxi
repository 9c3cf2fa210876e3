# What is checked of files before the library sees them: headers, pools of free blocks, logs of transactions. The rest is
# checked where it is read (_tc_blocks.h, _tc_guard.h).

cdef int HEADER_BYTES = 256
cdef int FLAGS_OFFSET = 33
cdef int FLAG_OPEN = 1
cdef int OPTIONS_OFFSET = 36
cdef int TREE_OFFSET = 128  # of what an index keeps in its header
cdef int POOL_BYTES = 64  # of the pool of free blocks, and 4 more for each
cdef int RECORD_HEAD_BYTES = 14  # at least, with a key of a byte
_MAGIC = b"ToKyO CaBiNeT"


def _check_header(path, bytes header, Py_ssize_t size, int kind):
    """Raise where a header would crash the library, or isn't one.

    The library stores numbers in the byte order that it was built for; a damaged one is plausible in neither.
    """
    if len(header) < HEADER_BYTES:
        raise CorruptionError(f"{size} bytes, less than a header", path=path, offset=0)
    if not header.startswith(_MAGIC):
        raise FormatError(f"{path} is no Tokyo Cabinet file", path=path)
    if header[32] != kind:
        expected = "a table" if kind == TCDBTTABLE else "an index"
        raise FormatError(f"{path} is a Tokyo Cabinet file, but not {expected}", path=path)
    if header[34] > 16 or header[35] > 20:
        raise CorruptionError("the header's alignment or pool size is out of range", path=path, offset=34)
    if header[OPTIONS_OFFSET] & ~(TDBTLARGE | TDBTDEFLATE | TDBTBZIP | TDBTTCBS | TDBTEXCODEC):
        raise CorruptionError("the header has unknown options", path=path, offset=OPTIONS_OFFSET)
    if (header[OPTIONS_OFFSET] & ~TDBTLARGE).bit_count() > 1:
        raise CorruptionError("the header says that records are packed in two ways", path=path, offset=OPTIONS_OFFSET)
    order = _order_of(header, size)
    if order is None:
        raise CorruptionError("the header's sizes don't fit the file", path=path, offset=40)
    if kind == TCDBTBTREE and not _is_tree(path, header, order):
        raise CorruptionError("the header of the index is damaged", path=path, offset=TREE_OFFSET)


def _order_of(bytes header, Py_ssize_t size):
    """The byte order in which the header's sizes fit the file and one another, or None."""
    for order in ("big", "little"):
        _, rows, file_bytes, first_row = _sizes(header, order)
        start = _pool_offset(header, order) + POOL_BYTES + 4 * (1 << header[35])
        align = 1 << header[34]
        # What comes after the pool is aligned.
        if start <= first_row < start + align and first_row % align == 0 and first_row <= file_bytes <= size:
            if rows * RECORD_HEAD_BYTES <= file_bytes - first_row:
                return order
    return None


def _sizes(bytes header, str order):
    """Buckets, rows, bytes of the file, place of the first row."""
    return [int.from_bytes(header[at : at + 8], order) for at in (40, 48, 56, 64)]


def _pool_offset(bytes header, str order):
    """Behind the buckets."""
    return HEADER_BYTES + _sizes(header, order)[0] * (8 if header[OPTIONS_OFFSET] & TDBTLARGE else 4)


def _is_tree(path, bytes header, str order):
    """Whether what an index keeps in its header makes sense. The library has nowhere to store the rest of it."""
    leaf, node = (int.from_bytes(header[at : at + 4], order) for at in (136, 140))
    root, first, last, leaves, nodes, entries = (
        int.from_bytes(header[at : at + 8], order) for at in range(144, 192, 8)
    )
    pages, file_bytes = _sizes(header, order)[1:3]
    comparison = 1 if os.fsencode(path).endswith(b".dec") else 0
    if pages == 0:
        return not any(header[TREE_OFFSET : TREE_OFFSET + 64])  # made, and not written since
    return (
        header[TREE_OFFSET] == comparison
        # So many entries of a leaf, or of a node, are allocated.
        and 4 <= leaf < 1 << 20
        and 4 <= node < 1 << 20
        and 0 < first <= leaves
        and 0 < last <= leaves
        and (0 < root <= leaves or <int64_t>NODE_BASE < root <= <int64_t>NODE_BASE + nodes)
        and leaves < <int64_t>NODE_BASE
        and nodes < <int64_t>NODE_BASE
        and entries <= file_bytes
    )


cdef check_pool(bytes path, int fd, bytes header):
    """The free blocks that a file remembers: the library writes new rows over them."""
    cdef const unsigned char *at
    cdef const unsigned char *end
    if header[FLAGS_OFFSET] & FLAG_OPEN:
        return  # nor does the library look at them then
    order = _order_of(header, os.fstat(fd).st_size)
    _, _, file_bytes, first_row = _sizes(header, order)
    start = _pool_offset(header, order)
    cdef bytes pool = read_at(fd, first_row - start, start)
    at = <const unsigned char *>PyBytes_AS_STRING(pool)
    end = at + PyBytes_GET_SIZE(pool)
    cdef int64_t distance, size
    block, count = 0, 0
    while at < end and at[0] and count < 2 << header[35]:
        distance = varint64(&at, end)
        size = varint(&at, end)
        block += distance << header[34]
        if distance < 0 or size <= 0 or not _is_free(fd, block, size << header[34], first_row, file_bytes, order):
            raise CorruptionError("the pool of free blocks is damaged", path=os.fsdecode(path), offset=start)
        count += 1
    if at >= end:
        raise CorruptionError("the pool of free blocks has no end", path=os.fsdecode(path), offset=start)


def _is_free(int fd, block, size, first_row, file_bytes, order):
    """Whether free blocks, one or several that the pool joined, fill the place."""
    end = block + size
    if not first_row <= block <= end <= file_bytes:
        return False
    while block < end:
        head = read_at(fd, 5, block)
        length = int.from_bytes(head[1:], order)
        if head[:1] != bytes([FREE_MAGIC]) or not 0 < length <= end - block:
            return False
        block += length
    return True


cdef check_log(bytes path, int fd, bytes header, int kind):
    """The log of a transaction that was cut short: the library copies what it finds there to where it says.

    An entry that is incomplete at the end was never followed by a change of the file. It is cut off: the library
    would roll the rest back and then go on with a header that is no longer in the file.
    """
    if not header[FLAGS_OFFSET] & FLAG_OPEN:
        return  # nor does the library look for it then
    try:
        log = open(path + b".wal", "rb", buffering=1 << 16)
    except OSError:
        return  # the library can't open it either, and says why
    with log:
        size = os.fstat(log.fileno()).st_size
        order = _order_of(header, os.fstat(fd).st_size)
        end = _end_of_log(path, log, size, order, kind)
    if end <= 8:  # it has no entry
        with suppress(FileNotFoundError):
            os.unlink(path + b".wal")
    elif end < size:
        os.truncate(path + b".wal", end)


def _end_of_log(bytes path, log, Py_ssize_t size, str order, int kind):
    """Where the last entry ends that is complete."""
    length = int.from_bytes(log.read(8), order)
    at = 8
    while at + 12 <= size:
        entry = log.read(12)
        place, count = int.from_bytes(entry[:8], order), int.from_bytes(entry[8:], order)
        if place + count > length or (at == 8 and (place, count) != (0, HEADER_BYTES)):
            raise CorruptionError("the log of a transaction is damaged", path=os.fsdecode(path) + ".wal", offset=at)
        if at + 12 + count > size:
            break
        if at == 8:
            _check_header(os.fsdecode(path), log.read(count), length, kind)
        else:
            log.seek(count, os.SEEK_CUR)
        at += 12 + count
    return at


cdef bytes check_file(bytes path, int fd, int kind, int mode):
    """Raise where the library could not bear a file; its header."""
    header = read_at(fd, HEADER_BYTES, 0)
    _check_header(os.fsdecode(path), header, os.fstat(fd).st_size, kind)
    if mode & TDBOWRITER:
        check_pool(path, fd, header)
    elif mode & TDBONOLCK:
        if os.path.exists(path + b".wal"):
            raise UsageError(
                f"{os.fsdecode(path)} has a transaction under way, or cut short",
                hint="open it with lock=True: the reader would roll that transaction back under its writer",
            )
        return header
    check_log(path, fd, header, kind)
    return header
