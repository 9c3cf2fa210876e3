# Walking through the files of a table without the library, which follows what damaged ones say: in circles, beyond
# their end, or off its own arrays. Each byte is looked at a few times at most, whatever the files hold.

cdef int RECORD_MAGIC = 0xC8
cdef int FREE_MAGIC = 0xB0
cdef int TREE_DEPTH_MAX = 60  # of a B+ tree; the library has room for 64 levels and doesn't look
cdef uint64_t NODE_BASE = (1 << 48) + 1  # ids of nodes come after it
cdef int PROBLEMS_MAX = 100


def verify(path, *, codec=None):
    """What is wrong with a table's files and its indexes: a list of `CorruptionError`, empty where all is well.

    Every row is read and found by its key, free blocks lie where they may, index pages hang together and in order, and
    lexical and decimal indexes hold just what the rows say. Damage inside a value shows only with a codec, which adds a
    checksum. The time is bounded by the files' size.

    Raises:
        UsageError: the table is open in this process, or `codec` is missing or too much.
        LockTimeout: a process has the table open for writing.
        FormatError, StorageError: the file is no table, or can't be read.

    >>> with Table("people.tct", "n") as t:
    ...     t[b"ann"] = {b"age": b"41"}
    >>> verify("people.tct")
    []
    """
    cdef bytes name = table_path(path)
    cdef _Functions functions = None if codec is None else _Functions(codec)
    try:
        refuse_second_handle(name, os.stat(name))
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise StorageError(f"open {os.fsdecode(name)}: {e.strerror}", errno=e.errno, path=name) from e
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise LockTimeout(os.fsdecode(name), holder_pid=lock_holder(name), waited_s=0.0) from None
        if unfinished_index(name) is not None:
            return [CorruptionError("an index was left half-built: open the table for writing", path=os.fsdecode(name))]
        try:
            return problems_of(name, fd, functions)
        except CorruptionError as error:  # a header
            return [error]
    finally:
        os.close(fd)


cdef list problems_of(bytes path, int fd, _Functions codec):
    """All that is wrong, up to a hundred; the caller has checked nothing, and holds a lock."""
    cdef _Walk table = _Walk(path, fd, TCDBTTABLE, codec)
    cdef _Walk index
    rows = table.rows()
    problems = table.problems
    for name in index_files(path):
        with open(name, "rb", buffering=0) as file:
            index = _Walk(name, file.fileno(), TCDBTBTREE, codec)
            index.check_tree(rows, name[len(path) + 5 :])
            problems += index.problems
    return problems[:PROBLEMS_MAX]


@cython.final
cdef class _Walk:
    """One hash file, mapped: of a table, or of an index, whose records are the pages of a B+ tree."""

    cdef bytes path
    cdef object mapping
    cdef object view
    cdef const unsigned char *map
    cdef uint64_t bnum, rnum, fsiz, frec
    cdef bint big  # the order of bytes: that of the machine which the library was built for
    cdef int apow
    cdef int width  # of a bucket, and of a link from record to record
    cdef int storage
    cdef _Functions codec
    cdef list problems
    cdef set free_blocks

    def __init__(self, bytes path, int fd, int kind, _Functions codec):
        self.path, self.codec, self.problems, self.free_blocks = path, codec, [], set()
        size = os.fstat(fd).st_size
        header = read_at(fd, HEADER_BYTES, 0)
        _check_header(os.fsdecode(path), header, size, kind)
        check_codec(path, header, codec is not None)
        self.mapping = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        cdef const unsigned char[:] view = self.mapping
        self.view, self.map = view, &view[0]
        self.apow, self.storage = header[34], header[OPTIONS_OFFSET]
        self.width = 8 if self.storage & TDBTLARGE else 4
        self.big = _order_of(header, size) == "big"
        self.bnum, self.rnum, self.fsiz, self.frec = (self._word(i, 8) for i in (40, 48, 56, 64))

    cdef _wrong(self, str message, uint64_t offset):
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(CorruptionError(message, path=os.fsdecode(self.path), offset=offset))

    cdef uint64_t _word(self, uint64_t at, int width) noexcept:
        """A number of 4 or 8 bytes, as the library stores it."""
        cdef uint64_t number = 0
        cdef int i
        for i in range(width):
            number = number << 8 | self.map[at + (i if self.big else width - 1 - i)]
        return number

    cdef dict records(self):
        """The records, by key: (offset, hash, left, right, value). Whatever is wrong with the file is noted."""
        cdef dict found = {}
        cdef dict at = {}
        cdef uint64_t offset = self.frec
        while offset < self.fsiz:
            if self.map[offset] == FREE_MAGIC and offset + 5 <= self.fsiz:
                size = self._word(offset + 1, 4)
                self.free_blocks.add(offset)
            elif self.map[offset] == RECORD_MAGIC:
                size = self._record(offset, found, at)
            else:
                size = 0
            if size == 0 or size % (1 << self.apow) or size > self.fsiz - offset:
                self._wrong("no record begins here, or its size is wrong: what follows can't be read", offset)
                break
            offset += size
        if <uint64_t>len(at) != self.rnum:
            self._wrong(f"{len(at)} records; the header says {self.rnum}", 48)
        if len(found) != len(at):
            self._wrong(f"{len(at) - len(found)} records have the key of another", self.frec)
        self._check_buckets(at)
        self._check_pool()
        return found

    cdef uint64_t _record(self, uint64_t offset, dict found, dict at):
        """Note the record at an offset, and return its size; 0 where it is damaged."""
        cdef const unsigned char *head = self.map + offset + 2 + 2 * self.width
        cdef const unsigned char *end = self.map + self.fsiz
        cdef int64_t key_size, value_size, padding
        if head + 4 > end:
            return 0
        padding = self._word(head - self.map, 2)
        head += 2
        key_size = varint(&head, end)
        value_size = varint(&head, end) if key_size >= 0 else -1
        if value_size < 0 or key_size + value_size + padding > end - head:
            return 0
        key = PyBytes_FromStringAndSize(<const char *>head, key_size)
        value = PyBytes_FromStringAndSize(<const char *>head + key_size, value_size)
        left, right = self._word(offset + 2, self.width), self._word(offset + 2 + self.width, self.width)
        found[key] = value
        at[offset] = (key, self.map[offset + 1], left << self.apow, right << self.apow)
        return (head - self.map) - offset + key_size + value_size + padding

    cdef _check_buckets(self, dict at):
        """Every record must be found from the bucket of its key, and once: a tree ordered by hash, then key."""
        cdef set left_out = set(at)
        cdef uint64_t bucket
        cdef uint64_t start
        cdef list ahead
        for bucket in range(self.bnum):
            start = self._word(HEADER_BYTES + bucket * self.width, self.width) << self.apow
            if start == 0:
                continue
            ahead = [(start, None, None)]
            while ahead:
                offset, low, high = ahead.pop()
                if offset not in left_out:
                    self._wrong(
                        f"bucket {bucket} leads to byte {offset}, where no record begins, or for a second time",
                        HEADER_BYTES + bucket * self.width,
                    )
                    continue
                left_out.remove(offset)
                key, hash, left, right = at[offset]
                home, own_hash = bucket_of(key, self.bnum)
                place = (hash, len(key), key)
                if home != bucket or own_hash != hash or (low and place <= low) or (high and place >= high):
                    self._wrong(f"the record of {key[:40]!r} is not where it is looked for", offset)
                if left:
                    ahead.append((left, place, high))
                if right:
                    ahead.append((right, low, place))
        if left_out:
            self._wrong(f"{len(left_out)} records can't be found by their keys", min(left_out))

    cdef _check_pool(self):
        """The pool of free blocks: a writer stores over what it names."""
        cdef uint64_t start = HEADER_BYTES + self.bnum * self.width
        cdef const unsigned char *at = self.map + start
        cdef const unsigned char *end = self.map + self.frec
        cdef uint64_t offset = 0
        cdef int64_t step, size
        while at < end and at[0]:
            step = varint64(&at, end)
            size = varint64(&at, end) if step >= 0 else -1
            offset += <uint64_t>step << self.apow
            if size <= 0 or not self._is_free(offset, <uint64_t>size << self.apow):
                self._wrong("the pool of free blocks names what is none", at - self.map)
                return

    cdef bint _is_free(self, uint64_t offset, uint64_t size):
        """Whether free blocks, one or several that the pool joined, fill the place."""
        cdef uint64_t end = offset + size
        while offset < end and offset in self.free_blocks:
            offset += self._word(offset + 1, 4)
        return offset == end

    # What records hold

    cdef bytes _plain(self, bytes key, bytes value):
        """A value as it was before it was compressed; None, noted, where it can't be."""
        try:
            if self.codec is not None:
                return self.codec.unpacked(value)
            if self.storage & TDBTDEFLATE:
                return zlib.decompress(value, -15)
            if self.storage & TDBTBZIP:
                return bz2.decompress(value)
            return tcbs_decoded(value) if self.storage & TDBTTCBS else value
        except Exception as error:  # noqa: BLE001  # a codec may raise anything
            self._wrong(f"the record of {key[:40]!r} can't be unpacked: {error}", 0)
            return None

    cdef dict rows(self):
        """The rows of a table, dicts of bytes by key."""
        cdef dict rows = {}
        cdef bytes raw
        for key, value in self.records().items():
            raw = self._plain(key, value)
            columns = None if raw is None else columns_of(PyBytes_AS_STRING(raw), <int>len(raw))
            if columns is None:
                self._wrong(f"the row of {key[:40]!r} is malformed", 0)
            else:
                rows[key] = columns
        return rows

    cdef check_tree(self, dict rows, bytes name):
        """An index: its pages, and that it holds what the rows say. `name` is what follows PATH.idx."""
        cdef list entries = []
        pages = {key: self._plain(key, value) for key, value in self.records().items()}
        if self.problems:
            return
        column, _, suffix = name.rpartition(b".")
        root, first, last, leaves, nodes, count = (self._word(144 + 8 * i, 8) for i in range(6))
        chain = []
        self._descend(pages, root, entries, chain, None, None, 0)
        links = [chain[i][1:] for i in range(len(chain))]
        numbers = [0, *[leaf for leaf, _, _ in chain], 0]
        if links != [(numbers[i], numbers[i + 2]) for i in range(len(chain))]:
            self._wrong("the leaves of the index don't follow one another", 144)
        if chain and (first, last) != (numbers[1], numbers[-2]):
            self._wrong("the index begins or ends with another leaf than its header says", 152)
        if sum([1 + len(rest) for _, _, rest in entries]) != count:
            self._wrong(f"the header of the index does not say how many entries it has: {count}", 184)
        self._check_order(entries, suffix == b"dec")
        if not self.problems:
            self._check_entries(entries, rows, urllib.parse.unquote_to_bytes(column), suffix)

    cdef _descend(self, dict pages, uint64_t page, list entries, list chain, bytes low, bytes high, int depth):
        """Gather the leaves below a page, in order; every page is taken out of `pages`, and so met once."""
        node = page > NODE_BASE
        name = b"#%x" % (page - NODE_BASE) if node else b"%x" % page
        content = pages.pop(name, None)
        if content is None or depth > TREE_DEPTH_MAX:
            self._wrong(f"page {name!r} of the index is missing, or met twice, or too deep", 144)
            return
        try:
            if not node:
                previous, following, found = leaf_of(content)
                if found and ((low is not None and not fits(low, found[0][0], self.map[128]))
                              or (high is not None and fits(high, found[-1][0], self.map[128]))):
                    self._wrong(f"page {name!r} of the index is not where its entries are looked for", 144)
                entries += found
                chain.append((page, previous, following))
                return
            heir, children = node_of(content)
        except ValueError:
            self._wrong(f"page {name!r} of the index is malformed", 144)
            return
        bounds = [low, *[key for key, _ in children], high]
        for i, child in enumerate([heir, *[child for _, child in children]]):
            self._descend(pages, child, entries, chain, bounds[i], bounds[i + 1], depth + 1)

    cdef _check_order(self, list entries, bint decimal):
        if self.map[128] != decimal:
            self._wrong("the index is ordered otherwise than its name says", 128)
        for (a, _, _), (b, _, _) in itertools.pairwise(entries):
            if fits(b, a, decimal):
                self._wrong(f"entry {a[:40]!r} of the index stands before {b[:40]!r}", 144)
                return

    cdef _check_entries(self, list entries, dict rows, bytes column, bytes suffix):
        if suffix not in (b"lex", b"dec"):
            for key, value, rest in entries:
                if rest or not postings_end(value, suffix == b"qgr"):
                    self._wrong(f"the entry of {key[:40]!r} is malformed", 144)
            return
        held = {(key, value) for key, first, rest in entries for value in (first, *rest)}
        if column:
            expected = {
                (row[column] + b"\0" + hash_of(key), key) for key, row in rows.items() if column in row
            }
        else:
            expected = {(key, key) for key in rows}
        if held != expected:
            extra, lacking = len(held - expected), len(expected - held)
            self._wrong(f"the index has {extra} entries too many, and lacks {lacking}", 144)


cdef check_codec(bytes path, bytes header, bint coded):
    """Without its codec the library would call NULL."""
    if bool(header[OPTIONS_OFFSET] & TDBTEXCODEC) != coded:
        raise UsageError(
            f"{os.fsdecode(path)} was made {'without' if coded else 'with'} a codec",
            hint="open it with the argument `codec` that it was made with",
        )


cdef tuple bucket_of(bytes key, uint64_t bnum):
    """The bucket of a key, and the hash that orders the records in it."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(key)
    cdef Py_ssize_t size = len(key), i
    cdef uint64_t bucket = 19780211
    cdef uint32_t hash = 751
    for i in range(size):
        bucket = bucket * 37 + at[i]
        hash = hash * 31 ^ at[size - 1 - i]
    return bucket % bnum, <uint8_t>hash


cdef bytes hash_of(bytes key):
    """What an index appends to a value, so that equal values of different rows lie apart."""
    cdef uint32_t hash = 19780211
    cdef unsigned char byte
    for byte in key:
        hash = hash * 37 + byte
    return (hash & 0xFFFF).to_bytes(2)


cdef bint fits(bytes low, bytes key, bint decimal):
    """Whether `key` is `low` or comes after it."""
    cdef int a = size_of(key), b = size_of(low)
    compare = tccmpdecimal if decimal else tccmplexical
    return compare(PyBytes_AS_STRING(key), a, PyBytes_AS_STRING(low), b, NULL) >= 0


cdef bytes tcbs_decoded(bytes value):
    cdef int size = 0
    cdef char *found
    io_begin()
    found = tcbsdecode(PyBytes_AS_STRING(value), <int>len(value), &size)
    if found is NULL and io_failure.error == ENOMEM:
        raise MemoryError
    if found is NULL:
        raise ValueError("TCBS")
    return take(found, size)


# --- Pages: numbers in varints, as in rows but up to 64 bits --------------------------------------------------------

cdef int64_t varint64(const unsigned char **at, const unsigned char *end) noexcept:
    cdef uint64_t number = 0
    cdef int shift = 0
    cdef unsigned char byte
    while at[0] < end and shift < 63:
        byte = at[0][0]
        at[0] += 1
        if byte < 0x80:
            return <int64_t>(number | <uint64_t>byte << shift)
        number |= <uint64_t>(byte ^ 0xFF) << shift
        shift += 7
    return -1


cdef int64_t next_number(const unsigned char **at, const unsigned char *end) except -1:
    cdef int64_t number = varint64(at, end)
    if number < 0:
        raise ValueError("a number is cut short")
    return number


cdef bytes next_bytes(const unsigned char **at, const unsigned char *end, int64_t size):
    if size > end - at[0]:
        raise ValueError("a text is cut short")
    text = PyBytes_FromStringAndSize(<const char *>at[0], size)
    at[0] += size
    return text


cdef tuple leaf_of(bytes page):
    """The leaves before and after, and the entries: key, first value, further values."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(page)
    cdef const unsigned char *end = at + len(page)
    previous, following = next_number(&at, end), next_number(&at, end)
    entries = []
    while at < end:
        key_size, value_size, more = next_number(&at, end), next_number(&at, end), next_number(&at, end)
        key, value = next_bytes(&at, end, key_size), next_bytes(&at, end, value_size)
        if more > end - at:
            raise ValueError("more values than bytes")
        rest = [next_bytes(&at, end, next_number(&at, end)) for _ in range(more)]
        entries.append((key, value, rest))
    return previous, following, entries


cdef tuple node_of(bytes page):
    """The first child, and the others, each with the least key that it may hold."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(page)
    cdef const unsigned char *end = at + len(page)
    heir = next_number(&at, end)
    children = []
    while at < end:
        child = next_number(&at, end)
        children.append((next_bytes(&at, end, next_number(&at, end)), child))
    return heir, children


cdef bint postings_end(bytes value, bint offsets):
    """Whether a list of rows in an index of words ends where its bytes end."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef const unsigned char *end = at + len(value)
    try:
        while at < end:
            if at[0] == 0:
                at += 1
                next_bytes(&at, end, next_number(&at, end))
            else:
                next_number(&at, end)
            if offsets:
                next_number(&at, end)
    except ValueError:
        return False
    return True
