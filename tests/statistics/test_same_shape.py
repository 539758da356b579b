"""Same shape: on data that lack one unit, an answer differs in noised cells and in nothing else.

The noise of these rooms is fixed: nothing is added to a sum, and counts of units are moved so far that every noisy
threshold fails (HIDDEN) or every one passes (SHOWN). Compared byte for byte between a data set and the same without
each unit in turn, for each question: SQLSTATE, message, hint and position of a refusal; names, OIDs and typmods of
columns; the command tag and with it the number of rows; the columns of group keys, in order; the notice up to its
margins (a margin depends on a bound that is found from noised counts); what is charged; which leaves are logged;
EXPLAIN; Describe; the catalogue. Not compared are aggregates and margins: what is computed from noised cells.

With SHOWN, a group of unknown key appears when anybody supports it, so that the groups of the removed unit alone
may be missing, and nothing else may. No chance is involved: these tests raise no false alarm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave.answer import Answer
from rewriter.refusal import Refusal
from tests.rooms import Data, Fixed, Room, certificate, rows

HIDDEN, SHOWN = Fixed(others=-(10**12)), Fixed(others=10**12)
RACES = ("a", "b", "O'Neil")
POLICY = f"""
[room]
name = "shape"
version = 1
environment = "development"
[units.member]
[tables.members]
unit = {{ name = "member", column = "member_id" }}
rows_per_unit = 1
key = ["member_id"]
[tables.members.columns]
member_id = {{ type = "bigint", not_null = true }}
race = {{ type = "text", values = {list(RACES)}, not_null = true }}
age = {{ type = "integer", bounds = [0, 99] }}
vip = {{ type = "boolean" }}
born = {{ type = "date", bounds = [1950-01-01, 1952-12-31] }}
city = {{ type = "text" }}
[tables.visits]
unit = {{ name = "member", column = "member_id" }}
rows_per_unit = 4
[tables.visits.columns]
member_id = {{ type = "bigint", not_null = true }}
place_id = {{ type = "integer" }}
days = {{ type = "integer", bounds = [1, 14], not_null = true }}
paid = {{ type = "numeric(12,2)" }}
weight = {{ type = "double precision" }}
code = {{ type = "text" }}
[tables.places]
public = true
key = ["place_id"]
[tables.places.columns]
place_id = {{ type = "integer", not_null = true }}
region = {{ type = "text", not_null = true }}
[budgets.member]
epsilon = "80"
delta = "1e-6"
[roles.researcher]
tables = ["members", "visits", "places"]
epsilon = "80"
query_epsilon = "0.1"
[analysts.ana]
role = "researcher"
certificate = "{certificate("ana")}"
"""
PLACES = pa.table({"place_id": pa.array([1, 2, 3], pa.int32()), "region": ["north", "south", "south"]})


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and how many of its columns, from the first on, are group keys of public groups."""

    sql: str
    keys: int = 0


PUBLIC = (
    Asked("SELECT count(*) FROM members"),
    Asked("SELECT count(*), sum(age), avg(age) FROM members WHERE age > 1000"),
    Asked("SELECT count(*) FROM members WHERE FALSE"),
    Asked("SELECT race, count(*) FROM members GROUP BY race", 1),
    Asked("SELECT race, vip, count(*), avg(age), sum(age), count(age) FROM members GROUP BY 1, 2 ORDER BY 1, 2", 2),
    Asked("SELECT race, count(*), dp.margin(count(*)) FROM members WHERE city LIKE 'B%' GROUP BY 1", 1),
    Asked("SELECT race FROM members GROUP BY race", 1),
    Asked("SELECT DISTINCT vip FROM members", 1),
    Asked("SELECT age, count(*) FROM members WHERE age BETWEEN 20 AND 30 GROUP BY age ORDER BY age", 1),
    Asked("SELECT CASE WHEN age < 50 THEN 'young' WHEN age < 90 THEN 'old' END, count(*) FROM members GROUP BY 1", 1),
    Asked("SELECT date_trunc('quarter', born), count(*) FROM members GROUP BY 1", 1),
    Asked("SELECT extract(dow from born), avg(age) FROM members GROUP BY 1", 1),
    Asked("SELECT days, sum(paid), avg(paid), sum(weight), avg(weight) FROM visits GROUP BY days", 1),
    Asked("SELECT days / 5, count(DISTINCT member_id) FROM visits GROUP BY 1", 1),
    Asked("SELECT count(*), avg(days / (days - 5)), sum(100 / (age - 30)) "
          "FROM visits JOIN members USING (member_id)"),
    Asked("SELECT count(*) FILTER (WHERE code = 'x'), sum(days) FILTER (WHERE paid > 10) FROM visits"),
    Asked("SELECT race, avg(days) FROM members m JOIN visits v ON m.member_id = v.member_id GROUP BY race", 1),
    Asked("SELECT race, count(v.days) FROM members m LEFT JOIN visits v USING (member_id) GROUP BY race", 1),
    Asked("SELECT region, count(*) FROM visits JOIN places USING (place_id) GROUP BY region", 1),
    Asked("SELECT region, race, sum(paid) FROM visits JOIN members USING (member_id) JOIN places USING (place_id) "
          "WHERE region <> 'north' GROUP BY region, race", 2),
    Asked("SELECT race, rank() OVER (ORDER BY race), count(*) + 1, count(*) * 1.5 FROM members GROUP BY race", 2),
    Asked("WITH r AS (SELECT race, count(*) AS n FROM members GROUP BY race) SELECT race, n FROM r ORDER BY race", 1),
    Asked("SELECT race, count(*) FROM members GROUP BY race ORDER BY race DESC LIMIT 2 OFFSET 1", 1),
    Asked("SELECT CAST(code AS integer) > 3, count(*) FROM visits GROUP BY 1", 1),
    Asked("SELECT 'all', count(*) FROM visits WHERE code ILIKE '%x%' OR code IS NULL OR paid <> weight", 1),
)  # fmt: skip
UNKNOWN = (
    Asked("SELECT city, count(*) FROM members GROUP BY city"),
    Asked("SELECT code, count(*), avg(days), sum(paid) FROM visits GROUP BY code"),
    Asked("SELECT paid, count(*) FROM visits GROUP BY paid"),
    Asked("SELECT race, city, count(*) FROM members GROUP BY race, city"),
    Asked("SELECT DISTINCT lower(city) FROM members"),
    Asked("SELECT city, region, sum(days) FROM members JOIN visits USING (member_id) "
          "LEFT JOIN places USING (place_id) GROUP BY 1, 2"),
)  # fmt: skip
REFUSED = (
    "SELECT * FROM members",
    "SELECT city FROM members WHERE member_id = 3",
    "SELECT member_id, count(*) FROM visits GROUP BY member_id",
    "SELECT max(city) FROM members",
    "SELECT count(*) FROM members WHERE nothing = 1",
    "SELECT count(*) FROM visits JOIN members ON visits.days = members.age",
    "SELECT sum(city) FROM members",
    "SELECT count(*) FROM members WHERE random() < 0.5",
    "SELECT count(*) FROM nowhere",
    "SELECT count(* FROM members",
    "SELECT race, count(*) FROM members GROUP BY race HAVING city = 'Bern'",
    "SELECT count(DISTINCT code) FROM visits",
)
FREE = (
    "SELECT region, count(*) FROM places GROUP BY region ORDER BY 1",
    "SELECT 1/2, 'x', NULL, now() > '2020-01-01'",
    "SELECT relname, reltuples, relpages FROM pg_catalog.pg_class WHERE relname IN ('members', 'visits', 'places')",
    "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT * FROM pg_catalog.pg_stats",
    "SELECT * FROM dp.budget",
)

Tables = Mapping[str, pa.Table]


@st.composite
def people(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to five members with up to five visits each: one more than counts."""
    maybe = lambda strategy: st.none() | strategy  # noqa: E731
    visit = st.fixed_dictionaries(
        {
            "place_id": maybe(st.integers(0, 4)),
            "days": st.sampled_from([1, 5, 14, 2**31 - 1]),
            "paid": maybe(st.sampled_from(["0.00", "-3.50", "9999999999.99", "12.01"])),
            "weight": maybe(st.sampled_from([0.0, -1e308, 3.25, float("inf"), float("nan")])),
            "code": maybe(st.sampled_from(["x", "4", "1e999", "", "%"])),
        }
    )
    member = st.fixed_dictionaries(
        {
            "race": st.sampled_from(RACES),
            "age": maybe(st.integers(-5, 120)),
            "vip": maybe(st.booleans()),
            "born": maybe(st.sampled_from(["1950-02-03", "1952-12-31", "2400-01-01"])),
            "city": maybe(st.sampled_from(["Bern", "bern", "Basel", "Zanzibar"])),
            "visits": st.lists(visit, max_size=5),
        }
    )
    return draw(st.lists(member, min_size=1, max_size=5))


def load(members: list[dict[str, Any]], without: int | None = None) -> Data:
    """The vault of some people, all but one of them."""
    present = [(number, member) for number, member in enumerate(members) if number != without]
    columns = ("race", "age", "vip", "born", "city")
    texts = {c: pa.array([_text(member[c]) for _, member in present], pa.string()) for c in columns}
    visits = [(number, visit) for number, member in present for visit in member["visits"]]
    fields = ("place_id", "days", "paid", "weight", "code")
    values = {c: pa.array([_text(visit[c]) for _, visit in visits], pa.string()) for c in fields}
    tables = {
        "members": pa.table({"member_id": pa.array([n for n, _ in present], pa.int64()), **texts}),
        "visits": pa.table({"member_id": pa.array([n for n, _ in visits], pa.int64()), **values}),
        "places": PLACES,
    }
    return Data(POLICY, tables)


def _text(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def shape(room: Room, asked: Asked, **others: Any) -> tuple[Any, ...]:
    """All of an answer or refusal that must not depend on one unit."""
    before = len(room.log.leaves)
    try:
        answer = room.ask(asked.sql, **others)
    except Refusal as refusal:
        told: tuple[Any, ...] = (refusal.sqlstate, refusal.message, refusal.hint, refusal.detail, refusal.position)
    else:
        keys = [answer.table.column(n).to_pylist() for n in range(asked.keys)]
        words = [(notice.severity, notice.sqlstate, notice.message.split(";")[0]) for notice in answer.notices]
        types = [str(column.type) for column in answer.table.columns]
        told = (answer.columns, types, answer.tag, answer.table.num_rows, keys, words)
    kinds = [json.loads(leaf)["kind"] for leaf in room.log.leaves[before:]]
    return (asked.sql, told, kinds, room.spent("member"))


def neighbours(members: list[dict[str, Any]]) -> Iterator[Data]:
    """The data without each unit in turn."""
    for number in range(len(members)):
        yield load(members, without=number)


def some(draws: int) -> Any:
    return settings(
        max_examples=draws, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
    )


@pytest.mark.system
@some(6)
@given(people())
def test_public_groups_and_everything_but_the_cells_are_the_same_without_any_one_unit(
    members: list[dict[str, Any]],
) -> None:
    def told(data: Data) -> list[tuple[Any, ...]]:
        with data.room(HIDDEN) as room:
            return [shape(room, asked) for asked in (*PUBLIC, *UNKNOWN)]

    whole = told(load(members))
    for less in neighbours(members):
        assert told(less) == whole


@pytest.mark.system
@some(4)
@given(people())
def test_refusals_explanations_and_the_catalogue_are_the_same_to_the_byte(members: list[dict[str, Any]]) -> None:
    def told(data: Data) -> list[Any]:
        with data.room(SHOWN) as room:
            found: list[Any] = [shape(room, Asked(sql)) for sql in REFUSED]
            for asked in (*PUBLIC, *UNKNOWN):
                found += [rows(room.ask(f"EXPLAIN {asked.sql}")), room.ask(asked.sql, describe=True).columns]
            found += [(room.ask(sql).columns, rows(room.ask(sql))) for sql in FREE]
            assert room.spent("member") == 0
            return found

    whole = told(load(members))
    assert all(told[1][0] != "XX000" for told in whole[: len(REFUSED)])
    for less in neighbours(members):
        assert told(less) == whole


@pytest.mark.system
@some(6)
@given(people())
def test_unknown_groups_differ_by_those_that_the_removed_unit_alone_supports(members: list[dict[str, Any]]) -> None:
    def told(data: Data) -> list[Any]:
        with data.room(SHOWN) as room:
            return [shape_of_groups(room.ask(asked.sql)) for asked in UNKNOWN]

    whole = told(load(members))
    for less in neighbours(members):
        for (columns, groups), (other_columns, others) in zip(whole, told(less), strict=True):
            assert columns == other_columns
            assert [group for group in groups if group in others] == others  # none more, none in another place


def shape_of_groups(answer: Answer) -> tuple[Any, list[tuple[Any, ...]]]:
    """The columns, and the group keys: what is text in these answers, in order."""
    keys = [n for n, column in enumerate(answer.columns) if column.type_oid in (25, 1700) and column.name != "sum"]
    keys = [n for n in keys if answer.columns[n].name != "avg"]
    return answer.columns, [tuple(row[n] for n in keys) for row in rows(answer)]


@pytest.mark.system
@some(4)
@given(people())
def test_cells_differ_by_no_more_than_the_bound_of_their_release(members: list[dict[str, Any]]) -> None:
    """Without noise a count of members or days of one unit moves one cell, by at most what one unit may add."""
    sql = "SELECT race, count(*) FROM members GROUP BY race"
    with load(members).room(HIDDEN) as room:
        whole = dict(room.rows(sql))
    assert sum(whole.values()) == len(members)
    for number, less in enumerate(neighbours(members)):
        with less.room(HIDDEN) as room:
            others = dict(room.rows(sql))
        moved = {race: whole[race] - others[race] for race in whole}
        assert moved == {race: int(race == members[number]["race"]) for race in whole}


@pytest.mark.system
def test_every_question_is_of_the_kind_that_its_list_says() -> None:
    members = [{"race": "a", "age": 30, "vip": True, "born": None, "city": "Bern", "visits": []}]
    with load(members).room(SHOWN) as room:
        for asked in (*PUBLIC, *UNKNOWN):
            explained = "\n".join(line for (line,) in room.rows(f"EXPLAIN {asked.sql}"))
            assert ("Groups: unknown" in explained) == (asked in UNKNOWN), asked.sql
            room.ask(asked.sql)
        for sql in REFUSED:
            with pytest.raises(Refusal):
                room.ask(sql)
