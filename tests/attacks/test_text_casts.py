"""A cast of text that fails on some texts only: the error would tell that a row holds such a text."""

from __future__ import annotations

import pytest
from attack_room import Attacked, room

TABLES = """
[tables.notes]
unit = { name = "person", column = "id" }
rows_per_unit = 1
[tables.notes.columns]
id = { type = "bigint" }
note = { type = "text" }
"""
NASTY = (
    "", " ", "-", "+", ".", "1e400", "-1e400", "1e-400", "0x10", "1_000", "\uff11\uff12", "1,5", "nan", "-nan", "inf",
    "infinity", "-infinity", "epoch", "now", "today", "2020-13-45", "2020-02-30", "24:00:00", "2020-01-01 24:00:00",
    "2020-01-01 25:61:61", "290309-12-22 (BC) 00:00:00", "294247-01-10 04:00:54.775807", "99999999-01-01",
    "-99999999-01-01", "5881580-07-10", "5881580-07-11", "0000-00-00", "0001-01-01 (BC)", "2020-01-01 00:00:00+99",
    "2020-01-01 00:00:00 America/New_York", "2020-01-01 00:00:00 Mars/Base", "2020-01-01T00:00:00Z",
    "2020-01-01 00:00:00.1234567890123", "9999-12-31 23:59:59.9999999", "true", "t", "yes", "on", "2", "null",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "2147483648", "1.5", "2.5", "-0", "-0.0",
    "1e18", "1e19", "99999999999999999999999999999999999999999", "\u0000", "\u202e", "😀", "'", "\\", "%", "a" * 5000,
)  # fmt: skip
QUESTIONS = (
    "SELECT sum(note::integer) FROM notes",
    "SELECT sum(note::bigint), avg(note::smallint) FROM notes",
    "SELECT sum(note::float8), avg(note::float8), sum(note::real) FROM notes",
    "SELECT sum(note::float8::integer), sum(note::float8::bigint), avg(note::float8::numeric(30,5)) FROM notes",
    "SELECT sum(note::float8 * note::float8 - note::float8 / note::float8) FROM notes",
    "SELECT sum(extract(epoch FROM note::timestamp)), count(note::date) FROM notes",
    "SELECT sum(extract(doy FROM note::timestamp)), avg(extract(isoyear FROM note::date)) FROM notes",
    "SELECT count(note::timestamp), count(note::boolean) FROM notes",
    "SELECT count(date_trunc('week', note::timestamp)), count(date_trunc('century', note::date)) FROM notes",
    "SELECT sum(note::date - '2000-01-01'::date), count((note::date + 99999999)::timestamp) FROM notes",
    "SELECT sum(length(upper(lower(note)))), count(note::varchar(3)) FROM notes",
    "SELECT note::float8, count(*) FROM notes GROUP BY 1",
    "SELECT note::date, count(*) FROM notes GROUP BY 1",
    "SELECT note::boolean, count(*) FROM notes WHERE note ILIKE '%a_%' OR note LIKE '\\%%' GROUP BY 1",
)


@pytest.fixture(scope="module")
def attacked() -> Attacked:
    return room(TABLES, {"notes": [(n, text) for n, text in enumerate(NASTY)]})


@pytest.mark.parametrize("sql", QUESTIONS)
def test_no_text_makes_a_cast_fail(attacked: Attacked, sql: str) -> None:
    assert attacked.outcome(sql) == "answer"
