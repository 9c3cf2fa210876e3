"""Compile every .pyx of the package; only the driver links Tokyo Cabinet.

The library guards against opening a file twice with a table inside itself, so two copies
of it in one process would corrupt files: no other module may link it.

Its static archive is linked where there is one. As Debian builds it the library gives up the processor at every
32nd internal check (its TCMICROYIELD, a debugging aid): on a machine with work to do, each costs a time slice, and
a batch of puts takes five times as long. In an archive that call can be replaced; in a shared library it can't.
So can its system calls, whose failures it overlooks or dies of (pykesto/_tc_io.h), and the calls by which its tables
and indexes use files, whose damage it overlooks or dies of (pykesto/_tc_guard.h).
"""

import os
import shlex
import subprocess
import sysconfig
from glob import glob
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup

WRAPPED = (
    *("sched_yield", "pwrite", "pwrite64", "pread", "pread64", "ftruncate", "ftruncate64", "open", "open64"),
    *("write", "read", "fsync", "msync", "rename", "unlink", "mmap", "mmap64", "munmap", "close"),
    *("regcomp", "regexec", "glob", "glob64"),
    *("malloc", "calloc", "realloc", "free", "tcpathlock", "tcpathunlock", "tcbdbdel"),
    *("tchdbget", "tchdbget3", "tchdbvsiz", "tchdbput", "tchdbout"),
    *("tchdbiterinit2", "tchdbiternext", "tchdbiternext3", "tchdbgetnext3", "tchdbfwmkeys"),
    *("tcmapget3", "tcmapputkeep", "tcbsencode", "tcbsdecode"),
    *("tcbdbput", "tcbdbputcat", "tcbdbputdup", "tcbdbout", "tcbdbget3", "tcbdboptimize"),
    *("tcbdbcurfirst", "tcbdbcurlast", "tcbdbcurjump", "tcbdbcurjumpback", "tcbdbcurnext", "tcbdbcurprev"),
    "tcbdbcurout",
)


def archive() -> str | None:
    """Tokyo Cabinet's static archive, as the compiler would find it."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        found = subprocess.run(
            [*compiler, "-print-file-name=libtokyocabinet.a"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    path = found.stdout.strip()
    return path if os.path.isabs(path) and os.path.exists(path) else None


def tokyo_cabinet() -> dict[str, Any]:
    depends = sorted(glob("pykesto/_tc_*.h"))
    if (path := archive()) is None:
        return {"libraries": ["tokyocabinet"], "depends": depends}
    return {
        "extra_objects": [path],
        "define_macros": [("PYKESTO_TC_ARCHIVE", "1")],
        "extra_link_args": [
            *(f"-Wl,--wrap={call}" for call in WRAPPED),
            "-Wl,--exclude-libs,ALL",
            # By their runtime names: Debian's package brings these, not their headers.
            *("-l:libz.so.1", "-l:libbz2.so.1.0"),
        ],
        "depends": depends,
    }


def extension(source: Path) -> Extension:
    name = ".".join(source.with_suffix("").parts)
    return Extension(
        name,
        [str(source)],
        include_dirs=["."],
        extra_compile_args=["-O2", "-Wall", "-Wno-unused-function"],
        **(tokyo_cabinet() if name == "pykesto._tc" else {}),
    )


setup(
    ext_modules=cythonize(
        # glob follows the symlink pykesto/journal; Path.rglob would not.
        [extension(Path(p)) for p in sorted(glob("pykesto/**/*.pyx", recursive=True))],
        build_dir="build",
        compiler_directives={"language_level": 3, "auto_pickle": False, "autotestdict": False},
    )
)
