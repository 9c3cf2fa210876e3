# How a table is to be opened: what its arguments mean to the library.

_MODES = {
    "r": TDBOREADER,
    "w": TDBOWRITER,
    "c": TDBOWRITER | TDBOCREAT,
    "n": TDBOWRITER | TDBOCREAT | TDBOTRUNC,
}

cdef int64_t MAPPED_BYTES_MAX = 1 << 46  # more than any file: the library cuts a reader's map to the file


cdef int64_t writer_map_bytes(bytes path) except -1:
    """How much of a file that grows is mapped: less where address space is short, since each index is a file too."""
    cdef int64_t size = WRITER_MAP_BYTES
    with suppress(OSError):
        size += os.stat(path).st_size if size else 0
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return size if limit == resource.RLIM_INFINITY else min(size, limit // 64)


cdef int64_t within(str name, object value, int64_t low, int64_t high) except? -1:
    """`value`, an int between `low` and `high`: beyond a C int the library cuts silently."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise UsageError(f"{name} must be between {low} and {high}, not {value}")
    return value


@cython.final
cdef class _Options:
    """The arguments of `Table`, checked."""

    cdef int mode
    cdef int storage  # TDBT flags
    cdef int64_t bnum
    cdef int apow
    cdef int fpow
    cdef int cache_rows
    cdef int cache_leaves
    cdef int cache_nodes
    cdef int64_t map_bytes  # -1: all that there is, and room ahead
    cdef int defrag_steps
    cdef int64_t inverted_bytes
    cdef double inverted_ratio
    cdef object timeout
    cdef _Functions codec

    def __init__(
        self, flag, *, bnum, apow, fpow, large, deflate, bzip, tcbs, codec, lock, timeout, tsync, cache_rows,
        cache_leaves, cache_nodes, map_bytes, defrag_steps, inverted_bytes, inverted_ratio,
    ):
        if flag not in _MODES:
            raise UsageError(f"flag must be 'r', 'w', 'c' or 'n', not {flag!r}")
        if bool(deflate) + bool(bzip) + bool(tcbs) + (codec is not None) > 1:
            raise UsageError("choose one of deflate, bzip, tcbs and codec")
        self.mode = _MODES[flag]
        self.mode |= (TDBOLCKNB if lock else TDBONOLCK) | (TDBOTSYNC if tsync else 0)
        self.bnum = within("bnum", bnum, 0, 1 << 38)
        self.apow, self.fpow = within("apow", apow, -1, 16), within("fpow", fpow, -1, 20)
        self.storage = (
            (TDBTLARGE if large else 0) | (TDBTDEFLATE if deflate else 0) | (TDBTBZIP if bzip else 0)
            | (TDBTTCBS if tcbs else 0) | (0 if codec is None else TDBTEXCODEC)
        )
        self.codec = None if codec is None else _Functions(codec)
        if timeout is not None and not timeout >= 0:
            raise UsageError(f"timeout is a number of seconds, or None to wait for ever, not {timeout!r}")
        self.timeout = timeout
        self.cache_rows = within("cache_rows", cache_rows, 0, 1 << 30)
        self.cache_leaves = within("cache_leaves", cache_leaves, 0, 1 << 30)
        self.cache_nodes = within("cache_nodes", cache_nodes, 0, 1 << 30)
        self.map_bytes = -1 if map_bytes is None else within("map_bytes", map_bytes, 0, MAPPED_BYTES_MAX)
        self.defrag_steps = within("defrag_steps", defrag_steps, 0, 1 << 30)
        self.inverted_bytes = within("inverted_bytes", inverted_bytes, 0, 1 << 40)
        if not 0 <= inverted_ratio <= 1:
            raise UsageError(f"inverted_ratio must be between 0 and 1, not {inverted_ratio!r}")
        self.inverted_ratio = inverted_ratio

    cdef TCTDB *new_table(self, bytes path) except NULL:
        """The library's table with these settings, not opened yet."""
        cdef int64_t map_bytes = self.map_bytes
        if map_bytes < 0:
            map_bytes = writer_map_bytes(path) if self.mode & TDBOWRITER else MAPPED_BYTES_MAX
        cdef TCTDB *tdb = tctdbnew()
        if tdb is NULL:
            raise MemoryError
        tctdbtune(tdb, self.bnum, self.apow, self.fpow, self.storage)
        tctdbsetcache(tdb, self.cache_rows, self.cache_leaves, self.cache_nodes)
        tctdbsetxmsiz(tdb, map_bytes)
        tctdbsetdfunit(tdb, self.defrag_steps)
        tctdbsetinvcache(tdb, self.inverted_bytes, self.inverted_ratio)
        if self.codec is not None:
            tctdbsetcodecfunc(tdb, encode_record, <void *>self.codec, decode_record, <void *>self.codec)
        return tdb
