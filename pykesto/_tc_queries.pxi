# Queries: conditions, an order, a limit.

_NUMBER = re.compile(rb"[+-]?[0-9]+(\.[0-9]*)?")


cdef bytes number(object value):
    """A number as the library reads it: digits and a point. It knows no exponents: '1e3' would be 1."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        decimal = Decimal(repr(value) if isinstance(value, float) else value)
        if not decimal.is_finite():
            raise UsageError(f"{value!r} is no number that Tokyo Cabinet knows")
        return format(decimal, "f").encode()
    cdef bytes text = encoded(value, "operand")
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"operand {value!r} is not a plain decimal number")
    return text


@cython.final
cdef class Query:
    """Conditions on columns, all of which must hold, an order and a limit. Immutable: each call makes a new one.

    Iterating runs it and gives the keys. Text is encoded as UTF-8. Operands and names can't hold NUL bytes, and
    a column's value is compared up to its first NUL, save by `equals`. Conditions on numbers read a value as far
    as it is a plain decimal; anything else is 0.

    >>> with Table("people.tct", "n") as t:
    ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}, b"cy": {b"age": b"33"}})
    ...     list(t.query.col("age").num_gt(30).order_by("age", numeric=True))
    [b'cy', b'ann']
    """

    cdef Table table
    cdef tuple conditions  # of (name, operation, operand)
    cdef tuple order  # (name, type), or None
    cdef tuple window  # (limit, skip); a negative limit is none
    cdef str last_hint

    def __init__(self, Table table not None):
        self.table = table
        self.conditions = ()
        self.window = (-1, 0)
        self.last_hint = None

    cdef Query _twin(self):
        cdef Query twin = Query(self.table)
        twin.conditions, twin.order, twin.window = self.conditions, self.order, self.window
        return twin

    cdef Query _where(self, tuple condition):
        cdef Query twin = self._twin()
        twin.conditions += (condition,)
        return twin

    def col(self, name):
        """A column to put a condition on; "" is the primary key."""
        return QueryColumn(self, name)

    def order_by(self, name, *, numeric=False, descending=False):
        """Order by a column ("": the primary key); rows without it come last."""
        cdef Query twin = self._twin()
        ascending, reverse = (TDBQONUMASC, TDBQONUMDESC) if numeric else (TDBQOSTRASC, TDBQOSTRDESC)
        twin.order = (encoded(name, "column name"), reverse if descending else ascending)
        return twin

    def limit(self, max, skip=0):
        """At most `max` rows, after leaving out the first `skip`."""
        for count in (max, skip):
            if not 0 <= count <= INT_MAX:
                raise UsageError(f"{count} is no count of rows")
        cdef Query twin = self._twin()
        twin.window = (max, skip)
        return twin

    cdef TDBQRY *_build(self) except NULL:
        """The library's query; the caller holds the table's lock, and frees it."""
        cdef TDBQRY *query = tctdbqrynew(self.table.handle.tdb)
        cdef bytes name, operand
        for name, operation, operand in self.conditions:
            tctdbqryaddcond(query, PyBytes_AS_STRING(name), operation, PyBytes_AS_STRING(operand))
        if self.order is not None:
            name, operation = self.order
            tctdbqrysetorder(query, PyBytes_AS_STRING(name), operation)
        tctdbqrysetlimit(query, self.window[0], self.window[1])
        return query

    def _keys(self):
        cdef TDBQRY *query
        cdef TCLIST *found
        self.table._enter()
        try:
            if self.window[0] == 0:
                return []
            query = self._build()
            try:
                forget_errors(self.table.handle.tdb)
                with nogil:
                    found = tctdbqrysearch(query)
                try:
                    code = self._remember(query)
                    self.table._check_read("search", code == TCESUCCESS, code)
                    return list_of(found)
                finally:
                    tclistdel(found)
            finally:
                tctdbqrydel(query)
        finally:
            release(self.table.handle)

    cdef int _remember(self, TDBQRY *query) except -1:
        """Keep the hint, and tell the error that the library swallowed: it returns what it found until then."""
        self.last_hint = tctdbqryhint(query).decode("utf-8", "replace")
        return first_error(self.table.handle.tdb)

    def __iter__(self):
        return iter(self._keys())

    def items(self):
        """Iterate over (key, row); rows deleted since the search are left out."""
        for key in self._keys():
            row = self.table.get(key)
            if row is not None:
                yield key, row

    def rows(self):
        """Iterate over the rows, dicts of bytes."""
        for _, row in self.items():
            yield row

    def count(self):
        """How many rows match."""
        return len(self._keys())

    def first(self):
        """The first key and row as a pair, or None."""
        limit, skip = self.window
        return next(self.limit(1 if limit else 0, skip).items(), None)

    def delete(self):
        """Delete the rows that match, and return how many there were."""
        cdef TDBQRY *query
        cdef int error
        cdef bint done
        self.table._enter_to_write("delete")
        try:
            if self.window[0] == 0:
                return 0
            query = self._build()
            try:
                forget_errors(self.table.handle.tdb)
                self.table.handle.changes += 1
                with nogil:
                    done = tctdbqrysearchout(query)
                    error = io_errno()
                self.table._check_write("delete", done and self._remember(query) == TCESUCCESS, error)
                return tctdbqrycount(query)
            finally:
                tctdbqrydel(query)
        finally:
            release(self.table.handle)

    @property
    def hint(self):
        """How the library went about it: the index used, or a scan. Runs the query if it has not run yet."""
        if self.last_hint is None:
            self._keys()
        return self.last_hint or ""


cdef list list_of(TCLIST *found):
    cdef list keys = []
    cdef const char *key
    cdef int i, size
    for i in range(tclistnum(found)):
        key = <const char *>tclistval(found, i, &size)
        keys.append(PyBytes_FromStringAndSize(key, size))
    return keys


@cython.final
cdef class QueryColumn:
    """A column of a query: every method adds one condition and gives the narrower query.

    `negate=True` turns the condition round: rows without the column match too, and no index is used.
    """

    cdef Query query
    cdef bytes name

    def __init__(self, Query query not None, name):
        self.query = query
        self.name = encoded(name, "column name")

    cdef Query _add(self, int operation, bytes operand, object negate):
        return self.query._where((self.name, operation | (TDBQCNEGATE if negate else 0), operand))

    def equals(self, text, *, negate=False):
        """The value is `text`."""
        return self._add(TDBQCSTREQ, encoded(text, "operand"), negate)

    def includes(self, text, *, negate=False):
        """The value holds `text` somewhere."""
        return self._add(TDBQCSTRINC, encoded(text, "operand"), negate)

    def startswith(self, text, *, negate=False):
        """The value begins with `text`."""
        return self._add(TDBQCSTRBW, encoded(text, "operand"), negate)

    def endswith(self, text, *, negate=False):
        """The value ends with `text`."""
        return self._add(TDBQCSTREW, encoded(text, "operand"), negate)

    def num_equals(self, value, *, negate=False):
        """The value, as a number, is `value`: an int, float, Decimal, or plain decimal text."""
        return self._add(TDBQCNUMEQ, number(value), negate)

    def num_gt(self, value, *, negate=False):
        """The value, as a number, is greater than `value`."""
        return self._add(TDBQCNUMGT, number(value), negate)

    def num_ge(self, value, *, negate=False):
        """The value, as a number, is `value` or greater."""
        return self._add(TDBQCNUMGE, number(value), negate)

    def num_lt(self, value, *, negate=False):
        """The value, as a number, is less than `value`."""
        return self._add(TDBQCNUMLT, number(value), negate)

    def num_le(self, value, *, negate=False):
        """The value, as a number, is `value` or less."""
        return self._add(TDBQCNUMLE, number(value), negate)

    def num_between(self, low, high, *, negate=False):
        """The value, as a number, lies between `low` and `high`, both included."""
        return self._add(TDBQCNUMBT, number(low) + b" " + number(high), negate)
