"""portal: prepared statements and the portals bound to them, by name and bounded in number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from enclave.answer import Answer, Parameter, ResultColumn
from pgproxy import sqlstate
from pgproxy.commands import Command
from pgproxy.statements import Statement
from rewriter.refusal import Refusal

STATEMENTS_MAX: Final = 1_000
"""Prepared statements of one session; asyncpg keeps 100, pgjdbc 256."""
STATEMENT_CHARS_MAX: Final = 4 * 1024 * 1024
"""Texts of all prepared statements of one session, and what they describe."""
COLUMN_BYTES: Final = 250
"""About what a described column takes: an object and its name."""
PARAMETER_BYTES: Final = 40
"""About what the type of a parameter takes: `$65535` has as many types before it."""
PORTALS_MAX: Final = 100
"""Open portals of one session: each may hold a result."""
RESULT_BYTES_MAX: Final = 192 * 1024 * 1024
"""Results of all open portals of one session: room for a few of the largest."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement.

    Attributes:
        statement: None for an empty text.
        command: None for an empty text.
        parameter_types: OID of each `$n`.
        columns: of its result; None if it has none.
    """

    statement: Statement | None
    command: Command | None
    parameter_types: tuple[int, ...] = ()
    columns: tuple[ResultColumn, ...] | None = None

    @property
    def chars(self) -> int:
        """Length of its text, and about what it describes takes."""
        text = 0 if self.statement is None else len(self.statement.text)
        return text + PARAMETER_BYTES * len(self.parameter_types) + COLUMN_BYTES * len(self.columns or ())


@dataclass(slots=True)
class Portal:
    """A prepared statement with its values; after its first Execute also the result and how far it was sent."""

    prepared: Prepared
    parameters: tuple[Parameter, ...] = field(repr=False)
    formats: tuple[int, ...]
    answer: Answer | None = field(default=None, repr=False)
    rows_sent: int = 0
    done: bool = False


class Store:
    """The statements and portals of one session; the name "" may be taken again and again."""

    __slots__ = ("portals", "statements")

    def __init__(self) -> None:
        """Start empty."""
        self.statements: dict[str, Prepared] = {}
        self.portals: dict[str, Portal] = {}

    def add_statement(self, name: str, prepared: Prepared) -> None:
        """Keep a statement.

        Raises:
            Refusal: 42P05 the name is taken, 54000 there are too many.
        """
        self.check_statement(name)
        total = sum(kept.chars for kept in self.statements.values()) + prepared.chars
        if len(self.statements) >= STATEMENTS_MAX or total > STATEMENT_CHARS_MAX:
            raise Refusal(
                sqlstate.PROGRAM_LIMIT_EXCEEDED,
                "too many prepared statements in this session",
                hint="DEALLOCATE those that are not needed.",
            )
        self.statements[name] = prepared

    def check_statement(self, name: str) -> None:
        """Refuse a name that is taken (42P05)."""
        if name and name in self.statements:
            words = f'prepared statement "{name}" already exists'
            raise Refusal(sqlstate.DUPLICATE_PREPARED_STATEMENT, words)

    def statement(self, name: str) -> Prepared:
        """A statement by its name.

        Raises:
            Refusal: 26000, there is none.
        """
        if name not in self.statements:
            what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise Refusal(sqlstate.INVALID_SQL_STATEMENT_NAME, f"{what} does not exist")
        return self.statements[name]

    def add_portal(self, name: str, portal: Portal) -> None:
        """Keep a portal.

        Raises:
            Refusal: 42P03 the name is taken, 54000 there are too many.
        """
        if name and name in self.portals:
            raise Refusal(sqlstate.DUPLICATE_CURSOR, f'cursor "{name}" already exists')
        if len(self.portals) >= PORTALS_MAX:
            raise Refusal(sqlstate.PROGRAM_LIMIT_EXCEEDED, "too many open portals in this session")
        self.portals[name] = portal

    def check_result(self, answer: Answer) -> None:
        """Refuse to hold one more result (54000) beside those of the open portals."""
        held = sum(kept.answer.table.nbytes for kept in self.portals.values() if kept.answer is not None)
        if held + answer.table.nbytes > RESULT_BYTES_MAX:
            raise Refusal(
                sqlstate.PROGRAM_LIMIT_EXCEEDED,
                "the open portals of this session hold too much",
                hint="Close those that are not needed, or LIMIT what they read.",
            )

    def portal(self, name: str) -> Portal:
        """A portal by its name.

        Raises:
            Refusal: 34000, there is none.
        """
        if name not in self.portals:
            raise Refusal(sqlstate.INVALID_CURSOR_NAME, f'portal "{name}" does not exist')
        return self.portals[name]
