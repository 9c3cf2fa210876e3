"""Every example runs: the README, the tutorial, and the docstrings of what is public."""

from __future__ import annotations

import doctest
import importlib
import multiprocessing
import os
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTED = [
    "pykesto._database",
    "pykesto.database",
    "pykesto._session",
    "pykesto._rows",
    "pykesto.rows",
    "pykesto.objects.blobs",
    "pykesto.objects.containers",
    "pykesto.objects.events",
    "pykesto.objects.evolution",
    "pykesto.objects.fields",
    "pykesto.objects.life",
    "pykesto.objects.persistent",
    "pykesto.objects.plain",
    "pykesto.objects.session",
    "pykesto.query.aggregates",
    "pykesto.query.expressions",
    "pykesto.query.query",
    "pykesto.tc",
]


def blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)


def run_in(directory: Path, function: object, *args: object) -> int | None:
    """Run a function in a process of its own, with its own directory and classes; its exit code."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=(directory, *args))  # type: ignore[arg-type]
    process.start()
    process.join(60)
    return process.exitcode


def run_document(directory: Path, document: str) -> None:
    os.chdir(directory)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(document)):
        exec(compile(block, f"{document} block {number + 1}", "exec"), names)


def run_first(directory: Path) -> None:
    os.chdir(directory)
    runpy.run_path(str(ROOT / "examples" / "first.py"), run_name="__main__")


@pytest.mark.parametrize(
    "document",
    ["README.md", "docs/coming-from.md", "docs/tutorial.md", "docs/driver.md", "docs/isolation.md", "docs/queries.md"],
)
def test_the_examples_of_a_document_run_as_they_stand(document: str, tmp_path: Path) -> None:
    assert blocks(document), f"{document} has no example"
    assert run_in(tmp_path, run_document, document) == 0


def test_the_example_for_zodb_runs_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("ZODB")
    assert run_in(tmp_path, run_document, "docs/zodb.md") == 0


def test_the_first_program_of_the_readme_is_the_one_in_examples() -> None:
    assert blocks("README.md")[0] == (ROOT / "examples" / "first.py").read_text()


def test_the_first_program_runs_in_several_processes_at_once(tmp_path: Path) -> None:
    import pykesto

    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run_first, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with pykesto.open(tmp_path / "app.kesto") as db:
        names: dict[str, object] = {"__name__": "first"}
        exec("import pykesto\nclass Person(pykesto.Persistent):\n    name: str", names)
        with db.session(read_only=True) as s:
            ages = [person.age for person in s.query(names["Person"])]  # type: ignore[type-var]
        assert db.check().problems == ()
    # Each process gave one year more to everyone whom it saw: itself at least, all three at most.
    assert len(ages) == 3
    assert all(41 <= age <= 43 for age in ages)


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_of_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted or module == "pykesto.tc"
