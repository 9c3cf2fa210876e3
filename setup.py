"""Compile every .pyx of the package; only the driver links Tokyo Cabinet.

The library guards against opening a file twice with a table inside itself, so two copies
of it in one process would corrupt files: no other module may link it.
"""

from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup


def extension(source: Path) -> Extension:
    name = ".".join(source.with_suffix("").parts)
    return Extension(
        name,
        [str(source)],
        include_dirs=["."],
        libraries=["tokyocabinet"] if name == "pykesto._tc" else [],
        extra_compile_args=["-O2", "-Wall", "-Wno-unused-function"],
    )


setup(
    ext_modules=cythonize(
        # glob follows the symlink pykesto/journal; Path.rglob would not.
        [extension(Path(p)) for p in sorted(glob("pykesto/**/*.pyx", recursive=True))],
        build_dir="build",
        compiler_directives={"language_level": 3, "auto_pickle": False, "autotestdict": False},
    )
)
