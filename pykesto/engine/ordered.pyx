"""A sorted set that is written far more often than it is read.

Items gather unsorted and are sorted in when somebody looks, so that following the journal costs next to nothing while
no query needs the order.
"""

cimport cython

from bisect import bisect_left, insort

cdef enum:
    FEW = 64


@cython.final
cdef class Ordered:
    """A sorted set of comparable, hashable items. Its owner locks; `between` returns a copy."""

    def __cinit__(self):
        self.every = set()
        self.items = []  # in order
        self.fresh = []  # not yet sorted in
        self.gone = set()  # not in `every` any more, but still among the items

    def __len__(self):
        return len(self.every)

    cpdef add(self, item):
        """Add an item, if it is not there."""
        if item in self.every:
            return
        self.every.add(item)
        if self.gone and item in self.gone:
            self.gone.remove(item)
        else:
            self.fresh.append(item)

    cpdef discard(self, item):
        """Take an item out, if it is there."""
        if item in self.every:
            self.every.remove(item)
            self.gone.add(item)
            if len(self.gone) > len(self.every) + FEW:
                self.drop_gone()

    cdef int drop_gone(self) except -1:
        """Keep what is not gone: those in order stay in order."""
        self.items = [item for item in self.items if item not in self.gone]
        self.fresh = [item for item in self.fresh if item not in self.gone]
        self.gone = set()
        return 0

    cdef list in_order(self):
        """All items in order, those that are gone among them."""
        if not self.fresh:
            return self.items
        made = self.items.copy()
        if len(self.fresh) < FEW:
            for item in self.fresh:
                insort(made, item)
        else:
            made += self.fresh
            made.sort()  # two sorted runs and a few items: timsort merges them
        self.items, self.fresh = made, []
        return made

    cpdef list between(self, lo=None, hi=None):
        """The items with lo <= item < hi, in order; None leaves that side open."""
        cdef list ordered = self.in_order()
        begin = 0 if lo is None else bisect_left(ordered, lo)
        end = len(ordered) if hi is None else bisect_left(ordered, hi)
        cdef list found = ordered[begin:end]
        return [item for item in found if item not in self.gone] if self.gone else found

    cdef list some(self, lo, hi, Py_ssize_t count, bint down):
        """As `between`, but at most so many, from one end or the other."""
        cdef list ordered = self.in_order(), found = []
        cdef Py_ssize_t at = 0 if lo is None else bisect_left(ordered, lo)
        cdef Py_ssize_t end = len(ordered) if hi is None else bisect_left(ordered, hi)
        while at < end and len(found) < count:
            item = ordered[end - 1 if down else at]
            if not self.gone or item not in self.gone:
                found.append(item)
            if down:
                end -= 1
            else:
                at += 1
        return found

    cpdef Py_ssize_t count_between(self, lo, hi) except -1:
        """How many items there are with lo <= item < hi, at most: those that are gone may be counted."""
        cdef list ordered = self.in_order()
        return max(0, bisect_left(ordered, hi) - bisect_left(ordered, lo))
