# What can be done with rows that were searched for: by one query, or by several put together.

cdef Py_ssize_t _CHAIN_MAX = 1000


cdef class _Search:
    """Keys of a table, found anew each time: the base of `Query` and `Combination`."""

    cdef Table table

    def __cinit__(self, *_):
        if type(self) is _Search:
            raise TypeError("a search is a Query or a Combination")

    cdef list _run(self):
        """The keys, in order; the caller holds the table's lock."""
        raise NotImplementedError

    @cython.final
    cdef list _keys(self):
        self.table._enter()
        try:
            return self._run()
        finally:
            release(self.table.handle)

    def __iter__(self):
        return iter(self._keys())

    def items(self):
        """Iterate over (key, row). The keys are those of this moment; each row is read when it is asked for, and left
        out if it was deleted meanwhile."""
        return Found(self, True)

    def rows(self):
        """Iterate over the rows, dicts of bytes."""
        return Found(self, False)

    def columns(self, *names):
        """Iterate over the rows, with these columns alone; those that a row lacks are left out.

        >>> with Table("people.tct", "n") as t:
        ...     t[b"ann"] = {b"name": b"Ann", b"age": b"41"}
        ...     list(t.query.columns("age", "city"))
        [{b'age': b'41'}]
        """
        wanted = [encoded(name, "column name") for name in names]
        return ({name: row[name] for name in wanted if name in row} for row in self.rows())

    def count(self):
        """How many rows match."""
        return len(self._keys())

    def first(self):
        """The first key and row as a pair, or None."""
        return next(self.items(), None)

    def delete(self):
        """Delete the rows that match, and return how many there were.

        Raises:
            UsageError: a row can't be deleted beside another (see `Table.__delitem__`); none was.
        """
        cdef list keys
        self.table._enter_to_write("delete")
        try:
            keys = self._run()
            self.table._delete_all(keys)
            return len(keys)
        finally:
            release(self.table.handle)

    def update(self, columns):
        """Set columns of the rows that match, and return how many there were.

        Args:
            columns: a mapping of names to values, both bytes; a value None takes the column away. The other columns
                of a row stay.

        All rows are computed and checked before the first is written.

        >>> with Table("people.tct", "n") as t:
        ...     t[b"ann"] = {b"name": b"Ann", b"age": b"41"}
        ...     t.query.col("age").num_ge(40).update({b"group": b"old", b"age": None}), t[b"ann"]
        (1, {b'name': b'Ann', b'group': b'old'})
        """
        if not isinstance(columns, Mapping):
            raise TypeError(f"columns must be a mapping of bytes to bytes or None, not {type(columns).__name__}")
        given = dict(columns)

        def changed(key, row):
            return {name: value for name, value in {**row, **given}.items() if value is not None}

        return self.process(changed)

    def process(self, function):
        """Change the rows that match in one step, each as `function(key, row)` says.

        Args:
            function: gives the row to store, `REMOVE` to delete it, None or False to leave it, or `STOP` to leave this
                one and those after it.

        Returns:
            How many rows were stored or removed.

        Raises:
            UsageError: `function` used this table, or gave what can't be stored.

        Nothing is written before every row was computed: where `function` raises, all stays as it was.
        """
        self.table._enter_to_write("process")
        try:
            changes = []
            for key in self._run():
                row = self.table._row_of(key)
                new = None if row is None else function(key, row)
                if new is STOP:
                    break
                if new is not None and new is not False:
                    changes.append((key, new))
            self.table._store_all(changes)
            return len(changes)
        finally:
            release(self.table.handle)

    # Sets

    def union(self, *others):
        """The rows of this search, then those that only the others find.

        >>> with Table("people.tct", "n") as t:
        ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}, b"cy": {b"age": b"33"}})
        ...     young, named = t.query.col("age").num_lt(35), t.query.col("").one_of(["ann", "bob"])
        ...     [sorted(search) for search in (young | named, young & named, young - named)]
        [[b'ann', b'bob', b'cy'], [b'bob'], [b'cy']]
        """
        return self._with("union", others)

    def intersection(self, *others):
        """The rows of this search that all others find too, in this one's order."""
        return self._with("intersection", others)

    def difference(self, *others):
        """The rows of this search that none of the others finds, in this one's order."""
        return self._with("difference", others)

    cdef object _with(self, str operation, tuple others):
        return Combination(operation, (self, *others))

    def __or__(self, other):
        return self.union(other) if isinstance(other, _Search) else NotImplemented

    def __and__(self, other):
        return self.intersection(other) if isinstance(other, _Search) else NotImplemented

    def __sub__(self, other):
        return self.difference(other) if isinstance(other, _Search) else NotImplemented

    def __bool__(self):
        raise TypeError("a query is neither true nor false", "use first() is None, or count()")


@cython.final
cdef class Found:
    """An iterator over what a search found: see `_Search.items` and `_Search.rows`."""

    cdef Table table
    cdef list keys
    cdef Py_ssize_t place
    cdef bint paired

    def __cinit__(self, _Search search not None, bint paired):
        self.table, self.keys, self.paired = search.table, search._keys(), paired

    def __iter__(self):
        return self

    def __next__(self):
        cdef bytes key
        while self.place < len(self.keys):
            key = <bytes>self.keys[self.place]
            self.place += 1
            row = self.table._get(key)
            if row is not None:
                return (key, row) if self.paired else row
        raise StopIteration


@cython.final
cdef class Combination(_Search):
    """Searches of one table put together by `union`, `intersection` or `difference`. Immutable, as a `Query` is.

    Each search keeps its own limit and order; `order_by` and `limit` here are those of the whole. The library's own
    function drops the order of intersections and the limits of all but the first, so the sets are made here; all
    searches see the same rows.
    """

    cdef str operation
    cdef tuple searches
    cdef tuple order
    cdef tuple window

    def __cinit__(self, str operation not None, tuple searches not None):
        for search in searches:
            if not isinstance(search, _Search):
                raise TypeError(f"{operation} takes queries, not {type(search).__name__}")
            if (<_Search>search).table is not (<_Search>searches[0]).table:
                raise UsageError(f"{operation} of queries of different tables")
        self.table = (<_Search>searches[0]).table
        self.operation, self.searches, self.window = operation, searches, (-1, 0)

    cdef object _with(self, str operation, tuple others):
        """A chain of one operation is one combination; a long one is several, so that making it takes no square of time."""
        cdef bint plain = self.order is None and self.window == (-1, 0)
        if plain and operation == self.operation and len(self.searches) < _CHAIN_MAX:
            return Combination(operation, self.searches + others)
        return Combination(operation, (self, *others))

    cdef Combination _twin(self):
        cdef Combination twin = Combination(self.operation, self.searches)
        twin.order, twin.window = self.order, self.window
        return twin

    def order_by(self, name, *, numeric=False, descending=False):
        """Order the whole by a column ("": the primary key); rows without it come last."""
        cdef Combination twin = self._twin()
        twin.order = order_of(name, numeric, descending)
        return twin

    def limit(self, max, skip=0):
        """At most `max` rows of the whole, after leaving out the first `skip`."""
        cdef Combination twin = self._twin()
        twin.window = window_of(max, skip)
        return twin

    cdef list _run(self):
        # Whatever is nested too deeply would overflow the stack.
        Py_EnterRecursiveCall(" in a combination of queries")
        try:
            return self._combined([(<_Search>search)._run() for search in self.searches])
        finally:
            Py_LeaveRecursiveCall()

    cdef list _combined(self, list found):
        if self.operation == "union":
            keys = dict.fromkeys(key for part in found for key in part)
        elif self.operation == "intersection":
            shared = set(found[0]).intersection(*found[1:])
            keys = [key for key in found[0] if key in shared]
        else:
            others = set().union(*found[1:])
            keys = [key for key in found[0] if key not in others]
        keys = list(keys)
        if self.order is not None:
            keys = self.table._sorted(keys, self.order)
        return cut(keys, self.window)

    @property
    def hint(self):
        """The hints of the searches, one after the other."""
        Py_EnterRecursiveCall(" in a combination of queries")
        try:
            return "".join([search.hint for search in self.searches])
        finally:
            Py_LeaveRecursiveCall()


cdef tuple order_of(object name, object numeric, object descending):
    ascending, reverse = (TDBQONUMASC, TDBQONUMDESC) if numeric else (TDBQOSTRASC, TDBQOSTRDESC)
    return encoded(name, "column name"), reverse if descending else ascending


cdef tuple window_of(object most, object skip):
    return within("max", most, 0, INT_MAX), within("skip", skip, 0, INT_MAX)


cdef list cut(list keys, tuple window):
    limit, skip = window
    return keys[skip:] if limit < 0 else keys[skip : skip + limit]


_READ_NUMBER = re.compile(rb"[\x01-\x20]*(?:\+|(-))?(?:(inf)|([0-9]*)(?:\.([0-9]*))?)", re.I)


cdef object number_read(bytes value):
    """The number that the library reads in a value."""
    sign, infinite, whole, fraction = _READ_NUMBER.match(value).groups()
    number = Decimal("Infinity") if infinite else Decimal(f"{(whole or b'0').decode()}.{(fraction or b'').decode()}")
    return -number if sign else number
