"""What the demo keeps: packages that refer to each other, and a counter for each section."""

from __future__ import annotations

import pykesto


class Package(pykesto.Persistent):
    """One record of the package index. Fields beyond these are set as they come: each record has its own."""

    name: str = pykesto.field(index=True, default="")
    section: str = pykesto.field(index=True, default="")
    installed_size: int = pykesto.field(index=True, default=0)
    depends: list[Package] = pykesto.field(default_factory=list)
    changes: int = 0  # how many transactions of the demo changed this package


class Section(pykesto.Persistent):
    """How many packages are in a section, and the sum of their sizes: must always agree with the packages."""

    name: str = pykesto.field(index=True, unique=False, default="")
    title: str = ""
    packages: int = 0
    installed_size: int = 0
