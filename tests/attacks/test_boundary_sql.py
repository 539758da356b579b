"""SQL that reaches past what was checked: into tables of other roles, into the engine, into other sessions' rows.

A query over public or released rows runs as text on an engine that holds every public table. The rewriter walks its
tree; what stood where it did not look (LIMIT of a UNION, VALUES, a join within a join), or was written out as it came
(the quoted field of EXTRACT, an OPERATOR), ran unchecked: `DROP TABLE` included.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from rewriter.refusal import Refusal
from tests.rooms import Data, Room, certificate, rows

POLICY = f"""
[room]
name = "attacked"
version = 1
environment = "development"
[units.person]
[tables.people]
unit = {{ name = "person", column = "person_id" }}
rows_per_unit = 1
key = ["person_id"]
[tables.people.columns]
person_id = {{ type = "bigint", not_null = true }}
age = {{ type = "integer", bounds = [0, 100], not_null = true }}
[tables.digits]
public = true
key = ["digit"]
[tables.digits.columns]
digit = {{ type = "integer", not_null = true }}
[tables.rates]
public = true
key = ["rate"]
[tables.rates.columns]
rate = {{ type = "integer", not_null = true }}
name = {{ type = "text" }}
[budgets.person]
epsilon = "100"
delta = "1e-6"
[roles.plain]
tables = ["people", "digits"]
epsilon = "100"
query_epsilon = "0.1"
[analysts.eve]
role = "plain"
certificate = "{certificate("eve")}"
"""
SECRET = "Zanzibar"
TABLES = {
    "people": pa.table({"person_id": list(range(100)), "age": [n % 100 for n in range(100)]}),
    "digits": pa.table({"digit": list(range(10))}),
    "rates": pa.table({"rate": list(range(5)), "name": [SECRET] * 5}),
}
DIGITS = [(n,) for n in range(10)]

CORNERS = (
    "SELECT * FROM digits d, (VALUES ((SELECT max(name) FROM rates))) v(a)",
    "(SELECT digit FROM digits) ORDER BY (SELECT max(name) FROM rates)",
    "(SELECT digit FROM digits) LIMIT (SELECT max(rate) FROM rates)",
    "SELECT * FROM ((SELECT digit FROM digits) LIMIT (SELECT max(rate) FROM rates)) x",
    "SELECT digit FROM digits UNION SELECT 2 ORDER BY (SELECT max(name) FROM rates)",
    "SELECT digit FROM digits UNION SELECT 2 OFFSET (SELECT max(rate) FROM rates)",
    "SELECT count(*) FROM people LIMIT (SELECT max(rate) FROM rates)",
    "SELECT count(*) FROM people OFFSET (SELECT max(rate) FROM rates)",
    "SELECT digit FROM digits LIMIT (SELECT max(rate) FROM rates)",
    "SELECT d.digit FROM digits d JOIN digits e JOIN rates r ON true ON true",
    "SELECT d.digit FROM digits d JOIN (digits e JOIN rates r ON true) ON true",
    "SELECT count(*) FROM people p JOIN digits d JOIN rates r ON r.rate = d.digit ON p.age = d.digit",
    "SELECT (SELECT max(name) FROM rates) FROM digits",
    "SELECT digit FROM digits WHERE digit IN (TABLE rates)",
    "SELECT sum(digit) OVER w FROM digits WINDOW w AS (ORDER BY (SELECT max(rate) FROM rates))",
    "SELECT * REPLACE ((SELECT max(name) FROM rates) AS digit) FROM digits",
    "WITH rates AS (SELECT 1 AS rate) SELECT * FROM public.rates",
    'SELECT * FROM "rates"',
    "SELECT * FROM cleanroom.public.rates",
    "EXPLAIN SELECT * FROM digits, rates",
)
"""Every place where a table can be named that this role may not read."""

ENGINE = (
    "SELECT digit FROM digits, duckdb_settings()",
    "(SELECT digit FROM digits) ORDER BY (SELECT value FROM duckdb_settings() LIMIT 1)",
    "SELECT digit FROM digits LIMIT (SELECT count(*) FROM duckdb_tables())",
    "(SELECT digit FROM digits) LIMIT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "SELECT digit FROM digits UNION SELECT 1 ORDER BY query('SELECT 1')",
    "SELECT * FROM digits, 'file.csv'",
    'SELECT * FROM digits, "file.csv"',
    "SELECT * FROM digits, (VALUES (getenv('HOME'))) v(a)",
    "SELECT COLUMNS(*) FROM digits",
    "SELECT list_transform([digit], x -> x) FROM digits",
    "SELECT {'a': digit} FROM digits",
    "SELECT * FROM digits PIVOT (count(*) FOR digit IN (1, 2))",
    "SELECT * FROM digits AT (VERSION => 1)",
    "SELECT * FROM memory.main.digits",
    "SELECT * FROM _r0, digits",
    "SELECT * FROM _dp_budget, digits",
    "SELECT * FROM digits, cursor",
    "SELECT lpad('a', 2000000000, 'b') FROM digits",
    "SELECT repeat('a', 2000000000) FROM digits",
)
"""Names and forms of the engine's own."""

INJECTED = (
    'SELECT EXTRACT("year FROM now()) + (SELECT max(rate) FROM rates) + extract(year" FROM now()) FROM digits',
    'SELECT EXTRACT("year FROM now()); DROP TABLE digits; SELECT extract(year" FROM now()) FROM digits',
    'SELECT EXTRACT("year FROM now()); CREATE OR REPLACE TABLE digits AS SELECT 666 AS digit; SELECT extract(year"'
    " FROM now()) FROM digits",
    'SELECT 1 OPERATOR("+) (SELECT max(rate) FROM rates) OPERATOR(+") digit FROM digits',
    'SELECT 1 OPERATOR("+) (SELECT count(*) FROM duckdb_settings()) OPERATOR(+") digit FROM digits',
    "SELECT interval '1' \"day, (SELECT max(name) FROM rates)\" FROM digits",
    'SELECT digit::"integer); DROP TABLE digits; SELECT (1" FROM digits',
    'SELECT CAST(digit AS "integer) FROM digits; DROP TABLE digits; --") FROM digits',
    "SELECT date_trunc('day'', now()); DROP TABLE digits; --', now()) FROM digits",
    "SELECT N'a'', (SELECT max(name) FROM rates), ''' FROM digits",
    'SELECT \'a\' COLLATE "C""; DROP TABLE digits; --" FROM digits',
    "SELECT digit -- */ FROM digits; DROP TABLE digits; /*\n FROM digits",
    "SELECT digit FROM digits /* -- */ ; DROP TABLE digits",
    "SELECT $q$a'; DROP TABLE digits; --$q$ FROM digits",
    "SELECT 'a\\'; DROP TABLE digits; --' FROM digits",
    'SELECT digit AS "x""; DROP TABLE digits; --" FROM digits',
    'SELECT "d""; DROP TABLE digits".digit FROM digits AS "d""; DROP TABLE digits"',
)
"""Texts that would be something else once written out again."""


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(POLICY, TABLES)


@pytest.fixture
def room(data: Data) -> Room:
    return data.room()


def outcome(room: Room, sql: str, **others: Any) -> str:
    """Everything an analyst gets: rows, or the fields of a refusal. Anything else fails the test."""
    try:
        return repr(rows(room.ask(sql, "eve", **others)))
    except Refusal as refusal:
        return repr((refusal.sqlstate, refusal.message, refusal.hint, refusal.detail))


@pytest.mark.parametrize("sql", CORNERS)
def test_a_table_of_another_role_is_out_of_reach_from_every_corner(room: Room, sql: str) -> None:
    with pytest.raises(Refusal):
        room.ask(sql, "eve")
    with pytest.raises(Refusal):
        room.ask(sql, "eve", describe=True)
    assert room.spent("person") == 0


@pytest.mark.parametrize("sql", ENGINE)
def test_functions_and_names_of_the_engine_are_out_of_reach(room: Room, sql: str) -> None:
    with pytest.raises(Refusal) as caught:
        room.ask(sql, "eve")
    assert caught.value.sqlstate in ("0A000", "42P01", "42883", "42601")


@pytest.mark.parametrize("sql", INJECTED)
def test_a_text_is_written_out_as_what_it_was_read_as(room: Room, sql: str) -> None:
    got = outcome(room, sql)
    assert SECRET not in got
    assert room.rows("SELECT digit FROM digits ORDER BY 1", "eve") == DIGITS


def test_a_schema_means_the_policys_table_whatever_a_cte_is_called(room: Room) -> None:
    assert room.rows("WITH digits AS (SELECT 77 AS digit) SELECT * FROM public.digits ORDER BY 1", "eve") == DIGITS
    assert room.rows('WITH "DIGITS" AS (SELECT 77 AS digit) SELECT * FROM digits ORDER BY 1', "eve") == DIGITS


@pytest.mark.parametrize("name", ["_r0", "_R0", "_r17", "_dp_budget", "_DP_budget"])
def test_a_cte_cannot_stand_in_for_a_release_or_a_view(room: Room, name: str) -> None:
    with pytest.raises(Refusal) as caught:
        room.ask(f'WITH "{name}" AS (SELECT 77 AS m0, 1 AS e0) SELECT count(*) FROM people', "eve")
    assert caught.value.sqlstate == "42939"
    assert room.spent("person") == 0


@pytest.mark.parametrize(
    "source",
    [
        "people TABLESAMPLE BERNOULLI (10)",
        "people p JOIN digits d JOIN digits e ON e.digit = d.digit ON p.age = d.digit",
        "people AS p(a, b)",
        "ONLY people",
        "other.public.people",
    ],
)
def test_nothing_that_was_written_in_from_is_dropped_silently(room: Room, source: str) -> None:
    with pytest.raises(Refusal):
        room.ask(f"SELECT count(*) FROM {source}", "eve")
    assert room.spent("person") == 0


def test_what_the_engine_cannot_do_is_refused_without_its_words(room: Room) -> None:
    for sql in (
        f"SELECT ('{SECRET}' || digit::text)::integer FROM digits",
        f"SELECT ('{SECRET}' || digit::text)::date FROM digits",
        "SELECT (1, digit) FROM digits",
        "SELECT interval '1 day' FROM digits",
        "SELECT digit::regclass FROM digits",
        "SELECT 9223372036854775807 + digit FROM digits",
        "SELECT digit::smallint * 30000::smallint FROM digits",
        "SELECT substring('abc', digit - 9223372036854775807) FROM digits",
        "SELECT nosuch FROM digits",
        "SELECT rowid FROM digits",
        "SELECT digits FROM digits",
    ):
        with pytest.raises(Refusal) as caught:
            room.ask(sql, "eve")
        said = f"{caught.value.message} {caught.value.hint} {caught.value.detail}"
        assert SECRET not in said
        assert "LINE" not in said


def test_an_answer_has_as_many_columns_as_in_postgres(room: Room) -> None:
    with pytest.raises(Refusal) as caught:
        room.ask(f"SELECT {', '.join(['*'] * 2000)} FROM digits", "eve", describe=True)
    assert caught.value.sqlstate == "54011"


def test_a_result_that_would_fill_the_front_is_refused(room: Room) -> None:
    crossed = ", ".join(f"digits {name}" for name in "abcdefg")
    with pytest.raises(Refusal) as caught:
        room.ask(f"SELECT a.digit, b.digit, c.digit FROM {crossed}", "eve")
    assert caught.value.sqlstate == "54000"


def test_parameters_are_as_many_as_the_protocol_can_carry(room: Room) -> None:
    with pytest.raises(Refusal) as caught:
        room.ask("SELECT digit FROM digits WHERE digit = $99999", "eve", describe=True)
    assert caught.value.sqlstate == "42P02"
