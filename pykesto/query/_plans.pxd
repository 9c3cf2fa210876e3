"""Plans, for compiled modules."""


cdef class Lookup:
    cdef readonly object snapshot
    cdef readonly str table, index
    cdef readonly tuple ranges, covered
    cdef readonly bint repeats
    cdef object _expected


cdef class Both:
    cdef readonly tuple parts, covered
    cdef readonly object expected


cdef class Plan:
    cdef readonly object snapshot, access, keys
    cdef readonly str table
    cdef readonly tuple rest
    cdef object _rows


cdef class Walk:
    cdef readonly object snapshot
    cdef readonly str table, index
    cdef readonly bytes lo, hi, prefix
    cdef readonly tuple covered
    cdef readonly bint joined, complete
    cdef bint is_all_of(self, Plan plan) except -1


cpdef object cheapest(list found, str table, snapshot, keys)
cpdef list conjuncts(condition)
cpdef Plan plain_plan(list parts, str table, snapshot)
cpdef Walk plain_walk(str column, list parts, str table, snapshot)
