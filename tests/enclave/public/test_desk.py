"""The desk: an analyst's text -> the releases it needs -> its answer. Postgres 15 is the oracle for shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from enclave.answer import Answer, Noised, NoisyCoordinate, Question
from enclave.public.desk import Desk, view_table
from enclave.public.postprocess import load_public
from policies import document
from rewriter.cost import Price
from rewriter.refusal import Refusal
from rewriter.released import ReleasedTable
from tests.rooms import certificate, parameters, rows

POLICY = f"""
[room]
name = "desk"
version = 1
environment = "development"
[units.person]
[tables.people]
unit = {{ name = "person", column = "id" }}
rows_per_unit = 1
key = ["id"]
[tables.people.columns]
id = {{ type = "bigint", not_null = true }}
grp = {{ type = "text", values = ["a", "b"], not_null = true }}
age = {{ type = "integer", bounds = [0, 100], not_null = true }}
small = {{ type = "smallint", bounds = [0, 9] }}
big = {{ type = "bigint", bounds = [0, 1000000] }}
money = {{ type = "numeric(10,2)", bounds = [0, 1000] }}
weight = {{ type = "double precision", bounds = [0, 200] }}
r4 = {{ type = "real", bounds = [0, 200] }}
vip = {{ type = "boolean" }}
born = {{ type = "date", bounds = [2000-01-01, 2001-12-31] }}
at = {{ type = "timestamp", bounds = [2020-01-01T00:00:00, 2020-12-31T23:59:59] }}
atz = {{ type = "timestamptz", bounds = [2020-01-01T00:00:00Z, 2020-12-31T23:59:59Z] }}
code = {{ type = "varchar(3)", values = ["x", "yy"] }}
fix = {{ type = "char(4)", values = ["ab", "c"] }}
city = {{ type = "text" }}
[tables.places]
public = true
key = ["place_id"]
[tables.places.columns]
place_id = {{ type = "integer", not_null = true }}
name = {{ type = "text" }}
price = {{ type = "numeric(8,3)" }}
w = {{ type = "double precision" }}
opened = {{ type = "date" }}
ts = {{ type = "timestamptz" }}
ok = {{ type = "boolean" }}
s = {{ type = "smallint" }}
[tables.secrets]
public = true
columns = {{ x = {{ type = "integer" }} }}
[budgets.person]
epsilon = "8"
delta = "1e-6"
[roles.reader]
tables = ["people", "places"]
epsilon = "3"
query_epsilon = "0.1"
[analysts.ana]
role = "reader"
certificate = "{certificate("ana")}"
"""
PUBLIC = {
    "places": pa.table(
        {
            "place_id": ["1", "2", "3"],
            "name": ["n", None, "s"],
            "price": ["1.500", "22.125", None],
            "w": ["0.1", "1e20", None],
            "opened": ["2020-01-01", None, "2021-05-05"],
            "ts": ["2020-01-01 00:00:00+00", None, "2021-05-05 00:00:00+00"],
            "ok": ["true", "false", None],
            "s": ["1", "2", "3"],
        }
    ),
    "secrets": pa.table({"x": ["1"]}),
}
PRICES = {"person": Price("zcdp", Fraction(1, 200), Fraction(1, 10**9))}
COUNTED = "SELECT grp, count(*) AS n FROM people GROUP BY grp"
RECORDED = (Path(__file__).parent / "postgres15.txt").read_text().splitlines()
RECORDED = [line for line in RECORDED if not line.startswith("#")]
PAIRS = list(zip(RECORDED[::2], (line.strip() for line in RECORDED[1::2]), strict=True))
IS_ERROR = re.compile(r"[0-9A-Z]{5}( |$)")


@pytest.fixture(scope="module")
def desk() -> Desk:
    policy = document.read(POLICY)
    return Desk(policy, load_public(policy, PUBLIC.__getitem__))


def made(shape: ReleasedTable, numbers: Iterator[int]) -> Noised:
    """A release of a group or two, whose numbers are 10, 20, 30... in the order of its coordinates."""
    texts = {
        "text": ("a", "b"), "varchar": ("x", "yy"), "char": ("ab", "c"), "boolean": ("true", None),
        "date": ("2000-02-03", None), "timestamp": ("2020-01-02 03:04:05", None),
        "timestamptz": ("2020-01-02 03:04:05", None),
    }  # fmt: skip
    keys = tuple(texts.get(key.type.name, ("1", None)) for key in shape.keys)
    groups = 2 if keys else 1
    count = 1 + max((place for measure in shape.measures for place in measure.coordinates), default=-1)
    values = [tuple(next(numbers) for _ in range(groups)) for _ in range(count)]
    made_ = [NoisyCoordinate(v, Fraction(1), "laplace", 1.0, Fraction(1)) for v in values]
    return Noised(keys, groups, tuple(made_))


def ask(desk: Desk, sql: str, **others: Any) -> Answer:
    """Prepare a question and finish it with made-up releases."""
    question = Question(sql, "ana", **others)
    prepared = desk.prepare(question, PRICES)
    if prepared.answer is not None:
        return prepared.answer
    numbers = iter(range(10, 10_000, 10))
    views = {name: view_table(name, [BUDGET]) for name in prepared.views}
    return desk.finish(question, [made(shape, numbers) for shape in prepared.releases], views)[0]


BUDGET = {
    "unit": "person", "scope": "analyst", "name": "ana", "epsilon": 3.0, "delta": 1e-6, "spent": 0.25,
    "questions_left": None,
}  # fmt: skip


def shape(answer: Answer) -> str:
    return " ".join(f"{column.name}:{column.type_oid}" for column in answer.columns)


# shapes, held against Postgres


@pytest.mark.parametrize(("sql", "expected"), [pair for pair in PAIRS if not IS_ERROR.match(pair[1])])
def test_columns_have_the_names_and_types_that_postgres_gives_them(desk: Desk, sql: str, expected: str) -> None:
    assert shape(ask(desk, sql)) == expected
    assert shape(ask(desk, sql, describe=True)) == expected


@pytest.mark.parametrize(("sql", "expected"), [pair for pair in PAIRS if IS_ERROR.match(pair[1])])
def test_errors_have_the_sqlstate_and_words_of_postgres(desk: Desk, sql: str, expected: str) -> None:
    sqlstate, _, message = expected.partition(" ")
    with pytest.raises(Refusal) as raised:
        ask(desk, sql)
    assert raised.value.sqlstate == sqlstate
    if message:
        assert raised.value.message == message


def test_the_recorded_queries_are_many_of_both_kinds() -> None:
    errors = [pair for pair in PAIRS if IS_ERROR.match(pair[1])]
    assert len(errors) > 30
    assert len(PAIRS) - len(errors) > 90


# what runs above a release


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"{COUNTED} ORDER BY n DESC", [("b", 20), ("a", 10)]),
        (f"{COUNTED} ORDER BY 2 DESC LIMIT 1", [("b", 20)]),
        (f"{COUNTED} ORDER BY grp OFFSET 1", [("b", 20)]),
        (f"{COUNTED} HAVING count(*) > 15", [("b", 20)]),
        (f"{COUNTED} HAVING count(*) > 15 OR grp = 'a' ORDER BY grp", [("a", 10), ("b", 20)]),
        ("SELECT count(*) FROM people HAVING count(*) > 100", []),
        ("SELECT count(*) / 3, count(*) % 3, -count(*) / 3 FROM people", [(3, 1, -3)]),
        ("SELECT count(*) / 4.0, count(*)::float8 / 4 FROM people", [("2.5", 2.5)]),
        ("SELECT count(*) / (count(*) - 10), count(*) * 1.0 / (count(*) - 10) FROM people", [(None, None)]),
        ("SELECT count(*) % (count(*) - 10), avg(age) / (count(*) - 10) FROM people", [(None, None)]),
        (f"WITH t AS ({COUNTED}) SELECT sum(n), max(n), avg(n), count(*) FROM t", [("30", 20, "15.0", 2)]),
        (f"SELECT t.grp, t.n / 3 FROM ({COUNTED}) t WHERE t.n > 15", [("b", 6)]),
        (f"SELECT n / 3, count(*) FROM ({COUNTED}) t GROUP BY n / 3 ORDER BY 1", [(3, 1), (6, 1)]),
        (f"SELECT grp, n, sum(n) OVER (ORDER BY grp) FROM ({COUNTED}) t", [("a", 10, "10"), ("b", 20, "30")]),
        (f"SELECT p.name, n FROM ({COUNTED}) t JOIN places p ON p.place_id = n / 10 ORDER BY n",
         [("n", 10), (None, 20)]),
        (f"{COUNTED} UNION ALL SELECT 'all', count(*) FROM people ORDER BY n", [("a", 10), ("b", 20), ("all", 30)]),
        (f"{COUNTED} UNION ALL SELECT 'x', 1.5 ORDER BY n", [("x", "1.5"), ("a", "10.0"), ("b", "20.0")]),
        ("SELECT (SELECT count(*) FROM people) + 1 AS more", [(11,)]),
        ("SELECT round(count(*) / 8.0, 1), round(count(*) / 8.0), ceil(count(*) / 8.0) FROM people",
         [("1.3", "1", "2")]),
        ("SELECT vip, count(*) FROM people GROUP BY vip", [(True, 10), (None, 20)]),
        ("SELECT coalesce(vip::text, 'none'), count(*) FROM people GROUP BY vip", [("true", 10), ("none", 20)]),
        ("SELECT CASE WHEN count(*) > 5 THEN 'many' ELSE 'few' END FROM people", [("many",)]),
        ("SELECT dp.margin(count(*)) < 4, dp.margin(count(*)) > 3 FROM people", [(True, True)]),
    ],
)  # fmt: skip
def test_the_rest_of_a_query_runs_over_its_releases(desk: Desk, sql: str, expected: list[Any]) -> None:
    assert rows(ask(desk, sql)) == expected


def test_the_same_aggregate_written_twice_is_one(desk: Desk) -> None:
    prepared = desk.prepare(Question("SELECT count(*), count(*) + 1 FROM people HAVING count(*) > 0", "ana"), PRICES)
    assert [len(release.measures) for release in prepared.releases] == [1]


def test_each_query_over_protected_rows_is_a_release_of_its_own(desk: Desk) -> None:
    sql = f"WITH a AS ({COUNTED}) SELECT * FROM a, (SELECT avg(age) AS m FROM people) b"
    prepared = desk.prepare(Question(sql, "ana"), PRICES)
    assert [release.name for release in prepared.releases] == ["_r0", "_r1"]
    assert rows(ask(desk, sql)) == [("a", 10, "1.3333333333333333"), ("b", 20, "1.3333333333333333")]


def test_a_query_over_public_tables_needs_no_release(desk: Desk) -> None:
    answer = desk.prepare(Question("SELECT sum(s), avg(price) FROM places", "ana"), PRICES).answer
    assert answer is not None
    assert (rows(answer), answer.tag) == ([(6, "11.8125")], "SELECT 1")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT price / 2, price * 2, price::int FROM places ORDER BY place_id",
         [("0.75", "3.000", 2), ("11.0625", "44.250", 22), (None, None, None)]),
        ("SELECT 7 / place_id, 7 % place_id, -7 / 2, 7 / 2.0 FROM places ORDER BY place_id",
         [(7, 0, -3, "3.5"), (3, 1, -3, "3.5"), (2, 1, -3, "3.5")]),
        ("SELECT w / 0, price / (place_id - 1), place_id / 0 FROM places WHERE place_id = 1", [(None, None, None)]),
        ("SELECT name FROM places ORDER BY name", [("n",), ("s",), (None,)]),
        ("SELECT name FROM places ORDER BY name DESC", [(None,), ("s",), ("n",)]),
        ("SELECT name FROM places ORDER BY name NULLS FIRST LIMIT 1", [(None,)]),
        ("SELECT a.place_id FROM places a JOIN places b ON a.place_id / 2 = b.place_id ORDER BY 1", [(2,), (3,)]),
        ("SELECT count(*) FROM places WHERE price / 2 > 1", [(1,)]),
        ("SELECT string_agg(name, ',' ORDER BY name DESC) FROM places", [("s,n",)]),
        ("SELECT place_id FROM places UNION ALL SELECT 1.5 ORDER BY 1", [("1.0",), ("1.5",), ("2.0",), ("3.0",)]),
        ("SELECT opened - date '2020-01-01', opened + 1 > opened FROM places WHERE place_id = 1", [(0, True)]),
    ],
)  # fmt: skip
def test_public_rows_are_computed_as_postgres_does_except_that_division_by_zero_is_null(
    desk: Desk, sql: str, expected: list[Any]
) -> None:
    assert rows(ask(desk, sql)) == expected


def test_a_star_over_using_has_the_merged_column_once_and_first(desk: Desk) -> None:
    sql = "SELECT * FROM (SELECT s, place_id FROM places) a {} JOIN (SELECT place_id, name FROM places) b {}"
    expected = [(1, 1, "n"), (2, 2, None), (3, 3, "s")]
    for query in (
        sql.format("", "USING (place_id)"),
        sql.format("LEFT", "USING (place_id)"),
        sql.format("NATURAL", ""),
    ):
        answer = ask(desk, f"{query} ORDER BY 1")
        assert [column.name for column in answer.columns] == ["place_id", "s", "name"]
        assert rows(answer) == expected


def test_two_columns_of_a_subquery_with_one_name_are_refused_by_that_name(desk: Desk) -> None:
    with pytest.raises(Refusal, match='two columns of a subquery are called "count"'):
        ask(desk, "SELECT * FROM (SELECT count(*), count(*) FROM people) t")


# parameters


def test_parameters_take_the_type_that_their_place_asks_for(desk: Desk) -> None:
    sql = f"SELECT grp, n * $3 FROM ({COUNTED} HAVING count(*) > $1) t WHERE grp = $2 LIMIT $4"
    described = ask(desk, sql, describe=True)
    assert described.parameter_types == (20, 25, 20, 20)
    assert (shape(described), described.table.num_rows) == ("grp:25 ?column?:20", 0)
    values = parameters((0, "15"), (25, "b"), (20, "2"), (0, "5"))
    assert rows(ask(desk, sql, parameters=values)) == [("b", 40)]


def test_declared_parameter_types_are_kept(desk: Desk) -> None:
    described = ask(desk, "SELECT count(*) FROM people WHERE age > $1", describe=True, parameter_types=(20,))
    assert described.parameter_types == (20,)


def test_a_parameter_is_never_text_of_the_query(desk: Desk) -> None:
    value = "n' OR name IS NOT NULL --"
    answer = ask(desk, "SELECT name FROM places WHERE name = $1", parameters=parameters((25, value)))
    assert rows(answer) == []


def test_a_null_parameter_is_null(desk: Desk) -> None:
    assert rows(ask(desk, "SELECT coalesce($1, 'x') FROM places LIMIT 1", parameters=parameters((25, None)))) == [
        ("x",)
    ]


# free answers


@pytest.mark.parametrize(
    "sql",
    [f"{COUNTED} LIMIT 0", "SELECT place_id FROM places WHERE 1 = 0", f"SELECT * FROM ({COUNTED}) t WHERE 1 = 0"],
)
def test_a_probe_for_columns_buys_nothing(desk: Desk, sql: str) -> None:
    answer = desk.prepare(Question(sql, "ana"), PRICES).answer
    assert answer is not None
    assert answer.table.num_rows == 0


def test_explain_tells_plan_bounds_charge_and_margins(desk: Desk) -> None:
    sql = "EXPLAIN SELECT grp, count(*), avg(age), sum(big) FROM people WHERE age > 3 GROUP BY grp"
    lines = [line for (line,) in rows(ask(desk, sql))]
    text = "\n".join(lines)
    assert lines[1] == "Release _r0: charges epsilon 0.1 (rho 0.005), protects each person (at most 1 rows)"
    assert "Filter: 1 conditions" in text
    assert "Groups: public, every one is in the answer" in text
    assert re.search(r"count: count \+-\d+\.?\d* \(C = 1, proven\)", text)
    assert re.search(r"sum: sum \+-\d+\.?\d* C, C found, at most 1e\+06", text)


def test_explain_tells_how_unknown_groups_are_shown(desk: Desk) -> None:
    text = "\n".join(line for (line,) in rows(ask(desk, "EXPLAIN SELECT city, count(*) FROM people GROUP BY city")))
    assert "Groups: unknown, shown from a noisy count of units on (gaussian threshold, delta 1e-09" in text


def test_explain_of_several_releases_shares_the_price(desk: Desk) -> None:
    sql = f"EXPLAIN {COUNTED} UNION ALL {COUNTED}"
    assert sum("(rho 0.0025)" in line for (line,) in rows(ask(desk, sql))) == 2


def test_explain_of_what_is_refused_is_refused(desk: Desk) -> None:
    with pytest.raises(Refusal) as raised:
        ask(desk, "EXPLAIN SELECT * FROM people")
    assert raised.value.sqlstate == "0A000"


def test_describing_explain_has_its_one_column(desk: Desk) -> None:
    described = ask(desk, f"EXPLAIN {COUNTED}", describe=True)
    assert (shape(described), described.table.num_rows, described.tag) == ("QUERY PLAN:25", 0, "EXPLAIN")


def test_the_budget_view_is_asked_for_by_name_and_read_like_a_table(desk: Desk) -> None:
    assert desk.prepare(Question("SELECT * FROM dp.budget", "ana"), PRICES).views == ("budget",)
    answer = ask(desk, "SELECT name, spent * 100, questions_left FROM dp.budget b WHERE b.unit = 'person'")
    assert rows(answer) == [("ana", 25.0, None)]
    assert shape(ask(desk, "SELECT * FROM dp.budget", describe=True)).split()[-1] == "questions_left:23"


def test_a_table_outside_the_role_is_refused_even_if_it_is_public(desk: Desk) -> None:
    for sql in ("SELECT x FROM secrets", f"SELECT (SELECT max(x) FROM secrets), n FROM ({COUNTED}) t"):
        with pytest.raises(Refusal, match="permission denied for table secrets"):
            ask(desk, sql)


@pytest.mark.parametrize("sql", ["SELECT * FROM people", "SELECT city FROM people WHERE age = 3", "TABLE people"])
def test_rows_of_people_are_refused_with_what_would_be_possible(desk: Desk, sql: str) -> None:
    with pytest.raises(Refusal) as raised:
        ask(desk, sql)
    assert raised.value.sqlstate in ("0A000", "42601")
