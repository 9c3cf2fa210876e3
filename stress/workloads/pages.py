"""A tree of objects, each with a digest of its content and of what it refers to."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Page(pykesto.Persistent, name="stress.Page"):
    """One node. `digest` covers the content and the numbers of the pages below."""

    number: int = pykesto.field(index=True)
    content: bytes = b""
    digest: str = ""
    below: list[Page] = pykesto.field(default_factory=list)
    moves: tuple[int, int] = (0, 0)


def digest_of(content: bytes, below: list[int]) -> str:
    return hashlib.md5(content + repr(sorted(below)).encode(), usedforsecurity=False).hexdigest()


def seal(page: Page) -> None:
    page.digest = digest_of(page.content, [other.number for other in page.below])


class Pages:
    """Pages are rewritten, and moved with all that is below them: two pages of the tree change in one commit."""

    PAGES = 30

    def __init__(self) -> None:
        self.above: dict[int, int] = {}
        self.contents: dict[int, bytes] = {}

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        pages = [Page(number=number, content=bytes(number)) for number in range(Pages.PAGES)]
        for number, page in enumerate(pages[1:], 1):
            pages[(number - 1) // 3].below.append(page)
        for page in pages:
            seal(page)
        s.root["pages"] = pages[0]

    @staticmethod
    def choose(chance: random.Random) -> Said:
        page, under = chance.sample(range(1, Pages.PAGES), 2)
        content = chance.randbytes(chance.randrange(1000)) if chance.random() < 0.5 else None
        return {"page": page, "under": under, "content": content}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        page = s.query(Page).where(Page.number == said["page"]).one()
        if said["content"] is not None:
            page.content = said["content"]
            seal(page)
            return
        way = Pages.way_to(s, said["page"])
        under = Pages.way_to(s, said["under"])
        if page not in under and way[-2] is not under[-1]:  # else it would hang from itself
            way[-2].below.remove(page)
            under[-1].below.append(page)
            seal(way[-2])
            seal(under[-1])
            said["moved"] = True
            if not said["serializable"]:  # else two could hang from one another, each moved where the other was not
                way[0].moves = step

    @staticmethod
    def way_to(s: pykesto.Session, number: int) -> list[Page]:
        """The pages from the root to one of them."""
        todo = [[s.root["pages"]]]
        while todo:
            way = todo.pop()
            if way[-1].number == number:
                return way
            todo += [[*way, page] for page in way[-1].below]
        raise AssertionError(f"pages: page {number} does not hang from the root")

    @staticmethod
    def tree(s: pykesto.Session) -> Iterator[tuple[int, Page]]:
        """(number of the page above, page) for all but the root, at most twice as many as there should be."""
        todo, seen = [s.root["pages"]], 0
        while todo and seen < 2 * Pages.PAGES:
            page = todo.pop()
            for other in page.below:
                seen += 1
                todo.append(other)
                yield page.number, other

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        pages = [s.root["pages"], *(page for _, page in Pages.tree(s))]
        if sorted(page.number for page in pages) != list(range(Pages.PAGES)):
            yield f"pages: from the root there are {sorted(page.number for page in pages)}"
        for page in pages:
            if page.digest != digest_of(page.content, [other.number for other in page.below]):
                yield f"pages: page {page.number} of commit {page.k_version} does not match its digest"

    def load(self, s: pykesto.Session) -> None:
        tree = list(self.tree(s))
        self.above = {page.number: above for above, page in tree}
        self.contents = {page.number: page.content for _, page in tree}

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        if said["content"] is not None:
            self.contents[said["page"]] = said["content"]
        elif said.get("moved"):
            self.above[said["page"]] = said["under"]
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        for above, page in self.tree(s):
            if above != self.above[page.number] or page.content != self.contents[page.number]:
                yield f"pages: page {page.number} hangs from {above}, its log says from {self.above[page.number]}"
