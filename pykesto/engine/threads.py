"""Threads that work in the background. What asks for them has committed, and must not fail any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

_log = logging.getLogger("pykesto")


class Daemon:
    """A thread that begins with the first wish, and does its work once more for all wishes that come meanwhile.

    A signal handler may interrupt a wish, and close: therefore no Event, whose lock it would wait for.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name, self._work = name, work
        self.closing = False
        self._wishes: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def want(self) -> bool:
        """Have the work done soon; whether there is a thread that will, or none is needed any more."""
        if self.closing:
            return True
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = self._begun()
        self.ask()
        return self._thread is not None

    def ask(self) -> None:
        """Leave a wish for the thread, if there is one."""
        if self._wishes.empty():
            self._wishes.put(None)

    def _begun(self) -> threading.Thread | None:
        """A thread that has begun, or None where the system gives no further one."""
        try:
            thread = threading.Thread(target=self._run, name=f"pykesto {self.name}", daemon=True)
            thread.start()
        except (RuntimeError, MemoryError) as error:
            _log.warning("there is no thread for the pykesto %s, which has to wait: %s", self.name, error)
            return None
        return thread

    def _run(self) -> None:
        while True:
            self._wishes.get()  # what is wanted during the work is done after it
            if self.closing:
                return
            self._work()

    def close(self, patience_s: float) -> None:
        """End the thread; the work in its midst may finish, if that does not take long."""
        self.closing = True
        self.ask()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience_s)
