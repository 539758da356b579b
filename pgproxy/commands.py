"""commands: what a statement can ask of a session. grammar.py reads them, backend.py carries them out."""

from __future__ import annotations

from dataclasses import dataclass

from rewriter.refusal import Refusal

Modes = tuple[tuple[str, str], ...]
"""Transaction modes as settings: ("transaction_isolation", "serializable")."""


@dataclass(frozen=True, slots=True)
class Read:
    """A question for the room."""


@dataclass(frozen=True, slots=True)
class Begin:
    """BEGIN or START TRANSACTION, with its tag."""

    tag: str
    modes: Modes


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT or END."""

    chain: bool


@dataclass(frozen=True, slots=True)
class Rollback:
    """ROLLBACK or ABORT."""

    chain: bool


@dataclass(frozen=True, slots=True)
class Savepoint:
    """SAVEPOINT name."""

    name: str


@dataclass(frozen=True, slots=True)
class Release:
    """RELEASE [SAVEPOINT] name."""

    name: str


@dataclass(frozen=True, slots=True)
class RollbackTo:
    """ROLLBACK TO [SAVEPOINT] name."""

    name: str


@dataclass(frozen=True, slots=True)
class Set:
    """SET: `values` None is DEFAULT; `local` ends with the transaction."""

    name: str
    values: tuple[str, ...] | None
    local: bool


@dataclass(frozen=True, slots=True)
class SetTransaction:
    """SET TRANSACTION, or for all later ones SET SESSION CHARACTERISTICS."""

    modes: Modes
    session: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """RESET: `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Show:
    """SHOW: `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Discard:
    """DISCARD ALL, PLANS, SEQUENCES or TEMP."""

    what: str


@dataclass(frozen=True, slots=True)
class Deallocate:
    """DEALLOCATE: `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class CloseCursor:
    """CLOSE: `name` None is ALL."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Nothing:
    """A command that has no effect here; it is answered with its tag."""

    tag: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that is understood and not done."""

    refusal: Refusal


Command = (
    Read
    | Begin
    | Commit
    | Rollback
    | Savepoint
    | Release
    | RollbackTo
    | Set
    | SetTransaction
    | Reset
    | Show
    | Discard
    | Deallocate
    | CloseCursor
    | Nothing
    | Refused
)
