"""Time zones by name: looked up in the system's database, never imported."""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

__all__ = ["KEY", "fixed", "named"]

# Nothing that could walk out of the zone database or its package.
KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


def fixed(offset: timedelta, name: str | None) -> tzinfo:
    """A fixed offset. ValueError: a day or more."""
    return timezone(offset) if name is None else timezone(offset, name)


def named(key: str) -> tzinfo:
    """The zone of an IANA key. ValueError: there is none here."""
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no time zone")
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, LookupError, ImportError) as error:
        raise ValueError(f"time zone {key!r} is unknown here") from error
