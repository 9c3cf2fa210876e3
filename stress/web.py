"""Steps that come as requests to an application under gunicorn. Its handle is opened before its workers are forked."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pykesto

from .records import Notes, tell
from .worker import LOCK_TIMEOUT_S, Task, begin_process, parent_lives, run_guarded
from .workloads import LOGGED

WORKERS = 2
SOCKET = "gunicorn.sock"
REFUSED, NO_ANSWER = "503 Refused", "504 Unknown"
SIMPLE = ("bank", "counters", "unique", "graph", "indexes")  # what they do can be said in JSON


def available() -> bool:
    return importlib.util.find_spec("gunicorn") is not None


class Application:
    """WSGI: a POST of what a step is to do commits it, and answers its number."""

    def __init__(self, database: Path, options: dict[str, Any]) -> None:
        self.db = pykesto.open(database, create=False, lock_timeout=LOCK_TIMEOUT_S, **options)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = json.load(environ["wsgi.input"])
        try:
            status = "200 OK"
            answer: dict[str, Any] = {"version": self._commit(tuple(asked["step"]), asked["said"])}
        except pykesto.UniqueViolation:
            status, answer = "200 OK", {"version": 0}
        except pykesto.CorruptionError:
            raise
        except (pykesto.StorageError, pykesto.LockTimeout) as error:
            status, answer = REFUSED, {"error": str(error)}
        except pykesto.CommitUnknown as error:
            status, answer = NO_ANSWER, {"error": str(error)}
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def _commit(self, step: tuple[int, int], said: dict[str, Any]) -> int:
        for attempt in self.db.attempts(10_000):
            with attempt as s:
                LOGGED[said["workload"]].act(s, step, said)
                s.table("log")[step] = said
        assert attempt.version
        return attempt.version


def application() -> Application:
    """What gunicorn is told to load, in its master: the handle is opened there."""
    database, options = json.loads(os.environ["STRESS_WEB"])
    return Application(Path(database), options)


def start_server(task: Task) -> subprocess.Popen[bytes]:
    """A gunicorn of our own, killed with us. It and we begin in the directory of the socket, whose path may be long."""
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--bind", f"unix:{SOCKET}"]
    command += ["--no-control-socket"] if _has_control_socket() else []
    root = str(Path(__file__).parents[1])
    more = {
        "STRESS_WEB": json.dumps([str(task.database), task.open_options]),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    os.chdir(task.records)
    with open("gunicorn.log", "wb") as log:
        return subprocess.Popen(
            [*command, "--worker-tmp-dir", str(task.records), "stress.web:application()"],
            env=os.environ | more,
            stdout=log,
            stderr=log,
        )


def workers_below(pid: int) -> list[int]:
    """The pids of those that answer the requests of a client."""
    return [worker for master in _children(pid) for worker in _children(master)]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []


def _has_control_socket() -> bool:
    from gunicorn.config import KNOWN_SETTINGS

    return any("--no-control-socket" in (setting.cli or ()) for setting in KNOWN_SETTINGS)


class Connection(http.client.HTTPConnection):
    """HTTP over the server's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def run_client(task: Task) -> None:
    """Start the server and send one step after another; after one without an answer go on under another number."""
    begin_process(task)

    def work() -> None:
        chance, incarnation, server = random.Random(task.seed), 0, start_server(task)
        while parent_lives():
            if server.poll() is not None:
                tell(task.records, "web", f"gunicorn ended with {server.poll()}: {Path('gunicorn.log').read_text()}")
                return
            number = (task.number * 10_000 + incarnation) * 1_000_000_000_000_000
            incarnation += 1
            send_steps(replace(task, number=number), chance)
            time.sleep(0.05)
        server.kill()

    run_guarded(task, f"client-{task.number}", work)


def send_steps(task: Task, chance: random.Random) -> None:
    """Until a request fails, or has no answer: then nobody knows whether it was committed."""
    notes: Notes | None = None
    connection = Connection("localhost", timeout=LOCK_TIMEOUT_S)
    names = [name for name in SIMPLE if name in task.workloads] or ["bank"]
    for count in itertools.count(1):
        workload, began = chance.choice(names), time.monotonic_ns()
        said = {"workload": workload, "serializable": task.open_options.get("isolation") != "snapshot"}
        said |= LOGGED[workload].choose(chance)
        try:
            connection.request("POST", "/", json.dumps({"step": [task.number, count], "said": said}))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return
        if problem := _problem(response.status, answer, faulty=task.faulty):
            tell(task.records, f"client-{task.number}", problem)
        if response.status not in (200, int(REFUSED[:3])) or not parent_lives():
            return
        notes = notes or Notes(task.records / f"acknowledged-{task.kind}-{task.number}")
        now = time.monotonic_ns()
        notes.write(f"{count} {answer.get('version', 0)} 0 {(now - began) // 1000} {now // 1_000_000}")


def _problem(status: int, answer: dict[str, Any], *, faulty: bool) -> str:
    if status == 500 or (status != 200 and not faulty):
        return f"a request was answered by {status}: {answer.get('error', 'see gunicorn.log')}"
    return ""
