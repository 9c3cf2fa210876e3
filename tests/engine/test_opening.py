"""Opening: who may create, what is refused, and what is found after which end."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import ClosedError, CorruptionError, FormatError, ReadOnlyError, StorageError, UsageError, files
from pykesto._system import file_system_of
from tests.processes import Worker, close_database, open_database, put

Start = Callable[[], Worker]


def create_and_commit(here: SimpleNamespace, path: Path, key: int) -> None:
    with pykesto.open(path) as db, db.transaction() as s:
        s.table("people")[key] = {}


def ready(here: SimpleNamespace) -> None:
    """By now pykesto is imported."""


def test_twenty_processes_create_the_same_database_at_once_and_all_commit(database: Path, start_worker: Start) -> None:
    workers = [start_worker() for _ in range(20)]
    for worker in workers:
        worker.start(ready)
    for worker in workers:
        worker.result()
    for key, worker in enumerate(workers):
        worker.start(create_and_commit, database, key)
    for worker in workers:
        worker.result()
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == list(range(20))


def test_a_creation_that_was_killed_before_its_last_step_is_done_again(database: Path) -> None:
    for folder in "attached", "journal", "base":
        (database / folder).mkdir(parents=True)
    (database / "attach.lock").touch()
    (database / "MANIFEST.new").write_bytes(b"half of")
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people")["ann"] = {}


def test_handles_of_one_process_see_each_others_commits(database: Path) -> None:
    with pykesto.open(database) as one, pykesto.open(database) as other:
        with one.transaction() as s:
            s.table("people")["ann"] = {}
        with other.session() as s:
            assert list(s.table("people")) == ["ann"]
        one.close()
        with other.transaction() as s:
            s.table("people")["bob"] = {}
        assert other.version > 0


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FormatError, match="thesis"):
        pykesto.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    with pykesto.open(tmp_path) as db:
        assert db.version == 0
        assert db.check().problems == ()


def test_a_missing_directory_is_a_storage_error_without_create(tmp_path: Path) -> None:
    for options in {"create": False}, {"read_only": True}:
        with pytest.raises(StorageError) as caught:
            pykesto.open(tmp_path / "nowhere", **options)  # type: ignore[arg-type]
        assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError):
        pykesto.open(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("path", ["kesto://host/db", ":memory:"])
def test_what_is_no_path_is_a_usage_error(path: str) -> None:
    with pytest.raises(UsageError):
        pykesto.open(path)


@pytest.mark.parametrize("option", [{"durability": "none"}, {"isolation": "dirty"}])
def test_an_unknown_option_is_a_usage_error(tmp_path: Path, option: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        pykesto.open(tmp_path / "app.kesto", **option)  # type: ignore[arg-type]
    assert not (tmp_path / "app.kesto").exists()


def test_a_closed_database_says_so(database: Path) -> None:
    db = pykesto.open(database)
    db.close()
    db.close()
    for use in db.session, db.checkpoint, db.check, db.stats, lambda: db.version:
        with pytest.raises(ClosedError):
            use()


def test_a_session_of_a_closed_database_says_so(database: Path) -> None:
    db = pykesto.open(database)
    session = db.session()
    session.table("people")["ann"] = {}
    db.close()
    with pytest.raises(ClosedError):
        session.commit()


def test_a_read_only_handle_reads_and_refuses_changes(database: Path) -> None:
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people")["ann"] = {"age": 1}
    with pykesto.open(database, read_only=True) as db, db.session() as s:
        assert s.table("people")["ann"]["age"] == 1
        for change in (
            lambda: s.table("people")["ann"].update(age=2),
            lambda: s.table("people").__delitem__("ann"),
            lambda: s.table("people").create_index("age"),
            lambda: s.table("people").add({}),
            lambda: db.drop_table("people"),
        ):
            with pytest.raises(ReadOnlyError):
                change()
        assert s.table("people")["ann"]["age"] == 1


def test_files_are_for_their_owner_only(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {}
        db.checkpoint()
    modes = {path.stat().st_mode & 0o777 for path in database.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in [database, *database.rglob("*")] if path.is_dir()} == {0o700}


def test_a_database_moved_while_closed_opens_elsewhere(database: Path, tmp_path: Path) -> None:
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people")["ann"] = {}
    database.rename(tmp_path / "moved.kesto")
    with pykesto.open(tmp_path / "moved.kesto", create=False) as db, db.session() as s:
        assert list(s.table("people")) == ["ann"]


@pytest.mark.parametrize("name", ["glob[ab]*?.kesto", "back\\slash.kesto"])
def test_a_directory_whose_name_tokyo_cabinet_takes_for_a_pattern_works_or_is_refused_at_once(
    tmp_path: Path, name: str
) -> None:
    try:
        db = pykesto.open(tmp_path / name)
    except UsageError:
        assert not (tmp_path / name).exists()
        return
    with db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        assert db.checkpoint().done


@pytest.mark.parametrize("name", ["spaced name.kesto", "größe.kesto", "@mail.kesto"])
def test_a_directory_may_have_an_odd_name(tmp_path: Path, name: str) -> None:
    with pykesto.open(tmp_path / name) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
            s.table("people").create_index("age")
        db.checkpoint()
        with db.session() as s:
            assert s.table("people").query.col("age").equals(1).count() == 1
        assert db.check().problems == ()


def test_tables_may_have_odd_names(database: Path) -> None:
    names = ["a/b", "..", ".", "*", "Ann", "ann", "größe", "x" * 300, "\0", "=", " ", "tab\t", "a.tct", "STAMP"]
    with pykesto.open(database) as db:
        with db.transaction() as s:
            for n, name in enumerate(names):
                s.table(name)["key"] = {"n": n}
        db.checkpoint()
        with db.session() as s:
            assert [s.table(name)["key"]["n"] for name in names] == list(range(len(names)))
        assert db.tables() == tuple(sorted(names))


# A lost or damaged MANIFEST


def filled(path: Path, *, checkpoint: bool) -> None:
    with pykesto.open(path) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        if checkpoint:
            db.checkpoint()


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("create", [False, True])
def test_data_without_a_manifest_is_damage_and_never_made_anew(tmp_path: Path, create: bool, checkpoint: bool) -> None:
    path = tmp_path / "app.kesto"
    filled(path, checkpoint=checkpoint)
    manifest = (path / "MANIFEST").read_bytes()
    (path / "MANIFEST").unlink()
    with pytest.raises(CorruptionError, match="MANIFEST"):
        pykesto.open(path, create=create)
    (path / "MANIFEST").write_bytes(manifest)
    with pykesto.open(path) as db, db.session() as s:
        assert s.table("people")["ann"]["age"] == 1


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x20
    path.write_bytes(content)


def test_one_damaged_slot_of_the_manifest_is_survived_and_two_are_not(tmp_path: Path) -> None:
    path = tmp_path / "app.kesto"
    filled(path, checkpoint=True)
    half = (path / "MANIFEST").stat().st_size // 2
    for slot in range(2):
        copy = tmp_path / f"slot{slot}.kesto"
        shutil.copytree(path, copy)
        damage(copy / "MANIFEST", slot * half + 30)
        with pykesto.open(copy) as db, db.session() as s:
            assert s.table("people")["ann"]["age"] == 1
    damage(path / "MANIFEST", 30)
    damage(path / "MANIFEST", half + 30)
    with pytest.raises(CorruptionError, match="MANIFEST"):
        pykesto.open(path)


# Bases without their stamp


def two_bases(path: Path) -> int:
    """A database with two bases; the number of the current one."""
    with pykesto.open(path) as db:
        for age in range(1, 3):
            with db.transaction() as s:
                s.table("people")["ann"] = {"age": age}
            outcome = db.checkpoint()
            assert outcome.done
        with db.transaction() as s:
            s.table("people")["bob"] = {"age": 3}
        return outcome.base


def ages(db: pykesto.Database) -> dict[str, int]:
    with db.session() as s:
        return {row.k_key: row["age"] for row in s.table("people").range()}


@pytest.mark.parametrize("which", ["current", "other"])
def test_a_base_without_a_stamp_is_not_trusted_and_made_again(database: Path, which: str) -> None:
    current = two_bases(database)
    base = database / "base" / str(current if which == "current" else 1 - current)
    (base / "STAMP").unlink()
    for table in base.glob("*.tct"):
        table.write_bytes(b"no table")
    with pykesto.open(database) as db:
        assert ages(db) == {"ann": 2, "bob": 3}
        for age in range(4, 6):
            with db.transaction() as s:
                s.table("people")["eve"] = {"age": age}
            assert db.checkpoint().done
        assert ages(db) == {"ann": 2, "bob": 3, "eve": 5}
        assert db.check().bases == 2


def test_a_stamp_of_another_life_is_not_trusted(database: Path) -> None:
    current = two_bases(database)
    stamps = database / "base"
    (stamps / str(current) / "STAMP").write_bytes((stamps / str(1 - current) / "STAMP").read_bytes())
    with pykesto.open(database) as db:
        assert ages(db) == {"ann": 2, "bob": 3}


def test_bases_that_have_all_lost_their_stamps_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "app.kesto"
    two_bases(path)
    for stamp in path.glob("base/*/STAMP"):
        stamp.unlink()
    with pytest.raises(CorruptionError, match="stamp"):
        pykesto.open(path)


# Ends


def test_nothing_is_lost_when_the_only_process_is_killed(database: Path, start_worker: Start) -> None:
    worker = start_worker()
    worker.call(open_database, database)
    for key in range(10):
        worker.call(put, key, {"n": key})
    worker.kill()
    with pykesto.open(database) as db, db.session() as s:
        assert [row["n"] for row in s.table("people").range()] == list(range(10))
        assert db.stats().recovered_records == 10


def test_commits_made_after_an_unclean_end_survive_the_next_one(database: Path, start_worker: Start) -> None:
    for key in range(4):
        worker = start_worker()
        worker.call(open_database, database)
        worker.call(put, key, {})
        worker.kill()
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == list(range(4))


def test_commits_made_after_an_unclean_end_survive_a_clean_one(database: Path, start_worker: Start) -> None:
    for key in range(4):
        worker = start_worker()
        worker.call(open_database, database)
        worker.call(put, key, {})
        if key % 2:
            worker.call(close_database)
        worker.kill()
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == list(range(4))


def test_a_process_that_ends_without_closing_ends_cleanly(database: Path, start_worker: Start) -> None:
    worker = start_worker()
    worker.call(open_database, database)
    number = worker.call(put, "ann", {})
    worker.end()
    with pykesto.open(database) as db, db.session() as s:
        s.table("people")["bob"] = {}
        assert s.commit() == number + 1  # of the same generation


def test_the_last_to_close_ends_cleanly(database: Path, start_worker: Start) -> None:
    one, other = start_worker(), start_worker()
    for worker in one, other:
        worker.call(open_database, database)
    one.call(put, "ann", {})
    number = other.call(put, "bob", {})
    one.call(close_database)
    other.call(close_database)
    with pykesto.open(database) as db, db.session() as s:
        s.table("people")["eve"] = {}
        assert s.commit() == number + 1


def test_a_network_file_system_is_refused_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(files.NETWORKS, file_system_of(tmp_path), "NFS")  # as which it shall count
    path = tmp_path / "below" / "app.kesto"
    with pytest.raises(StorageError, match="is on NFS") as caught:
        pykesto.open(path)
    assert caught.value.errno == errno.EREMOTE
    assert not path.exists()
    path.parent.mkdir()
    with pykesto.open(path, network=True) as db:
        assert db.version == 0
