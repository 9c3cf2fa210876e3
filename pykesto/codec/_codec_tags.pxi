# What the first byte of an encoded value, or of a suffix, says. docs/codec.md has the same in words.

cdef int DEPTH_MAX = 200

# Tags of the ordered form. A byte below SUFFIXES after a core ends it.
cdef enum:
    END = 0x01
    SUFFIXES = 0x10
    NONE = 0x10
    NEG_INF = 0x11
    NEG_HUGE = 0x12
    NEG_BIG = 0x13
    NEG_SMALL = 0x2D
    ZERO = 0x2E
    SMALL = 0x2F
    BIG = 0xB8
    HUGE = 0xB9
    INF = 0xBA
    NAN = 0xBB
    STR = 0xC0
    BYTES = 0xC1
    DATE = 0xC2
    DATETIME = 0xC3
    AWARE = 0xC4
    TIME = 0xC5
    AWARE_TIME = 0xC6
    TIMEDELTA = 0xC7
    ID = 0xC8
    REFERENCE = 0xC9
    TUPLE = 0xCA
    TYPED = 0xCB

# Suffixes: what equal values differ in.
cdef enum:
    AS_BOOL = 0x02
    AS_FLOAT = 0x03
    AS_NEGATIVE_ZERO = 0x04
    AS_DECIMAL = 0x05
    AS_NEGATIVE_DECIMAL = 0x06
    AS_FRACTION = 0x07
    AS_NAN = 0x08
    AS_ZONE = 0x09
    AS_TYPE = 0x0A
    AS_PLAIN = 0x0F

# Tags of the plain form; below them short strs. Containers lie where no ordered form begins.
cdef enum:
    P_INT0 = 0x88  # the int 0; from -8 to 47 there is a tag each
    P_INT_MIN = -8
    P_INT_MAX = 47
    P_NONE = 0xB8
    P_FALSE = 0xB9
    P_TRUE = 0xBA
    P_FLOAT = 0xBB
    P_FLOAT32 = 0xBC
    P_STR = 0xBD
    P_BYTES = 0xBE
    P_UUID = 0xBF
    P_INT1 = 0xC0
    P_INT = 0xC8
    P_DECIMAL = 0xC9
    P_REFERENCE = 0xCA
    P_ORDERED = 0xCB
    P_LIST = 0xCC
    P_TUPLE = 0xCD
    P_DICT = 0xCE
    P_SET = 0xCF
    P_FROZENSET = 0xD0
    P_BYTEARRAY = 0xD1
    P_COMPLEX = 0xD2
    P_RANGE = 0xD3
    P_OWN = 0xD4
    P_EQUAL = 0xD5
    P_RECORD = 0xD6
    P_SHAPE = 0xD7
    P_RECORD0 = 0xE0  # of 0 to 15 keys
    P_LIST0 = 0xF0  # of 0 to 15 items
    SHORT = 0x80  # strs below so many bytes have the size for a tag
    FEW = 16
