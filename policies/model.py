"""model: the policy as frozen values, each field's meaning beside it; `docs/policy.md` is made from here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from policies.fields import (
    Bound,
    Certificate,
    Day,
    Delta,
    Epsilon,
    MaybeEpsilon,
    Positive,
    PublicKey,
    Rows,
    Type,
    Value,
    Verifier,
    Version,
)
from policies.sqltype import SqlType

ROWS_PER_UNIT_DEFAULT: Final = 1000
"""Rows one unit may have in a table that declares nothing; enforced at load all the same."""
GROUPS_PER_UNIT_DEFAULT: Final = 16


class Rules(BaseModel):
    """What all parts of a policy share: an unknown field is an unenforced rule, hence an error."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )


class Room(Rules):
    """The room as a whole."""

    name: str
    """What the room is called."""
    version: Version
    """1 for the first policy of a room; each change counts one up."""
    environment: Literal["development", "production"]
    """`production` demands owners' keys, an expiry date, hardware evidence and TLS, and refuses `[test]`."""
    expires: Day | None = None
    """The last day on which the room answers. Demanded in production."""


class Owner(Rules):
    """One table for each party that brings data."""

    key: PublicKey | None = None
    """The Ed25519 public key that signs for this owner. Demanded in production."""


class Unit(Rules):
    """One table for each kind of unit: whom privacy protects. Adding or removing one whole unit is hidden."""

    comment: str = ""
    """Who that is, in words."""


class UnitRef(Rules):
    """To whom a row belongs: by a column of its own, or through another table."""

    name: str
    """The unit kind, one of `[units]`."""
    column: str | None = None
    """The column that identifies the unit. It is never released."""
    through: str | None = None
    """Instead of `column`: the table that knows the unit..."""
    on: str | None = None
    """...and the column to look it up by: both tables have it, and it is that table's whole declared key."""


class Column(Rules):
    """One entry for each column; the order is that of `SELECT *`."""

    type: Type
    """The Postgres type: boolean, smallint, integer, bigint, numeric(p,s), real, double precision, text,
    varchar(n), char(n), date, timestamp or timestamptz."""
    values: tuple[Value, ...] | None = None
    """Every value the column may have: a group key without a threshold. For text
    and integer types. Must be known without looking at the data."""
    bounds: tuple[Bound, Bound] | None = None
    """Lowest and highest value; others are clipped. For numbers, dates and timestamps. Must be known without
    looking at the data."""
    not_null: bool = False
    """True leaves NULL out of the domain; it is enforced at load."""
    comment: str = ""
    """What clients show beside the column."""

    @field_validator("bounds", mode="after")
    @classmethod
    def _one_form(cls, bounds: tuple[Any, Any] | None, info: ValidationInfo) -> tuple[Any, Any] | None:
        """Equal bounds must be equal values: whole numbers of a numeric type as Decimal, instants in UTC."""
        kind = info.data.get("type")
        if bounds is None or not isinstance(kind, SqlType):
            return bounds
        low, high = (_in_form_of(kind, bound) for bound in bounds)
        return low, high


def _in_form_of(kind: SqlType, bound: object) -> object:
    if isinstance(bound, int) and kind.is_numeric and not kind.is_integer:
        return Decimal(bound)
    if isinstance(bound, datetime) and bound.tzinfo is not None and kind.name == "timestamptz":
        try:
            return bound.astimezone(UTC)
        except OverflowError:
            raise ValueError("an instant must lie between the years 1 and 9999 in UTC") from None
    return bound


class Table(Rules):
    """One table for each table of data: either public or belonging to units."""

    owner: str | None = None
    """Who brings it, one of `[owners]`. Demanded in production unless the table is public."""
    comment: str = ""
    """What clients show beside the table."""
    public: bool = False
    """True for reference data that everyone may know: any SQL, no noise, no charge."""
    unit: UnitRef | None = None
    """To whom a row belongs. Demanded unless the table is public."""
    rows_per_unit: Rows | None = None
    """How many rows one unit may have; enforced at load whatever the data hold. 1000 unless given."""
    key: tuple[str, ...] = ()
    """Columns that identify a row. Checked at load: a duplicate stops it."""
    groups_per_unit: Rows | None = None
    """How many undeclared groups one unit may support. The smaller of `rows_per_unit` and 16 unless given."""
    contribution: dict[str, Positive] = {}
    """Declares what one unit may add in all to `"count"`, `"units"` or `"sum.COLUMN"`, otherwise found at a
    price."""
    columns: dict[str, Column]
    """The columns, by name."""

    @property
    def rows_per_unit_max(self) -> int:
        """Rows one unit may have, declared or not."""
        return self.rows_per_unit or ROWS_PER_UNIT_DEFAULT

    @property
    def groups_per_unit_max(self) -> int:
        """Undeclared groups one unit may support, declared or not."""
        return self.groups_per_unit or min(self.rows_per_unit_max, GROUPS_PER_UNIT_DEFAULT)


class Budget(Rules):
    """One table for each unit kind: what all analysts together may learn, the bound even if they collude."""

    epsilon: MaybeEpsilon = None
    """The privacy loss in all. Demanded, except where `[test]` makes it unlimited (None)."""
    delta: Delta
    """How likely that may fail. With `zcdp` one half is for the conversion, the other for thresholds."""
    accountant: Literal["zcdp", "pure"] = "zcdp"
    """How charges add: `zcdp` admits more questions, `pure` adds epsilons."""


class Role(Rules):
    """One table for each kind of analyst."""

    tables: tuple[str, ...]
    """What its analysts may see."""
    epsilon: Epsilon
    """One analyst's share, for each unit kind."""
    query_epsilon: Epsilon
    """What a question costs unless the session sets `dp.epsilon`."""
    query_epsilon_max: MaybeEpsilon = None
    """The most that a session may set. What the share can hold in one question unless given."""
    fallback: bool = True
    """True lets questions for rows be answered with synthetic rows, where there are any."""


class Analyst(Rules):
    """One table for each person who may ask; the name is the Postgres user."""

    role: str
    """One of `[roles]`."""
    verifier: Verifier | None = None
    """The password as Postgres stores it; `cleanroom user NAME` makes one. Or give `certificate`."""
    certificate: Certificate | None = None
    """The SHA-256 of a client certificate."""


class Answers(Rules):
    """How answers are shaped."""

    counts: Literal["raw", "whole"] = "raw"
    """`raw` keeps counts unbiased, even below zero; `whole` rounds them to non-negative integers."""


class Synthetic(Rules):
    """Present: synthetic rows are made for previews. Absent: previews are refused."""

    epsilon: Epsilon
    """The price of one generation, charged in common and to every share that may see the rows."""


class Test(Rules):
    """For statistical tests of the room itself; refused unless the environment is `development`."""

    __test__: ClassVar[bool] = False  # not one of pytest's

    reuse_answers: bool = True
    """False makes the same question fresh noise, and a fresh charge, every time."""
    epsilon: Literal["unlimited"] | None = None
    """`unlimited` lets no budget and no share run out."""


class Policy(Rules):
    """What the owners agreed."""

    room: Room
    owners: dict[str, Owner] = {}
    units: dict[str, Unit] = {}
    tables: dict[str, Table] = {}
    budgets: dict[str, Budget] = {}
    roles: dict[str, Role] = {}
    analysts: dict[str, Analyst] = {}
    answers: Answers = Answers()
    synthetic: Synthetic | None = None
    test: Test | None = None

    def role_of(self, analyst: str) -> Role:
        """Give an analyst's role.

        Raises:
            KeyError: there is no such analyst.
        """
        return self.roles[self.analysts[analyst].role]

    def visible_tables(self, analyst: str) -> tuple[str, ...]:
        """Name the tables an analyst may see, in the order of the policy.

        Raises:
            KeyError: there is no such analyst.
        """
        allowed = frozenset(self.role_of(analyst).tables)
        return tuple(name for name in self.tables if name in allowed)

    @model_validator(mode="before")
    @classmethod
    def _unlimited(cls, raw: object) -> object:
        """Let `[test] epsilon = "unlimited"` be seen where a budget is read."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("test"), Mapping | Test):
            return raw
        test, budgets = raw["test"], raw.get("budgets")
        given = test.epsilon if isinstance(test, Test) else test.get("epsilon")
        if given != "unlimited" or not isinstance(budgets, Mapping):
            return raw
        return {**raw, "budgets": {name: _without_epsilon(budget) for name, budget in budgets.items()}}


def _without_epsilon(budget: object) -> object:
    if isinstance(budget, Budget):
        return budget.model_copy(update={"epsilon": None})
    return {**budget, "epsilon": None} if isinstance(budget, Mapping) else budget
