"""One run of a query, as far as indexes alone tell the answer: keys, counts, and the columns of what they find.

The run is fixed when it begins: its snapshot, and the session's own changes at that moment. What rows must be looked
at for is in `execution`.
"""

cimport cython

from pykesto._stored cimport Row
from pykesto.query._plans cimport Plan, Walk, conjuncts, plain_plan, plain_walk

from pykesto.errors import UsageError
from pykesto.failpoints import ACTIVE as _ACTIVE
from pykesto.failpoints import off
from pykesto.query._plans import EVERY_KEY
from pykesto.query._run import columns_of, keys_along, matcher, passing, sort_keys
from pykesto.query.expressions import InRanges
from pykesto.query.planner import merged, order_walk, plan

cdef enum:
    EVERY_ONE = 0x7FFFFFFF  # more than there are

cdef bint ACTIVE = _ACTIVE
cdef object in_ranges = InRanges, every_key = EVERY_KEY
cdef tuple BY_KEY = ("k_key", "k_id", "-k_key", "-k_id")


cdef class Question:
    """A query, about to run.

    Args:
        observed: what the session remembers to have asked; None if it is only to be explained.
        after: the item behind which the answer begins.
    """

    def __init__(self, source, condition, observed, tuple filters, tuple order, offset, limit, after):
        self.source, self.condition, self.filters, self.order = source, condition, filters, order
        self.offset, self.limit = offset, limit
        self.table = source.table
        self.snapshot = source.snapshot()
        if observed is not None:
            source.observe(observed)
        self.pending = {} if ACTIVE and off("query.pending") else dict(source.pending())
        self.parts = [condition] if type(condition) is in_ranges else merged(conjuncts(condition))
        self.plan = plain_plan(self.parts, self.table, self.snapshot)
        if self.plan is None:
            self.plan = plan(self.parts, self.table, self.snapshot)
        if after is not None:
            self.after = self.place_of(source.key_of(after))

    cdef tuple place_of(self, bytes key):
        """The key and image of the item after which to go on."""
        image = self.pending.get(key)
        if key not in self.pending:
            row = self.snapshot.get(self.table, key)
            image = None if row is None else row.image
        if image is None or not self.condition.matches(key, image):
            raise UsageError("after(): the item is not in the query's answer any more")
        return key, image

    @property
    def by_key(self):
        """Whether the answer is in the order of keys."""
        return not self.order or self.order[0] in BY_KEY

    @property
    def down(self):
        """Whether the order, or its first column, is descending."""
        return bool(self.order) and self.order[0].startswith("-")

    @property
    def enough(self):
        """How many are wanted, those before the offset among them; None for all."""
        return None if self.limit is None else self.offset + self.limit

    # Counting

    def count(self):
        """How many matches there are, from the index alone where that tells it."""
        if self.filters or self.after is not None or self.plan.rest:
            return sum([1 for _ in self.matches()])
        count = self.count_stored()
        if self.pending:
            count += self.difference()
        count -= self.offset
        return max(0, count if self.limit is None else min(count, self.limit))

    cdef object count_stored(self):
        access, keys = self.plan.access, self.plan.keys
        if access is None:
            return self.snapshot.count(self.table, "", keys.lo, keys.hi)
        if keys.lo is None and keys.hi is None:
            return access.count()
        return sum([1 for key in access.found() if keys.matches(key, b"")])

    cdef object difference(self):
        """What the session's own changes add to the count, and take from it."""
        test = matcher(self.condition)
        keys = list(self.pending)
        stored = passing(keys, self.snapshot.get_many(self.table, keys), test)
        return len(self.own(test)) - len(stored)

    def own(self, test):
        """The session's own rows that match."""
        return [
            (key, Row(0, image)) for key, image in self.pending.items() if image is not None and test.matches(key, image)
        ]

    # Keys and columns

    def all_keys(self):
        """The keys of all that match, in order."""
        keys = self.exact_keys()
        return [key for key, _ in self.matches()] if keys is None else keys

    def dicts(self):
        """The columns of all that match, in order."""
        keys = self.exact_keys()
        if keys is None:
            return [columns_of(row) for _, row in self.matches()]
        return [columns for columns in self.snapshot.columns_of(self.table, keys) if columns is not None]

    cpdef list exact_keys(self):
        """The keys of all that match, in order, where indexes alone tell them; None where rows must be looked at."""
        cdef list keys
        if self.pending or self.filters or self.after is not None:
            return None
        keys = self.exact_in_key_order() if self.by_key else self.exact_along()
        if keys is None or (self.limit is None and not self.offset):
            return keys
        return keys[self.offset : self.enough]

    cdef list exact_in_key_order(self):
        access, allowed = self.plan.access, self.plan.keys
        if access is None or self.plan.rest:
            return None
        cdef list keys = access.found()
        if allowed is not every_key:
            keys = [key for key in keys if allowed.matches(key, b"")]
        sort_keys(keys, self.down)
        return keys

    cdef list exact_along(self):
        cdef Walk walk
        if len(self.order) > 1:
            return None
        walk = self.walk()
        if walk is None or not walk.complete or len(walk.covered) < len(self.parts):
            return None
        if not self.walk_is_cheaper(walk):
            return None
        enough = EVERY_ONE if self.limit is None else self.enough
        entries = self.snapshot.find(self.table, walk.index, walk.lo, walk.hi, reverse=self.down)
        return keys_along(entries, len(walk.prefix), walk.joined, enough)

    # Along an index

    cpdef Walk walk(self):
        """An index whose entries are in the wanted order, as far as its first column goes; or None."""
        cdef Walk found = plain_walk(self.order[0].removeprefix("-"), self.parts, self.table, self.snapshot)
        return order_walk(self.order, self.parts, self.table, self.snapshot) if found is None else found

    cpdef bint walk_is_cheaper(self, Walk walk) except -1:
        """Reading along the index until there is enough, rather than all that matches and sorting that."""
        if walk.is_all_of(self.plan):
            return True
        enough = self.enough
        if not walk.complete and not (self.down and enough is not None and self.after is None):
            return False
        covered = {id(part) for part in walk.covered}
        entries = walk.entries
        if enough is None or all([id(part) in covered for part in self.parts]):
            reads = entries if enough is None else min(enough, entries)
        else:
            share = self.plan.expected / max(self.plan.rows, 1)
            reads = min(entries, round(enough / max(share, 1e-9)))
        return reads <= self.plan.expected
