"""Threads that work in the background. What asks for them has committed, and must not fail any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("pykesto")


def start_daemon(run: Callable[[], None], name: str) -> threading.Thread | None:
    """A thread that has begun, or None where the system gives no further one."""
    try:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
    except (RuntimeError, MemoryError) as error:
        _log.warning("there is no thread for the %s, which has to wait: %s", name, error)
        return None
    return thread
