"""database: a path -> one exclusive, durable SQLite connection. What the ledger and the releases share.

The keeper owns its state files alone: a second keeper on the same state would sell the same budget twice, so
the file is locked for as long as it is open (SQLite docs, "PRAGMA locking_mode": EXCLUSIVE). A file is made
whole or not at all, and one that is damaged or missing a part is never opened, least of all as an empty one.

    Exception
    └── StateError          the operator can do something; the sentence says what
        ├── StateLocked     another process has the file open
        └── StateDamaged    the file is not what was written: restore it, never start afresh
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Location = Path | Literal[":memory:"]

_COMPANIONS: Final = ("-wal", "-journal")
"""What SQLite keeps beside a file that was not closed: it may hold acknowledged transactions."""

_SIZE_MIN: Final = 512
"""The smallest page. SQLite takes a shorter file for an empty one and writes over it."""


class StateError(Exception):
    """A state file cannot be used. The message is one sentence for the operator and names the file."""


class StateLocked(StateError):
    """Another process holds the file."""


class StateDamaged(StateError):
    """The file is truncated, altered or of another kind."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a file is: SQLite's application_id and user_version say it, so that no file is taken for another.

    Attributes:
        noun: the file's name in messages, such as "ledger".
        application_id: four bytes, unique to the format.
        version: of the schema; another one is refused.
        schema: the statements that make an empty file.
    """

    noun: str
    application_id: int
    version: int
    schema: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chained file ends: how many entries it has, and the chain over all of them (32 bytes)."""

    size: int
    hash: bytes


def open_database(path: Location, form: Format) -> sqlite3.Connection:
    """Open a state file, locked, checked and durable at every commit, or make it (mode 0600).

    The connection is in autocommit mode (see `transaction`) and works in the thread that opened it alone.

    Raises:
        StateLocked: another connection has it open.
        StateDamaged: it is not a whole file of this format.
    """
    if path == ":memory:":
        connection = _connect(":memory:")
        _initialise(connection, form)
        return connection
    if not path.exists():
        _refuse_orphans(path, form)
        create_whole(path, lambda draft: _make(draft, form))
    return _open_existing(path, form)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block as one transaction: durable when the block has ended, undone when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # after some failures SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def create_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a file that exists with all of its content or not at all, mode 0600; leave an existing one alone.

    `fill` writes and syncs a draft beside it. A crash leaves at most a draft, which nothing ever reads.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        fill(draft)
        with suppress(FileExistsError):  # another process was faster; unlike rename, link overwrites nothing
            os.link(draft, path)
    finally:
        draft.unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a new or removed name durable (fsync(2): syncing the file does not sync its directory entry)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_existing(path: Path, form: Format) -> sqlite3.Connection:
    # The file is never opened by other means than SQLite: closing any descriptor of it would drop the locks
    # that this process holds on it (fcntl(2), POSIX record locks).
    if not path.is_file():
        raise StateError(f"the {form.noun} {path} is not a file")
    if path.stat().st_size < _SIZE_MIN:
        raise _damaged(path, form, "it is cut short")
    path.chmod(0o600)
    try:
        connection = _connect(str(path))
    except sqlite3.Error as error:
        raise _explained(error, path, form) from error
    try:
        _lock(connection)
        _check(connection, path, form)
        _make_durable(connection, path, form)
    except sqlite3.Error as error:
        connection.close()
        raise _explained(error, path, form) from error
    except StateError:
        connection.close()
        raise
    return connection


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=0, isolation_level=None)


def _lock(connection: sqlite3.Connection) -> None:
    """Lock before the first read: then WAL mode makes no shared-memory file, and none can be altered."""
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path, form: Format) -> None:
    if _pragma(connection, "application_id") != form.application_id:
        raise _damaged(path, form, f"it is not a {form.noun}")
    if _pragma(connection, "user_version") != form.version:
        raise StateError(f"the {form.noun} {path} has another format version than {form.version}")
    if _pragma(connection, "integrity_check") != "ok":
        raise _damaged(path, form, "its pages are inconsistent")


def _make_durable(connection: sqlite3.Connection, path: Path, form: Format) -> None:
    """Sync the write-ahead log at every commit (SQLite docs, "PRAGMA synchronous"; EXTRA adds nothing to FULL)."""
    connection.execute("PRAGMA synchronous=FULL")
    if _pragma(connection, "journal_mode=WAL") != "wal":
        raise StateError(f"the {form.noun} {path} cannot be kept durable on this file system")


def _make(draft: Path, form: Format) -> None:
    connection = _connect(str(draft))
    try:
        connection.execute("PRAGMA synchronous=FULL")
        _initialise(connection, form)
    finally:
        connection.close()


def _initialise(connection: sqlite3.Connection, form: Format) -> None:
    connection.executescript(
        f"BEGIN; PRAGMA application_id={form.application_id}; PRAGMA user_version={form.version};"
        f"{form.schema} COMMIT;"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int | str:
    value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _refuse_orphans(path: Path, form: Format) -> None:
    for suffix in _COMPANIONS:
        if Path(f"{path}{suffix}").exists():
            raise _damaged(path, form, f"it is missing, while {path.name}{suffix} is there")


def _explained(error: sqlite3.Error, path: Path, form: Format) -> StateError:
    # The low byte is the primary result code (SQLite docs, "Result and Error Codes").
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StateLocked(f"the {form.noun} {path} is in use by another keeper; one room has one keeper")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, form, "its pages are inconsistent")
    return StateError(f"the {form.noun} {path} cannot be opened ({error.sqlite_errorname})")


def _damaged(path: Path, form: Format, what: str) -> StateDamaged:
    return StateDamaged(f"the {form.noun} {path} is damaged: {what}; restore it from the room's own disk")
