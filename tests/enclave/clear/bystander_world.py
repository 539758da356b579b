"""bystander_world: random small data sets under one policy, and the same without one unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa

from enclave.clear import vault
from policies import document
from policies.model import Policy

SECRET = b"\5" * 32
T = TypeVar("T")


class Dice(Protocol):
    """What is used of hypothesis' seeded random numbers."""

    def random(self) -> float: ...
    def randrange(self, start: int, stop: int) -> int: ...
    def choice(self, options: Sequence[T]) -> T: ...
    def shuffle(self, items: list[Any]) -> None: ...


POLICY = """
[room]
name = "bystander"
version = 1
environment = "development"
[units.member]
[budgets.member]
epsilon = "8"
delta = "1e-6"
[roles.analyst]
tables = ["members", "events", "payments", "places", "tags"]
epsilon = "3"
query_epsilon = "0.1"
[analysts.ana]
role = "analyst"
certificate = "sha256:{zeros}"
[tables.members]
unit = {{ name = "member", column = "member_id" }}
rows_per_unit = 1
key = ["member_id"]
[tables.members.columns]
member_id = {{ type = "{id}" }}
race = {{ type = "text", values = ["a", "b", "O'Neil", "é"], not_null = true }}
gender = {{ type = "char(3)", values = ["m", "f"] }}
age = {{ type = "integer", bounds = [0, 9] }}
city = {{ type = "text" }}
vip = {{ type = "boolean" }}
score = {{ type = "double precision" }}
born = {{ type = "date" }}
[tables.events]
unit = {{ name = "member", column = "member_id" }}
rows_per_unit = 12
groups_per_unit = 3
key = ["event_id"]
[tables.events.columns]
event_id = {{ type = "bigint" }}
member_id = {{ type = "{id}" }}
kind = {{ type = "text", values = ["x", "y", ""] }}
place_id = {{ type = "integer" }}
amount = {{ type = "bigint" }}
small = {{ type = "smallint", bounds = [-5, 5] }}
price = {{ type = "numeric(12,2)", bounds = [-100.5, 99999.99] }}
cost = {{ type = "numeric(30,10)" }}
ratio = {{ type = "double precision" }}
part = {{ type = "real", bounds = [-1.0, 1.0] }}
at = {{ type = "timestamp", bounds = [2019-01-01T00:00:00, 2020-12-31T00:00:00] }}
seen = {{ type = "timestamptz" }}
day = {{ type = "date" }}
note = {{ type = "text" }}
ok = {{ type = "boolean" }}
[tables.payments]
unit = {{ name = "member", through = "events", on = "event_id" }}
rows_per_unit = 5
[tables.payments.columns]
event_id = {{ type = "bigint" }}
paid = {{ type = "numeric(10,2)" }}
due = {{ type = "date", bounds = [2020-01-01, 2020-03-01] }}
method = {{ type = "varchar(4)" }}
[tables.places]
public = true
key = ["place_id"]
[tables.places.columns]
place_id = {{ type = "integer" }}
region = {{ type = "text" }}
weight = {{ type = "double precision" }}
size = {{ type = "integer" }}
opened = {{ type = "date" }}
[tables.tags]
public = true
[tables.tags.columns]
kind = {{ type = "text" }}
tag = {{ type = "text" }}
factor = {{ type = "integer" }}
"""
TEXTS = (
    None,
    "",
    "a",
    "A",
    "x",
    "y",
    "'",
    '"',
    'a"b',
    "O'Neil",
    "é",
    "ß",
    "\u0130",
    "😀",
    "null",
    "a%b_",
    "\\",
    "12",
    "-7",
)
TEXT_IDS = ("m1", "m2", "", "0", "00", "'", '"x"', "é", "😀", "null", "NULL", "z", "a b", "[1]", "Z")
WHOLE_IDS = (-(2**63), -1, 0, 1, 2, 9, 10, 11, 2**31, 2**53, 2**53 + 1, 2**62, 2**63 - 1)
WHOLES = (None, 0, 1, 1, 2, 3, -1, -4, 7, 1000, 2**31 - 1, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**64)
NUMERICS = (None, "0", "0.01", "-0.01", "1.5", "-3.25", "100", "9999999999.99", "-9999999999.99", "7.77")
WIDE = (None, "0", "1", "-2.5", "99999999999999999999.9999999999", "-99999999999999999999.9999999999", "0.0000000001")
FLOATS = (
    None,
    "0",
    "-0.0",
    "1",
    "-1.25",
    "0.1",
    "2.5",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "5e-324",
    "1e20",
    "7",
)
DATES = (
    None,
    "0001-01-01",
    "9999-12-31",
    "2020-02-29",
    "1969-12-31",
    "2020-01-05",
    "2019-12-30",
    "infinity",
    "1582-10-10",
)
TIMES = (
    None,
    "2019-01-01 00:00:00",
    "2020-02-29 23:59:59.999999",
    "2020-06-01 12:30:00.5",
    "2019-12-30",
    "0001-01-01",
)
SEEN = (*TIMES, "9999-12-31 23:59:59.999999", "1883-11-18 12:00:00", "-infinity")
BOOLEANS = (None, "true", "false", "true")


@dataclass(frozen=True, slots=True)
class World:
    """Raw rows by table, cells as text, and the ids of units that have any."""

    policy: Policy
    rows: Mapping[str, list[tuple[Any, ...]]]
    units: tuple[str, ...]

    def without(self, unit: str, dice: Dice) -> World:
        """The same without one unit. Its payments may stay: then they lead to nobody."""
        events = {row[0] for row in self.rows["events"] if str(row[1]) == unit and row[1] is not None}
        keep_orphans = dice.random() < 0.3
        rows = dict(self.rows)
        rows["members"] = [row for row in rows["members"] if row[0] is None or str(row[0]) != unit]
        rows["events"] = [row for row in rows["events"] if row[1] is None or str(row[1]) != unit]
        rows["payments"] = [row for row in rows["payments"] if keep_orphans or row[0] not in events]
        for name in ("members", "events", "payments"):
            dice.shuffle(rows[name])
        return World(self.policy, rows, tuple(u for u in self.units if u != unit))

    def vacant(self) -> World:
        """The same public tables and nobody."""
        rows = {name: [] if self.policy.tables[name].unit else rows for name, rows in self.rows.items()}
        return World(self.policy, rows, ())


def make(dice: Dice, policies: Mapping[str, Policy]) -> World:
    """A random world; sometimes one unit has more than a thousand rows."""
    kind = dice.choice(("text", "bigint"))
    pool: Sequence[Any] = TEXT_IDS if kind == "text" else WHOLE_IDS
    ids = [i for i in pool if dice.random() < 0.6] or [pool[0]]
    members = [_member(dice, i) for i in ids if dice.random() < 0.85]
    events: list[tuple[Any, ...]] = []
    for unit in (*ids, None):
        most = dice.choice((0, 2, 5, 9, 20))
        events += [_event(dice, len(events) + n, unit) for n in range(most)]
    if dice.random() < 0.25:
        heavy = dice.choice(ids)
        events += [_event(dice, len(events) + n, heavy) for n in range(1500)]
    events += [(None, *_event(dice, 0, dice.choice(ids))[1:])]
    payments = [_payment(dice, dice.choice(events)[0]) for _ in range(dice.randrange(20, 90))]
    payments += payments[:10]  # identical rows
    places = [_place(dice, n) for n in range(6)] + [(None, "a", "1", "1", None)]
    tags = [(dice.choice(("x", "y", "", None)), dice.choice(TEXTS), dice.choice((None, 0, 1, -3))) for _ in range(4)]
    rows = {"members": members, "events": events, "payments": payments, "places": places, "tags": [*tags, tags[0]]}
    owned = {row[0] for row in members} | {row[1] for row in events if row[1] is not None}
    return World(policies[kind], rows, tuple(sorted(map(str, owned))))


def policies() -> dict[str, Policy]:
    """The policy with text and with whole numbers as unit ids."""
    return {kind: document.read(POLICY.format(id=kind, zeros="0" * 64)) for kind in ("text", "bigint")}


def load(world: World, threads: int) -> duckdb.DuckDBPyConnection:
    """Load a world as the product does."""
    connection = vault.connect(threads=threads)
    vault.load(connection, world.policy, lambda name: _arrow(world, name), SECRET)
    return connection


def stored(connection: duckdb.DuckDBPyConnection, world: World) -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    """The stored rows of each table by the owner's value of the unit, in `_rank` order; cells as text."""
    found: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
    for name, table in world.policy.tables.items():
        if table.public:
            continue
        columns = ", ".join(f'CAST(t."{column}" AS VARCHAR)' for column in table.columns)
        owned = f'"{name}" t LEFT JOIN _units_member u USING (_unit)'
        sql = f"SELECT u.value, t._rank, {columns} FROM {owned} ORDER BY 1, 2"
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for value, *row in connection.execute(sql).fetchall():
            rows.setdefault(value, []).append(tuple(row))
        found[name] = rows
    return found


def _arrow(world: World, name: str) -> pa.Table:
    columns = list(world.policy.tables[name].columns)
    cells = [[None if row[i] is None else str(row[i]) for row in world.rows[name]] for i in range(len(columns))]
    return pa.table({column: pa.array(cells[i], pa.string()) for i, column in enumerate(columns)})


def _member(dice: Dice, unit: Any) -> tuple[Any, ...]:
    pick = dice.choice
    return (
        unit,
        pick(("a", "b", "O'Neil", "é", "a", None if pick((0, 1)) else "other")),
        pick(("m", "f  ", None, "q")),
        pick((0, 3, 9, 12, -5, None)),
        pick(TEXTS),
        pick(BOOLEANS),
        pick(FLOATS),
        pick(DATES),
    )


def _event(dice: Dice, number: int, unit: Any) -> tuple[Any, ...]:
    pick = dice.choice
    return (
        number * 3 - 50,
        unit,
        pick(("x", "y", "", None, "other")),
        pick((0, 1, 2, 3, 5, 77, None)),
        pick(WHOLES),
        pick((0, 1, 2, -3, 9, None)),
        pick(NUMERICS),
        pick(WIDE),
        pick(FLOATS),
        pick(FLOATS),
        pick(TIMES),
        pick(SEEN),
        pick(DATES),
        pick(TEXTS),
        pick(BOOLEANS),
    )


def _payment(dice: Dice, event: Any) -> tuple[Any, ...]:
    pick = dice.choice
    event = pick((event, event, event, event, None, 10**9))
    return event, pick(("0", "1.5", "-20", "99999999.99", None)), pick(DATES), pick(("cash", "card", "cheque", None))


def _place(dice: Dice, number: int) -> tuple[Any, ...]:
    pick = dice.choice
    return number, pick(("n", "s", "n", None)), pick(FLOATS), pick((0, 1, -2, 2**31 - 1, None)), pick(DATES)
