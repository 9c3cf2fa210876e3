"""The demo is the main job: a small run of it must pass, and bad arguments must be told so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = ["admin", "libs", "net", "python", "games"]


def index_file(path: Path, count: int) -> Path:
    """A package index in the format of Debian's: each record with fields of its own."""
    records = []
    for n in range(count):
        lines = [f"Package: p{n}", f"Section: {SECTIONS[n % 5]}", f"Installed-Size: {n * 7 % 1000}"]
        if n:
            lines.append(f"Depends: p{n // 2} (>= 1.{n}), p{(n * 3 + 1) % count} | p{n - 1}, missing")
        if n % 3 == 0:
            lines.append("Tag: role::program, interface::x11,\n uitoolkit::sdl")
        if n % 7 == 0:
            lines.append(f"Homepage: https://example.org/{n}")
        records.append("\n".join(lines))
    path.write_text("\n\n".join(records) + "\n")
    return path


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.debian_packages", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_short_demo_ends_well(tmp_path: Path) -> None:
    index = index_file(tmp_path / "index", 600)
    done = demo("--input", index, "--seconds", 2.5, "--workers", 2, "--path", tmp_path / "demo.kesto")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "demo: ok"
    assert "600 packages" in done.stdout
    assert "killed one by one" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "-1"], "--seconds"),
        (["--workers", "0"], "0 is not from 1 on"),
        (["--rows", "many"], "'many' is no whole number"),
        (["--seconds", "nan"], "--seconds"),
        (["--input", "/nonexistent/index"], "can't read /nonexistent/index"),
        (["--colour"], "--colour"),
    ],
)
def test_bad_arguments_get_a_clear_error(arguments: list[str], said: str) -> None:
    done = demo(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_makes_no_database_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = demo("--path", tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr
