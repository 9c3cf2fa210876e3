"""Rows behind checksums, for compiled modules."""

from pykesto._stored cimport Row


cpdef Row unpack_row(bytes key, bytes raw, table)
