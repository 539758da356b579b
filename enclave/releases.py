"""releases: a release id -> the noised numbers made under it, for ever. The same question gets the same answer.

What is stored is noised, unrounded and opaque here: the gate encodes it. It is durable before `store` returns, so
that no byte leaves the room that could differ when it is asked for again. Who may see a release is the ledger's
business (`Ledger.paid`); this module only picks among those.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Self

from enclave.database import Format, Location, StateDamaged, StateError, open_database, transaction
from rewriter.accountant import Cost

PAYLOAD_BYTES_MAX: Final = 256 * 2**20
"""A release of 10^5 groups and a hundred measures is some 80 MB; SQLite itself ends at 10^9 bytes."""

_FORMAT: Final = Format(
    noun="release store",
    application_id=0x43525331,  # "CRS1"
    version=1,
    schema="""
        CREATE TABLE releases (
            position INTEGER PRIMARY KEY,
            release_id TEXT NOT NULL UNIQUE,
            question_key TEXT NOT NULL,
            cost TEXT NOT NULL,
            digest BLOB NOT NULL,
            payload BLOB NOT NULL
        ) STRICT;
        CREATE INDEX by_question ON releases (question_key, release_id, cost);
        CREATE TRIGGER no_change BEFORE UPDATE ON releases BEGIN SELECT RAISE(ABORT, 'no changes'); END;
        CREATE TRIGGER no_removal BEFORE DELETE ON releases BEGIN SELECT RAISE(ABORT, 'no changes'); END;
    """,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A release as it was stored.

    Attributes:
        release_id: covers the plan, the data epoch and the price.
        question_key: the same without the price.
        cost: what it was charged at.
        payload: as the gate encoded it.
    """

    release_id: str
    question_key: str
    cost: Cost
    payload: bytes = field(repr=False)


class Releases:
    """All releases of a room, in a file that this object owns. Use it, and close it, in the thread that made it.

    Args:
        path: the state file, made if there is none, or ":memory:".

    Raises:
        StateError: the file is in use, damaged or not a release store.
    """

    def __init__(self, path: Location) -> None:
        self._path = path
        self._db = open_database(path, _FORMAT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another keeper have the file."""
        self._db.close()

    def find(self, release_id: str) -> bytes | None:
        """Fetch the payload of a release, or None if it was never made.

        Raises:
            StateDamaged: the stored bytes are not those that were stored.
        """
        found = self._load(release_id)
        return None if found is None else found.payload

    def best(self, question_key: str, at_least: Cost, paid: Callable[[str], bool]) -> Stored | None:
        """Pick the costliest release of a question that costs `at_least` so much and that `paid` accepts.

        A costlier release is more exact; of equal ones the first made is picked, so that the answer stays the same.

        Args:
            question_key: what is asked, without a price.
            at_least: the price of what was asked; cheaper releases are less exact than that.
            paid: says of a release id whether this analyst has paid it. One that is not paid is never substituted.

        Raises:
            StateDamaged: the stored bytes are not those that were stored.
        """
        rows = self._db.execute(
            "SELECT release_id, cost FROM releases WHERE question_key = ? ORDER BY position", (question_key,)
        )
        priced = [(release_id, Fraction(cost)) for release_id, cost in rows]
        enough = [row for row in priced if row[1] >= at_least.amount]
        for release_id, _ in sorted(enough, key=lambda row: row[1], reverse=True):
            if paid(release_id):
                return self._load(release_id)
        return None

    def store(self, release_id: str, question_key: str, cost: Cost, payload: bytes) -> None:
        """Keep a release. It is durable when this returns; storing the same again changes nothing.

        Raises:
            ValueError: the id stands for something else already, or the payload exceeds PAYLOAD_BYTES_MAX.
            StateError: the file could not be written; nothing may leave the room.
        """
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"a release has at most {PAYLOAD_BYTES_MAX} bytes")
        release = Stored(release_id, question_key, cost, bytes(payload))
        earlier = self._load(release_id)
        if earlier is not None:
            if earlier != release:
                raise ValueError("this release was stored with other numbers; the first ones stand")
            return
        row = (release_id, question_key, str(cost.amount), _digest(release), release.payload)
        try:
            with transaction(self._db):
                self._db.execute(
                    "INSERT INTO releases (release_id, question_key, cost, digest, payload) VALUES (?, ?, ?, ?, ?)",
                    row,
                )
        except sqlite3.Error as error:
            raise StateError(f"the release store could not be written ({error.sqlite_errorname})") from error

    def _load(self, release_id: str) -> Stored | None:
        row = self._db.execute(
            "SELECT question_key, cost, digest, payload FROM releases WHERE release_id = ?", (release_id,)
        ).fetchone()
        if row is None:
            return None
        question_key, cost, digest, payload = row
        release = Stored(release_id, question_key, Cost(Fraction(cost)), payload)
        if _digest(release) != digest:
            raise StateDamaged(f"the release store {self._path} is damaged: a release was altered")
        return release


def _digest(release: Stored) -> bytes:
    """Bind the bytes to their id: SQLite checks the structure of its pages, not what is written in them."""
    head = "\0".join((release.release_id, release.question_key, str(release.cost.amount)))
    digest = hashlib.sha256(hashlib.sha256(head.encode()).digest())  # of a fixed size, so that no head runs on
    digest.update(release.payload)
    return digest.digest()
