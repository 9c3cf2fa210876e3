"""A database that is closed while other threads, or the very call that a signal interrupts, are at work on it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pykesto

PATIENCE_S = 60.0
THREADS = """
import sys, threading, time, pykesto
for _ in range(4):
    db = pykesto.open(sys.argv[1], durability=sys.argv[2])
    def work(own):
        try:
            while True:
                with db.transaction() as s:
                    s.table("rows")[own] = {"n": 1}
        except pykesto.Error:
            pass
    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    db.close()
    for thread in threads:
        thread.join()
"""
HANDLER = """
import signal, sys, pykesto
for _ in range(6):
    db = pykesto.open(sys.argv[1])
    signal.signal(signal.SIGALRM, lambda *_: db.close())
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        while True:
            with db.session() as s:
                s.version
    except pykesto.Error:
        pass
"""
INTERRUPTED = """
import os, signal, sys, pykesto
db = pykesto.open(sys.argv[1], durability="full")
calls = 0
def interrupted(*arguments, call=getattr(os, sys.argv[2])):
    global calls
    calls += 1
    call(*arguments)
    if calls == int(sys.argv[3]):
        signal.raise_signal(signal.SIGALRM)  # in another thread: the main one handles it, wherever it is
signal.signal(signal.SIGALRM, lambda *_: db.close())
setattr(os, sys.argv[2], interrupted)
try:
    for number in range(10_000):
        with db.transaction() as s:
            s.table("rows")[number] = {"text": "x" * 3000}
        db.checkpoint()
except pykesto.ClosedError:
    pass
"""
WRITER = """
import sys, pykesto
db = pykesto.open(sys.argv[1], durability="process")
print("begun", flush=True)
while True:
    with db.transaction() as s:
        s.table("rows")[1] = {"text": "x" * 3000}
"""
OPENING = """
import signal, sys, threading, time, pykesto
from pykesto.journal import segments
db = pykesto.open(sys.argv[1])
with db.transaction() as s:
    s.table("rows")[1] = {"n": 1}
kept = db._attached().store.segments
kept.let_go_before(1 << 40)
checkpoint = threading.Thread(target=db.checkpoint)
def is_waiting():
    frame = sys._current_frames().get(checkpoint.ident)
    return frame is not None and frame.f_code is segments.Segments.get.__code__
def interrupted(self, number, load=segments.Segments._load):
    if threading.current_thread() is threading.main_thread():
        checkpoint.start()
        while not is_waiting():
            time.sleep(0.001)
        signal.raise_signal(signal.SIGALRM)
    return load(self, number)
segments.Segments._load = interrupted
signal.signal(signal.SIGALRM, lambda *_: db.close())
threading.excepthook = lambda args: None if issubclass(args.exc_type, pykesto.Error) else sys.__excepthook__(*args[:3])
kept.get(1)
checkpoint.join()
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.mark.parametrize("durability", ["process", "full"])
def test_closing_while_threads_commit_ends_their_sessions_and_no_process(tmp_path: Path, durability: str) -> None:
    with pykesto.open(tmp_path / "db.kesto"):  # so that none of them is the last to close
        for _ in range(4):
            ended = subprocess.run(
                python(THREADS, tmp_path / "db.kesto", durability), capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert (ended.returncode, ended.stderr) == (0, "")


def test_a_signal_handler_may_close_while_the_journal_is_followed(tmp_path: Path) -> None:
    writer = subprocess.Popen(python(WRITER, tmp_path / "db.kesto"), stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == "begun\n"
        for _ in range(4):
            ended = subprocess.run(
                python(HANDLER, tmp_path / "db.kesto"), capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert (ended.returncode, ended.stderr) == (0, "")
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()


def test_a_signal_handler_may_close_what_a_checkpoint_needs_a_segment_of_that_it_interrupts(tmp_path: Path) -> None:
    ended = subprocess.run(python(OPENING, tmp_path / "db.kesto"), capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("call", ["rename", "fsync"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_signal_handler_may_close_in_the_midst_of_a_commit_or_a_checkpoint(
    tmp_path: Path, call: str, times: int
) -> None:
    ended = subprocess.run(
        python(INTERRUPTED, tmp_path / "db.kesto", call, times), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    with pykesto.open(tmp_path / "db.kesto", create=False) as db:
        assert db.check().problems == ()
