"""Values as bytes: the ordered form of scalars, the plain form of containers, and rows of them.

docs/codec.md is the specification. Decoding imports nothing and runs nothing that the bytes name;
every count and size is held against the bytes that are left before memory is asked for.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport (
    PyDateTime_DATE_GET_FOLD,
    PyDateTime_TIME_GET_FOLD,
    date_day,
    date_month,
    date_year,
    datetime_day,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_second,
    datetime_tzinfo,
    datetime_year,
    import_datetime,
    time_hour,
    time_microsecond,
    time_minute,
    time_second,
    time_tzinfo,
    timedelta_days,
    timedelta_microseconds,
    timedelta_seconds,
)
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.limits cimport INT_MAX
from libc.math cimport floor, frexp, isinf, isnan, ldexp, signbit
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

import datetime as _datetime
from decimal import Decimal as _Decimal
from fractions import Fraction as _Fraction
from uuid import UUID as _UUID, SafeUUID
from zoneinfo import ZoneInfo as _ZoneInfo

from pykesto.codec import exact, zones
from pykesto.errors import CodecError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

import_datetime()

__all__ = [
    "Reference",
    "decode",
    "decode_key",
    "decode_row",
    "encode",
    "encode_key",
    "encode_row",
    "family",
    "family_range",
    "find_column",
    "is_scalar_encoding",
    "pack_columns",
    "parse_columns",
    "prefix_range",
    "range_of",
    "register_container",
]

cdef object Decimal = _Decimal, Fraction = _Fraction, UUID = _UUID, ZoneInfo = _ZoneInfo
cdef object date = _datetime.date, datetime = _datetime.datetime, time = _datetime.time
cdef object timedelta = _datetime.timedelta, timezone = _datetime.timezone, utc = _datetime.timezone.utc
cdef object NoneType = type(None), set_slot = object.__setattr__, unknown_safety = SafeUUID.unknown
cdef object new_uuid = UUID.__new__, from_bytes = int.from_bytes

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
    AS_PLAIN = 0x0F

# Tags of the plain form, below them small ints and above those short strs.
cdef enum:
    P_STR0 = 0x80
    P_NONE = 0xC0
    P_FALSE = 0xC1
    P_TRUE = 0xC2
    P_FLOAT = 0xC3
    P_FLOAT32 = 0xC4
    P_STR = 0xC5
    P_BYTES = 0xC6
    P_UUID = 0xC7
    P_INT1 = 0xC8
    P_LIST = 0xD0
    P_TUPLE = 0xD1
    P_DICT = 0xD2
    P_SET = 0xD3
    P_FROZENSET = 0xD4
    P_BYTEARRAY = 0xD5
    P_COMPLEX = 0xD6
    P_INT = 0xD7
    P_DECIMAL = 0xD8
    P_REFERENCE = 0xD9
    P_ORDERED = 0xDA

cdef object ONE = 1, FRACTION = 100 << 56  # ints of Python: what is done with them does not fit into C
cdef uint64_t MASK56 = (<uint64_t>1 << 56) - 1
cdef int64_t MICROS = 1000000
cdef int64_t BIAS_S = 2 * 86400  # keeps instants of local times at the ends of the calendar positive

# Fixed offsets as far from UTC as there are.
cdef object easternmost = timezone(timedelta(days=1, microseconds=-1)), westernmost = timezone(-timedelta(days=1, microseconds=-1))

cdef dict _containers = {}


class _Fault(Exception):
    """A CodecError in the making: `trail` grows on the way out."""

    def __init__(self, message):
        self.message = message
        self.trail = []


cdef object failed(fault):
    path = "".join(reversed(fault.trail))
    return CodecError(fault.message, path=path)


cdef str step(key):
    cdef str shown
    try:
        shown = repr(key)
    except ValueError:  # an int of too many digits
        shown = f"<{type(key).__name__}>"
    return f"[{shown}]" if len(shown) <= 60 else f"[{shown[:57]}...]"


@cython.final
cdef class Reference:
    """The id of a persistent object, where nobody was asked for the object itself."""

    cdef readonly bytes id

    def __init__(self, bytes id not None):
        if len(id) != 16:
            raise CodecError(f"a reference is an id of 16 bytes, not {len(id)}")
        self.id = id

    def __eq__(self, other):
        return self.id == (<Reference>other).id if type(other) is Reference else NotImplemented

    def __hash__(self):
        return hash((Reference, self.id))

    def __repr__(self):
        return f"Reference({self.id!r})"

    def __reduce__(self):
        return Reference, (self.id,)


def register_container(cls, as_type):
    """Let instances of `cls`, a subclass of a plain container, be stored as that container."""
    if as_type not in (list, dict, set, frozenset, bytearray) or not issubclass(cls, as_type):
        raise TypeError(f"{cls!r} is no subclass of a container that can be stored as {as_type!r}")
    _containers[cls] = as_type


# --- the calendar -------------------------------------------------------------------------------------

cdef int64_t day_number(int year, int month, int day) noexcept:
    """Days since 0001-01-01."""
    cdef int64_t y = year - (month <= 2), era, yoe, doy
    era = y // 400 if y >= 0 else -1
    yoe = y - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 306


cdef void civil(int64_t number, int *year, int *month, int *day) noexcept:
    cdef int64_t z = number + 306, era = z // 146097, doe = z - era * 146097, yoe, doy, mp
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day[0] = <int>(doy - (153 * mp + 2) // 5 + 1)
    month[0] = <int>(mp + 3 if mp < 10 else mp - 9)
    year[0] = <int>(yoe + era * 400 + (month[0] <= 2))


cdef int64_t micros_of(delta) except? -1:
    return (<int64_t>timedelta_days(delta) * 86400 + timedelta_seconds(delta)) * MICROS + timedelta_microseconds(delta)


# --- writing ------------------------------------------------------------------------------------------

@cython.final
@cython.freelist(8)
cdef class _Writer:
    """A growing buffer, and the suffixes of the scalar that is being written."""

    cdef unsigned char *at
    cdef Py_ssize_t used, room
    cdef unsigned char first[256]
    cdef object reference
    cdef int depth
    cdef bint keyed  # a key has no suffixes
    cdef _Writer suffixes
    cdef Py_ssize_t plain  # suffixes that would say nothing, so far

    def __cinit__(self):
        self.at = self.first
        self.room = 256

    def __dealloc__(self):
        if self.at != self.first:
            PyMem_Free(self.at)

    cdef int grow(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t room = self.room
        cdef unsigned char *at
        while room - self.used < more:
            room *= 2
        if self.at == self.first:
            at = <unsigned char *>PyMem_Malloc(room)
            if at != NULL:
                memcpy(at, self.first, self.used)
        else:
            at = <unsigned char *>PyMem_Realloc(self.at, room)
        if at == NULL:
            raise MemoryError
        self.at = at
        self.room = room
        return 0

    cdef inline int need(self, Py_ssize_t more) except -1:
        if self.room - self.used < more:
            self.grow(more)
        return 0

    cdef inline int byte(self, int byte) except -1:
        if self.used == self.room:
            self.grow(1)
        self.at[self.used] = <unsigned char>byte
        self.used += 1
        return 0

    cdef inline int put(self, const void *block, Py_ssize_t size) except -1:
        self.need(size)
        memcpy(self.at + self.used, block, size)
        self.used += size
        return 0

    cdef inline int put_bytes(self, bytes block) except -1:
        return self.put(PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))

    cdef bytes taken(self):
        return PyBytes_FromStringAndSize(<char *>self.at, self.used)

    # Pieces of the ordered form.

    cdef int escaped(self, const unsigned char *text, Py_ssize_t size) except -1:
        """0, 1 and 2 become 2 and one more than they were."""
        cdef Py_ssize_t i, low = 0
        cdef unsigned char *to
        for i in range(size):
            low += text[i] < 3
        if not low:
            return self.put(text, size)
        self.need(size + low)
        to = self.at + self.used
        for i in range(size):
            if text[i] < 3:
                to[0] = 2
                to[1] = text[i] + 1
                to += 2
            else:
                to[0] = text[i]
                to += 1
        self.used += size + low
        return 0

    cdef int digits(self, uint64_t n, int size, bint flip) except -1:
        """n in base 255, big-endian, without zeros."""
        cdef int i
        cdef unsigned char digit
        self.need(size)
        for i in range(size - 1, -1, -1):
            digit = <unsigned char>(n % 255 + 1)
            self.at[self.used + i] = <unsigned char>(256 - digit) if flip else digit
            n //= 255
        self.used += size
        return 0

    cdef int micros(self, int64_t us) except -1:
        if us:
            self.byte(SUFFIXES + <int>(us // 65025))
            self.digits(us % 65025, 2, False)
        return 0

    cdef int signed(self, int64_t n) except -1:
        cdef uint64_t size_of = n if n >= 0 else -n, left = size_of
        cdef int size = 0
        while left:
            size += 1
            left //= 255
        self.byte(0x80 - size if n < 0 else 0x80 + size)
        return self.digits(size_of, size, n < 0)

    cdef int count(self, uint64_t n, bint flip) except -1:
        cdef unsigned char out[12]
        cdef int size = 0, i, shift
        if n < 208:
            return self.byte(0xF0 - <int>n if flip else 0x10 + <int>n)
        while size < 10 and n >> (7 * size):
            size += 1
        out[0] = 0xE0 + size
        for i in range(size):
            shift = 7 * (size - 1 - i)
            out[1 + i] = 0x80 | (n >> shift & 0x7F)
        if flip:
            for i in range(size + 1):
                out[i] = <unsigned char>(256 - out[i])
        return self.put(out, size + 1)

    cdef int groups(self, uint64_t bits, bint flip) except -1:
        """The upper bits of 56, seven to a byte, until the rest is zero."""
        cdef int byte
        while True:
            byte = <int>(bits >> 49 & 0x7F) << 1
            bits = bits << 7 & MASK56
            byte |= bits != 0
            self.byte(256 - byte if flip else byte)
            if not bits:
                return 0

    cdef int whole(self, int64_t n) except -1:
        """The integer part of a number; 0x30 even where it is zero."""
        cdef uint64_t left, span = 255
        cdef int size = 1
        if -16 <= n <= 127:
            return self.byte(<int>n + (0x30 if n >= 0 else 0x2D))
        left = <uint64_t>(n - 128) if n > 0 else <uint64_t>(-17 - n)
        while left >= span and size < 8:
            left -= span
            span *= 255
            size += 1
        self.byte(0xAF + size if n > 0 else 0x1D - size)
        return self.digits(left, size, n < 0)

    cdef int big_integer(self, n) except -1:
        cdef bint negative = n < 0
        cdef object magnitude = -n if negative else n
        cdef Py_ssize_t bits = magnitude.bit_length(), size = (bits + 6) // 7, filled
        cdef bytes block = magnitude.to_bytes((bits + 7) // 8, "big")
        cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(block)
        cdef Py_ssize_t length = PyBytes_GET_SIZE(block), position, i, room
        cdef bint huge = bits > exact.BITS_MAX
        cdef int byte
        cdef unsigned int window
        cdef Py_ssize_t start = length * 8 - bits
        if huge:
            self.byte(NEG_HUGE if negative else HUGE)
            # Not count(size * 7 bits): whole groups, with the first one padded at the left.
            self.count(size, negative)
            start -= size * 7 - bits
        else:
            self.byte(NEG_BIG if negative else BIG)
            self.count(bits - 64, negative)
        self.need(size)
        room = self.used
        filled = 0
        for i in range(size):
            position = start + i * 7
            if position < 0:
                window = at[0] >> (1 - position)
            else:
                window = <unsigned int>at[position >> 3] << 8
                if (position >> 3) + 1 < length:
                    window |= at[(position >> 3) + 1]
                window = window >> (9 - (position & 7)) & 0x7F
            if huge:
                byte = 0x80 | window
            else:
                byte = window << 1 | 1
                if window:
                    filled = i
            self.at[room + i] = <unsigned char>(256 - byte if negative else byte)
        if not huge:
            # The last group that is not zero ends the number.
            self.at[room + filled] += 1 if negative else -1
            size = filled + 1
        self.used += size
        return 0

    cdef inline int is_plain(self) except -1:
        """The number or time just written is what its core says by itself."""
        if self.suffixes is None:
            self.plain += 1
        else:
            self.suffixes.byte(AS_PLAIN)
        return 0

    cdef inline int suffix(self, int kind) except -1:
        cdef Py_ssize_t i
        if self.keyed:
            return 0
        if self.suffixes is None:
            self.suffixes = _Writer()
            for i in range(self.plain):
                self.suffixes.byte(AS_PLAIN)
        return self.suffixes.byte(kind)

    cdef int integer(self, n) except -1:
        cdef int overflow = 0
        cdef int64_t small = PyLong_AsLongLongAndOverflow(n, &overflow)
        if overflow:
            return self.big_integer(n)
        if small == 0:
            return self.byte(ZERO)
        return self.whole(small)

    cdef int real(self, double x) except -1:
        cdef double size = -x if x < 0 else x, part
        cdef int64_t n
        cdef uint64_t bits
        cdef int exponent = 0
        if isnan(x):
            if self.keyed:
                raise _Fault("NaN can't be a key: it equals nothing, itself included")
            self.byte(NAN)
            return self.is_plain()
        if x == 0:
            self.byte(ZERO)
            return self.suffix(AS_NEGATIVE_ZERO if signbit(x) else AS_FLOAT)
        if isinf(x):
            self.byte(NEG_INF if x < 0 else INF)
            return self.is_plain()
        if size >= 9223372036854775808.0:
            if x == -9223372036854775808.0:
                self.whole(<int64_t>x)
                return self.suffix(AS_FLOAT)
            bits = <uint64_t>ldexp(frexp(size, &exponent), 56)
            self.byte(NEG_BIG if x < 0 else BIG)
            self.count(exponent - 64, x < 0)
            self.groups(bits, x < 0)
            return self.suffix(AS_FLOAT)
        if size < 0.015625:
            bits = <uint64_t>ldexp(frexp(size, &exponent), 56)
            self.byte(NEG_SMALL if x < 0 else SMALL)
            self.count(-6 - exponent, x > 0)
            self.groups(bits, x < 0)
            return self.is_plain()
        n = <int64_t>size
        part = size - <double>n
        if part == 0:
            self.whole(-n if x < 0 else n)
            return self.suffix(AS_FLOAT)
        bits = <uint64_t>ldexp(part, 58)
        if x < 0:
            n = -n - 1
            bits = (<uint64_t>1 << 58) - bits
        self.whole(n)
        # Hundredths first, so that prices are short: a quarter of them is lost to no bit, as 100 is 4 times 25.
        bits *= 25
        self.byte(SUFFIXES + 2 * <int>(bits >> 56) + ((bits & MASK56) != 0))
        if bits & MASK56:
            self.groups(bits & MASK56, False)
        return self.is_plain()

    cdef int rational(self, num, den) except -1:
        """num/den in lowest terms, not integral."""
        cdef object size = abs(num), floored
        cdef bint negative = num < 0
        cdef int overflow = 0
        cdef int64_t n
        cdef bytes body
        if size << 6 < den:
            self.byte(NEG_SMALL if negative else SMALL)
            body = exact.small(size, den)
            return self.put_bytes(body.translate(exact.FLIPPED) if negative else body)
        floored = num // den
        n = PyLong_AsLongLongAndOverflow(floored, &overflow)
        if not overflow:
            self.whole(n)
            return self.put_bytes(exact.fraction(num - floored * den, den))
        self.byte(NEG_BIG if negative else BIG)
        body = exact.large(size, den)
        return self.put_bytes(body.translate(exact.FLIPPED) if negative else body)

    cdef int decimal(self, x) except -1:
        cdef object sign, digits, power, num, den
        cdef int64_t n, hundredths, d
        cdef int exponent, i
        sign, digits, power = x.as_tuple()
        if type(power) is str:
            return self.odd_decimal(x, power)
        if not -exact.DIGITS_MAX <= power <= exact.DIGITS_MAX or len(digits) > exact.DIGITS_MAX:
            raise _Fault(f"a Decimal of more than {exact.DIGITS_MAX} digits, or with an exponent beyond that")
        exponent = power
        if not x:
            self.byte(ZERO)
            return self.decimal_suffix(exponent, sign)
        if -2 <= exponent <= 0 and len(digits) <= 16:
            n = 0
            for digit in digits:
                n = n * 10 + <int>digit
            hundredths = n * (100 if exponent == 0 else 10 if exponent == -1 else 1)
            if hundredths >= 2:  # a hundredth itself is below 1/64
                hundredths = -hundredths if sign else hundredths
                n = hundredths // 100
                d = hundredths - n * 100
                self.whole(n)
                if d:
                    self.byte(SUFFIXES + 2 * <int>d)
                if d % 25 and exponent == (-1 if d % 10 == 0 else -2):
                    return self.is_plain()
                return self.decimal_suffix(exponent, False)
        num, den = x.as_integer_ratio()
        if den == 1:
            self.integer(num)
            return self.decimal_suffix(exponent, False)
        self.rational(num, den)
        if digits[-1] and not exact.is_float(num, den):
            return self.is_plain()
        return self.decimal_suffix(exponent, False)

    cdef int decimal_suffix(self, int exponent, bint negative_zero) except -1:
        if self.keyed:
            return 0
        self.suffix(AS_NEGATIVE_DECIMAL if negative_zero else AS_DECIMAL)
        return self.suffixes.count(<uint64_t>(2 * exponent if exponent >= 0 else -2 * exponent - 1), False)

    cdef int odd_decimal(self, x, power) except -1:
        cdef bytes text
        if power == "F":
            self.byte(INF if x > 0 else NEG_INF)
            return self.decimal_suffix(0, False)
        if self.keyed:
            raise _Fault("NaN can't be a key: it equals nothing, itself included")
        self.byte(NAN)
        self.suffix(AS_NAN)
        text = str(x).encode()
        self.suffixes.put_bytes(text)
        return self.suffixes.byte(END)

    cdef int zone(self, tz, int fold, offset) except -1:
        """The suffix of a time: its zone, the offset that it had, and its fold."""
        cdef int form = 0
        cdef str name = None
        cdef int64_t us = 0
        cdef Py_ssize_t size = 0
        cdef const char *text
        if self.keyed:
            return 0
        if tz is not None:
            us = 0 if offset is None else micros_of(offset)
            if tz is utc:
                form = 1
            elif type(tz) is ZoneInfo:
                form, name = 4, tz.key
            else:
                form, name = 2, None
                args = tz.__getinitargs__()
                if len(args) == 2:
                    form, name = 3, args[1]
        if form == 1 and not fold:
            return self.is_plain()
        if form == 0 and not fold:
            return self.is_plain()
        self.suffix(AS_ZONE)
        offset_us = us % MICROS
        seconds = us // MICROS
        self.suffixes.byte(0x10 + fold + 2 * (offset_us != 0) + 4 * form)
        if form >= 2:
            self.suffixes.signed(seconds)
            if offset_us:
                self.suffixes.count(offset_us, False)
        if form >= 3:
            text = utf8(name, &size)
            self.suffixes.escaped(<const unsigned char *>text, size)
            self.suffixes.byte(END)
        return 0

    cdef int checked_zone(self, tz) except -1:
        if tz is None or type(tz) is timezone:
            return 0
        if type(tz) is not ZoneInfo or tz.key is None or zones.KEY.fullmatch(tz.key) is None:
            raise _Fault(f"a time zone of type {type(tz).__name__} that has no name in the zone database")
        return 0

    cdef int moment(self, x) except -1:
        cdef object tz = datetime_tzinfo(x), offset = None
        cdef int64_t seconds, us = datetime_microsecond(x), whole
        seconds = day_number(datetime_year(x), datetime_month(x), datetime_day(x)) * 86400
        seconds += datetime_hour(x) * 3600 + datetime_minute(x) * 60 + datetime_second(x)
        if tz is None:
            self.byte(DATETIME)
        else:
            self.byte(AWARE)
            if tz is not utc:
                self.checked_zone(tz)
                offset = x.utcoffset()
                whole = (seconds + BIAS_S) * MICROS + us - micros_of(offset)
                seconds = whole // MICROS
                us = whole - seconds * MICROS
            else:
                seconds += BIAS_S
        self.digits(seconds, 5, False)
        self.micros(us)
        return self.zone(tz, PyDateTime_DATE_GET_FOLD(x), offset)

    cdef int clock(self, x) except -1:
        cdef object tz = time_tzinfo(x), offset = None
        cdef int64_t seconds = time_hour(x) * 3600 + time_minute(x) * 60 + time_second(x)
        if tz is not None:
            self.checked_zone(tz)
            offset = x.utcoffset()
        if offset is None:
            # A zone without a date has no offset: Python compares such a time as a naive one.
            self.byte(TIME)
        else:
            # As Python does: the microseconds of an offset count for nothing here.
            self.byte(AWARE_TIME)
            seconds += BIAS_S - (timedelta_days(offset) * 86400 + timedelta_seconds(offset))
        self.digits(seconds, 3, False)
        self.micros(time_microsecond(x))
        return self.zone(tz, PyDateTime_TIME_GET_FOLD(x), offset)

    cdef int core(self, x, bint nested) except -1:
        """A scalar, or a tuple of them, in order. Nested ones end by themselves."""
        cdef object t = type(x)
        cdef Py_ssize_t size = 0
        cdef const char *text
        cdef bytes block
        if t is str:
            text = utf8(x, &size)
            self.byte(STR)
            self.escaped(<const unsigned char *>text, size)
        elif t is int:
            self.integer(x)
            self.is_plain()
        elif t is float:
            self.real(x)
        elif x is None:
            self.byte(NONE)
            return 0
        elif t is bool:
            self.byte(0x31 if x else ZERO)
            self.suffix(AS_BOOL)
        elif t is bytes:
            self.byte(BYTES)
            self.escaped(<const unsigned char *>PyBytes_AS_STRING(x), PyBytes_GET_SIZE(x))
        elif t is datetime:
            self.moment(x)
        elif t is date:
            self.byte(DATE)
            return self.digits(day_number(date_year(x), date_month(x), date_day(x)), 3, False)
        elif t is UUID:
            self.byte(ID)
            block = x.bytes
            return self.escaped(<const unsigned char *>PyBytes_AS_STRING(block), 16)
        elif t is tuple:
            return self.tuple_core(<tuple>x)
        elif t is Decimal:
            self.decimal(x)
        elif t is time:
            self.clock(x)
        elif t is timedelta:
            self.byte(TIMEDELTA)
            self.signed(<int64_t>timedelta_days(x) * 86400 + timedelta_seconds(x))
            self.micros(timedelta_microseconds(x))
        elif t is Fraction:
            self.fraction(x)
        else:
            block = self.identity(x)
            self.byte(REFERENCE)
            return self.escaped(<const unsigned char *>PyBytes_AS_STRING(block), 16)
        return self.byte(END) if nested else 0

    cdef int fraction(self, x) except -1:
        cdef object num = x.numerator, den = x.denominator
        if den == 1:
            self.integer(num)
            return self.suffix(AS_FRACTION)
        if num.bit_length() > 32768 or den.bit_length() > 32768:
            raise _Fault("a Fraction of more than 32,768 bits")
        self.rational(num, den)
        if self.keyed or type(exact.canonical(num, den)) is Fraction:
            return self.is_plain()
        return self.suffix(AS_FRACTION)

    cdef int tuple_core(self, tuple x) except -1:
        cdef Py_ssize_t i = 0
        self.deeper()
        self.byte(TUPLE)
        try:
            for i in range(len(x)):
                self.core(x[i], True)
        except _Fault as fault:
            fault.trail.append(f"[{i}]")
            raise
        self.depth -= 1
        return self.byte(END)

    cdef int ordered(self, x) except -1:
        self.suffixes = None
        self.plain = 0
        self.core(x, False)
        if self.suffixes is not None:
            self.put(self.suffixes.at, self.suffixes.used)
        return 0

    cdef bytes identity(self, x):
        """The id of a persistent object."""
        cdef object found = None
        if type(x) is Reference:
            return (<Reference>x).id
        if self.reference is not None and type(x) not in UNORDERED and type(x) not in _containers:
            found = self.reference(x)
        if found is None:
            raise _Fault(refusal(x, self.keyed))
        if type(found) is not bytes or len(<bytes>found) != 16:
            raise TypeError(f"an id must be 16 bytes, not {found!r}")
        return <bytes>found

    cdef int deeper(self) except -1:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise _Fault(f"nested more than {DEPTH_MAX} deep, or within itself")
        return 0

    # The plain form.

    cdef int length(self, Py_ssize_t n) except -1:
        while n >= 0x80:
            self.byte(n & 0x7F | 0x80)
            n >>= 7
        return self.byte(<int>n)

    cdef int sized(self, int tag, const void *block, Py_ssize_t size) except -1:
        self.byte(tag)
        self.length(size)
        return self.put(block, size)

    cdef int plain_integer(self, n) except -1:
        cdef int overflow = 0, size = 1, i
        cdef int64_t small = PyLong_AsLongLongAndOverflow(n, &overflow)
        cdef bytes block
        if overflow:
            block = n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)
            return self.sized(P_INT, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))
        if -32 <= small < 96:
            return self.byte(<int>small + 32)
        while size < 8 and not -(<int64_t>1 << (8 * size - 1)) <= small < <int64_t>1 << (8 * size - 1):
            size += 1
        self.byte(P_INT1 - 1 + size)
        self.need(8)
        for i in range(size - 1, -1, -1):
            self.at[self.used + i] = <unsigned char>(small & 0xFF)
            small >>= 8
        self.used += size
        return 0

    cdef int plain_real(self, double x) except -1:
        cdef float narrow = <float>x
        self.need(9)
        if <double>narrow == x:
            self.at[self.used] = P_FLOAT32
            big_endian_float(narrow, self.at + self.used + 1)
            self.used += 5
        else:
            self.at[self.used] = P_FLOAT
            big_endian_double(x, self.at + self.used + 1)
            self.used += 9
        return 0

    cdef int value(self, x) except -1:
        """Anything, inside a container."""
        cdef object t = type(x)
        cdef Py_ssize_t size = 0
        cdef const char *text
        if t is str:
            text = utf8(x, &size)
            if size < 64:
                self.byte(P_STR0 + <int>size)
                return self.put(text, size)
            return self.sized(P_STR, text, size)
        if t is int:
            return self.plain_integer(x)
        if x is None:
            return self.byte(P_NONE)
        if t is float:
            return self.plain_real(x)
        if t is bool:
            return self.byte(P_TRUE if x else P_FALSE)
        if t is dict or t is list or t is tuple or t is set or t is frozenset:
            return self.container(x, t)
        return self.rare(x, t)

    cdef int rare(self, x, t) except -1:
        cdef bytes block
        cdef Py_ssize_t start, size
        if t is bytes:
            return self.sized(P_BYTES, PyBytes_AS_STRING(x), PyBytes_GET_SIZE(x))
        if t is UUID:
            self.byte(P_UUID)
            return self.put_bytes(x.bytes)
        if t is datetime or t is date or t is time or t is timedelta or t is Fraction:
            return self.wrapped(x)
        if t is Decimal:
            return self.plain_decimal(x)
        if t is bytearray or t is complex or t in _containers:
            return self.container(x, t)
        block = self.identity(x)
        self.byte(P_REFERENCE)
        return self.put_bytes(block)

    cdef int wrapped(self, x) except -1:
        """The ordered form within the plain one, its size before it."""
        cdef _Writer inner = _Writer()
        inner.ordered(x)
        return self.sized(P_ORDERED, inner.at, inner.used)

    cdef int plain_decimal(self, x) except -1:
        cdef object sign, digits, power, coefficient
        cdef bytes block
        cdef int exponent
        sign, digits, power = x.as_tuple()
        if type(power) is str or (sign and not x):
            return self.wrapped(x)
        if not -exact.DIGITS_MAX <= power <= exact.DIGITS_MAX or len(digits) > exact.DIGITS_MAX:
            raise _Fault(f"a Decimal of more than {exact.DIGITS_MAX} digits, or with an exponent beyond that")
        exponent = power
        coefficient = int(x.scaleb(-power, exact.EXACT))
        block = coefficient.to_bytes(coefficient.bit_length() // 8 + 1, "big", signed=True)
        self.byte(P_DECIMAL)
        self.length(2 * exponent if exponent >= 0 else -2 * exponent - 1)
        self.length(PyBytes_GET_SIZE(block))
        return self.put_bytes(block)

    cdef int container(self, x, t) except -1:
        cdef list members
        cdef bytes block
        if t is complex:
            self.byte(P_COMPLEX)
            self.need(16)
            big_endian_double(x.real, self.at + self.used)
            big_endian_double(x.imag, self.at + self.used + 8)
            self.used += 16
            return 0
        t = _containers.get(t, t)
        if t is bytearray:
            block = bytes(x)
            return self.sized(P_BYTEARRAY, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))
        self.deeper()
        if t is dict:
            self.mapping(<dict>x)
        elif t is list:
            self.byte(P_LIST)
            self.sequence(<list>x, len(<list>x), False)
        elif t is tuple:
            self.byte(P_TUPLE)
            self.sequence(x, len(<tuple>x), False)
        else:
            self.byte(P_SET if t is set else P_FROZENSET)
            # Iterated raw: a tracked subclass may have an __iter__ of its own.
            members = list(set.__iter__(x) if t is set else frozenset.__iter__(x))
            self.sequence(members, len(members), True)
        self.depth -= 1
        return 0

    cdef int sequence(self, x, Py_ssize_t size, bint unordered) except -1:
        cdef Py_ssize_t i = 0
        self.length(size)
        try:
            if isinstance(x, list):
                # `reference` may run anything, so the size is looked at anew each time.
                while i < size and i < len(<list>x):
                    self.value((<list>x)[i])
                    i += 1
                if len(<list>x) != size:
                    raise _Fault("the list changed while it was encoded")
            else:
                while i < size:
                    self.value((<tuple>x)[i])
                    i += 1
        except _Fault as fault:
            fault.trail.append("{...}" if unordered else f"[{i}]")
            raise
        return 0

    cdef int mapping(self, dict x) except -1:
        cdef Py_ssize_t size = PyDict_Size(x), position = 0, n = 0
        cdef PyObject *key_at
        cdef PyObject *item_at
        cdef object key = None, item
        self.byte(P_DICT)
        self.length(size)
        try:
            while PyDict_Next(x, &position, &key_at, &item_at):
                key, item = <object>key_at, <object>item_at
                self.value(key)
                self.value(item)
                n += 1
                if PyDict_Size(x) != size or n > size:
                    break
        except _Fault as fault:
            fault.trail.append(step(key))
            raise
        if n != size or PyDict_Size(x) != size:
            raise _Fault("the dict changed while it was encoded")
        return 0

    cdef int top(self, x) except -1:
        """A value by itself: ordered if it can be, else plain."""
        cdef object t = type(x)
        if t is tuple:
            return self.ordered(x) if is_scalar(<tuple>x, 0) else self.container(x, t)
        if t in UNORDERED or t in _containers:
            return self.container(x, t)
        return self.ordered(x)


cdef frozenset UNORDERED = frozenset({list, dict, set, frozenset, bytearray, complex})


cdef bint is_scalar(tuple x, int depth) except -1:
    if depth > DEPTH_MAX:
        raise _Fault(f"nested more than {DEPTH_MAX} deep, or within itself")
    for item in x:
        t = type(item)
        if t is str or t is int:
            continue
        if t is tuple:
            if not is_scalar(<tuple>item, depth + 1):
                return False
        elif t in UNORDERED or t in _containers:
            return False
    return True


cdef const char *utf8(text, Py_ssize_t *size) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, size)
    except UnicodeEncodeError as error:
        raise _Fault(f"a str with a lone surrogate at {error.start} is no text that UTF-8 can hold") from None


cdef str refusal(x, bint keyed):
    cdef object t = type(x)
    name = f"{t.__module__}.{t.__qualname__}" if t.__module__ != "builtins" else t.__qualname__
    if keyed:
        return f"{name} can't be a key or be in one: keys are scalars or tuples of scalars"
    for base in t.__mro__[1:]:
        if base in PLAIN_TYPES:
            return f"{name} would be read back as a plain {base.__name__}; convert it first"
    return f"{name} is no type that can be stored"


cdef frozenset PLAIN_TYPES = frozenset(
    {int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, Decimal, Fraction, UUID,
     date, datetime, time, timedelta}
)


cdef inline void big_endian_double(double x, unsigned char *to) noexcept:
    cdef uint64_t bits
    cdef int i
    memcpy(&bits, &x, 8)
    for i in range(8):
        to[i] = <unsigned char>(bits >> (56 - 8 * i))


cdef inline void big_endian_float(float x, unsigned char *to) noexcept:
    cdef uint32_t bits
    cdef int i
    memcpy(&bits, &x, 4)
    for i in range(4):
        to[i] = <unsigned char>(bits >> (24 - 8 * i))


# --- reading ------------------------------------------------------------------------------------------

@cython.final
@cython.freelist(8)
cdef class _Reader:
    """A place in bytes that someone else keeps alive."""

    cdef const unsigned char *at
    cdef Py_ssize_t pos, end
    cdef object reference
    cdef int depth
    cdef bint lazy  # references stay ids until the tuple around them is whole
    cdef bint referred

    cdef inline int byte(self) except -1:
        if self.pos >= self.end:
            raise _Fault("the bytes end too early")
        self.pos += 1
        return self.at[self.pos - 1]

    cdef inline const unsigned char *take(self, Py_ssize_t size) except NULL:
        if size < 0 or size > self.end - self.pos:
            raise _Fault("the bytes end too early")
        self.pos += size
        return self.at + self.pos - size

    cdef int deeper(self) except -1:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise _Fault(f"nested more than {DEPTH_MAX} deep")
        return 0

    # Pieces of the ordered form.

    cdef bytes unescaped(self, Py_ssize_t wanted):
        """Up to an END or the end of the bytes; or, where `wanted` is not negative, so many bytes."""
        cdef Py_ssize_t stop = self.pos, low = 0, i
        cdef unsigned char byte
        cdef unsigned char *to
        cdef bytes out
        while stop < self.end and stop - self.pos - low != wanted:
            byte = self.at[stop]
            if byte < 3:
                if byte != 2:
                    break
                low += 1
                stop += 1
                if stop == self.end or not 1 <= self.at[stop] <= 3:
                    raise _Fault("a byte is escaped that can't be")
            stop += 1
        if wanted >= 0 and stop - self.pos - low != wanted:
            raise _Fault("the bytes end too early")
        if not low:
            out = PyBytes_FromStringAndSize(<const char *>self.at + self.pos, stop - self.pos)
        else:
            out = PyBytes_FromStringAndSize(NULL, stop - self.pos - low)
            to = <unsigned char *>PyBytes_AS_STRING(out)
            i = self.pos
            while i < stop:
                if self.at[i] == 2:
                    i += 1
                    to[0] = self.at[i] - 1
                else:
                    to[0] = self.at[i]
                to += 1
                i += 1
        self.pos = stop
        return out

    cdef uint64_t digits(self, int size, bint flip) except? 0:
        cdef const unsigned char *at
        cdef uint64_t n = 0
        cdef int i
        if not size:
            return 0
        at = self.take(size)
        for i in range(size):
            if not at[i]:
                raise _Fault("a NUL byte in a number")
            n = n * 255 + ((256 - at[i] if flip else at[i]) - 1)
        return n

    cdef int64_t micros(self) except -1:
        cdef int64_t us
        if self.pos >= self.end or self.at[self.pos] < SUFFIXES:
            return 0
        us = (self.byte() - SUFFIXES) * 65025
        us += self.digits(2, False)
        if us >= MICROS:
            raise _Fault("a second has no so many microseconds")
        return us

    cdef int64_t signed(self) except? -1:
        cdef int size = self.byte() - 0x80
        cdef int64_t n
        if not -7 <= size <= 7:
            raise _Fault("a count of seconds is out of range")
        n = <int64_t>self.digits(-size if size < 0 else size, size < 0)
        return -n if size < 0 else n

    cdef uint64_t count(self, bint flip) except? 0:
        cdef int head = self.byte(), size, i, byte
        cdef uint64_t n = 0
        if flip:
            head = 256 - head
        if 0x10 <= head < 0xE0:
            return head - 0x10
        if not 0xE2 <= head <= 0xE9:
            raise _Fault("a count is out of range")
        for i in range(head - 0xE0):
            byte = self.byte()
            n = n << 7 | ((256 - byte if flip else byte) & 0x7F)
        return n

    cdef uint64_t groups(self, bint flip, bint *goes_on) except? 0:
        cdef uint64_t bits = 0
        cdef int i, byte
        for i in range(8):
            byte = self.byte()
            if flip:
                byte = 256 - byte
            bits |= <uint64_t>(byte >> 1 & 0x7F) << (49 - 7 * i)
            if not byte & 1:
                goes_on[0] = False
                return bits
        goes_on[0] = True
        return bits

    cdef tuple tail(self, bint flip):
        """What goes beyond 56 bits, as a numerator and denominator."""
        cdef bytes rest = PyBytes_FromStringAndSize(<const char *>self.at + self.pos, self.end - self.pos)
        try:
            num, den, size = exact.read_tail(rest.translate(exact.FLIPPED) if flip else rest)
        except ValueError as error:
            raise _Fault(str(error)) from None
        self.pos += size
        return num, den

    cdef object number(self, int tag):
        """The plainest number of the value that follows."""
        cdef int64_t n
        cdef uint64_t left, span = 0, power = 1
        cdef int size, i
        if tag == ZERO:
            return 0
        if 0x1D <= tag < NEG_SMALL:
            n = tag - 0x2D
        elif 0x30 <= tag < 0xB0:
            n = tag - 0x30
        elif 0xB0 <= tag < BIG or 0x15 <= tag < 0x1D:
            size = tag - 0xAF if tag >= 0xB0 else 0x1D - tag
            left = self.digits(size, tag < 0x1D)
            for i in range(size - 1):
                power *= 255
                span += power
            if left > <uint64_t>9223372036854775807 - span - 200:
                if left > <uint64_t>9223372036854775807 - span - (128 if tag >= 0xB0 else 16):
                    raise _Fault("a number is longer than it should be")
            left += span
            n = <int64_t>left + 128 if tag >= 0xB0 else -17 - <int64_t>left
        elif tag == SMALL or tag == NEG_SMALL:
            return self.small(tag == NEG_SMALL)
        elif tag == BIG or tag == NEG_BIG:
            return self.big(tag == NEG_BIG)
        elif tag == HUGE or tag == NEG_HUGE:
            return self.huge(tag == NEG_HUGE)
        elif tag == INF or tag == NEG_INF:
            return float("inf") if tag == INF else float("-inf")
        elif tag == NAN:
            return float("nan")
        else:
            raise _Fault(f"no value begins with the byte {tag:#04x}")
        if self.pos < self.end and self.at[self.pos] >= SUFFIXES:
            return self.with_fraction(n)
        return n

    cdef object with_fraction(self, int64_t n):
        cdef int head = self.byte() - SUFFIXES
        cdef bint goes_on = False
        cdef uint64_t bits = 0, fine
        cdef int64_t size = n
        cdef double part, total
        if head >= 200 or head == 0:
            raise _Fault("a fraction is out of range")
        if head & 1:
            bits = self.groups(False, &goes_on)
        bits |= <uint64_t>(head >> 1) << 56
        if goes_on:
            num, den = self.tail(False)
            return exact.canonical((n * FRACTION + bits) * den + num, FRACTION * den)
        if bits % 25 == 0:
            fine = bits // 25
            if n < 0:
                fine = (<uint64_t>1 << 58) - fine
                size = -(n + 1)
            part = ldexp(<double>fine, -58)
            if size < <int64_t>1 << 53 and <uint64_t>ldexp(part, 58) == fine:
                total = <double>size + part
                if part - (total - <double>size) == 0:
                    return -total if n < 0 else total
        if bits & MASK56 == 0 and -(<int64_t>1 << 56) < n < <int64_t>1 << 56:
            n = n * 100 + (head >> 1)
            if n % 10 == 0:
                return exact.EXACT.scaleb(Decimal(n // 10), -1)
            return exact.EXACT.scaleb(Decimal(n), -2)
        return exact.canonical(n * FRACTION + bits, FRACTION)

    cdef object small(self, bint negative):
        cdef uint64_t shift = self.count(not negative) + 6, bits
        cdef bint goes_on = False
        cdef double x
        if shift > 1 << 17:
            raise _Fault("a number is too small")
        bits = self.groups(negative, &goes_on)
        if not goes_on:
            x = ldexp(<double>bits, -56 - <int>shift)
            if <uint64_t><double>bits == bits and x and ldexp(ldexp(x, <int>shift - 500), 556) == <double>bits:
                return -x if negative else x
            num, den = bits, ONE << (56 + shift)
        else:
            above, below = self.tail(negative)
            num, den = bits * below + above, below << (56 + shift)
        return exact.canonical(-num if negative else num, den)

    cdef object big(self, bint negative):
        cdef uint64_t bits = self.count(negative) + 64
        cdef Py_ssize_t size, i
        cdef int byte
        cdef bint goes_on = True
        if bits > 1 << 17:
            raise _Fault("a number is longer than it should be")
        size = (bits + 6) // 7
        for i in range(size):
            byte = self.byte()
            goes_on = (256 - byte if negative else byte) & 1
            if not goes_on:
                size = i + 1
                break
        whole = gathered(self.at + self.pos - size, size, negative, 1)
        shift = <Py_ssize_t>bits - size * 7
        whole = whole << shift if shift >= 0 else whole >> -shift
        if goes_on:
            num, den = self.tail(negative)
            return exact.canonical(-(whole * den + num) if negative else whole * den + num, den)
        return -whole if negative else whole

    cdef object huge(self, bint negative):
        cdef Py_ssize_t size = <Py_ssize_t>self.count(negative)
        whole = gathered(self.take(size), size, negative, 0)
        return -whole if negative else whole

    cdef object core(self, int tag, bint nested):
        cdef object out
        if tag == STR:
            if nested:
                out = text_of(self.unescaped(-1))
            else:
                out = self.last_text()
        elif SUFFIXES < tag < STR:
            out = self.number(tag)
        elif tag == NONE:
            return None
        elif tag == BYTES:
            out = self.unescaped(-1)
        elif tag == DATETIME or tag == AWARE:
            out = self.moment(tag == AWARE)
        elif tag == DATE:
            return self.day()
        elif tag == ID:
            return uuid_of(self.unescaped(16))
        elif tag == REFERENCE:
            out = Reference(self.unescaped(16))
            if self.lazy:
                self.referred = True
                return out
            return out if self.reference is None else self.reference((<Reference>out).id)
        elif tag == TUPLE:
            return self.tuple_core()
        elif tag == TIME or tag == AWARE_TIME:
            out = self.clock(tag == AWARE_TIME)
        elif tag == TIMEDELTA:
            out = self.span()
        else:
            raise _Fault(f"no value begins with the byte {tag:#04x}")
        if nested and self.byte() != END:
            raise _Fault("a part of a tuple does not end")
        return out

    cdef object last_text(self):
        """A str up to the end of the bytes."""
        cdef Py_ssize_t i
        for i in range(self.pos, self.end):
            if self.at[i] < 3:
                return text_of(self.unescaped(-1))
        i, self.pos = self.pos, self.end
        return text_at(self.at + i, self.end - i)

    cdef object tuple_core(self):
        cdef list out = []
        cdef int tag
        self.deeper()
        try:
            while True:
                tag = self.byte()
                if tag == END:
                    break
                out.append(self.core(tag, True))
        except _Fault as fault:
            fault.trail.append(f"[{len(out)}]")
            raise
        self.depth -= 1
        return tuple(out)

    cdef object ordered(self, int tag):
        """A scalar, or a tuple of them, that fills the bytes; then what its suffixes say."""
        cdef object out
        if tag == TUPLE:
            self.lazy, self.referred = True, False
        out = self.core(tag, False)
        if self.pos != self.end:
            out = self.retyped(out)
            if self.pos != self.end:
                raise _Fault("more bytes follow the value")
        if tag == TUPLE:
            self.lazy = False
            if self.referred and self.reference is not None:
                out = self.resolved(out)
        return out

    cdef object resolved(self, x):
        if type(x) is Reference:
            return self.reference((<Reference>x).id)
        if type(x) is tuple:
            return tuple([self.resolved(item) for item in <tuple>x])
        return x

    cdef object retyped(self, x):
        cdef object t = type(x)
        if t is tuple:
            return tuple([self.retyped(item) for item in <tuple>x])
        if t is int or t is float or t is Decimal or t is Fraction:
            return self.retyped_number(x, self.byte())
        if t is datetime or t is time:
            return self.retyped_time(x, self.byte())
        return x

    cdef object retyped_number(self, x, int kind):
        cdef uint64_t n
        cdef double real
        if kind == AS_PLAIN:
            return x
        if kind == AS_FLOAT and type(x) is int:
            try:
                real = x
            except OverflowError:
                raise _Fault("an int marked as a float is none") from None
            if real == x:
                return real
        elif kind == AS_BOOL and (x == 0 or x == 1):
            return bool(x)
        elif kind == AS_NEGATIVE_ZERO and x == 0:
            return -0.0
        elif kind == AS_FRACTION and (type(x) is not float or not isnan(x) and not isinf(x)):
            return Fraction(x)
        elif kind == AS_NAN and x != x:
            return self.odd_decimal()
        elif kind == AS_DECIMAL or kind == AS_NEGATIVE_DECIMAL:
            n = self.count(False)
            if n > 2 * <uint64_t>exact.DIGITS_MAX:
                raise _Fault("a Decimal's exponent is out of range")
            return self.decimal(x, <int64_t>(n >> 1) if not n & 1 else -<int64_t>(n >> 1) - 1, kind)
        raise _Fault(f"a number can't have the suffix {kind:#04x}")

    cdef object decimal(self, x, int64_t exponent, int kind):
        if kind == AS_NEGATIVE_DECIMAL:
            if x != 0:
                raise _Fault("a negative zero is not zero")
            return Decimal((1, (0,), exponent))
        if x == 0:
            return Decimal((0, (0,), exponent))
        if type(x) is float:
            if x != x:
                raise _Fault("NaN has no exponent")
            if isinf(x):
                return Decimal("Infinity" if x > 0 else "-Infinity")
        try:
            return exact.decimal_of(*x.as_integer_ratio(), exponent)
        except ValueError as error:
            raise _Fault(str(error)) from None

    cdef object odd_decimal(self):
        cdef bytes text = self.unescaped(-1)
        cdef bytes digits = text.removeprefix(b"-").removeprefix(b"s")
        self.byte()
        if digits[:3] != b"NaN" or len(digits) > 3 and not digits[3:].isdigit() or len(digits) > exact.DIGITS_MAX:
            raise _Fault("a Decimal is no NaN")
        return Decimal(text.decode())

    cdef object day(self):
        cdef uint64_t number = self.digits(3, False)
        cdef int year, month, day
        if number > 3652058:
            raise _Fault("a date is beyond the year 9999")
        civil(<int64_t>number, &year, &month, &day)
        return date(year, month, day)

    cdef object moment(self, bint aware):
        cdef int64_t seconds = <int64_t>self.digits(5, False), us = self.micros()
        if not aware:
            return moment_of(seconds, us, None, 0)
        seconds -= BIAS_S
        if 0 <= seconds <= 315537897599:
            return moment_of(seconds, us, utc, 0)
        # In UTC it lies outside the calendar, but not in the zone that it was written in.
        zone = easternmost if seconds < 0 else westernmost
        us += seconds * MICROS + micros_of(zone.utcoffset(None))
        return moment_of(us // MICROS, us % MICROS, zone, 0)

    cdef object clock(self, bint aware):
        cdef int64_t seconds = <int64_t>self.digits(3, False), us = self.micros()
        if not aware:
            return clock_of(seconds, us, None, 0)
        seconds -= BIAS_S
        if 0 <= seconds < 86400:
            return clock_of(seconds, us, utc, 0)
        if seconds < 0:
            return clock_of(seconds + 86399, us, easternmost, 0)
        return clock_of(seconds - 86400, us, westernmost, 0)

    cdef object span(self):
        cdef int64_t seconds = self.signed(), us = self.micros()
        if not -86399999913600 <= seconds <= 86399999999999:
            raise _Fault("a timedelta is out of range")
        return timedelta(seconds // 86400, seconds % 86400, us)

    cdef object retyped_time(self, x, int kind):
        """x, in its own zone: the instant and the offset are stored, so that neither depends on the zone's rules."""
        cdef int flags, form, fold
        cdef int64_t offset = 0, offset_us = 0, seconds, us
        cdef object tz = None, name = None
        if kind == AS_PLAIN:
            return x
        if kind != AS_ZONE:
            raise _Fault(f"a time can't have the suffix {kind:#04x}")
        flags = self.byte() - 0x10
        if not 0 <= flags < 20:
            raise _Fault("a time zone is of no known form")
        form, fold = flags >> 2, flags & 1
        if form >= 2:
            offset = self.signed()
            if flags & 2:
                offset_us = <int64_t>self.count(False)
            if not -86400 < offset + (offset_us > 0) <= 86400 or offset_us >= MICROS or offset == 86400:
                raise _Fault("a time zone is a day or more from UTC")
        if form >= 3:
            name = text_of(self.unescaped(-1))
            self.byte()
        try:
            if form == 1:
                tz = utc
            elif form == 4:
                tz = zones.named(name)
            elif form:
                tz = zones.fixed(timedelta(0, offset, offset_us), name)
        except ValueError as error:
            raise _Fault(str(error)) from None
        if type(x) is datetime:
            us = datetime_microsecond(x)
            seconds = day_number(datetime_year(x), datetime_month(x), datetime_day(x)) * 86400
            seconds += datetime_hour(x) * 3600 + datetime_minute(x) * 60 + datetime_second(x)
            if (datetime_tzinfo(x) is None) != (form == 0):
                raise _Fault("a zone does not belong to its time")
            if form:
                us += (seconds + offset) * MICROS + offset_us - micros_of(x.utcoffset())
                seconds = us // MICROS
                us -= seconds * MICROS
            return moment_of(seconds, us, tz, fold)
        us = time_microsecond(x)
        seconds = time_hour(x) * 3600 + time_minute(x) * 60 + time_second(x)
        if time_tzinfo(x) is None:
            if 0 < form < 4:
                raise _Fault("a zone does not belong to its time")
        else:
            if form == 0 or form == 4:
                raise _Fault("a zone does not belong to its time")
            seconds += offset - micros_of(x.utcoffset()) // MICROS
        return clock_of(seconds, us, tz, fold)

    # The plain form.

    cdef Py_ssize_t length(self) except -1:
        cdef uint64_t n = 0
        cdef int shift = 0, byte
        while True:
            byte = self.byte()
            n |= <uint64_t>(byte & 0x7F) << shift
            if byte < 0x80:
                return <Py_ssize_t>n
            shift += 7
            if shift > 49:
                raise _Fault("a length is out of range")

    cdef Py_ssize_t counted(self, int least) except -1:
        """A number of items, each of which takes at least so many bytes."""
        cdef Py_ssize_t n = self.length()
        if n > (self.end - self.pos) // least:
            raise _Fault("more items are announced than there are bytes")
        return n

    cdef object value(self):
        cdef int tag = self.byte()
        cdef Py_ssize_t size
        if tag < 0x80:
            return tag - 32
        if tag < P_NONE:
            size = tag - P_STR0
            return text_at(self.take(size), size)
        if tag == P_NONE:
            return None
        if tag <= P_TRUE:
            return tag == P_TRUE
        if tag == P_FLOAT:
            return double_at(self.take(8))
        if tag == P_FLOAT32:
            return float_at(self.take(4))
        if tag == P_STR:
            size = self.length()
            return text_at(self.take(size), size)
        if tag == P_BYTES:
            return self.sized()
        if tag == P_UUID:
            return uuid_of(PyBytes_FromStringAndSize(<const char *>self.take(16), 16))
        if tag < P_LIST:
            return self.plain_integer(tag - P_INT1 + 1)
        if tag <= P_COMPLEX:
            return self.container(tag)
        return self.rare(tag)

    cdef bytes sized(self):
        cdef Py_ssize_t size = self.length()
        return PyBytes_FromStringAndSize(<const char *>self.take(size), size)

    cdef object plain_integer(self, int size):
        cdef const unsigned char *at = self.take(size)
        cdef int64_t n = <signed char>at[0]
        cdef int i
        for i in range(1, size):
            n = <int64_t>(<uint64_t>n << 8 | at[i])
        return n

    cdef object rare(self, int tag):
        cdef Py_ssize_t size, end
        cdef uint64_t n
        cdef object out
        if tag == P_INT:
            return from_bytes(self.sized(), "big", signed=True)
        if tag == P_DECIMAL:
            n = <uint64_t>self.length()
            if n > 2 * <uint64_t>exact.DIGITS_MAX:
                raise _Fault("a Decimal's exponent is out of range")
            coefficient = Decimal(from_bytes(self.sized(), "big", signed=True))
            exponent = <int64_t>(n >> 1) if not n & 1 else -<int64_t>(n >> 1) - 1
            return exact.EXACT.scaleb(coefficient, exponent)
        if tag == P_REFERENCE:
            out = PyBytes_FromStringAndSize(<const char *>self.take(16), 16)
            return Reference(out) if self.reference is None else self.reference(out)
        if tag == P_ORDERED:
            size = self.length()
            self.take(size)
            self.pos -= size
            end, self.end = self.end, self.pos + size
            tag = self.byte()
            if tag == TUPLE:
                raise _Fault("a tuple in the ordered form is inside a container")
            out = self.ordered(tag)
            self.end = end
            return out
        raise _Fault(f"no value begins with the byte {tag:#04x}")

    cdef object container(self, int tag):
        cdef object out
        if tag == P_COMPLEX:
            real = double_at(self.take(8))
            return complex(real, double_at(self.take(8)))
        if tag == P_BYTEARRAY:
            return bytearray(self.sized())
        self.deeper()
        if tag == P_DICT:
            out = self.mapping()
        elif tag == P_LIST:
            out = self.items(False)
        elif tag == P_TUPLE:
            out = tuple(self.items(False))
        else:
            out = self.unordered(tag)
        self.depth -= 1
        return out

    cdef list items(self, bint unordered):
        cdef Py_ssize_t n = self.counted(1), i = 0
        cdef list out = []
        try:
            for i in range(n):
                out.append(self.value())
        except _Fault as fault:
            fault.trail.append("{...}" if unordered else f"[{i}]")
            raise
        return out

    cdef object unordered(self, int tag):
        cdef list items = self.items(True)
        try:
            out = set(items) if tag == P_SET else frozenset(items)
        except TypeError as error:
            raise _Fault(f"a member of a set: {error}") from None
        if len(out) != len(items) and self.reference is None:
            raise _Fault("a set has a member twice")
        return out

    cdef dict mapping(self):
        cdef Py_ssize_t n = self.counted(2), i
        cdef dict out = {}
        cdef object key = None
        try:
            for i in range(n):
                key = self.value()
                item = self.value()
                try:
                    out[key] = item
                except TypeError as error:
                    raise _Fault(f"a key: {error}") from None
        except _Fault as fault:
            fault.trail.append(step(key))
            raise
        if len(out) != n and self.reference is None:
            raise _Fault("a dict has a key twice")
        return out

    cdef object top(self):
        cdef int tag = self.byte()
        cdef object out
        if tag < P_LIST:
            return self.ordered(tag)
        if tag > P_COMPLEX:
            raise _Fault(f"no value begins with the byte {tag:#04x}")
        out = self.container(tag)
        if self.pos != self.end:
            raise _Fault("more bytes follow the value")
        return out


cdef object gathered(const unsigned char *at, Py_ssize_t size, bint flip, int shift):
    """The int of groups of seven bits."""
    cdef Py_ssize_t length = (size * 7 + 7) // 8, i, to
    cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
    cdef unsigned char *block = <unsigned char *>PyBytes_AS_STRING(out)
    cdef unsigned int window = 0, byte
    cdef int held = 0
    to = length
    for i in range(size - 1, -1, -1):
        byte = 256 - at[i] if flip else at[i]
        window |= (byte >> shift & 0x7F) << held
        held += 7
        if held >= 8:
            to -= 1
            block[to] = <unsigned char>window
            window >>= 8
            held -= 8
    while to > 0:
        to -= 1
        block[to] = <unsigned char>window
        window >>= 8
    return from_bytes(out, "big")


cdef object text_at(const unsigned char *at, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
    except UnicodeDecodeError:
        raise _Fault("a str is no UTF-8") from None


cdef object text_of(bytes block):
    return text_at(<const unsigned char *>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block))


cdef object uuid_of(bytes block):
    # What UUID(bytes=...) does, without its checks: five times faster.
    cdef object out = new_uuid(UUID)
    set_slot(out, "int", from_bytes(block, "big"))
    set_slot(out, "is_safe", unknown_safety)
    return out


cdef object moment_of(int64_t seconds, int64_t us, tz, int fold):
    cdef int year, month, day, left
    if not 0 <= seconds <= 315537897599:
        raise _Fault("a datetime is outside the years 1 to 9999")
    civil(seconds // 86400, &year, &month, &day)
    left = <int>(seconds % 86400)
    if fold:
        return datetime(year, month, day, left // 3600, left // 60 % 60, left % 60, us, tz, fold=fold)
    return datetime(year, month, day, left // 3600, left // 60 % 60, left % 60, us, tz)


cdef object clock_of(int64_t seconds, int64_t us, tz, int fold):
    if not 0 <= seconds < 86400:
        raise _Fault("a time is outside its day")
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, us, tz, fold=fold)


cdef inline double double_at(const unsigned char *at) noexcept:
    cdef uint64_t bits = 0
    cdef double x
    cdef int i
    for i in range(8):
        bits = bits << 8 | at[i]
    memcpy(&x, &bits, 8)
    return x


cdef inline double float_at(const unsigned char *at) noexcept:
    cdef uint32_t bits = 0
    cdef float x
    cdef int i
    for i in range(4):
        bits = bits << 8 | at[i]
    memcpy(&x, &bits, 4)
    return x


# --- the face -----------------------------------------------------------------------------------------

cdef _Reader reader(const char *data, Py_ssize_t size, reference):
    cdef _Reader out = _Reader.__new__(_Reader)
    out.at = <const unsigned char *>data
    out.end = size
    out.reference = reference
    return out


cdef bytes plain_bytes(data):
    return <bytes>data if type(data) is bytes else bytes(memoryview(data))


def encode(value, reference=None):
    """The bytes of a value: its tag, then what it needs. `reference(obj)` gives an unknown object's id, or None."""
    return bytes_of(value, reference)


cdef bytes bytes_of(value, reference):
    cdef _Writer out = _Writer.__new__(_Writer)
    out.reference = reference
    try:
        out.top(value)
    except _Fault as fault:
        raise failed(fault) from None
    return out.taken()


def decode(data, reference=None):
    """The value of bytes. `reference(id)` makes the object of an id; without it, it is a Reference."""
    cdef bytes block = plain_bytes(data)
    return value_of(PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), reference)


cdef object value_of(const char *data, Py_ssize_t size, reference):
    try:
        return reader(data, size, reference).top()
    except _Fault as fault:
        raise failed(fault) from None


def encode_key(value):
    """The bytes of a key: values that are equal have the same, and their order is the order of values."""
    return key_of(value)


cdef bytes key_of(value):
    cdef _Writer out = _Writer.__new__(_Writer)
    out.keyed = True
    try:
        out.core(value, False)
    except _Fault as fault:
        raise failed(fault) from None
    return out.taken()


def decode_key(data):
    """The plainest of the values that are equal to the key's."""
    cdef bytes block = plain_bytes(data)
    cdef _Reader source = reader(PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), None)
    try:
        out = source.core(source.byte(), False)
        if source.pos != source.end:
            raise _Fault("more bytes follow the key")
    except _Fault as fault:
        raise failed(fault) from None
    return out


def range_of(value):
    """(lo, hi): an encoded scalar e equals the value if and only if lo <= e < hi."""
    if type(value) is float and value != value or type(value) is Decimal and value.is_nan():
        return b"\xbb", b"\xbb"
    lo = key_of(value)
    return lo, lo + (b"\x01" if lo[0] in (STR, BYTES) else b"\x10")


cdef tuple FAMILIES = (
    ("none", 0x10, 0x11),
    ("number", 0x11, NAN),
    ("nan", NAN, NAN + 1),
    ("str", STR, STR + 1),
    ("bytes", BYTES, BYTES + 1),
    ("date", DATE, DATE + 1),
    ("datetime", DATETIME, DATETIME + 1),
    ("aware datetime", AWARE, AWARE + 1),
    ("time", TIME, TIME + 1),
    ("aware time", AWARE_TIME, AWARE_TIME + 1),
    ("timedelta", TIMEDELTA, TIMEDELTA + 1),
    ("uuid", ID, ID + 1),
    ("reference", REFERENCE, REFERENCE + 1),
    ("tuple", TUPLE, TUPLE + 1),
    ("list", P_LIST, P_LIST + 1),
    ("plain tuple", P_TUPLE, P_TUPLE + 1),
    ("dict", P_DICT, P_DICT + 1),
    ("set", P_SET, P_SET + 1),
    ("frozenset", P_FROZENSET, P_FROZENSET + 1),
    ("bytearray", P_BYTEARRAY, P_BYTEARRAY + 1),
    ("complex", P_COMPLEX, P_COMPLEX + 1),
)


def family(data):
    """The name of the family that an encoded value belongs to: values of one family can be compared."""
    cdef int tag = data[0] if len(data) else 0
    for name, lo, hi in FAMILIES:
        if lo <= tag < hi:
            return name
    raise CodecError("no value is encoded so")


def family_range(value):
    """(lo, hi): the bytes of all values of the value's family; for numbers, NaN is left out."""
    cdef int tag
    if type(value) in (int, float, bool, Decimal, Fraction):
        return b"\x11", b"\xbb"
    tag = key_of(value)[0]
    return bytes((tag,)), bytes((tag + 1,))


def prefix_range(prefix):
    """(lo, hi): the bytes of every str, or bytes, that starts with the prefix."""
    if type(prefix) is not str and type(prefix) is not bytes:
        raise CodecError(f"a prefix is a str or bytes, not {type(prefix).__name__}")
    lo = key_of(prefix)
    hi = lo.rstrip(b"\xff")
    return lo, hi[:-1] + bytes((hi[-1] + 1,))


def is_scalar_encoding(data):
    """Whether encoded bytes hold a scalar or a tuple of scalars: what an index can hold."""
    cdef int tag = data[0] if len(data) else 0
    return SUFFIXES <= tag <= TUPLE


# --- rows ---------------------------------------------------------------------------------------------

cdef int put_size(_Writer out, Py_ssize_t n) except -1:
    """Tokyo Cabinet's own number: seven bits a byte, the lowest first, complemented where more follow."""
    if n > INT_MAX:
        raise _Fault(f"{n} bytes; Tokyo Cabinet stores at most {INT_MAX}")
    while n >= 0x80:
        out.byte(~(<int>n & 0x7F) & 0xFF)
        n >>= 7
    return out.byte(<int>n)


cdef inline int take_size(const unsigned char *at, Py_ssize_t *pos, Py_ssize_t end) except -1:
    cdef int64_t n = 0
    cdef int shift = 0
    cdef signed char byte
    while pos[0] < end:
        byte = <signed char>at[pos[0]]
        pos[0] += 1
        if byte >= 0:
            n |= <int64_t>byte << shift
            if n > INT_MAX:
                break
            return <int>n
        n |= <int64_t>(~byte) << shift
        shift += 7
        if shift > 28:
            break
    raise _Fault("a row's sizes are damaged")


cdef struct Column:
    Py_ssize_t name_at
    Py_ssize_t name_size
    Py_ssize_t value_at
    Py_ssize_t value_size


cdef inline int take_column(const unsigned char *at, Py_ssize_t *pos, Py_ssize_t end, Column *column) except -1:
    column.name_size = take_size(at, pos, end)
    column.name_at = pos[0]
    if column.name_size > end - pos[0]:
        raise _Fault("a row ends within a column")
    pos[0] += column.name_size
    column.value_size = take_size(at, pos, end)
    column.value_at = pos[0]
    if column.value_size > end - pos[0]:
        raise _Fault("a row ends within a column")
    pos[0] += column.value_size
    return 0


def pack_columns(columns):
    """A row as Tokyo Cabinet lays it out, from a dict or pairs of name and value."""
    cdef _Writer out = _Writer.__new__(_Writer)
    cdef bytes name, value
    try:
        for name, value in (columns.items() if isinstance(columns, dict) else columns):
            put_size(out, len(name))
            out.put_bytes(name)
            put_size(out, len(value))
            out.put_bytes(value)
    except _Fault as fault:
        raise failed(fault) from None
    return out.taken()


def parse_columns(bytes image not None, Py_ssize_t start=0):
    """The columns of a row as Tokyo Cabinet lays it out, as a dict of bytes."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(image)
    cdef Py_ssize_t pos = start, end = PyBytes_GET_SIZE(image)
    cdef Column column
    cdef dict out = {}
    require_start(start, end)
    try:
        while pos < end:
            take_column(at, &pos, end, &column)
            name = PyBytes_FromStringAndSize(<const char *>at + column.name_at, column.name_size)
            out[name] = PyBytes_FromStringAndSize(<const char *>at + column.value_at, column.value_size)
    except _Fault as fault:
        raise failed(fault) from None
    return out


def find_column(bytes image not None, bytes name not None, Py_ssize_t start=0):
    """The bytes of one column, or None."""
    cdef Py_ssize_t end = PyBytes_GET_SIZE(image)
    require_start(start, end)
    return column_of(PyBytes_AS_STRING(image) + start, end - start, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))


cdef int require_start(Py_ssize_t start, Py_ssize_t end) except -1:
    if not 0 <= start <= end:
        raise CodecError(f"a row can't start at byte {start} of {end}")
    return 0


cdef bytes column_of(const char *image, Py_ssize_t size, const char *name, Py_ssize_t name_size):
    cdef const unsigned char *at = <const unsigned char *>image
    cdef Py_ssize_t pos = 0
    cdef Column column
    try:
        while pos < size:
            take_column(at, &pos, size, &column)
            if column.name_size == name_size and memcmp(at + column.name_at, name, name_size) == 0:
                return PyBytes_FromStringAndSize(<const char *>at + column.value_at, column.value_size)
    except _Fault as fault:
        raise failed(fault) from None
    return None


def encode_row(row, reference=None):
    """A mapping of column names to values, as the image of a row."""
    return image_of(row, reference)


cdef bytes image_of(row, reference):
    cdef _Writer out = _Writer.__new__(_Writer)
    cdef object name = None
    out.reference = reference
    try:
        try:
            for name, value in row.items():
                put_column(out, name, value)
        except _Fault as fault:
            fault.trail.append(step(name))
            raise
    except _Fault as fault:
        raise failed(fault) from None
    return out.taken()


cdef int put_column(_Writer out, name, value) except -1:
    cdef Py_ssize_t size = 0, room, taken, end
    cdef const char *text
    cdef unsigned char number[8]
    if type(name) is not str or not name:
        raise _Fault("a column's name is a str that is not empty")
    text = utf8(name, &size)
    put_size(out, size)
    out.put(text, size)
    # One byte for the value's size, which is not known yet; a longer size moves the value.
    room = out.used
    out.byte(0)
    out.top(value)
    end = out.used
    taken = end - room - 1
    if taken < 0x80:
        out.at[room] = <unsigned char>taken
        return 0
    put_size(out, taken)
    size = out.used - end
    memcpy(number, out.at + end, size)
    memmove(out.at + room + size, out.at + room + 1, taken)
    memcpy(out.at + room, number, size)
    out.used -= 1
    return 0


def decode_row(bytes image not None, reference=None, Py_ssize_t start=0):
    """The image of a row as a dict of column names to values."""
    cdef Py_ssize_t end = PyBytes_GET_SIZE(image)
    require_start(start, end)
    return row_of(PyBytes_AS_STRING(image) + start, end - start, reference)


cdef dict row_of(const char *image, Py_ssize_t size, reference):
    cdef const unsigned char *at = <const unsigned char *>image
    cdef Py_ssize_t pos = 0
    cdef Column column
    cdef _Reader source = reader(image, size, reference)
    cdef dict out = {}
    cdef object name = None
    try:
        while pos < size:
            name = None
            take_column(at, &pos, size, &column)
            name = text_at(at + column.name_at, column.name_size)
            source.pos, source.end = column.value_at, column.value_at + column.value_size
            out[name] = source.top()
    except _Fault as fault:
        if name is not None:
            fault.trail.append(step(name))
        raise failed(fault) from None
    return out
