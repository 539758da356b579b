"""room: a small policy with everything a rule of the rewriter looks at, and short names for plans over it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from policies.model import Policy
from rewriter.plan import Expression, Filter, Join, Relation, Scan
from rewriter.refusal import Refusal


def _columns(**kinds: Any) -> dict[str, Any]:
    return {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in kinds.items()}


def _own(unit: str, column: str, rows: int | None, columns: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"unit": {"name": unit, "column": column}, "rows_per_unit": rows, "columns": columns, **rules}


def _through(table: str, on: str, rows: int, columns: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {
        "unit": {"name": "person", "through": table, "on": on},
        "rows_per_unit": rows,
        "columns": columns,
        **rules,
    }


def _public(key: tuple[str, ...], columns: dict[str, Any]) -> dict[str, Any]:
    return {"public": True, "key": key, "columns": columns}


DAYS = (dt.date(2023, 12, 30), dt.date(2024, 1, 8))
MOMENTS = (dt.datetime.fromisoformat("2023-12-30 00:00:00"), dt.datetime.fromisoformat("2024-02-02 12:00:00"))

POLICY = Policy.model_validate(
    {
        "room": {"name": "r", "version": 1, "environment": "development"},
        "units": {"person": {}, "doctor": {}},
        "tables": {
            "members": _own(
                "person",
                "id",
                1,
                _columns(
                    id="bigint",
                    sex={"type": "text", "values": ("f", "m"), "not_null": True},
                    age={"type": "smallint", "bounds": (0, 9)},
                    born={"type": "date", "bounds": DAYS},
                    smokes="boolean",
                    height={"type": "double precision", "bounds": (Decimal("0.3"), Decimal("2.5"))},
                    weight="double precision",
                    nation="integer",
                    city="text",
                ),
                key=("id",),
            ),
            "visits": _own(
                "person",
                "id",
                5,
                _columns(
                    visit="bigint",
                    id="bigint",
                    ward={"type": "smallint", "values": (1, 2, 3)},
                    minutes={"type": "integer", "bounds": (0, 240), "not_null": True},
                    at={"type": "timestamp", "bounds": MOMENTS},
                    cost="numeric(12,2)",
                    code="varchar(8)",
                    note="text",
                ),
                key=("visit",),
                groups_per_unit=3,
                contribution={"count": "4", "units": "1", "sum.minutes": "600"},
            ),
            "bills": _through(
                "visits", "visit", 10, _columns(bill="bigint", visit="bigint", amount="numeric(12,2)"), key=("bill",)
            ),
            "items": _through(
                "bills", "bill", 20, _columns(bill="bigint", price={"type": "integer", "bounds": (0, 0)})
            ),
            "shifts": _own("doctor", "doctor", None, _columns(doctor="bigint", id="bigint", hours="real")),
            "nations": _public(
                ("nation",),
                _columns(
                    nation={"type": "integer", "not_null": True},
                    name="text",
                    region="integer",
                    size="double precision",
                ),
            ),
            "regions": _public(("region",), _columns(region={"type": "integer", "not_null": True}, title="text")),
            "pairs": _public(("a", "b"), _columns(a="bigint", b="bigint", label="text")),
            "log": _public((), _columns(line="text")),
        },
        "budgets": {"person": {"epsilon": "8", "delta": "1e-6"}, "doctor": {"epsilon": "8", "delta": "1e-6"}},
    }
)


class Facts:
    """Sizes of the public tables."""

    def __init__(self, **rows: int) -> None:
        self._rows = {"nations": 4, "regions": 2, "pairs": 6, "log": 1000, **rows}

    def rows(self, table: str) -> int:
        return self._rows[table]

    def distinct(self, table: str, columns: tuple[str, ...]) -> int:
        return self._rows[table]


FACTS = Facts()

MEMBERS, VISITS, BILLS, ITEMS = Scan("members", "m"), Scan("visits", "v"), Scan("bills", "b"), Scan("items", "i")
SHIFTS, NATIONS, REGIONS, PAIRS = Scan("shifts", "s"), Scan("nations", "n"), Scan("regions", "r"), Scan("pairs", "p")


def inner(left: Relation, right: Relation, *on: Expression) -> Join:
    return Join("inner", left, right, on)


def outer(left: Relation, right: Relation, *on: Expression) -> Join:
    return Join("left", left, right, on)


def where(source: Relation, *conditions: Expression) -> Filter:
    return Filter(source, conditions)


def refused(run: Any, *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        run(*arguments)
    assert caught.value.message
    return caught.value
