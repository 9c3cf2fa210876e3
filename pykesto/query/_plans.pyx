"""What a plan is made of, and the plans of the plainest questions: comparisons of columns that have indexes.

Those are nearly all that a program asks, thousands of times a second; what else there is, `planner` finds.
"""

cimport cython

from pykesto.query._ranges cimport RangesCore

from pykesto.codec.terms import EVERY as _EVERY
from pykesto.codec.terms import PRESENT as _PRESENT
from pykesto.failpoints import ACTIVE as _ACTIVE
from pykesto.failpoints import off
from pykesto.query.expressions import All as _All
from pykesto.query.expressions import And as _And
from pykesto.query.expressions import InRanges, KeyRange
from pykesto.store import index_name

EVERY_KEY = KeyRange(None, None)

ENTRY_COST = 0.1  # of an entry of an index, where a row that is read and tested costs 1

cdef bint ACTIVE = _ACTIVE
cdef object in_ranges = InRanges, every_key = EVERY_KEY, all_of = _And, all_rows = _All
cdef bytes present = _PRESENT, first_term = _EVERY[0], last_term = _EVERY[1]


@cython.final
cdef class Lookup:
    """Ranges of one index. `covered` is what needs no test any more; `repeats`: a row may have several entries there."""

    def __init__(
        self,
        snapshot,
        str table not None,
        str index not None,
        tuple ranges not None,
        tuple covered not None,
        bint repeats=False,
    ):
        self.snapshot, self.table, self.index, self.ranges = snapshot, table, index, ranges
        self.covered, self.repeats = covered, repeats
        self._expected = -1

    @property
    def expected(self):
        """How many entries there are, about."""
        if self._expected < 0:
            estimate = self.snapshot.estimate
            self._expected = sum([estimate(self.table, self.index, lo, hi) for lo, hi in self.ranges])
        return self._expected

    @property
    def is_simple(self):
        """Whether it is one range, with no key twice."""
        return len(self.ranges) == 1 and not self.repeats

    def found(self):
        """The keys that are found, each once, in any order."""
        if len(self.ranges) == 1 and not self.repeats:
            lo, hi = self.ranges[0]
            return self.snapshot.keys(self.table, self.index, lo, hi)
        found = [key for lo, hi in self.ranges for key in self.snapshot.keys(self.table, self.index, lo, hi)]
        return list(dict.fromkeys(found)) if self.repeats else found

    def count(self):
        """How many keys there are."""
        if self.repeats:
            return len(self.found())
        return sum([self.snapshot.count(self.table, self.index, lo, hi) for lo, hi in self.ranges])

    def told(self, shown):
        """In words; `shown` gives a column's name as people know it."""
        index = shown_index(self.snapshot, self.table, self.index, shown)
        return f"index on {index!r}: {' and '.join(map(str, self.covered))}, about {self.expected}"


def shown_index(snapshot, table, name, shown):
    """The name of an index, with its columns as people know them."""
    index = next(known for known in snapshot.indexes(table) if known.name == name)
    return index_name(tuple(map(shown, index.columns)), index.kind, shown(index.where) if index.where else "")


@cython.final
cdef class Both:
    """What all lookups give."""

    def __init__(self, tuple parts not None, expected, tuple covered not None):
        self.parts, self.expected, self.covered = parts, expected, covered

    def found(self):
        """The keys that are found, each once, in any order."""
        one, other = self.parts[0], self.parts[1]
        others = self.parts[2:]
        if type(one) is Lookup and type(other) is Lookup and one.is_simple and other.is_simple:
            found = one.snapshot.keys_of_both(one.table, (one.index, *one.ranges[0]), (other.index, *other.ranges[0]))
        else:
            found, others = one.found(), (other, *others)
        for part in others:
            found = met(found, part.found())
        return found

    def count(self):
        """How many keys there are."""
        return len(self.found())

    def told(self, shown):
        """In words."""
        return " and ".join([f"({part.told(shown)})" for part in self.parts]) + f", together about {self.expected}"


cdef list met(list one, list other):
    """The keys that are in both."""
    cdef list larger = one if len(one) > len(other) else other
    cdef set wanted = set(other if larger is one else one)
    return [key for key in larger if key in wanted]


def preference(access not None):
    """Few entries first; of as many, the class of an object tells least."""
    wide = any([type(part) is in_ranges and part.kind == "class" for part in access.covered])
    return access.expected, wide, -len(access.covered)


cpdef object cheapest(list found, str table, snapshot, keys):
    """The first of the accesses to what is asked, met with others as long as entries read cost less than the rows that
    they save."""
    cdef list chosen, covered, news
    cdef double expected, share
    if len(found) == 1:
        return found[0]
    found.sort(key=preference)
    rows = max(snapshot.estimate(table, "", keys.lo, keys.hi), 1)
    chosen, covered, expected = [found[0]], list(found[0].covered), found[0].expected
    for access in found[1:]:
        share = access.expected / rows
        news = [part for part in access.covered if not is_among(part, covered)]
        if news and share < 1 and access.expected * ENTRY_COST < expected * (1 - share):
            chosen.append(access)
            covered += news
            expected *= share
    return chosen[0] if len(chosen) == 1 else Both(tuple(chosen), round(expected), tuple(covered))


cdef bint is_among(part, list known):
    for one in known:
        if one is part:
            return True
    return False


@cython.final
cdef class Plan:
    """How rows are found: by `access`, or without one by a walk of the keys in `keys`. `rest` is tested on each row."""

    def __init__(self, snapshot, str table not None, access, keys, tuple rest not None):
        self.snapshot, self.table = snapshot, table
        self.access, self.keys = access, keys
        self.rest = () if ACTIVE and off("query.rest") else rest
        self._rows = -1

    @property
    def rows(self):
        """How many rows there are in the range of keys, about."""
        if self._rows < 0:
            self._rows = self.snapshot.estimate(self.table, "", self.keys.lo, self.keys.hi)
        return self._rows

    @property
    def expected(self):
        """How many rows are read, about."""
        return self.rows if self.access is None else self.access.expected


@cython.final
cdef class Walk:
    """A walk along an index in the order of one column's values.

    Attributes:
        covered: the conditions that need no test there.
        prefix: what comes before the value of the column in each term.
        joined: terms are of several columns.
        complete: no row is missing there.
    """

    def __init__(
        self,
        snapshot,
        str table not None,
        str index not None,
        bytes lo not None,
        bytes hi not None,
        tuple covered not None,
        bytes prefix not None=b"",
        bint joined=False,
        bint complete=True,
    ):
        self.snapshot, self.table, self.index, self.lo, self.hi = snapshot, table, index, lo, hi
        self.covered, self.prefix, self.joined, self.complete = covered, prefix, joined, complete

    @property
    def entries(self):
        """How many there are, about."""
        return self.snapshot.estimate(self.table, self.index, self.lo, self.hi)

    cdef bint is_all_of(self, Plan plan) except -1:
        """Whether a plan finds just what is met here, by the same index."""
        if type(plan.access) is not Lookup or plan.rest:
            return False
        lookup = <Lookup>plan.access
        return lookup.index == self.index and lookup.covered == self.covered and len(lookup.ranges) == 1


cdef RangesCore plain(list parts, str table, snapshot):
    """The only condition, if an index of its own column serves. Other kinds have a blank or a comma in their names."""
    if len(parts) != 1 or type(parts[0]) is not in_ranges:
        return None
    part = <RangesCore>parts[0]
    if " " in part.column or "," in part.column or not snapshot.indexed(table, part.column):
        return None
    return part


cpdef Plan plain_plan(list parts, str table, snapshot):
    """The plan of comparisons of columns that have indexes of their own; None if that is not what is asked."""
    cdef RangesCore part
    cdef list found
    if len(parts) > 1:
        return plan_of_several(parts, table, snapshot)
    part = plain(parts, table, snapshot)
    if part is None:
        return None
    return Plan(snapshot, table, Lookup(snapshot, table, part.column, part.ranges, (part,)), every_key, ())


cdef Plan plan_of_several(list parts, str table, snapshot):
    cdef RangesCore part
    cdef list found = []
    cdef set columns = set()
    for one in parts:
        part = plain([one], table, snapshot)
        if part is None:
            return None
        columns.add(part.column)
        found.append(Lookup(snapshot, table, part.column, part.ranges, (part,)))
    for index in snapshot.indexes(table):
        if not index.is_plain and index.columns[0] in columns:  # which may do better
            return None
    access = cheapest(found, table, snapshot, every_key)
    covered = list(access.covered)
    return Plan(snapshot, table, access, every_key, tuple([part for part in parts if not is_among(part, covered)]))


cpdef list conjuncts(condition):
    """The conditions that must all be met."""
    cdef list found
    kind = type(condition)
    if kind is all_rows:
        return []
    if kind is not all_of:
        return [condition]
    found = []
    for inner in condition.parts:
        found += conjuncts(inner)
    return found


cpdef Walk plain_walk(str column, list parts, str table, snapshot):
    """A walk along the index of the column itself, if nothing is asked but that it be in a range; or None."""
    if parts:
        part = plain(parts, table, snapshot)
        if part is None or part.column != column or len(part.ranges) != 1:
            return None
        lo, hi = part.ranges[0]
        return Walk(snapshot, table, column, max(<bytes>lo, present), hi, (part,))
    if " " in column or "," in column or not snapshot.indexed(table, column):
        return None
    complete = not snapshot.lacks(table, column)
    return Walk(snapshot, table, column, first_term, last_term, (), complete=complete)
