"""A handle of a database, for compiled modules."""


cdef class DatabaseCore:
    cdef public object _options, _attachment, _catalog
    cdef public bint _closed
    cdef public long _contended  # how many transactions more stand in line before they begin
    cdef object _path
    cdef dict _others  # options that differ from the handle's, by how they do
    cdef object attached(self)
    cdef object options_of(self, read_only, isolation, durability, token_key)
    cdef object begun(self, options, note, bint managed)
