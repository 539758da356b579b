"""transaction: where a session stands in its transaction, and what a failure takes back.

    idle --statement--> implicit --end of Query or Sync--> idle
    idle, implicit --BEGIN--> block --error--> failed --ROLLBACK, COMMIT--> idle
    failed --ROLLBACK TO--> block

Answers are charged and noised once and for all: a transaction here holds settings and cursors, never data.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from pgproxy import sqlstate
from pgproxy.commands import Modes
from pgproxy.settings import Settings, Snapshot
from rewriter.refusal import Refusal

SAVEPOINTS_MAX: Final = 10_000
"""pgjdbc with autosave sets one for each statement and releases none until the transaction ends."""


class Status(Enum):
    """The letter of ReadyForQuery; an implicit transaction never lives that long."""

    IDLE = "I"
    IMPLICIT = "implicit"
    BLOCK = "T"
    FAILED = "E"


class Transaction:
    """The transaction of one session; it owns when its settings go back."""

    __slots__ = ("_before", "_savepoints", "_settings", "status")

    def __init__(self, settings: Settings) -> None:
        """Start idle."""
        self.status = Status.IDLE
        self._settings = settings
        self._before: Snapshot = settings.snapshot()
        self._savepoints: list[tuple[str, Snapshot]] = []

    def enter(self) -> None:
        """A statement begins: outside a block, so does an implicit transaction."""
        if self.status is Status.IDLE:
            self.status = Status.IMPLICIT
            self._before = self._settings.snapshot()

    def leave(self) -> None:
        """A Query or Sync ends: an implicit transaction is committed."""
        if self.status is Status.IMPLICIT:
            self._end(failed=False)

    def begin(self, modes: Modes) -> bool:
        """BEGIN. False if there is a block already, which goes on."""
        fresh = self.status is not Status.BLOCK
        self.status = Status.BLOCK
        for name, value in modes:
            self._settings.set(name, (value,), local=True)
        return fresh

    def commit(self, *, chain: bool) -> bool:
        """COMMIT; a failed block is rolled back. True if its work stands."""
        stands = self.status is not Status.FAILED
        self._finish(failed=not stands, chain=chain)
        return stands

    def rollback(self, *, chain: bool) -> None:
        """ROLLBACK."""
        self._finish(failed=True, chain=chain)

    def fail(self) -> None:
        """A statement failed: a block waits for its end, anything else is over."""
        if self.status is Status.BLOCK:
            self.status = Status.FAILED
            # What is reported to the client must be true now, not after the ROLLBACK it has yet to send.
            self._settings.restore(self._savepoints[-1][1] if self._savepoints else self._before)
        elif self.status is Status.IMPLICIT:
            self._end(failed=True)

    def savepoint(self, name: str) -> None:
        """SAVEPOINT.

        Raises:
            Refusal: 25P01 outside a block, 54000 too many of them.
        """
        self._require_block("SAVEPOINT")
        if len(self._savepoints) >= SAVEPOINTS_MAX:
            raise Refusal(sqlstate.PROGRAM_LIMIT_EXCEEDED, f"more than {SAVEPOINTS_MAX} savepoints")
        self._savepoints.append((name, self._settings.snapshot()))

    def release(self, name: str) -> None:
        """RELEASE: the savepoint and those after it are gone.

        Raises:
            Refusal: 25P01 outside a block, 3B001 there is no such savepoint.
        """
        self._require_block("RELEASE SAVEPOINT")
        del self._savepoints[self._found(name) :]

    def rollback_to(self, name: str) -> None:
        """ROLLBACK TO: what came after the savepoint is undone, the savepoint stays.

        Raises:
            Refusal: 25P01 outside a block, 3B001 there is no such savepoint.
        """
        self._require_block("ROLLBACK TO SAVEPOINT")
        index = self._found(name)
        del self._savepoints[index + 1 :]
        self._settings.restore(self._savepoints[index][1])
        self.status = Status.BLOCK

    @property
    def in_block(self) -> bool:
        """True between BEGIN and its end."""
        return self.status in (Status.BLOCK, Status.FAILED)

    def _require_block(self, command: str) -> None:
        if not self.in_block:
            words = f"{command} can only be used in transaction blocks"
            raise Refusal(sqlstate.NO_ACTIVE_SQL_TRANSACTION, words)

    def _found(self, name: str) -> int:
        for index in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[index][0] == name:
                return index
        raise Refusal(sqlstate.INVALID_SAVEPOINT_SPECIFICATION, f'savepoint "{name}" does not exist')

    def _finish(self, *, failed: bool, chain: bool) -> None:
        if chain:
            self._require_block("ROLLBACK AND CHAIN" if failed else "COMMIT AND CHAIN")
        modes = tuple((name, self._settings.get(name)) for name in _MODES) if chain else ()
        self._end(failed=failed)
        if chain:
            self.enter()
            self.begin(modes)

    def _end(self, *, failed: bool) -> None:
        if failed:
            self._settings.restore(self._before)
        self._settings.end_local()
        self._savepoints.clear()
        self.status = Status.IDLE


_MODES: Final = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")
