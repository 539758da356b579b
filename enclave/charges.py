"""charges: charges -> chained rows in a file. What has been paid, by whom, and nothing that takes it back.

Every row carries SHA-256(the chain before || the row), because SQLite checks the structure of its pages and not what
is written in them. Balances are recomputed from the rows at every opening.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

from enclave.database import Format, Head, Location, StateDamaged, StateError, open_database, transaction
from rewriter.accountant import NOTHING, Accountant, Cost

Payer = tuple[str, str]
"""Kind and name of who pays."""

_FORMAT: Final = Format(
    noun="ledger",
    application_id=0x43524C31,  # "CRL1"
    version=1,
    schema="""
        CREATE TABLE charges (
            position INTEGER PRIMARY KEY,
            release_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            unit TEXT NOT NULL,
            accountant TEXT NOT NULL,
            amount TEXT NOT NULL,
            chain BLOB NOT NULL,
            UNIQUE (release_id, kind, name)
        ) STRICT;
        CREATE TRIGGER no_change BEFORE UPDATE ON charges BEGIN SELECT RAISE(ABORT, 'no refunds'); END;
        CREATE TRIGGER no_removal BEFORE DELETE ON charges BEGIN SELECT RAISE(ABORT, 'no refunds'); END;
    """,
)
_GENESIS: Final = hashlib.sha256(b"cleanroom-ledger-v1\0").digest()


@dataclass(frozen=True, slots=True)
class Charge:
    """One payer has paid one release, about one unit kind, in full."""

    release_id: str
    payer: Payer
    unit: str
    accountant: Accountant
    cost: Cost


class Charges:
    """All charges ever made, in a file that this object owns. Use it, and close it, in the thread that made it.

    Args:
        path: the state file, made if there is none, or ":memory:".
        past: a head that the caller remembers; a file that does not run through it was rolled back or replaced.

    Raises:
        StateError: the file is in use, damaged, not a ledger, or does not run through `past`.
    """

    def __init__(self, path: Location, *, past: Head | None = None) -> None:
        self._path = path
        self._db = open_database(path, _FORMAT)
        self._broken = False
        self._head = Head(0, _GENESIS)
        self._spent: dict[tuple[Payer, str], Cost] = {}
        self._accountants: dict[str, Accountant] = {}
        try:
            self._replay(past)
        except sqlite3.Error as error:
            self._db.close()
            raise StateDamaged(f"the ledger {path} is damaged: a charge cannot be read") from error
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Let another keeper have the file."""
        self._db.close()

    def head(self) -> Head:
        """Say how many charges there are, and the chain over all of them."""
        return self._head

    def spent(self, payer: Payer, unit: str) -> Cost:
        """Sum what a payer has paid for a unit kind."""
        return self._spent.get((payer, unit), NOTHING)

    def accountant(self, unit: str) -> Accountant | None:
        """Say under which accountant a unit kind was charged; None if it never was."""
        return self._accountants.get(unit)

    def find(self, release_id: str, payer: Payer) -> Charge | None:
        """Find what a payer has paid for a release."""
        row = self._db.execute(
            "SELECT unit, accountant, amount FROM charges WHERE release_id = ? AND kind = ? AND name = ?",
            (release_id, *payer),
        ).fetchone()
        if row is None:
            return None
        unit, accountant, amount = row
        return Charge(release_id, payer, unit, accountant, Cost(Fraction(amount)))

    def add(self, charges: Sequence[Charge]) -> None:
        """Write charges in one transaction and count them. They are durable when this returns.

        Raises:
            StateError: the file could not be written, now or earlier; whether the charges hold is known when it is
                opened again.
        """
        if self._broken:
            raise StateError(f"the ledger {self._path} failed to write and must be opened again")
        # Between the commit and the count the balances are too low: an exception there, if only an interrupt, is
        # for good.
        self._broken = True
        head, rows = self._head, []
        for charge in charges:
            fields = _fields(head.size + 1, charge)
            head = Head(head.size + 1, _link(head.hash, fields))
            rows.append((*fields, head.hash))
        try:
            with transaction(self._db):
                self._db.executemany("INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise StateError(f"the ledger {self._path} could not be written ({error.sqlite_errorname})") from error
        for charge in charges:
            self._count(charge)
        self._head = head
        self._broken = False

    def _replay(self, past: Head | None) -> None:
        met = past is None or past == self._head
        for *fields, chain in self._db.execute("SELECT * FROM charges ORDER BY position"):
            position, release_id, kind, name, unit, accountant, amount = fields
            self._head = Head(self._head.size + 1, _link(self._head.hash, fields))
            if position != self._head.size or chain != self._head.hash:
                raise StateDamaged(f"the ledger {self._path} is damaged: charge {self._head.size} was altered")
            self._count(Charge(release_id, (kind, name), unit, cast(Accountant, accountant), Cost(Fraction(amount))))
            met = met or past == self._head
        if not met:
            raise StateDamaged(
                f"the ledger {self._path} was rolled back: it does not run through the remembered head"
            )

    def _count(self, charge: Charge) -> None:
        key = (charge.payer, charge.unit)
        self._spent[key] = self._spent.get(key, NOTHING) + charge.cost
        self._accountants[charge.unit] = charge.accountant


def _fields(position: int, charge: Charge) -> tuple[int | str, ...]:
    amount = charge.cost.amount
    text = f"{amount.numerator}/{amount.denominator}"
    return (position, charge.release_id, *charge.payer, charge.unit, charge.accountant, text)


def _link(chain: bytes, fields: Sequence[int | str]) -> bytes:
    return hashlib.sha256(chain + json.dumps(fields).encode()).digest()
