"""State files: made whole, locked, checked, never silently empty."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from enclave.database import (
    Format,
    StateDamaged,
    StateError,
    StateLocked,
    create_whole,
    open_database,
    transaction,
)

NOTES = Format("notebook", 0x4E4F5445, 3, "CREATE TABLE notes (line TEXT NOT NULL) STRICT;")


def write(path: Path, *lines: str) -> None:
    connection = open_database(path, NOTES)
    with transaction(connection):
        connection.executemany("INSERT INTO notes VALUES (?)", [(line,) for line in lines])
    connection.close()


def read(path: Path) -> list[str]:
    connection = open_database(path, NOTES)
    lines = [row[0] for row in connection.execute("SELECT line FROM notes ORDER BY rowid")]
    connection.close()
    return lines


def test_what_is_written_is_there_after_reopening(tmp_path: Path) -> None:
    write(tmp_path / "notes", "a", "b")
    write(tmp_path / "notes", "c")
    assert read(tmp_path / "notes") == ["a", "b", "c"]


def test_the_file_is_readable_by_its_owner_alone_and_nothing_else_stays(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write(tmp_path / "notes", "a")
        connection = open_database(tmp_path / "notes", NOTES)
        with transaction(connection):
            connection.execute("INSERT INTO notes VALUES ('b')")
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        connection.close()
    finally:
        os.umask(previous)
    assert [file.name for file in tmp_path.iterdir()] == ["notes"]


def test_commits_are_synced_and_the_lock_is_exclusive(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "notes", NOTES)
    pragmas = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "locking_mode")
    ]
    assert pragmas == ["wal", 2, "exclusive"]
    assert not (tmp_path / "notes-shm").exists()
    connection.close()


def test_a_second_keeper_is_refused_with_a_sentence(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "notes", NOTES)
    with pytest.raises(StateLocked, match="in use by another keeper"):
        open_database(tmp_path / "notes", NOTES)
    script = (
        "import sys; from pathlib import Path; from enclave.database import *\n"
        "try: open_database(Path(sys.argv[1]), Format('notebook', 0x4E4F5445, 3, ''))\n"
        "except StateLocked: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "notes"], check=False).returncode == 7
    connection.close()
    assert read(tmp_path / "notes") == []


def test_an_exception_undoes_the_transaction(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "notes", NOTES)
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.executemany("INSERT INTO notes VALUES (?)", [("a",), (None,)])
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("kept", [0, 1, 50, 100, 4096, 5000])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "notes"
    write(path, *(f"line {i} {'x' * 100}" for i in range(200)))
    os.truncate(path, kept)
    with pytest.raises(StateDamaged, match="damaged"):
        open_database(path, NOTES)
    assert path.stat().st_size == kept


def test_garbage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(StateDamaged, match="damaged"):
        open_database(path, NOTES)


def test_a_missing_file_whose_log_is_there_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "notes-wal").write_bytes(b"acknowledged transactions")
    with pytest.raises(StateDamaged, match="it is missing, while notes-wal is there"):
        open_database(tmp_path / "notes", NOTES)
    assert not (tmp_path / "notes").exists()


def test_a_file_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "notes", "a")
    with pytest.raises(StateDamaged, match="not a diary"):
        open_database(tmp_path / "notes", Format("diary", 0x44494152, 3, ""))
    with pytest.raises(StateError, match="another format version"):
        open_database(tmp_path / "notes", Format("notebook", NOTES.application_id, 4, ""))
    assert read(tmp_path / "notes") == ["a"]


def test_another_sqlite_file_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "notes")
    connection.execute("CREATE TABLE notes (line TEXT)")
    connection.close()
    with pytest.raises(StateDamaged, match="not a notebook"):
        open_database(tmp_path / "notes", NOTES)


def test_a_directory_is_not_a_state_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="is not a file"):
        open_database(tmp_path, NOTES)


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise TimeoutError

    with pytest.raises(TimeoutError):
        create_whole(tmp_path / "notes", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_left_alone_by_its_maker(tmp_path: Path) -> None:
    def fill(draft: Path) -> None:
        draft.write_text("second")

    (tmp_path / "notes").write_text("first")
    create_whole(tmp_path / "notes", fill)
    assert (tmp_path / "notes").read_text() == "first"


def test_a_file_that_sqlite_cannot_open_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> sqlite3.Connection:
        return connect(tmp_path / "missing" / "notes")

    write(tmp_path / "notes", "a")
    connect = sqlite3.connect
    monkeypatch.setattr("enclave.database.sqlite3.connect", fail)
    with pytest.raises(StateError, match=r"notes cannot be opened \(SQLITE_CANTOPEN\)"):
        open_database(tmp_path / "notes", NOTES)


def test_an_index_that_disagrees_with_its_table_is_found(tmp_path: Path) -> None:
    indexed = Format("notebook", NOTES.application_id, 3, f"{NOTES.schema} CREATE INDEX by_line ON notes (line);")
    connection = open_database(tmp_path / "notes", indexed)
    with transaction(connection):
        connection.execute("INSERT INTO notes VALUES ('only once in the table')")
    connection.close()
    content = (tmp_path / "notes").read_bytes()
    assert content.count(b"only once in the table") == 2
    (tmp_path / "notes").write_bytes(content.replace(b"only once in the table", b"ONLY once in the table", 1))
    with pytest.raises(StateDamaged, match="inconsistent"):
        open_database(tmp_path / "notes", indexed)


def test_a_file_system_without_a_write_ahead_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "notes", "a")
    monkeypatch.setattr("enclave.database._pragma", lambda connection, name: _pragma_without_wal(connection, name))
    with pytest.raises(StateError, match="cannot be kept durable"):
        open_database(tmp_path / "notes", NOTES)


def _pragma_without_wal(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return "delete" if value == "wal" else value


def test_a_database_in_memory_has_the_schema() -> None:
    connection = open_database(":memory:", NOTES)
    assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    connection.close()
