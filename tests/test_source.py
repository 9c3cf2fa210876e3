"""The source keeps the direction of its layers, its faces complete, and its promises about what is absent."""

import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What lies directly in the package (pykesto.NAME) -> its layer. A new name fails here until somebody places it.
LAYER = {
    "objects": "objects",
    **dict.fromkeys(["_session", "session", "_rows", "rows", "query", "tokens", "tracked"], "session"),
    "engine": "engine",
    **dict.fromkeys(["store", "_stored"], "store"),
    **dict.fromkeys(["codec", "merging"], "codec"),
    "journal": "journal",
    **dict.fromkeys(["tc", "_tc"], "tc"),
    **dict.fromkeys(["files", "_system", "_locks"], "files"),
    **dict.fromkeys(["errors", "failpoints", "_version"], "errors"),
}
FACES = {
    "__init__",
    "_attempts",
    "_database",
    "database",
    "zodb",
}  # on top: import everything, and nothing below imports them

# Besides itself each layer imports only these. Nothing above `store` knows the engine: it runs on any store.
BELOW = {
    "objects": {"session", "store", "codec", "errors"},
    "session": {"store", "codec", "errors"},
    "engine": {"store", "codec", "journal", "tc", "files", "errors"},
    "store": {"errors"},
    "codec": {"errors"},
    "journal": {"files", "errors"},
    "tc": {"files", "errors"},
    "files": {"errors"},
    "errors": set(),
}

SOURCES = sorted(
    Path(p)
    for end in ("py", "pyi", "pyx", "pxd", "pxi")
    for p in glob(f"pykesto/**/*.{end}", root_dir=ROOT, recursive=True)
)
CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<base>[.\w]+)[ \t]+)?c?import[ \t]+(?:\((?P<block>[^)]*)\)|(?P<line>[^#\n]+))", re.M
)


def part_of(source: Path) -> str:
    """What of the package `source` is in; _tc_rows.pxi is text that _tc.pyx includes."""
    name = Path(source.parts[1]).stem
    return "_" + name.split("_")[1] if source.suffix == ".pxi" and name.startswith("_") else name


def absolute(source: Path, base: str, level: int) -> str:
    """The module that `base`, with `level` leading dots, means in `source`."""
    package = source.parts[: len(source.parts) - level]
    return ".".join([*package, base]).strip(".") if level else base


def imports(source: Path, text: str) -> Iterator[str]:
    """Dotted names of all that `source` imports; for `from a import b` it is a.b, which may be no module."""
    if source.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = absolute(source, node.module or "", node.level)
                yield from (f"{base}.{name.name}" for name in node.names)
    else:
        for match in CYTHON_IMPORT.finditer(text):
            names = [name.split()[0] for name in (match["block"] or match["line"]).split(",") if name.strip()]
            base = match["base"] or ""
            module = base.lstrip(".")
            prefix = absolute(source, module, len(base) - len(module)) + "." if base else ""
            yield from (prefix + name for name in names)


def may_import(source: Path, name: str) -> bool:
    """Whether `source` may import `name`: from elsewhere all, from pykesto only its own layer and those below."""
    top, *inside = name.split(".")
    if top != "pykesto":
        return top != "journal"  # it is imported as pykesto.journal: twice in one process would be two journals
    own = LAYER[part_of(source)]
    return bool(inside) and LAYER.get(inside[0]) in BELOW[own] | {own}


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_each_module_imports_only_its_own_layer_and_those_below(source: Path) -> None:
    part = part_of(source)
    assert part in LAYER or part in FACES, f"{source}: place pykesto.{part} in a layer, in {Path(__file__).name}"
    if part not in FACES:
        wrong = [name for name in imports(source, (ROOT / source).read_text()) if not may_import(source, name)]
        assert not wrong, f"{source} ({LAYER[part]}) may not import {wrong}"


def test_imports_are_found_in_every_spelling() -> None:
    spellings = """
from ..files import sync, lock
from .. import errors
from . import format
import pykesto.engine
"""
    found = ["pykesto.files.sync", "pykesto.files.lock", "pykesto.errors", "pykesto.journal.format", "pykesto.engine"]
    assert list(imports(Path("pykesto/journal/writer.py"), spellings)) == found
    cimports = spellings.replace("import sync, lock", "cimport (\n    sync,\n    lock,\n)").replace(
        "from . im", "from . cim"
    )
    assert list(imports(Path("pykesto/journal/writer.pyx"), cimports)) == found
    writer = Path("pykesto/journal/writer.py")
    assert [may_import(writer, name) for name in found] == [True, True, True, True, False]
    assert not may_import(writer, "pykesto")
    assert not may_import(writer, "pykesto.Error")


FACES_WITH_ALL = [s for s in SOURCES if s.suffix == ".py" and re.search(r"^__all__\b", (ROOT / s).read_text(), re.M)]


@pytest.mark.parametrize("source", FACES_WITH_ALL, ids=str)
def test_each_public_name_is_there_and_documented(source: Path) -> None:
    if "zodb" in source.parts:
        pytest.importorskip("ZODB", reason="it comes with pykesto[zodb]")
    module = importlib.import_module(".".join(source.with_suffix("").parts).removesuffix(".__init__"))
    assert len(set(module.__all__)) == len(module.__all__)
    undocumented = [name for name in module.__all__ if callable(x := getattr(module, name)) and not x.__doc__]
    assert not undocumented


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_nothing_stored_can_run_code(source: Path) -> None:
    forbidden = r"(?<![\w.])(?:eval|exec)\s*\(|^\s*(?:import|from)\s+(?:_?pickle|marshal|shelve|dill|cloudpickle)\b"
    assert not re.search(forbidden, (ROOT / source).read_text(), re.M)


def test_every_package_is_packaged() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {".".join(source.parent.parts) for source in SOURCES if source.name == "__init__.py"}
    assert packages == set(project["tool"]["setuptools"]["packages"])


def test_no_file_names_a_place_on_one_machine() -> None:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    place = re.compile(rb"(?<![\w.])/(?:work|root|tmp/venv)\b")
    files = [path for name in names if name and (path := ROOT / name).is_file()]
    assert files
    assert not [str(path) for path in files if place.search(path.read_bytes())]
