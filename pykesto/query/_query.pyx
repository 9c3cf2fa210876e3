"""How a query is put together: copied with each condition that comes to it, and run anew each time.

Compiled, because programs make a query for each question that they ask.
"""

cimport cython

from pykesto._session cimport Session
from pykesto.query._ranges cimport RangesCore

from types import GenericAlias as _GenericAlias

from pykesto.errors import UsageError
from pykesto.query.execution import Execution
from pykesto.query.expressions import SIMPLE as _SIMPLE
from pykesto.query.expressions import All, And, Column, Condition, InRanges, no_truth, operands

cdef object in_ranges = InRanges, a_condition = Condition, a_column = Column
cdef object simple = _SIMPLE


cdef class QueryCore:
    """What a query asks. Never changes once it is there: what looks like a change makes another.

    `_scope`: what all of its items meet, beyond the conditions that were given.
    """

    def __init__(self, source, scope=None):
        self._source, self._scope = source, scope
        self._conditions = self._filters = self._order = ()
        self._offset = 0

    __class_getitem__ = classmethod(_GenericAlias)  # of what is found

    cpdef QueryCore _copy(self):
        """A query that asks the same."""
        cdef QueryCore made = type(self).__new__(type(self))
        made._source, made._scope = self._source, self._scope
        made._conditions, made._filters, made._order = self._conditions, self._filters, self._order
        made._offset, made._limit, made._after = self._offset, self._limit, self._after
        return made

    def col(self, name):
        """A column to put a condition on: `query.col("age").ge(18)`."""
        return ColumnOf(self, a_column(name))

    def where(self, *conditions):
        """With these conditions too. A condition is made from `col(...)`, or a function of one item (a scan)."""
        cdef QueryCore made = self._copy()
        for condition in conditions:
            if isinstance(condition, a_condition):
                self.require_own(condition)
                made._conditions += (condition,)
            elif callable(condition) and not isinstance(condition, a_column):
                made._filters += (condition,)
            else:
                raise TypeError(f"{condition!r} is no condition: compare a column, such as col('age') >= 18")
        return made

    cdef int require_own(self, condition) except -1:
        """Refuse operands that belong to another session."""
        if type(condition) is in_ranges and type((<RangesCore>condition).operand) in simple:
            return 0
        for operand in operands(condition):
            self._source.require_own(operand)
        return 0

    def order_by(self, *columns):
        """Sort by columns, "-name" descending; replaces an earlier order. "k_key" is the key."""
        return self._in_order(tuple([self._column(column) for column in columns]))

    def limit(self, count):
        """No more than so many items; None for all."""
        cdef QueryCore made = self._copy()
        made._limit = natural(count, "limit")
        return made

    def offset(self, count):
        """Without the first so many."""
        cdef QueryCore made = self._copy()
        made._offset = natural(count, "offset") or 0
        return made

    def after(self, item):
        """Only what comes after `item` in this query's order: the next page."""
        cdef QueryCore made = self._copy()
        made._after = item
        return made

    def _in_order(self, tuple columns not None):
        """The same in the order of columns as rows name them."""
        cdef QueryCore made = self._copy()
        made._order = columns
        return made

    def _in_full(self):
        """The same without limit and offset."""
        cdef QueryCore made = self._copy()
        made._limit, made._offset = None, 0
        return made

    def _of_all(self):
        """A query without conditions, limit and offset."""
        cdef QueryCore made = self._in_full()
        made._conditions = made._filters = ()
        return made

    def _condition(self):
        """All that is asked, as one condition."""
        cdef tuple parts = self._conditions if self._scope is None else (self._scope, *self._conditions)
        return All() if not parts else parts[0] if len(parts) == 1 else And(parts)

    def _execution(self, also=None, *, bint watch=True):
        """One run of this query, with one condition more; `watch`: the session remembers what was asked."""
        condition = self._condition()
        return Execution(
            self._source,
            condition if also is None else And((condition, also)),
            condition if watch else None,
            self._filters,
            self._order,
            self._offset,
            self._limit,
            self._after,
        )

    def __iter__(self):
        return Items(self)

    def count(self):
        """How many items there are."""
        return self._execution().count()

    def dicts(self):
        """The rows as plain dicts, which belong to nobody: the fastest way to read many.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     s.table("people")["ann"] = {"name": "Ann", "age": 40}
            ...     s.table("people").query.col("age").ge(18).dicts()
            [{'name': 'Ann', 'age': 40}]
        """
        return self._execution().dicts()


@cython.final
cdef class Items:
    """What a query finds, one after another. It is fixed when the first is asked for."""

    cdef QueryCore query  # None once it is asked
    cdef Session session
    cdef object source, item, snapshot, matches

    def __init__(self, QueryCore query not None):
        self.query, self.source = query, query._source

    def __iter__(self):
        return self

    def __next__(self):
        if self.query is not None:
            self.begin()
        for match in self.matches:
            if self.session._snapshot is not self.snapshot:
                self.source.require_same(self.snapshot)
            item = self.item((<tuple?>match)[0], (<tuple>match)[1])
            if item is not None:  # else it was deleted since the loop began
                return item
        raise StopIteration

    cdef int begin(self) except -1:
        query, self.query = self.query, None
        self.session, self.item = self.source._session, self.source.item
        self.snapshot = self.source.snapshot()
        self.matches = iter(query._matches())
        return 0


def natural(count, what not None):
    """`count` if it is a whole number from 0, or None; UsageError otherwise."""
    if count is not None and (not isinstance(count, int) or count < 0):
        raise UsageError(f"{what} is {count!r}; it must be a whole number from 0")
    return count


@cython.final
cdef class ColumnOf:
    """A column of a query in the making: `query.col("age").ge(18)` is the query with that condition."""

    cdef QueryCore query
    cdef object column

    def __init__(self, QueryCore query not None, column not None):
        self.query, self.column = query, column

    def __getattribute__(self, str name not None):
        if name.startswith("_") or name == "name" or name == "desc":
            return object.__getattribute__(self, name)
        return Asking(self.query, getattr(self.column, name))

    cdef object refuse(self):
        name = self.column.name
        raise TypeError(f"write query.col({name!r}).ge(value), or query.where(col({name!r}) >= value)")

    def __richcmp__(self, other, int operation):
        return self.refuse()

    def __and__(self, other):
        return self.refuse()

    def __rand__(self, other):
        return self.refuse()

    def __or__(self, other):
        return self.refuse()

    def __ror__(self, other):
        return self.refuse()

    def __invert__(self):
        return self.refuse()

    def __add__(self, other):
        return self.refuse()

    def __sub__(self, other):
        return self.refuse()

    def __mul__(self, other):
        return self.refuse()

    def __iter__(self):
        return self.refuse()

    def __bool__(self):
        no_truth(f"query.col({self.column.name!r})")

    def __contains__(self, item):
        no_truth(f"`in` on query.col({self.column.name!r})")


@cython.final
cdef class Asking:
    """A comparison that waits for its operands."""

    cdef QueryCore query
    cdef object make

    def __init__(self, QueryCore query not None, make not None):
        self.query, self.make = query, make

    def __call__(self, *operands):
        return self.query.where(self.make(*operands))
