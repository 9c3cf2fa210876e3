# Queries: conditions, an order, a limit.

@cython.final
cdef class Query(_Search):
    """Conditions on columns, all of which must hold, an order and a limit. Immutable: each call makes a new one.

    Iterating runs it and gives the keys. Text is encoded as UTF-8. Operands and names can't hold NUL bytes, and
    a column's value is compared up to its first NUL, save by `equals` and `one_of`. Conditions on numbers read a value
    as far as it is a plain decimal; anything else is 0.

    >>> with Table("people.tct", "n") as t:
    ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}, b"cy": {b"age": b"33"}})
    ...     list(t.query.col("age").num_gt(30).order_by("age", numeric=True))
    [b'cy', b'ann']
    """

    cdef tuple conditions  # of (name, operation with flags, operand, values: of `one_of`, else None)
    cdef tuple order  # (name, type), or None
    cdef tuple window  # (limit, skip); a negative limit is none
    cdef str last_hint

    def __cinit__(self, Table table not None):
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
        """Order by a column ("": the primary key); rows without it come last, and ties come in no order."""
        cdef Query twin = self._twin()
        twin.order = order_of(name, numeric, descending)
        return twin

    def limit(self, max, skip=0):
        """At most `max` rows, after leaving out the first `skip`."""
        cdef Query twin = self._twin()
        twin.window = window_of(max, skip)
        return twin

    # Running

    cdef list _run(self):
        if self.window[0] == 0:
            self.last_hint = ""
            return []
        cdef TDBIDX *index = self._sole_index()
        if index is not NULL:
            return self._entries(index)
        cdef _Plan plan = _Plan(self)
        if plan.plain:
            return self._search(plan.searches[0], self.order, self.window)
        cdef list keys = []
        hints = []
        for conditions in plan.searches:
            keys += self._search(conditions, None, (-1, 0))
            hints.append(self.last_hint)
        for name, values in plan.checks:
            keys = [key for key in keys if self.table._value_of(key, name) in values]
        if self.order is not None:
            keys = self.table._sorted(keys, self.order)
        keys = cut(keys, self.window)
        self.last_hint = "".join(hints) + f"put together row by row: {len(keys)}\n"
        return keys

    cdef TDBIDX *_sole_index(self) noexcept:
        """The lexical index whose entries are all that the query asks for, or NULL."""
        if len(self.conditions) != 1 or self.order is not None:
            return NULL
        cdef tuple condition = <tuple>self.conditions[0]
        if condition[1] != TDBQCSTREQ or not condition[0]:
            return NULL
        cdef TDBIDX *index = self.table._index(condition[0])
        return index if index is not NULL and index.type == TDBITLEXICAL else NULL

    cdef list _entries(self, TDBIDX *index):
        """The keys that an index has for one value. The library stops at the first value that goes on with a NUL."""
        cdef bytes value = self.conditions[0][2]
        cdef int64_t most = self.window[0] + self.window[1] if self.window[0] >= 0 else INT64_MAX
        cdef const char *start = PyBytes_AS_STRING(value)
        cdef int size = size_of(value)
        cdef TCLIST *found
        cdef str name = (<bytes>index.name).decode("utf-8", "replace")
        forget_errors(self.table.handle.tdb)
        with nogil:
            found = equal_keys(<TCBDB *>index.db, start, size, most)
        keys = self._taken(found)
        self.last_hint = (
            f'using an index: "{name}" asc (STREQ)\nresult set size: {len(keys)}\nleaving the natural order\n'
        )
        return cut(keys, self.window) if self.window[1] else keys

    cdef list _search(self, list conditions, tuple order, tuple window):
        """What the library finds."""
        cdef TDBQRY *query = self._build(conditions, order, window)
        cdef TCLIST *found
        try:
            forget_errors(self.table.handle.tdb)
            with nogil:
                found = search_for(query)
            keys = self._taken(found)
            self.last_hint = tctdbqryhint(query).decode("utf-8", "replace")
            return keys
        finally:
            tctdbqrydel(query)

    cdef list _taken(self, TCLIST *found):
        """What the library found, which is freed; an error that it swallowed: it returns what it found until then."""
        try:
            code = first_error(self.table.handle.tdb)
            self.table._check_read("search", code == TCESUCCESS and found is not NULL, code)
            return list_of(found)
        finally:
            if found is not NULL:
                tclistdel(found)

    cdef TDBQRY *_build(self, list conditions, tuple order, tuple window) except NULL:
        """The library's query; the caller holds the table's lock, and frees it."""
        cdef Condition *made = <Condition *>calloc(len(conditions) + 1, sizeof(Condition))
        cdef const char *column = NULL
        cdef TDBQRY *query
        cdef int kind = 0, i
        cdef bytes name, operand
        if made is NULL:
            raise MemoryError
        for i, (name, operation, operand) in enumerate(conditions):
            made[i] = Condition(PyBytes_AS_STRING(name), operation, PyBytes_AS_STRING(operand))
        if order is not None:
            name, kind = order
            column = PyBytes_AS_STRING(name)
        query = new_query(self.table.handle.tdb, made, len(conditions), column, kind, window[0], window[1])
        free(made)
        if query is NULL:
            raise MemoryError(f"search {self.table.path}")
        return query

    def first(self):
        """The first key and row as a pair, or None."""
        limit, skip = self.window
        return next(self.limit(1 if limit else 0, skip).items(), None)

    @property
    def hint(self):
        """How the library went about it: the index used, or a scan. Runs the query if it has not run yet."""
        if self.last_hint is None:
            self._keys()
        return self.last_hint

    def kwic(self, row, name=None, *, width=32, mark=None, overlap=True, lead=False):
        """Keywords in context: the places of a row that the query's condition on a column found.

        Args:
            row: the row, as `rows` gives it.
            name: a column with a condition; None is that of the first condition.
            width: the bytes of text to show on either side.
            mark: how each keyword is marked: None, "tab" (between two tabs), "control" (STX and ETX), "bracket".
            overlap: whether contexts may overlap.
            lead: give the beginning of the text where no keyword is in it.

        Returns:
            A list of bytes.

        >>> with Table("texts.tct", "n") as t:
        ...     t[b"1"] = {b"text": b"to be or not to be"}
        ...     t.query.col("text").includes("not").kwic(t[b"1"], width=5, mark="bracket")
        [b'e or [not] to b']
        """
        if mark not in _MARKS:
            raise UsageError(f"mark must be one of {', '.join(map(repr, _MARKS))}, not {mark!r}")
        cdef int size = within("width", width, 0, 1 << 20)
        cdef int options = _MARKS[mark] | (0 if overlap else TCKWNOOVER) | (TCKWPULEAD if lead else 0)
        cdef bytes column = b"" if name is None else encoded(name, "column name")
        cdef const char *wanted = NULL if name is None else PyBytes_AS_STRING(column)
        cdef TCMAP *columns = map_of_dict(row)
        cdef TDBQRY *query
        try:
            self.table._enter()
            try:
                forget_errors(self.table.handle.tdb)
                query = self._build([condition[:3] for condition in self.conditions], None, (-1, 0))
                try:
                    return self._taken(tctdbqrykwic(query, columns, wanted, size, options))
                finally:
                    tctdbqrydel(query)
            finally:
                release(self.table.handle)
        finally:
            tcmapdel(columns)


_MARKS = {None: 0, "tab": TCKWMUTAB, "control": TCKWMUCTRL, "bracket": TCKWMUBRCT}


@cython.final
cdef class _Plan:
    """How a query is put to the library so that its answer is right.

    - A list of values that hold blanks or commas, which the library would split, becomes a search for each value
      where an index finds it, and a check of each row elsewhere.
    - An index in whose way values with NUL bytes lie is not used: the library stops at the first of them.
    - Numbers beyond what an index computes are compared row by row.
    """

    cdef Query query
    cdef list searches  # each a list of (name, operation, operand); together they find each row once
    cdef list checks  # (name, values) that a found row must meet
    cdef bint plain  # one search, whose order and limit are the library's

    def __cinit__(self, Query query not None):
        self.query, self.searches, self.checks = query, [[]], []
        for name, operation, operand, values in query.conditions:
            self._add(name, operation, operand, values)
        self.plain = len(self.searches) == 1 and not self.checks and not self._loses_order()

    cdef _add(self, bytes name, int operation, bytes operand, tuple values):
        cdef TDBIDX *index = NULL if operation & (TDBQCNEGATE | TDBQCNOIDX) else self.query.table._index(name)
        cdef bint lexical = index is not NULL and index.type == TDBITLEXICAL
        if values is not None:
            self._add_list(name, operation, operand, values, index if lexical else NULL)
            return
        if lexical and operation == TDBQCSTREQ:
            operation = self._equality(index, operand)
        elif index is not NULL and TDBQCNUMEQ <= operation <= TDBQCNUMOREQ and not fits_index(operand):
            operation |= TDBQCNOIDX
        self._and(name, operation, operand)

    cdef _and(self, bytes name, int operation, bytes operand):
        for search in self.searches:
            search.append((name, operation, operand))

    cdef _add_list(self, bytes name, int operation, bytes operand, tuple values, TDBIDX *index):
        cdef bint split = holds_separator(values)
        if operation & TDBQCNEGATE:
            for value in values:
                self._and(name, TDBQCSTREQ | TDBQCNEGATE, value)
        elif index is NULL or len(self.searches) > 1:
            self.checks.append((name, frozenset(values)))
            if not split:
                self._and(name, TDBQCSTROREQ | TDBQCNOIDX, operand)
        elif split or any([self._tangled(index, value) for value in values]):
            self.searches = [
                [*self.searches[0], (name, self._equality(index, value), value)] for value in values
            ]
        else:
            self._and(name, TDBQCSTROREQ, operand)

    cdef int _equality(self, TDBIDX *index, bytes value) except -1:
        return TDBQCSTREQ | (TDBQCNOIDX if self._tangled(index, value) else 0)

    cdef bint _tangled(self, TDBIDX *index, bytes value) except -1:
        """Whether entries of other values lie among those of `value`."""
        cdef const char *start = PyBytes_AS_STRING(value)
        cdef int size = size_of(value)
        cdef bint found
        if index.name[0] == 0:
            return False
        with nogil:
            found = is_tangled(<TCBDB *>index.db, start, size)
        self.query.table._check_read("search", not io_failure.error, TCEMISC)
        return found

    cdef bint _loses_order(self):
        """Whether the library would forget to sort what it finds equal as numbers by their texts."""
        if self.query.order is None or self.query.order[1] not in (TDBQOSTRASC, TDBQOSTRDESC):
            return False
        return any(name == self.query.order[0] and op == TDBQCNUMEQ for name, op, _ in self.searches[0])


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

    `negate=True` turns the condition round: rows without the column match too, and no index is used. `index=False`
    keeps the library from using an index.
    """

    cdef Query query
    cdef bytes name

    def __cinit__(self, Query query not None, name):
        self.query = query
        self.name = encoded(name, "column name")

    cdef Query _add(self, int operation, bytes operand, object negate, object index, tuple values=None):
        cdef int flags = (TDBQCNEGATE if negate else 0) | (0 if index else TDBQCNOIDX)
        return self.query._where((self.name, operation | flags, operand, values))

    # Texts

    def equals(self, text, *, negate=False, index=True):
        """The value is `text`."""
        return self._add(TDBQCSTREQ, encoded(text, "operand"), negate, index)

    def includes(self, text, *, negate=False, index=True):
        """The value holds `text` somewhere."""
        return self._add(TDBQCSTRINC, encoded(text, "operand"), negate, index)

    def startswith(self, text, *, negate=False, index=True):
        """The value begins with `text`."""
        return self._add(TDBQCSTRBW, encoded(text, "operand"), negate, index)

    def endswith(self, text, *, negate=False, index=True):
        """The value ends with `text`."""
        return self._add(TDBQCSTREW, encoded(text, "operand"), negate, index)

    def one_of(self, texts, *, negate=False, index=True):
        """The value is one of `texts`, an iterable; blanks and commas in them are nothing special."""
        values = listed(texts, "operand")
        return self._add(TDBQCSTROREQ, b" ".join(values), negate, index, values)

    def all_words(self, words_, *, negate=False, index=True):
        """The value holds all these words: a text, or an iterable of words.

        Words are what blanks, control characters and commas separate; they are compared as bytes.
        """
        return self._add(TDBQCSTRAND, words(words_, False), negate, index)

    def any_word(self, words_, *, negate=False, index=True):
        """The value holds at least one of these words: see `all_words`."""
        return self._add(TDBQCSTROR, words(words_, False), negate, index)

    def matches(self, regex, *, ignore_case=False, negate=False, index=True):
        """The value matches a regular expression somewhere: POSIX extended, in the locale of the process.

        Raises:
            UsageError: it does not compile, has back-references, or is so large that it could exhaust the memory.
        """
        return self._add(TDBQCSTRRX, pattern(regex, bool(ignore_case)), negate, index)

    # Numbers

    def num_equals(self, value, *, negate=False, index=True):
        """The value, as a number, is `value`: an int, float, Decimal, or plain decimal text.

        The library compares about 16 digits.
        """
        return self._add(TDBQCNUMEQ, number(value), negate, index)

    def num_gt(self, value, *, negate=False, index=True):
        """The value, as a number, is greater than `value`."""
        return self._add(TDBQCNUMGT, number(value), negate, index)

    def num_ge(self, value, *, negate=False, index=True):
        """The value, as a number, is `value` or greater."""
        return self._add(TDBQCNUMGE, number(value), negate, index)

    def num_lt(self, value, *, negate=False, index=True):
        """The value, as a number, is less than `value`."""
        return self._add(TDBQCNUMLT, number(value), negate, index)

    def num_le(self, value, *, negate=False, index=True):
        """The value, as a number, is `value` or less."""
        return self._add(TDBQCNUMLE, number(value), negate, index)

    def num_between(self, low, high, *, negate=False, index=True):
        """The value, as a number, lies between `low` and `high`, both included, whichever is greater."""
        return self._add(TDBQCNUMBT, number(low) + b" " + number(high), negate, index)

    def num_one_of(self, values, *, negate=False, index=True):
        """The value, as a number, is one of `values`, an iterable of numbers."""
        if isinstance(values, (str, bytes)):
            raise TypeError(f"values must be an iterable of numbers, not {type(values).__name__}")
        numbers = list(dict.fromkeys([number(value) for value in values]))
        if not numbers:
            raise UsageError("values: the list is empty")
        return self._add(TDBQCNUMOREQ, b" ".join(numbers), negate, index)

    # Full text: compared in lower case, without accents, in one width, blanks squeezed; UTF-8 up to U+FFFF

    def fts_phrase(self, text, *, negate=False, index=True):
        """The value holds this text, however it is written: full-text search, which a qgram index serves."""
        return self._add(TDBQCFTSPH, phrase(text), negate, index)

    def fts_all(self, words_, *, negate=False, index=True):
        """The value holds all these words, a text or an iterable, each anywhere in it; at most 32."""
        return self._add(TDBQCFTSAND, fts_words(words_), negate, index)

    def fts_any(self, words_, *, negate=False, index=True):
        """The value holds at least one of these words: see `fts_all`."""
        return self._add(TDBQCFTSOR, fts_words(words_), negate, index)

    def fts(self, expression, *, negate=False, index=True):
        """The value meets an expression: words or "quoted phrases", with && (or a blank) for and, || for or, !! for
        and not; || binds closest."""
        return self._add(TDBQCFTSEX, fts_expression(expression), negate, index)
