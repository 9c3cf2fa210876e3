"""Every system call that pykesto relies on: opening, syncing, allocating, locking, sharing memory.

Files are opened O_CLOEXEC and O_NOFOLLOW. An error of the operating system becomes a `StorageError` that names
the file. Locks are taken through portalocker on dedicated files, which are never deleted: a lock on a file that
someone may unlink protects nothing.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ._locks import EXCLUSIVE, LOOK_AGAIN_S, SHARED, UNLOCK, Mutex, ProcessLock, flock
from ._system import SharedWords, crc32c, file_system_of, pid, write_back
from .errors import ClosedError, LockTimeout, StorageError
from .failpoints import ACTIVE, off

__all__ = [
    "LOOK_AGAIN_S",
    "FileLock",
    "Mutex",
    "ProcessLock",
    "SharedWords",
    "copy_file",
    "crc32c",
    "create_whole",
    "fill_with_zeros",
    "held_open",
    "network_of",
    "open_file",
    "pid",
    "read_at",
    "remove",
    "sync_data",
    "sync_directory",
    "sync_file",
    "translated",
    "write_at",
    "write_back",
]

ZEROS = bytes(1 << 20)
_CLOSED = "the database was closed in this process meanwhile"
_PIECE = 4 << 20
_CANT_COPY = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}  # by the kernel itself

# Kinds of file systems that other machines may change under us (statfs(2), linux/magic.h): locks, shared mappings and
# syncs there are not what they are on a disk of this machine.
NETWORKS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB 2",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x73757245: "Coda",
    0x786F4256: "VirtualBox shared folders",
}


def network_of(path: Path) -> str | None:
    """The name of the network file system that `path` is on; None on a disk of this machine."""
    with translated("look at", path):
        return NETWORKS.get(file_system_of(path))


@contextmanager
def translated(what: str, path: object) -> Iterator[None]:
    """Turn an OSError inside into a StorageError that says what was tried, on what."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"can't {what} {path}: {error.strerror or error}", errno=error.errno, path=str(path)
        ) from error


def open_file(
    path: Path, *, write: bool = True, create: bool = False, exclusive: bool = False, mode: int = 0o600
) -> int:
    """Open a regular file and return its descriptor. A symlink in the last place is refused."""
    flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
    if create:
        flags |= os.O_CREAT
    if exclusive:
        flags |= os.O_EXCL
    with translated("open", path):
        return os.open(path, flags, mode)


def write_at(fd: int, content: bytes, offset: int) -> None:
    """Write all of `content`: a short write is continued, an interrupted one repeated by Python."""
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, or fewer where the file ends."""
    parts = []
    while size > 0:
        part = os.pread(fd, min(size, 1 << 30), offset)
        if not part:
            break
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def fill_with_zeros(fd: int, size: int) -> None:
    """Write zeros, so that later writes there change no metadata and need no space."""
    os.posix_fallocate(fd, 0, size)
    for offset in range(0, size, len(ZEROS)):
        write_at(fd, ZEROS[: size - offset], offset)


def sync_data(fd: int) -> None:
    """fdatasync. A failure is final: the kernel forgets it, and the next call would say success."""
    os.fdatasync(fd)


def sync_file(path: Path) -> None:
    """fsync a file by its path. Of what was written by descriptors that are closed the kernel may hide a failure."""
    with held_open([path]) as sync:
        sync()


@contextmanager
def held_open(paths: Iterable[Path], *, gently: bool = True) -> Iterator[Callable[[], None]]:
    """Descriptors of files, and a call that syncs them: taken while who wrote still has the files open.

    That writing back failed is kept with the file in memory, which may go once nobody has it open.
    """
    with ExitStack() as opened:
        files = []
        for path in paths:
            files.append((path, open_file(path)))
            opened.callback(os.close, files[-1][1])

        def sync() -> None:
            for path, fd in files:
                with translated("sync", path):
                    write_back(fd, os.fstat(fd).st_size, gently=gently)
                    os.fsync(fd)

        yield sync


def sync_directory(path: Path) -> None:
    """fsync a directory, so that the names in it survive a power cut."""
    if ACTIVE and off("directory.sync"):
        return
    with translated("sync directory", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def copy_file(source: Path, target: Path, *, mode: int, before_each: Callable[[], None], gently: bool = True) -> None:
    """Copy a file that nobody writes, a piece at a time, each written back: a sync elsewhere must not wait for all.

    `before_each()` may raise, to give up. Where the file system can share blocks, it does. The copy is synced.
    """
    with translated("copy", source), open(source, "rb") as read, open(target, "wb") as written:
        os.fchmod(written.fileno(), mode)
        size, done = os.fstat(read.fileno()).st_size, 0
        while done < size:
            before_each()
            piece = _copy_piece(read.fileno(), written.fileno(), done, min(_PIECE, size - done))
            if piece == 0:
                raise OSError(errno.EIO, "the file became shorter")
            write_back(written.fileno(), done + piece, done, gently=gently)
            done += piece
        os.fsync(written.fileno())


def _copy_piece(source: int, target: int, offset: int, size: int) -> int:
    """Copy up to `size` bytes to the same place; how many."""
    try:
        return os.copy_file_range(source, target, size, offset, offset)
    except OSError as error:
        if error.errno not in _CANT_COPY:
            raise
    piece = os.pread(source, size, offset)
    write_at(target, piece, offset)
    return len(piece)


def create_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Create or replace a small file so that after any crash it is there whole or as it was."""
    temporary = path.with_name(path.name + ".new")
    remove(temporary)
    fd = open_file(temporary, create=True, exclusive=True, mode=mode)
    try:
        with translated("write", temporary):
            write_at(fd, content, 0)
            if not (ACTIVE and off("whole.sync")):
                os.fsync(fd)
    finally:
        os.close(fd)
    with translated("rename", temporary):
        os.rename(temporary, path)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Unlink a file, if it is there."""
    with translated("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


class FileLock:
    """An advisory lock on a dedicated file, owned by this object's open file description.

    It says nothing to other threads that use the same object. After a fork the child must `close` it, never
    `release` it: the description is shared with the parent, and a release would be the parent's.
    """

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        self.path = path
        self.fd = open_file(path, create=True, mode=mode)

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change the mode of the one held, without waiting; return whether it was got.

        A change of mode that fails may leave no lock at all, as flock(2) says.
        """
        fd = self.fd
        try:
            if fd >= 0:
                flock(fd, SHARED if shared else EXCLUSIVE)
        except BlockingIOError:
            return False
        except OSError as error:
            if self.fd < 0:
                raise ClosedError(_CLOSED, hint="open it again") from error
            raise StorageError(
                f"can't lock {self.path}: {error.strerror}", errno=error.errno, path=str(self.path)
            ) from error
        if fd < 0:
            raise ClosedError(_CLOSED, hint="open it again")
        return True

    def acquire(self, timeout_s: float | None, *, shared: bool = False) -> None:
        """Take a lock that is rarely held, and never for long; LockTimeout after `timeout_s`."""
        began = time.monotonic()
        while not self.try_acquire(shared=shared):
            waited_s = time.monotonic() - began
            if timeout_s is not None and waited_s >= timeout_s:
                raise LockTimeout(self.path.name, holder_pid=0, waited_s=waited_s)
            time.sleep(LOOK_AGAIN_S)  # the kernel offers no bounded wait for flock

    def release(self) -> None:
        """Give the lock back; closed, it is given back already."""
        fd = self.fd
        if fd >= 0:
            flock(fd, UNLOCK)

    def close(self) -> None:
        """Close the descriptor; what it held is free, unless a forked process shares it."""
        fd, self.fd = self.fd, -1  # first: another thread must not lock what has its number next
        if fd >= 0:
            os.close(fd)
