# Dates and times: by the days, seconds and microseconds of the calendar; aware ones by instant, and then their zone.

cdef int64_t BIAS_S = 2 * 86400  # keeps instants of local times at the ends of the calendar positive

# Fixed offsets as far from UTC as there are.
cdef object easternmost = timezone(timedelta(days=1, microseconds=-1))
cdef object westernmost = timezone(-timedelta(days=1, microseconds=-1))


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


cdef int64_t seconds_of(x) noexcept:
    """The wall time of a datetime, in seconds since 0001-01-01."""
    cdef int64_t seconds = day_number(datetime_year(x), datetime_month(x), datetime_day(x)) * 86400
    return seconds + datetime_hour(x) * 3600 + datetime_minute(x) * 60 + datetime_second(x)


cdef int64_t seconds_of_day(x) noexcept:
    return time_hour(x) * 3600 + time_minute(x) * 60 + time_second(x)


cdef object moment_of(int64_t seconds, int64_t us, tz, int fold):
    cdef int year = 0, month = 0, day = 0, left
    if not 0 <= seconds <= 315537897599:
        raise _Fault("a datetime is outside the years 1 to 9999")
    civil(seconds // 86400, &year, &month, &day)
    left = <int>(seconds % 86400)
    return datetime_new(year, month, day, left // 3600, left // 60 % 60, left % 60, <int>us, tz, fold)


cdef object clock_of(int64_t seconds, int64_t us, tz, int fold):
    if not 0 <= seconds < 86400:
        raise _Fault("a time is outside its day")
    return time_new(<int>(seconds // 3600), <int>(seconds // 60 % 60), <int>(seconds % 60), <int>us, tz, fold)


cdef int require_zone(tz) except -1:
    if tz is None or type(tz) is timezone:
        return 0
    if type(tz) is not ZoneInfo or tz.key is None or zones.KEY.fullmatch(tz.key) is None:
        raise _Fault(f"a time zone of type {type(tz).__name__} that has no name in the zone database")
    return 0


cdef int put_day(Buffer *out, x) except -1:
    put_byte(out, DATE)
    return put_digits(out, day_number(date_year(x), date_month(x), date_day(x)), 3, False)


cdef int put_moment(Writer *out, x) except -1:
    cdef object tz = datetime_tzinfo(x), offset = None
    cdef int64_t seconds = seconds_of(x), us = datetime_microsecond(x), whole
    if tz is None:
        put_byte(&out.body, DATETIME)
    else:
        put_byte(&out.body, AWARE)
        seconds += BIAS_S
        if tz is not utc:
            require_zone(tz)
            offset = x.utcoffset()
            whole = seconds * MICROS + us - micros_of(offset)
            seconds = whole // MICROS
            us = whole - seconds * MICROS
    put_digits(&out.body, seconds, 5, False)
    put_micros(&out.body, us)
    return put_zone(out, tz, datetime_fold(x), offset)


cdef int put_clock(Writer *out, x) except -1:
    cdef object tz = time_tzinfo(x), offset = None
    cdef int64_t seconds = seconds_of_day(x)
    if tz is not None:
        require_zone(tz)
        offset = x.utcoffset()
    if offset is None:
        # A zone without a date has no offset: Python compares such a time as a naive one.
        put_byte(&out.body, TIME)
    else:
        # As Python does: the microseconds of an offset count for nothing here.
        put_byte(&out.body, AWARE_TIME)
        seconds += BIAS_S - (timedelta_days(offset) * 86400 + timedelta_seconds(offset))
    put_digits(&out.body, seconds, 3, False)
    put_micros(&out.body, time_microsecond(x))
    return put_zone(out, tz, time_fold(x), offset)


cdef int put_span(Buffer *out, x) except -1:
    put_byte(out, TIMEDELTA)
    put_signed(out, <int64_t>timedelta_days(x) * 86400 + timedelta_seconds(x))
    return put_micros(out, timedelta_microseconds(x))


cdef int put_zone(Writer *out, tz, int fold, offset) except -1:
    """The suffix of a time: its zone, the offset that it had, and its fold."""
    cdef int form = 0
    cdef object name = None
    cdef int64_t us = 0, part_us
    if out.keyed:
        return 0
    if tz is utc:
        form = 1
    elif tz is not None:
        us = 0 if offset is None else micros_of(offset)
        name = zone_name(tz)
        form = 4 if type(tz) is ZoneInfo else 3 if name is not None else 2
    if form < 2 and not fold:
        return put_plain(out)
    part_us = us % MICROS
    put_suffix(out, AS_ZONE)
    put_byte(&out.suffixes, 0x10 + fold + 2 * (part_us != 0) + 4 * form)
    if form >= 2:
        put_signed(&out.suffixes, us // MICROS)
        if part_us:
            put_count(&out.suffixes, part_us, False)
    return put_name(&out.suffixes, name) if form >= 3 else 0


cdef object zone_name(tz):
    if type(tz) is ZoneInfo:
        return tz.key
    args = tz.__getinitargs__()
    return args[1] if len(args) == 2 else None


cdef int put_name(Buffer *out, name) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *text = utf8(name, &size)
    put_escaped(out, <const unsigned char *>text, size)
    return put_byte(out, END)


cdef str take_name(Reader *source):
    cdef bytes text = take_escaped(source, -1)
    if take_byte(source) != END:
        raise _Fault("a name does not end")
    return text_of(text)


cdef object take_day(Reader *source):
    cdef uint64_t number = take_digits(source, 3, False)
    cdef int year = 0, month = 0, day = 0
    if number > 3652058:
        raise _Fault("a date is beyond the year 9999")
    civil(<int64_t>number, &year, &month, &day)
    return date_new(year, month, day)


cdef object take_moment(Reader *source, bint aware):
    cdef int64_t seconds = <int64_t>take_digits(source, 5, False), us = take_micros(source)
    if not aware:
        return moment_of(seconds, us, None, 0)
    seconds -= BIAS_S
    if 0 <= seconds <= 315537897599:
        return moment_of(seconds, us, utc, 0)
    # In UTC it lies outside the calendar, but not in the zone that it was written in.
    zone = easternmost if seconds < 0 else westernmost
    us += seconds * MICROS + micros_of(zone.utcoffset(None))
    return moment_of(us // MICROS, us % MICROS, zone, 0)


cdef object take_clock(Reader *source, bint aware):
    cdef int64_t seconds = <int64_t>take_digits(source, 3, False), us = take_micros(source)
    if not aware:
        return clock_of(seconds, us, None, 0)
    seconds -= BIAS_S
    if 0 <= seconds < 86400:
        return clock_of(seconds, us, utc, 0)
    if seconds < 0:
        return clock_of(seconds + 86399, us, easternmost, 0)
    return clock_of(seconds - 86400, us, westernmost, 0)


cdef object take_span(Reader *source):
    cdef int64_t seconds = take_signed(source), us = take_micros(source)
    if not -86399999913600 <= seconds <= 86399999999999:
        raise _Fault("a timedelta is out of range")
    return timedelta_new(<int>(seconds // 86400), <int>(seconds % 86400), <int>us)


cdef object retyped_time(Reader *source, x, int kind):
    """x, in its own zone: the instant and the offset are stored, so that neither depends on the zone's rules."""
    cdef int flags
    cdef int64_t offset = 0, offset_us = 0
    cdef object tz
    if kind == AS_PLAIN:
        return x
    if kind != AS_ZONE:
        raise _Fault(f"a time can't have the suffix {kind:#04x}")
    flags = take_byte(source) - 0x10
    if not 0 <= flags < 20:
        raise _Fault("a time zone is of no known form")
    if flags >= 8:
        offset = take_signed(source)
        if flags & 2:
            offset_us = <int64_t>take_count(source, False)
        if not -86400 < offset + (offset_us > 0) <= 86400 or offset_us >= MICROS or offset == 86400:
            raise _Fault("a time zone is a day or more from UTC")
    tz = take_zone(source, flags >> 2, offset, offset_us)
    if type(x) is datetime:
        return moment_in(x, tz, offset * MICROS + offset_us, flags & 1)
    return clock_in(x, tz, offset, flags & 1)


cdef object take_zone(Reader *source, int form, int64_t offset, int64_t offset_us):
    cdef str name = take_name(source) if form >= 3 else None
    try:
        if form == 1:
            return utc
        if form == 4:
            return zones.named(name)
        return zones.fixed(timedelta_new(0, <int>offset, <int>offset_us), name) if form else None
    except ValueError as error:
        raise _Fault(str(error)) from None


cdef object moment_in(x, tz, int64_t offset_us, int fold):
    cdef int64_t us = datetime_microsecond(x), seconds = seconds_of(x)
    if (datetime_tzinfo(x) is None) != (tz is None):
        raise _Fault("a zone does not belong to its time")
    if tz is not None:
        us += seconds * MICROS + offset_us - micros_of(x.utcoffset())
        seconds = us // MICROS
        us -= seconds * MICROS
    return moment_of(seconds, us, tz, fold)


cdef object clock_in(x, tz, int64_t offset, int fold):
    cdef int64_t us = time_microsecond(x), seconds = seconds_of_day(x)
    cdef bint fixed = type(tz) is timezone
    if (time_tzinfo(x) is not None) != fixed:
        raise _Fault("a zone does not belong to its time")
    if fixed:
        seconds += offset - micros_of(x.utcoffset()) // MICROS
    return clock_of(seconds, us, tz, fold)
