"""Every function of tctdb.h is called by the driver, or listed here with the reason why not, and named in its guide."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADER = Path("/usr/include/tctdb.h")


def names(text: str) -> list[str]:
    return re.findall(r"tctdb[a-z0-9]+", text)


CALLED = names(
    """
    tctdbalign tctdbbnum tctdbbnumused tctdbcacheclear tctdbclose tctdbdefrag tctdbdel tctdbdfunit tctdbecode
    tctdberrmsg tctdbfbpmax tctdbflags tctdbfsiz tctdbfwmkeys tctdbgenuid tctdbget4 tctdbinode tctdbmemsync
    tctdbmtime tctdbnew tctdbopaque tctdbopen tctdbopts tctdbout tctdbput tctdbputcat tctdbputkeep
    tctdbqryaddcond tctdbqrydel tctdbqryhint tctdbqrykwic tctdbqrynew tctdbqrysearch tctdbqrysetlimit
    tctdbqrysetorder tctdbrnum tctdbsetcache tctdbsetcodecfunc tctdbsetdfunit tctdbsetindex tctdbsetinvcache
    tctdbsetuidseed tctdbsetxmsiz tctdbsync tctdbtranabort tctdbtranbegin tctdbtrancommit tctdbtune tctdbuidseed
    tctdbvanish tctdbvsiz
    """
)

TEXTS = "the same for C strings, which end at a NUL; the driver has the function that takes a size"
NUMBERS = "names of constants as texts: here they are arguments and methods"
DEBUGGING = "for the library's own debugging"
NOT_CALLED = {
    "tctdbadddouble": "stores six digits after the point; `add_double` computes, and stores all",
    "tctdbaddint": "adds doubles and cuts the sum to a C int; `add_int` computes",
    "tctdbcopy": "runs `@...` as a shell command, and drops the lock of the file; `copy` reads the open descriptor",
    "tctdbdbgfd": DEBUGGING,
    "tctdbforeach": "writes beyond its stack for keys of 32 KB; `foreach` walks by itself",
    "tctdbget": "builds a map of the library's; rows are read with tchdbget and parsed in place",
    "tctdbhasmutex": "see tctdbsetmutex",
    "tctdbinum": "`indexes` gives names and kinds",
    "tctdbiterinit": "one iterator for each table; `_rows` sets the place of each iteration with tchdbiternext",
    "tctdbiterinit2": "tchdbiterinit2 is called: see tctdbiterinit",
    "tctdbiternext": "see tctdbiterinit",
    "tctdbiternext3": "see tctdbiterinit",
    "tctdbmetasearch": "drops the order of intersections and limits; `Combination` puts searches together",
    "tctdboptimize": "unlinks the table before its successor has its name; `optimize` builds beside, and renames",
    "tctdbpath": "`path` is what was opened",
    "tctdbputproc": "calls back inside the library, with columns cut at NULs; `putproc` holds our own lock",
    "tctdbqrycount": "`count` counts what was found",
    "tctdbqryproc": "calls back inside the library, and writes before all rows are computed; `process` does not",
    "tctdbqryproc2": "see tctdbqryproc; it also lets go of the lock between rows",
    "tctdbqrysearchout": "deletes without the checks of `delete`",
    "tctdbqrysearchout2": "see tctdbqrysearchout",
    "tctdbsetdbgfd": DEBUGGING,
    "tctdbsetecode": DEBUGGING,
    "tctdbsetmutex": "the driver's own lock guards each call, and more: iterations, several calls in one",
    **dict.fromkeys(names("tctdbput2 tctdbputkeep2 tctdbputcat2 tctdbget2"), "columns cut at NULs; rows are maps here"),
    **dict.fromkeys(names("tctdbput3 tctdbputkeep3 tctdbputcat3 tctdbget3"), "columns cut at tabs; rows are maps here"),
    **dict.fromkeys(names("tctdbout2 tctdbvsiz2 tctdbiterinit3 tctdbiternext2 tctdbfwmkeys2"), TEXTS),
    **dict.fromkeys(names("tctdbstrtoindextype tctdbstrtometasearcytype tctdbqrystrtocondop"), NUMBERS),
    **dict.fromkeys(names("tctdbqrystrtoordertype tctdbmetastrtosettype"), NUMBERS),
}


def source() -> str:
    package = ROOT / "pykesto"
    paths = [*package.glob("_tc*.pxi"), package / "_tc.pyx", package / "_tc_calls.h"]
    return "".join(path.read_text() for path in paths)


def test_each_function_is_called_or_listed_with_the_reason() -> None:
    called = set(re.findall(r"\btctdb[a-z0-9]+\b", source()))
    assert called == set(CALLED)
    assert not called & set(NOT_CALLED)


@pytest.mark.skipif(not HEADER.exists(), reason="the library's header is not installed")
def test_the_list_is_that_of_the_header() -> None:
    assert set(re.findall(r"\b(tctdb[a-z0-9]+)\(", HEADER.read_text())) == {*CALLED, *NOT_CALLED}


def test_each_function_is_in_the_guide() -> None:
    guide = set(re.findall(r"\btctdb[a-z0-9]+\b", (ROOT / "docs" / "driver.md").read_text()))
    assert guide == {*CALLED, *NOT_CALLED}


def test_each_public_method_is_in_the_guide() -> None:
    from pykesto import tc

    guide = (ROOT / "docs" / "driver.md").read_text()
    for subject in (tc.Table, tc.Query, tc.QueryColumn, tc.Combination, tc.IndexCursor):
        public = [name for name in dir(subject) if not name.startswith("_")]
        assert not [name for name in public if not re.search(rf"\b{name}\b", guide)]
