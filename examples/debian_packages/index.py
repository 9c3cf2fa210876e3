"""Read a Debian package index: paragraphs of `Field: value` lines (deb-control(5))."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_NUMBERS = {"installed_size", "size"}


class NoIndex(Exception):
    """There is no package index to read."""


def read_index(source: Path | None) -> str:
    """The text of the index: a file's, or that of this machine's package lists."""
    if source is not None:
        try:
            return source.read_text(errors="replace")
        except OSError as error:
            raise NoIndex(f"can't read {source}: {error.strerror}") from error
    if shutil.which("apt-cache") is None:
        raise NoIndex("there is no apt-cache here: run the demo on Debian, or give --input FILE in the same format")
    text = _dump()
    if not text.strip():
        refresh_lists()
        text = _dump()
    if not text.strip():
        raise NoIndex("apt-cache dumpavail is empty: run `apt-get update` as root, then try again")
    return text


def _dump() -> str:
    return subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout.decode(errors="replace")


def refresh_lists() -> None:
    """A machine that never fetched its package lists has an empty index."""
    sudo = [] if shutil.which("sudo") is None else ["sudo", "-n"]
    subprocess.run([*sudo, "apt-get", "update", "-qq"], capture_output=True, check=False)


def paragraphs(text: str, limit: int | None) -> list[str]:
    """The first `limit` records (None: all), one for each package name."""
    found: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        name = paragraph.partition("\n")[0].removeprefix("Package: ")
        if name and paragraph.startswith("Package: "):
            found.setdefault(name, paragraph)
        if len(found) == limit:
            break
    return list(found.values())


def fields(paragraph: str) -> dict[str, object]:
    """A record's fields under Python names; sizes as int, tags as a set, all else as text."""
    found: dict[str, object] = {}
    for name, text in _lines(paragraph.split("\n")):
        attribute = {"package": "name"}.get(name.lower(), name.lower().replace("-", "_"))
        if attribute in _NUMBERS:
            found[attribute] = int(text)
        elif attribute == "tag":
            found["tags"] = {tag.strip() for tag in text.split(",")}
        else:
            found[attribute] = text
    return found


def _lines(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    name, parts = "", [""]
    for line in lines:
        if line[:1] in {" ", "\t"}:
            parts.append(line.strip())
            continue
        if name:
            yield name, " ".join(parts)
        name, _, text = line.partition(":")
        parts = [text.strip()]
    if name:
        yield name, " ".join(parts)


def dependencies(text: str) -> list[list[str]]:
    """A Depends field as alternatives of names: "a (>= 1) | b, c" is [["a", "b"], ["c"]]."""
    return [
        [match.group() for choice in alternatives.split("|") if (match := _NAME.match(choice.strip()))]
        for alternatives in text.split(",")
    ]
