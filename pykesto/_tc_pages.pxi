# The pages of a lexical index, read as they lie in the file. A cursor of the library looks its leaf up again for each
# entry and each part of it; whoever walks many entries, or counts them, takes whole leaves from here.

cdef uint64_t NODE_IDS = (<uint64_t>1 << 48) + 1  # ids from here on are those of inner pages
cdef int DEPTH_MAX = 64
cdef int LEAVES_MAX = 4096  # kept of one index, as in the library
cdef int ENTRIES_A_LEAF = 32  # they are half full or more
cdef int LEAVES_A_WALK = 8  # kept by one through a larger index: many would only drive out what is asked for often
cdef int LEAVES_COUNTED = 8  # by an estimate, before it goes by the place in the tree


cdef inline int64_t wide_varint(const unsigned char **at, const unsigned char *end) noexcept nogil:
    """As `varint`, for numbers of pages."""
    cdef uint64_t number = 0
    cdef int shift = 0
    cdef unsigned char byte
    while at[0] < end and shift <= 56:
        byte = at[0][0]
        at[0] += 1
        if byte < 0x80:
            return <int64_t>(number | (<uint64_t>byte) << shift)
        number |= (<uint64_t>(byte ^ 0xFF)) << shift
        shift += 7
    return -1


@cython.final
cdef class Leaf:
    """A leaf of an index: its entries in order. Never changes."""

    def __dealloc__(self):
        free(self.entries)

    cdef int place_of(self, const char *term, Py_ssize_t size) noexcept:
        """The place of the first entry that is not less."""
        cdef int low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) >> 1
            if bytes_order(self.entries[middle].term, self.entries[middle].term_size, term, size) < 0:
                low = middle + 1
            else:
                high = middle
        return low


cdef int64_t entries_in(const unsigned char *at, int size) noexcept nogil:
    """How many entries the leaf has that lies there; -1 if it is none."""
    cdef const unsigned char *end = at + size
    cdef int64_t found = 0, term_size, key_size, more
    if wide_varint(&at, end) < 0 or wide_varint(&at, end) < 0:
        return -1
    while at < end:
        term_size, key_size, more = varint(&at, end), varint(&at, end), varint(&at, end)
        if term_size < 0 or key_size < 0 or more < 0 or term_size + key_size > end - at:
            return -1
        at += term_size + key_size
        found += 1 + more
        while more:
            more -= 1
            key_size = varint(&at, end)
            if key_size < 0 or key_size > end - at:
                return -1
            at += key_size
    return found


cdef inline uint16_t rank_of(const Entry *entry) noexcept:
    """The hash of a column's entry, which stands behind its term and a NUL."""
    cdef const unsigned char *at = <const unsigned char *>entry.term + entry.term_size + 1
    return <uint16_t>(at[0] << 8 | at[1])


@cython.final
cdef class Node:
    """An inner page: its children but the first by their least entries."""

    def __dealloc__(self):
        free(self.block)
        free(self.children)
        free(self.totals)

    cdef uint64_t page_of(self, int child) noexcept:
        return self.heir if child == 0 else self.children[child - 1].page

    cdef int place_of(self, const char *term, Py_ssize_t size) noexcept:
        """Which child has the first entry that is not less, or ends just before it: 0 is the heir."""
        cdef int low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) >> 1
            if bytes_order(self.children[middle].first, self.children[middle].size, term, size) < 0:
                low = middle + 1
            else:
                high = middle
        return low


@cython.final
cdef class IndexPages:
    """A lexical index of a table that is open for reading and that nobody writes: terms, and the key of each.

    Args:
        table: opened with flag "r".
        name: the column; b"" is the primary key, each of which is a term.
        split: a primary key is a term, a NUL, and a key without a NUL.
        tail: so many bytes at the end of each primary key are left out.
        leaves_kept: so many in memory.

    Entries are in order of their terms. Terms that hold NUL bytes may be out of order by what the library appends.
    """

    def __cinit__(self, Table table not None, bytes name not None, *, split=False, int tail=0, int leaves_kept=LEAVES_MAX):
        if tail < 0:
            raise UsageError(f"a tail of {tail} bytes")
        if table.handle.tdb is not NULL and table.handle.tdb.wmode:
            raise UsageError(f"{table.path} is open for writing", hint="walk its indexes with index_cursor")
        self.table, self.name, self.split, self.tail = table, name, split, tail
        self.leaves, self.nodes, self.leaves_kept = {}, {}, leaves_kept
        cdef TCBDB *tree
        table._enter()
        try:
            tree = self._tree()
            self.root, self.ends[0], self.ends[1], self.total = tree.root, tree.first, tree.last, <int64_t>tree.rnum
        finally:
            release(table.handle)

    cdef TCBDB *_tree(self) except NULL:
        """The library's tree; the caller holds the lock."""
        cdef TDBIDX *index = (<Table>self.table)._index(self.name)
        if index is NULL or index.type != TDBITLEXICAL:
            raise UsageError(f"column {self.name!r} has no lexical index")
        if (<TCBDB *>index.db).opts & ~BDBTLARGE:
            raise UsageError(f"the index of column {self.name!r} is compressed")
        return <TCBDB *>index.db

    cdef object damaged(self):
        what = f"index of {self.name!r}" if self.name else "key index"
        return CorruptionError(f"a page of the {what} is damaged", path=self.table.path)

    cdef int _find_page(self, uint64_t number, Block *block) except -1:
        """A page, where it lies, to be let go of; the caller holds the lock."""
        cdef char name[32]
        cdef int length
        cdef TCHDB *hdb = self._tree().hdb
        if number >= NODE_IDS:
            length = snprintf(name, sizeof(name), "#%llx", <unsigned long long>(number - NODE_IDS))
        else:
            length = snprintf(name, sizeof(name), "%llx", <unsigned long long>number)
        if find_record(hdb, name, length, block) != FOUND:
            (<Table>self.table)._check_read("get", False, tchdbecode(hdb))
            raise self.damaged()
        return 0

    cdef void *_page(self, uint64_t number, int *size) except NULL:
        """The bytes of a page, to be freed."""
        cdef Table table = self.table
        cdef Block block
        cdef void *copy
        table._enter()
        try:
            self._find_page(number, &block)
            copy = malloc(block.value_size + 1)
            if copy is not NULL:
                memcpy(copy, block.value, block.value_size)
                size[0] = block.value_size
            let_go(&block)
        finally:
            release(table.handle)
        if copy is NULL:
            raise MemoryError
        return copy

    cdef bint keeps(self, int64_t passed) noexcept:
        """Whether a walk that has passed so many leaves has its next one kept."""
        return passed < LEAVES_A_WALK or self.total <= <int64_t>self.leaves_kept * ENTRIES_A_LEAF

    cdef Leaf leaf(self, uint64_t number, bint keep=True):
        """The leaf with that number."""
        cdef Leaf leaf
        found = self.leaves.get(number)
        if found is not None:
            return <Leaf>found
        leaf = self._load(number)
        if keep:
            if len(self.leaves) >= self.leaves_kept:
                self.leaves.clear()
            self.leaves[number] = leaf
        return leaf

    cdef Leaf _load(self, uint64_t number):
        """A leaf as the file has it. Its entries, their ranks and the page that they point into are one block."""
        cdef Leaf leaf = Leaf.__new__(Leaf)
        cdef Table table = self.table
        cdef Block block
        cdef int64_t count
        cdef char *page = NULL
        leaf.number = number
        table._enter()
        try:
            self._find_page(number, &block)
            count = entries_in(<const unsigned char *>block.value, block.value_size)
            if count >= 0:
                leaf.entries = <Entry *>malloc(count * (sizeof(Entry) + sizeof(uint16_t)) + block.value_size + 1)
            if leaf.entries is not NULL:
                leaf.ranks = <uint16_t *>&leaf.entries[count] if self.has_ranks() else NULL
                page = <char *>&leaf.entries[count] + count * sizeof(uint16_t)
                memcpy(page, block.value, block.value_size)
            let_go(&block)
        finally:
            release(table.handle)
        if count < 0:
            raise self.damaged()
        if page is NULL:
            raise MemoryError
        if not self._read_leaf(leaf, count, <const unsigned char *>page, block.value_size):
            raise self.damaged()
        return leaf

    cdef bint _read_leaf(self, Leaf leaf, int64_t count, const unsigned char *at, int size) noexcept:
        """Previous and following page; then for each entry the sizes of term and key and how many keys follow.
        It has so many entries, unless the file was changed meanwhile."""
        cdef const unsigned char *end = at + size
        cdef int64_t term_size, key_size, more
        cdef const char *term
        leaf.previous, leaf.following = <uint64_t>wide_varint(&at, end), <uint64_t>wide_varint(&at, end)
        while at < end:
            term_size, key_size, more = varint(&at, end), varint(&at, end), varint(&at, end)
            if term_size < 0 or key_size < 0 or more < 0 or term_size + key_size > end - at:
                return False
            term = <const char *>at
            at += term_size
            while True:
                if leaf.count == count:
                    return False
                if not self._put(&leaf.entries[leaf.count], term, term_size, <const char *>at, key_size):
                    return False
                if leaf.ranks is not NULL:
                    leaf.ranks[leaf.count] = rank_of(&leaf.entries[leaf.count])
                leaf.count += 1
                at += key_size
                if not more:
                    break
                more -= 1
                key_size = varint(&at, end)
                if key_size < 0 or key_size > end - at:
                    return False
        return True

    cdef bint has_ranks(self) noexcept:
        """Whether entries are those of a column, which the library keeps in the order of a hash for each term."""
        return not self.split and PyBytes_GET_SIZE(self.name) > 0

    cdef bint _put(self, Entry *entry, const char *term, int64_t term_size, const char *key, int64_t key_size) noexcept:
        """Note an entry: a column's term has a NUL and two bytes of the key's hash behind it."""
        cdef const char *nul
        if not self.name:
            term_size -= self.tail
        entry.term, entry.key, entry.key_size = term, key, <int>(0 if key is NULL else key_size - self.tail)
        if term_size < 0 or entry.key_size < 0:
            return False
        if self.split:
            nul = <const char *>memrchr(term, 0, term_size)
            if nul is NULL:
                return False
            entry.term_size = <int>(nul - term)
            entry.key, entry.key_size = nul + 1, <int>(term_size - entry.term_size - 1)
            return True
        entry.term_size = <int>(term_size - 3 if self.name else term_size)
        return entry.term_size >= 0

    cdef Node _node(self, uint64_t number):
        cdef Node node
        found = self.nodes.get(number)
        if found is not None:
            return <Node>found
        cdef int size = 0
        node = Node.__new__(Node)
        node.block = self._page(number, &size)
        if not self._read_node(node, <const unsigned char *>node.block, size):
            raise self.damaged()
        self.nodes[number] = node
        return node

    cdef bint _read_node(self, Node node, const unsigned char *at, int size) except -1:
        """The first child; then for each other its page, and its least entry after its size."""
        cdef const unsigned char *end = at + size
        cdef int64_t page = wide_varint(&at, end), length
        cdef Entry least
        if page < 0:
            return False
        node.heir = <uint64_t>page
        node.children = <Child *>calloc(size // 2 + 1, sizeof(Child))  # each takes two bytes and more
        if node.children is NULL:
            raise MemoryError
        while at < end:
            page, length = wide_varint(&at, end), varint(&at, end)
            if page < 0 or length < 0 or length > end - at:
                return False
            if not self._put(&least, <const char *>at, length, NULL, 0):
                return False
            node.children[node.count].page = <uint64_t>page
            node.children[node.count].first, node.children[node.count].size = least.term, least.term_size
            node.count += 1
            at += length
        node.totals = <int64_t *>calloc(node.count + 1, sizeof(int64_t))
        if node.totals is NULL:
            raise MemoryError
        return True

    cdef Leaf first(self):
        """The first leaf that is not empty, or None."""
        return self._nonempty(self.leaf(self.ends[0]), True) if self.ends[0] else None

    cdef Leaf last(self):
        """The last leaf that is not empty, or None."""
        return self._nonempty(self.leaf(self.ends[1]), False) if self.ends[1] else None

    cdef Leaf after(self, Leaf leaf, int64_t passed=0):
        """The next leaf that is not empty, or None, for a walk that has passed so many."""
        return self._nonempty(self.leaf(leaf.following, self.keeps(passed)), True) if leaf.following else None

    cdef Leaf before(self, Leaf leaf, int64_t passed=0):
        return self._nonempty(self.leaf(leaf.previous, self.keeps(passed)), False) if leaf.previous else None

    cdef Leaf _nonempty(self, Leaf leaf, bint forward):
        cdef uint64_t number
        cdef int passed = 0
        while not leaf.count:
            number = leaf.following if forward else leaf.previous
            if not number:
                return None
            passed += 1
            if passed > LEAVES_MAX:
                raise self.damaged()
            leaf = self.leaf(number)
        return leaf

    cdef Leaf seek(self, const char *term, Py_ssize_t size, int *place, double *share):
        """The leaf and the place in it of the first entry that is not less than `term`; None where there is none.
        `share` becomes about how much of the index is before it."""
        cdef uint64_t page = self.root
        cdef double width = 1.0
        cdef Node node
        cdef Leaf leaf
        cdef int child, depth = 0
        share[0] = 0.0
        while page >= NODE_IDS:
            node = self._node(page)
            child = node.place_of(term, size)
            width /= node.count + 1
            share[0] += width * child
            page = node.page_of(child)
            depth += 1
            if depth > DEPTH_MAX:
                raise self.damaged()
        leaf = self.leaf(page)
        place[0] = leaf.place_of(term, size)
        if leaf.count:
            share[0] += width * place[0] / leaf.count
        if place[0] < leaf.count:
            return leaf
        place[0] = 0
        return self.after(leaf)

    cdef int64_t entries_of(self, uint64_t number) except -1:
        """How many entries a leaf has, which is not kept for that."""
        cdef Table table = self.table
        cdef Block block
        cdef int64_t found
        kept = self.leaves.get(number)
        if kept is not None:
            return (<Leaf>kept).count
        table._enter()
        try:
            self._find_page(number, &block)
            found = entries_in(<const unsigned char *>block.value, block.value_size)
            let_go(&block)
        finally:
            release(table.handle)
        if found < 0:
            raise self.damaged()
        return found

    cdef int64_t total_of(self, Node node, int child, int depth, int64_t *pages_left) except -1:
        """How many entries there are below a child. Each is counted once, as nobody writes the index."""
        cdef int64_t found = 0
        cdef uint64_t page
        cdef Node below
        cdef int i
        if node.totals[child] > 0:
            return node.totals[child] - 1
        pages_left[0] -= 1
        if pages_left[0] < 0 or depth > DEPTH_MAX:
            raise self.damaged()  # a circle
        page = node.page_of(child)
        if page < NODE_IDS:
            found = self.entries_of(page)
        else:
            below = self._node(page)
            for i in range(below.count + 1):
                found += self.total_of(below, i, depth + 1, pages_left)
        node.totals[child] = found + 1
        return found

    cdef int64_t count_below(self, uint64_t page, bytes lo, bytes hi, int depth, int64_t *pages_left) except -1:
        """How many entries with lo <= term < hi there are below a page."""
        cdef Node node
        cdef Leaf leaf
        cdef int first, last
        cdef int64_t found = 0
        if page < NODE_IDS:
            leaf = self.leaf(page)
            first = 0 if lo is None else leaf.place_of(PyBytes_AS_STRING(lo), PyBytes_GET_SIZE(lo))
            last = leaf.count if hi is None else leaf.place_of(PyBytes_AS_STRING(hi), PyBytes_GET_SIZE(hi))
            return max(0, last - first)
        if depth > DEPTH_MAX:
            raise self.damaged()
        node = self._node(page)
        first = 0 if lo is None else node.place_of(PyBytes_AS_STRING(lo), PyBytes_GET_SIZE(lo))
        last = node.count if hi is None else node.place_of(PyBytes_AS_STRING(hi), PyBytes_GET_SIZE(hi))
        if first > last:
            return 0
        if first == last and not (lo is None and hi is None):
            return self.count_below(node.page_of(first), lo, hi, depth + 1, pages_left)
        if lo is not None:
            found += self.count_below(node.page_of(first), lo, None, depth + 1, pages_left)
            first += 1
        if hi is not None:
            found += self.count_below(node.page_of(last), None, hi, depth + 1, pages_left)
            last -= 1
        while first <= last:
            found += self.total_of(node, first, depth, pages_left)
            first += 1
        return found

    cdef int64_t count_between(self, bytes lo, bytes hi) except -1:
        """How many entries there are with lo <= term < hi, None leaving a side open."""
        cdef int64_t pages_left = self.total + LEAVES_MAX
        if lo is None and hi is None:
            return self.total
        if lo is not None and hi is not None and lo >= hi:
            return 0
        return self.count_below(self.root, lo, hi, 0, &pages_left)

    cdef int64_t estimate_between(self, bytes lo, bytes hi) except -1:
        """About how many: exact if they lie in a few leaves, else by how far apart the bounds are in the tree."""
        cdef double low_share = 0.0, high_share = 1.0
        cdef int place, passed = 0
        cdef int64_t found = 0
        cdef PageRange range
        if lo is None and hi is None:
            return self.total
        range = PageRange.__new__(PageRange)
        range.begin(self, lo, hi)
        while range.next():
            found += range.stop - range.start
            passed += 1
            if passed > LEAVES_COUNTED:
                if lo is not None:
                    self.seek(PyBytes_AS_STRING(lo), PyBytes_GET_SIZE(lo), &place, &low_share)
                if hi is not None:
                    self.seek(PyBytes_AS_STRING(hi), PyBytes_GET_SIZE(hi), &place, &high_share)
                return max(found, <int64_t>((high_share - low_share) * self.total))
        return found

    def count(self, bytes lo=None, bytes hi=None):
        """How many entries have lo <= term < hi; None leaves a side open."""
        return self.count_between(lo, hi)

    def estimate(self, bytes lo=None, bytes hi=None):
        """About how many entries have lo <= term < hi: exact if they lie in a few pages."""
        return self.estimate_between(lo, hi)

    def entries(self, bytes lo=None, bytes hi=None):
        """The entries with lo <= term < hi, in order, as a list of pairs of term and key.

        >>> with Table("people.tct", "n") as t:
        ...     t.create_index("age")
        ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}})
        >>> with Table("people.tct", "r") as t:
        ...     IndexPages(t, b"age").entries(b"30")
        [(b'41', b'ann')]
        """
        cdef PageWalk walk = PageWalk.__new__(PageWalk)
        walk.begin(self, lo, hi, False)
        cdef list found = []
        while walk.entry is not NULL:
            found.append((
                PyBytes_FromStringAndSize(walk.entry.term, walk.entry.term_size),
                PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size),
            ))
            walk.step()
        return found


@cython.final
cdef class PageWalk:
    """A walk over the entries with lo <= term < hi, up or down: `entry` is where it stands, NULL at its end."""

    cdef int begin(self, IndexPages pages, bytes lo, bytes hi, bint down) except -1:
        cdef double share
        cdef bytes start = hi if down else lo
        self.pages, self.stop, self.down, self.passed = pages, lo if down else hi, down, 0
        self.place = 0
        if lo is not None and hi is not None and lo >= hi:
            self.leaf = None
        elif start is not None:
            self.leaf = pages.seek(PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start), &self.place, &share)
            if down:
                self._stand_before()
        elif down:
            self.leaf = pages.last()
            self.place = self.leaf.count - 1 if self.leaf is not None else 0
        else:
            self.leaf = pages.first()
        return self._look()

    cdef int _stand_before(self) except -1:
        """Downwards the bound itself is left out."""
        if self.leaf is None:
            self.leaf = self.pages.last()
            self.place = self.leaf.count - 1 if self.leaf is not None else 0
        elif self.place:
            self.place -= 1
        else:
            self.leaf = self.pages.before(self.leaf)
            self.place = self.leaf.count - 1 if self.leaf is not None else 0
        return 0

    cdef int _look(self) except -1:
        """Set `entry`, or end where the bound is passed."""
        cdef int order
        if self.leaf is None:
            self.entry = NULL
            return 0
        self.entry = &self.leaf.entries[self.place]
        if self.stop is not None:
            order = bytes_order(
                self.entry.term, self.entry.term_size, PyBytes_AS_STRING(self.stop), PyBytes_GET_SIZE(self.stop)
            )
            if order < 0 if self.down else order >= 0:
                self.entry = NULL
        return 0

    cdef int step(self) except -1:
        """Go on by one entry."""
        if self.down:
            if self.place:
                self.place -= 1
            else:
                self.leaf = self.pages.before(self.leaf, self.passed)
                self.place = self.leaf.count - 1 if self.leaf is not None else 0
                self._count_page()
        else:
            self.place += 1
            if self.place == self.leaf.count:
                self.leaf, self.place = self.pages.after(self.leaf, self.passed), 0
                self._count_page()
        return self._look()

    cdef int _count_page(self) except -1:
        """Pages of a damaged index could lead in a circle."""
        self.passed += 1
        if self.passed & 0xFFFF == 0 and self.passed > self.pages.total + LEAVES_MAX:
            raise self.pages.damaged()
        return 0


@cython.final
cdef class PageRange:
    """The entries with lo <= term < hi, a leaf at a time: those at the places from `start` to before `stop` of `leaf`."""

    cdef int begin(self, IndexPages pages, bytes lo, bytes hi) except -1:
        cdef double share
        self.pages, self.passed, self.start, self.last_stop = pages, 0, 0, 0
        self.leaf = self.last = None
        if lo is not None and hi is not None and lo >= hi:
            self.following = None
            return 0
        if lo is None:
            self.following = pages.first()
        else:
            self.following = pages.seek(PyBytes_AS_STRING(lo), PyBytes_GET_SIZE(lo), &self.start, &share)
        if hi is not None:
            self.last = pages.seek(PyBytes_AS_STRING(hi), PyBytes_GET_SIZE(hi), &self.last_stop, &share)
        return 0

    cdef bint is_last(self) noexcept:
        """By its number: a leaf that is read again is another object."""
        return self.last is not None and self.leaf.number == self.last.number

    cdef bint next(self) except -1:
        """Go to the next leaf; whether there is one."""
        if self.leaf is not None:
            self.start = 0
            self.following = None if self.is_last() else self.pages.after(self.leaf, self.passed)
        self.leaf = self.following
        if self.leaf is None:
            return False
        self.stop = self.last_stop if self.is_last() else self.leaf.count
        if self.stop == self.start:
            return False
        self.passed += 1
        if self.passed & 0xFFFF == 0 and self.passed > self.pages.total + LEAVES_MAX:
            raise self.pages.damaged()  # a circle
        return True
