# Operands of conditions: what the library would cut, split or misread is refused here, or written so that it doesn't.

cdef object _NUMBER = re.compile(rb"\+?(-?[0-9]+(\.[0-9]*)?)")
cdef object _SEPARATOR = re.compile(rb"[\x00-\x20,]")  # where the library cuts values and lists into words
cdef int _DIGITS_MAX = 400
cdef int _FTS_WORDS_MAX = 32  # the library leaves out what is beyond
cdef object _FTS_WORD = re.compile(rb'"[^"]*"?|[^ "]+')


cdef bytes number(object value):
    """A number as the library reads it: digits and a point. It knows no exponents: '1e3' would be 1."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        decimal = Decimal(repr(value) if isinstance(value, float) else value)
        if not decimal.is_finite() or abs(decimal.adjusted()) > _DIGITS_MAX:
            raise UsageError(f"{value!r} is no number that Tokyo Cabinet knows")
        return format(decimal, "f").encode()
    found = _NUMBER.fullmatch(encoded(value, "operand"))
    if not found:
        raise UsageError(f"operand {value!r} is not a plain decimal number")
    return found[1]


cdef bint fits_index(bytes operand) except -1:
    """Whether a decimal index, which computes in 64 bits, finds the place of these numbers."""
    return all(sorts_as_read(PyBytes_AS_STRING(text), <int>len(text)) for text in operand.split())


cdef tuple listed(object values, str what):
    """The values of a list; a single text in its place is a mistake."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{what} must be an iterable of str or bytes, not {type(values).__name__}")
    cdef tuple texts = tuple(dict.fromkeys([encoded(value, what) for value in values]))
    if not texts:
        raise UsageError(f"{what}: the list is empty")
    return texts


cdef bint holds_separator(tuple texts) except -1:
    return any(not text or _SEPARATOR.search(text) for text in texts)


cdef bytes words(object given, bint normalizing):
    """Words for the library's lists, from a text or an iterable of words."""
    cdef tuple texts
    if isinstance(given, (str, bytes)):
        text = encoded(given, "words")
        texts = tuple([word for word in _SEPARATOR.split(text) if word])
    else:
        texts = listed(given, "words")
    if normalizing:
        texts = tuple([normalized(word) for word in texts])
    if not texts or holds_separator(texts):
        raise UsageError(f"words: {given!r} holds no word, or one with a blank, comma or control character")
    return b" ".join(texts)


cdef bytes normalized(bytes text):
    """As full-text search compares: lower case, without accents, in one width; UTF-8 up to U+FFFF."""
    cdef char *buffer = <char *>calloc(1, len(text) * 3 + 1)
    if buffer is NULL:
        raise MemoryError
    try:
        memcpy(buffer, PyBytes_AS_STRING(text), len(text))
        if tcstrutfnorm(buffer, TCUNSPACE | TCUNLOWER | TCUNNOACC | TCUNWIDTH) is NULL:
            raise MemoryError
        return <bytes>buffer
    finally:
        free(buffer)


cdef bytes phrase(object text):
    cdef bytes operand = encoded(text, "text")
    if not normalized(operand):
        raise UsageError(f"text {text!r} holds nothing that full-text search compares")
    return operand


cdef bytes fts_words(object given):
    cdef bytes operand = words(given, True)
    if operand.count(b" ") >= _FTS_WORDS_MAX:
        raise UsageError(f"more than {_FTS_WORDS_MAX} words; Tokyo Cabinet leaves out the rest")
    return operand


cdef bytes fts_expression(object text):
    cdef bytes operand = phrase(text)
    parts = _FTS_WORD.findall(normalized(operand))
    operators = (b"&&", b"||", b"!!")
    if any(a in operators and b in operators for a, b in zip([b"&&", *parts], [*parts, b"&&"])) or b'""' in parts:
        raise UsageError(f"expression {text!r} has an operator without words on both sides, or an empty word")
    if len([part for part in parts if part not in operators]) > _FTS_WORDS_MAX:
        raise UsageError(f"more than {_FTS_WORDS_MAX} words; Tokyo Cabinet leaves out the rest")
    return operand


# --- Regular expressions: the C library's compiler runs out of memory or stack on some ------------------------------

cdef int _PATTERN_BYTES_MAX = 1000
cdef int _PATTERN_DEPTH_MAX = 50
cdef int _PATTERN_REPEATS_MAX = 1000
cdef object _REPEAT = re.compile(rb"\{([0-9]*),?([0-9]*)\}")


cdef bytes pattern(object text, bint ignore_case):
    """A regular expression as the library takes it: a star in front ignores case."""
    cdef bytes expression = encoded(text, "pattern")
    if len(expression) > _PATTERN_BYTES_MAX:
        raise UsageError(f"pattern of {len(expression)} bytes; at most {_PATTERN_BYTES_MAX}")
    if expression.count(b"(") > _PATTERN_DEPTH_MAX:
        raise UsageError(f"pattern {text!r} has more than {_PATTERN_DEPTH_MAX} groups")
    copies = 1
    for low, high in _REPEAT.findall(expression):
        copies *= max(int(low or 1), int(high or 1), 1)
    if copies > _PATTERN_REPEATS_MAX:
        raise UsageError(f"pattern {text!r} repeats more than {_PATTERN_REPEATS_MAX} times; each is a copy in memory")
    if re.search(rb"\\[1-9]", expression):
        raise UsageError(f"pattern {text!r} has a back-reference, which may take for ever")
    if expression.startswith(b"*"):
        raise UsageError(f"pattern {text!r} begins with a star", hint="ignore_case=True ignores case")
    check_pattern(expression)
    return (b"*" if ignore_case else b"") + expression


cdef int check_pattern(bytes expression) except -1:
    """The library takes a pattern that does not compile for one that matches nothing."""
    cdef regex_t compiled
    cdef char message[200]
    cdef int code = regcomp(&compiled, PyBytes_AS_STRING(expression), REG_EXTENDED | REG_NOSUB)
    if code == 0:
        regfree(&compiled)
        return 0
    regerror(code, &compiled, message, sizeof(message))
    raise UsageError(f"pattern {expression!r}: {(<bytes>message).decode('utf-8', 'replace')}")
