"""An index as one snapshot sees it: the base's entries that no newer version hides, and the overlay's that hold.

What is found is exact, so a condition that an index covers need not be looked at again. Versions that the base holds too
may go from the overlay at any time: they are left out here, so that it makes no difference when they go.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp

from pykesto._stored cimport Row
from pykesto._tc cimport Entry, IndexPages, Leaf, PageRange, PageWalk, bytes_order, rows_in_place
from pykesto.engine.guard cimport TAIL, put_key, take_row
from pykesto.engine.keyfilter cimport hash_of
from pykesto.engine.listed cimport Hidden, Listed
from pykesto.engine.overlay cimport Overlay, Table, Version

cdef enum:
    FIRST_BATCH = 32
    LAST_BATCH = 1024

cdef bytes FIRST_TERM = b"\x01"  # what is listed below it has no term


@cython.final
cdef class IndexView:
    """One index of one table at one version, on a base that holds all up to `base_version`. Without `pages` and `rows`
    the table has nothing in the base."""

    def __init__(
        self,
        Overlay overlay not None,
        Listed listed not None,
        pages,
        rows,
        str table not None,
        uint64_t base_version,
        uint64_t version,
    ):
        self.overlay, self.listed, self.pages, self.rows, self.name = overlay, listed, pages, rows, table
        self.base_version, self.version = base_version, version
        self.table = overlay.tables.get(table)

    cdef bint hidden(self, const Entry *entry) except -1:
        """Whether the overlay has a version of the row for this snapshot."""
        if self.table is None or not self.table.may_hold(entry.key, entry.key_size):
            return False
        cdef Version row = self.table.rows.get(PyBytes_FromStringAndSize(entry.key, entry.key_size))
        while row is not None and row.number > self.version:
            row = row.older
        return row is not None and row.number > self.base_version

    cdef bint all_newest(self) except -1:
        """Whether the overlay has one version of each row, which this snapshot sees: then all entries there hold."""
        return (
            not self.table.chains
            and self.table.newest <= self.version
            and not self.listed.dropped
            and <uint64_t>self.overlay.mark.version >= self.base_version
        )

    cdef bint holds(self, tuple entry) except -1:
        """Whether an entry of the overlay is true of the version that the snapshot sees, and not the base's to tell."""
        cdef Version newest = self.table.rows.get(entry[1])
        cdef Version row = newest
        while row is not None and row.number > self.version:
            row = row.older
        if row is None or row.is_deleted() or row.number <= self.base_version:
            return False
        if row is newest and row.older is None and not self.listed.dropped:
            return True
        return entry[0] in self.listed.terms(row.packed())

    cdef bint is_above(self) except -1:
        """Whether the overlay has rows of the table at all."""
        return self.table is not None and len(self.table.rows) > 0

    cdef list own(self, bytes lo, bytes hi):
        """The overlay's entries with lo <= term < hi."""
        cdef list found
        if not self.is_above():
            return []
        with self.overlay.lock:  # so that the entries are those of the versions that are looked at
            found = self.overlay.entries_between(self.listed, least(lo)[0], hi)
            return found if self.all_newest() else [entry for entry in found if self.holds(<tuple>entry)]

    cdef list keys(self, bytes lo, bytes hi):
        """The keys of the entries with lo <= term < hi."""
        cdef list found = [(<tuple>one)[1] for one in self.own(lo, hi)]
        cdef bint above = self.is_above()
        cdef PageRange leaves
        cdef const Entry *entry
        cdef int i
        if self.pages is None:
            return found
        leaves = PageRange.__new__(PageRange)
        leaves.begin(self.pages, lo, hi)
        while leaves.next():
            for i in range(leaves.start, leaves.stop):
                entry = &leaves.leaf.entries[i]
                if not above or not self.hidden(entry):
                    found.append(PyBytes_FromStringAndSize(entry.key, entry.key_size))
        return found

    cdef list keys_of_both(self, bytes lo, bytes hi, IndexView other, bytes other_lo, bytes other_hi):
        """The keys that have an entry in a range here and one in a range of another index of the table."""
        cdef set above = {(<tuple>one)[1] for one in self.own(lo, hi)}
        cdef list found = [(<tuple>one)[1] for one in other.own(other_lo, other_hi) if (<tuple>one)[1] in above]
        cdef bint hides = self.is_above()
        cdef PageRange leaves
        cdef KeySet keys
        cdef const Entry *entry
        cdef int i
        if self.pages is None or other.pages is None:
            return found
        leaves = PageRange.__new__(PageRange)
        leaves.begin(other.pages, other_lo, other_hi)
        if self.merge(lo, hi, leaves, hides, found):
            return found
        keys = KeySet(self.pages, lo, hi)
        leaves.begin(other.pages, other_lo, other_hi)
        while leaves.next():
            for i in range(leaves.start, leaves.stop):
                entry = &leaves.leaf.entries[i]
                if keys.holds(entry.key, entry.key_size) and not (hides and self.hidden(entry)):
                    found.append(PyBytes_FromStringAndSize(entry.key, entry.key_size))
        return found

    cdef bint merge(self, bytes lo, bytes hi, PageRange others, bint hides, list found) except -1:
        """Put into `found` the keys that are in a range here and in the other one, if each is of a single term.

        Then both are in the order of a hash, and only those with the same one are looked at. If a range is of several
        terms, or of what has no such order, this returns false, and `found` is as it was.
        """
        cdef RankWalk own = RankWalk.__new__(RankWalk)
        cdef RankWalk walk = RankWalk.__new__(RankWalk)
        cdef Py_ssize_t before = len(found)
        cdef const Entry *alike[ALIKE]  # the entries of `own` with one hash
        cdef const Entry *entry
        cdef int count = 0, rank = -1, i
        if not self.pages.has_ranks() or not others.pages.has_ranks():
            return False
        own.leaves = PageRange.__new__(PageRange)
        own.leaves.begin(self.pages, lo, hi)
        own.held, walk.leaves, walk.held = [], others, []
        own.enter()
        walk.enter()
        while walk.rank >= 0:
            if walk.rank != rank:
                rank, count = walk.rank, 0
                while 0 <= own.rank <= rank and count < ALIKE:
                    if own.rank == rank:
                        alike[count] = own.entry()
                        count += 1
                    own.step()
                if count == ALIKE:
                    break
            if count:
                entry = walk.entry()
                for i in range(count):
                    if is_same_key(alike[i], entry) and not (hides and self.hidden(entry)):
                        found.append(PyBytes_FromStringAndSize(entry.key, entry.key_size))
            walk.step()
        while own.rank >= 0 and walk.rank == ENDED:
            own.step()  # if it goes on in order, it meets nothing more
        if own.rank == ENDED and walk.rank == ENDED:
            return True
        del found[before:]
        return False

    cdef int64_t count(self, bytes lo, bytes hi) except -1:
        """How many entries there are with lo <= term < hi."""
        cdef Hidden hidden
        if not self.is_above():
            return 0 if self.pages is None else self.pages.count_between(lo, hi)
        if self.pages is None:
            return self.count_own(lo, hi)
        hidden = self.known_hidden()
        if hidden is not None:
            with self.overlay.lock:
                if self.table.newest <= self.version and hidden.version >= self.table.newest:
                    return (
                        self.pages.count_between(lo, hi)
                        - hidden.entries.count_between(least(lo), most(hi))
                        + self.count_own(lo, hi)
                    )
        return self.count_visible(lo, hi) + self.count_own(lo, hi)

    cdef Hidden known_hidden(self):
        """The base's entries of rows that the overlay has, once they are all known; None if this snapshot does not see
        all of the overlay's versions."""
        cdef Hidden hidden
        cdef uint64_t since, until
        cdef list keys
        with self.overlay.lock:
            hidden, until = self.listed.hidden, self.table.newest
            if until > self.version or <uint64_t>self.overlay.mark.version > self.base_version:
                return None
            if hidden is None or hidden.base_version < self.base_version:
                hidden = self.listed.hidden = Hidden.__new__(Hidden)
                hidden.base_version = hidden.version = self.base_version
            elif hidden.base_version > self.base_version:
                return None  # of a newer base
            since = hidden.version
            if since >= until:
                return hidden
            keys = self.overlay.keys_since(self.name, since)
        self.take_in(hidden, since, until, keys)
        return hidden

    cdef int take_in(self, Hidden hidden, uint64_t since, uint64_t until, list keys) except -1:
        """Find out which entries the base has of rows that were written by the commits up to `until`."""
        cdef list rows = rows_in_place(self.rows, keys, put_key, TAIL, take_row)
        cdef list found = []
        cdef Py_ssize_t i
        for i in range(len(keys)):
            if rows[i] is not None:
                found += [(term, keys[i]) for term in self.listed.terms((<Row>rows[i]).image)]
        with self.overlay.lock:
            if hidden.version == since:  # nobody was quicker
                for entry in found:
                    hidden.entries.add(entry)
                hidden.version = until
        return 0

    cdef int64_t count_visible(self, bytes lo, bytes hi) except -1:
        """How many of the base's entries are not hidden, by looking at each."""
        cdef PageRange leaves = PageRange.__new__(PageRange)
        cdef int64_t found = 0
        cdef int i
        leaves.begin(self.pages, lo, hi)
        while leaves.next():
            found += leaves.stop - leaves.start
            for i in range(leaves.start, leaves.stop):
                found -= self.hidden(&leaves.leaf.entries[i])
        return found

    cdef int64_t count_own(self, bytes lo, bytes hi) except -1:
        with self.overlay.lock:
            if self.all_newest() and not self.listed.entries.gone:
                return self.listed.entries.count_between(least(lo), most(hi))
        return len(self.own(lo, hi))

    cdef int64_t estimate(self, bytes lo, bytes hi) except -1:
        """About how many: what the overlay hides is counted too."""
        cdef int64_t found = 0
        if self.is_above():
            with self.overlay.lock:
                found = self.listed.entries.count_between(least(lo), most(hi))
        return found if self.pages is None else found + self.pages.estimate_between(lo, hi)

    cdef bint lacks(self, int64_t base_rows) except -1:
        """Whether some row may have no entry here; `base_rows` is how many the base has."""
        if (0 if self.pages is None else self.pages.total) != base_rows:
            return True
        return bool(self.overlay.entries_between(self.listed, None, FIRST_TERM))

    def batches(self, bytes lo, bytes hi, bint down):
        """The entries (term, key) with lo <= term < hi, in the order of terms, in lists that grow."""
        cdef OwnWalk own = OwnWalk.__new__(OwnWalk)
        cdef PageWalk walk = PageWalk.__new__(PageWalk)
        cdef bint above = self.is_above()
        cdef list batch = []
        cdef Py_ssize_t room = FIRST_BATCH
        own.begin(self, lo, hi, down)
        if self.pages is not None:
            walk.begin(self.pages, lo, hi, down)
        while True:
            if walk.entry is not NULL and (
                own.entry is None or goes_first(walk.entry, <bytes>own.entry[0], down)
            ):
                if not above or not self.hidden(walk.entry):
                    batch.append((
                        PyBytes_FromStringAndSize(walk.entry.term, walk.entry.term_size),
                        PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size),
                    ))
                walk.step()
            elif own.entry is not None:
                batch.append(own.entry)
                own.step()
            else:
                break
            if len(batch) >= room:
                yield batch
                batch, room = [], min(room * 2, LAST_BATCH)
        if batch:
            yield batch


cdef enum:
    ALIKE = 32  # keys of a term with one hash: more of them are for a `KeySet`
    ENDED = -1
    ASTRAY = -2


cdef inline bint is_same_key(const Entry *one, const Entry *other) noexcept:
    return one.key_size == other.key_size and memcmp(one.key, other.key, one.key_size) == 0


@cython.final
cdef class RankWalk:
    """A walk through the entries of a range by their ranks, which are close together in memory."""

    cdef PageRange leaves
    cdef list held  # leaves that were passed, so that their entries stay
    cdef int at
    cdef int rank  # of the entry here; ENDED, or ASTRAY if it was less than that of the one before

    cdef int enter(self) except -1:
        """Stand at the first entry of the next leaf."""
        if not self.leaves.next():
            self.rank = ENDED
            return 0
        self.held.append(self.leaves.leaf)
        self.at = self.leaves.start
        return self.look()

    cdef int look(self) except -1:
        cdef int rank = self.leaves.leaf.ranks[self.at]
        self.rank = rank if rank >= self.rank else ASTRAY
        return 0

    cdef int step(self) except -1:
        self.at += 1
        return self.look() if self.at < self.leaves.stop else self.enter()

    cdef const Entry *entry(self) noexcept:
        return &self.leaves.leaf.entries[self.at]


@cython.final
cdef class KeySet:
    """The keys of a range of a base's index, where they lie.

    What is asked is mostly not here, and is told so by a part of its hash: the entries themselves are far apart in memory.
    """

    cdef uint32_t *marks  # by hash: another part of it; 0 where there is none
    cdef const Entry **places
    cdef uint64_t mask
    cdef list leaves  # which have the entries

    def __cinit__(self, IndexPages pages, bytes lo, bytes hi):
        cdef PageRange leaves = PageRange.__new__(PageRange)
        cdef int64_t count = 0
        cdef int first = 0, i
        cdef Leaf leaf
        self.leaves = []
        leaves.begin(pages, lo, hi)
        while leaves.next():
            if not self.leaves:
                first = leaves.start
            self.leaves.append(leaves.leaf)
            count += leaves.stop - leaves.start
        self.mask = 15
        while self.mask < <uint64_t>count * 2:
            self.mask = self.mask * 2 + 1
        self.marks = <uint32_t *>calloc(self.mask + 1, sizeof(uint32_t))
        self.places = <const Entry **>malloc((self.mask + 1) * sizeof(Entry *))
        if self.marks is NULL or self.places is NULL:
            raise MemoryError
        for leaf in self.leaves:
            for i in range(first, min(<int64_t>leaf.count, first + count)):
                self.add(&leaf.entries[i])
            count -= leaf.count - first
            first = 0

    def __dealloc__(self):
        free(self.marks)
        free(self.places)

    cdef void add(self, const Entry *entry) noexcept:
        cdef uint64_t hash = hash_of(entry.key, entry.key_size), at = hash & self.mask
        while self.marks[at]:
            at = (at + 1) & self.mask
        self.marks[at] = mark_of(hash)
        self.places[at] = entry

    cdef bint holds(self, const char *key, int size) noexcept:
        cdef uint64_t hash = hash_of(key, size), at = hash & self.mask
        cdef uint32_t mark = mark_of(hash)
        cdef const Entry *entry
        while self.marks[at]:
            if self.marks[at] == mark:
                entry = self.places[at]
                if entry.key_size == size and memcmp(entry.key, key, size) == 0:
                    return True
            at = (at + 1) & self.mask
        return False


cdef inline uint32_t mark_of(uint64_t hash) noexcept:
    """Never 0, and of bits that say nothing of the place."""
    return <uint32_t>(hash >> 15) | 1


cdef inline tuple least(bytes lo):
    """Where terms begin: a range from b"" on has no rows without a term."""
    return (FIRST_TERM if lo is None or lo < FIRST_TERM else lo,)


cdef inline tuple most(bytes hi):
    return (b"\xff\xff\xff" if hi is None else hi,)


@cython.final
cdef class OwnWalk:
    """A walk over the overlay's entries of an index, up or down, read a few at a time: `entry`, None at its end."""

    cdef IndexView view
    cdef object lo, hi  # what was not yet looked at
    cdef bint down
    cdef Py_ssize_t room, at
    cdef list some
    cdef tuple entry

    cdef int begin(self, IndexView view, bytes lo, bytes hi, bint down) except -1:
        self.view, self.down = view, down
        self.lo, self.hi = least(lo), most(hi)
        self.room, self.at, self.some = FIRST_BATCH if view.is_above() else 0, -1, []
        return self.step()

    cdef int step(self) except -1:
        """Go on by one entry."""
        self.at += 1
        while self.at >= len(self.some):
            if not self.room:
                self.entry = None
                return 0
            self.look_further()
        self.entry = <tuple>self.some[self.at]
        return 0

    cdef int look_further(self) except -1:
        cdef IndexView view = self.view
        cdef list found
        with view.overlay.lock:
            found = view.listed.entries.some(self.lo, self.hi, self.room, self.down)
            self.some = found if view.all_newest() else [entry for entry in found if view.holds(<tuple>entry)]
        self.at = 0
        if len(found) < self.room:
            self.room = 0
        elif self.down:
            self.hi = found[-1]
        else:
            self.lo = (found[-1][0], found[-1][1] + b"\0")  # the next that could be
        self.room = min(self.room * 2, LAST_BATCH)
        return 0


cdef inline bint goes_first(const Entry *entry, bytes term, bint down) noexcept:
    cdef int order = bytes_order(entry.term, entry.term_size, PyBytes_AS_STRING(term), PyBytes_GET_SIZE(term))
    return order >= 0 if down else order <= 0


def key_batches(IndexPages pages, list own, bytes lo, bytes hi, bint down):
    """The keys of a table with lo <= key < hi, in order, in lists that grow: those of the base's key index and the
    overlay's `own`, which are in order. What is deleted, or not there yet, may be among them."""
    cdef list batch = []
    cdef bytes key
    cdef Py_ssize_t at = 0, count = len(own), room = FIRST_BATCH
    cdef PageWalk walk = PageWalk.__new__(PageWalk)
    cdef int order
    if down:
        own.reverse()
    if pages is not None:
        walk.begin(pages, lo, hi, down)
    while walk.entry is not NULL or at < count:
        order = -1
        if at < count:
            key = <bytes>own[at]
            order = 1 if walk.entry is NULL else bytes_order(
                walk.entry.key, walk.entry.key_size, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
            )
            if down and walk.entry is not NULL:
                order = -order
        if order < 0:
            batch.append(PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size))
        else:
            batch.append(key)
            at += 1
        if order <= 0:
            walk.step()
        if len(batch) >= room:
            yield batch
            batch, room = [], min(room * 2, LAST_BATCH)
    if batch:
        yield batch
