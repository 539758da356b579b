"""Post-processing: noised numbers and public rows in, what a Postgres client reads out."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.answer import Noised, NoisyCoordinate
from enclave.public.postprocess import _ratio_margin, load_public, process
from policies import document
from policies.sqltype import BIGINT, DOUBLE, INTEGER, NUMERIC, TEXT, SqlType, parse
from rewriter.plan import PublicGroups, Release, Scan
from rewriter.refusal import Refusal
from rewriter.released import KeyColumn, MeasureColumn, ReleasedTable
from rewriter.rewrite import OutputColumn, Rewritten

POLICY = document.read("""
[room]
name = "post"
version = 1
environment = "development"
[units.member]
[tables.members]
unit = { name = "member", column = "id" }
columns = { id = { type = "bigint" } }
[tables.places]
public = true
[tables.places.columns]
place = { type = "smallint" }
name = { type = "text" }
price = { type = "numeric(8,3)" }
weight = { type = "double precision" }
opened = { type = "date" }
seen = { type = "timestamptz" }
ok = { type = "boolean" }
[budgets.member]
epsilon = "1"
delta = "1e-6"
[roles.reader]
tables = ["members", "places"]
epsilon = "1"
query_epsilon = "0.1"
[analysts.ana]
role = "reader"
certificate = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
""")
PLACES = pa.table(
    {
        "place": ["1", "2", "40000"],
        "name": ["Zanzibar", None, ""],
        "price": ["1.5", "-22.125", "x"],
        "weight": ["0.1", "nan", "inf"],
        "opened": ["2020-01-31", None, "never"],
        "seen": ["2020-01-01 00:00:00+00", None, None],
        "ok": ["true", "false", None],
    }
)
RELEASE = Release("member", Scan("members", "t0"), (), PublicGroups((), ()), ())
MEAN, COUNT = MeasureColumn("avg", "mean", NUMERIC, (0, 1)), MeasureColumn("count", "number", BIGINT, (0,))
LN20 = math.log(20)


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    return load_public(POLICY, lambda _: PLACES)


def coordinate(
    values: Sequence[int],
    step: Fraction | int = 1,
    noise: Literal["laplace", "gaussian"] = "laplace",
    scale: float = 2.0,
    centre: int = 0,
) -> NoisyCoordinate:
    return NoisyCoordinate(tuple(values), Fraction(step), noise, scale, Fraction(1), Fraction(centre))


def run(
    engine: duckdb.DuckDBPyConnection,
    sql: str,
    columns: Sequence[tuple[str, SqlType | None]],
    *,
    keys: Sequence[tuple[KeyColumn, Sequence[str | None]]] = (),
    measures: Sequence[MeasureColumn] = (),
    coordinates: Sequence[NoisyCoordinate] = (),
    **others: Any,
) -> Any:
    """Process SQL over one released table `_r0`, or over public tables alone."""
    shape = ReleasedTable("_r0", RELEASE, tuple(key for key, _ in keys), tuple(measures))
    groups = len(coordinates[0].values) if coordinates else len(keys[0][1]) if keys else 1
    noised = Noised(tuple(tuple(texts) for _, texts in keys), groups, tuple(coordinates))
    has_release = bool(keys or measures)
    outputs = tuple(OutputColumn(name, type_) for name, type_ in columns)
    query = Rewritten((shape,) if has_release else (), sql, outputs, {}, ())
    releases = others.pop("releases", (noised,) if has_release else ())
    return process(engine, query, releases, others.pop("policy", POLICY), others.pop("views", {}), **others)


def rows(processed: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in processed.table.columns), strict=True))


# keys


UTC = dt.UTC


@pytest.mark.parametrize(
    ("type_", "scale", "texts", "oid", "values"),
    [
        ("text", None, ["a", "", None, "O'Neil"], 25, ["a", "", None, "O'Neil"]),
        ("varchar(3)", None, ["abc"], 1043, ["abc"]),
        ("char(3)", None, ["a"], 1042, ["a"]),
        ("boolean", None, ["true", "false", None], 16, [True, False, None]),
        ("smallint", None, ["-32768", None], 21, [-32768, None]),
        ("integer", None, ["2147483647"], 23, [2147483647]),
        ("bigint", None, ["-9223372036854775808"], 20, [-9223372036854775808]),
        ("numeric(12,2)", 2, ["125", "-1", "0", None], 1700, ["1.25", "-0.01", "0.00", None]),
        ("double precision", None, ["1e-07", "1e+20", None], 701, [1e-07, 1e20, None]),
        ("real", None, ["2.5"], 700, [2.5]),
        ("date", None, ["0001-01-01", "9999-12-31", None], 1082, [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
        ("timestamp", None, ["2020-01-02 03:04:05.000006"], 1114, [dt.datetime(2020, 1, 2, 3, 4, 5, 6)]),  # noqa: DTZ001
        ("timestamptz", None, ["2020-01-02 03:04:05"], 1184, [dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)]),
    ],
)
def test_keys_are_read_from_their_text_form(
    engine: duckdb.DuckDBPyConnection, type_: str, scale: int | None, texts: list[str | None], oid: int, values: Any
) -> None:
    sql_type = parse(type_)
    shown = SqlType("numeric", None, scale) if sql_type.name == "numeric" else sql_type
    found = run(engine, "SELECT k0 FROM _r0", [("k", shown)], keys=[(KeyColumn(shown, scale), texts)])
    assert [(c.name, c.type_oid) for c in found.columns] == [("k", oid)]
    assert [row[0] for row in rows(found)] == values


# measures


def test_a_count_is_rounded_and_its_margin_covers_the_rounding(engine: duckdb.DuckDBPyConnection) -> None:
    noisy = coordinate([7, -3, 0], step=Fraction(1, 2))
    found = run(
        engine,
        "SELECT m0, e0 FROM _r0",
        [("n", BIGINT), ("e", DOUBLE)],
        measures=[COUNT],
        coordinates=[noisy],
    )
    assert [row[0] for row in rows(found)] == [4, -2, 0]  # 3.5 and -1.5: to the even side
    assert [row[1] for row in rows(found)] == [pytest.approx(LN20 + 0.5)] * 3
    assert found.margins == (("count", pytest.approx(LN20 + 0.5)),)


def test_gaussian_noise_has_its_own_half_width(engine: duckdb.DuckDBPyConnection) -> None:
    noisy = coordinate([1], noise="gaussian", scale=10)
    found = run(
        engine, "SELECT e0 FROM _r0", [("e", DOUBLE)], measures=[replace(COUNT, type=DOUBLE)], coordinates=[noisy]
    )
    assert rows(found) == [(pytest.approx(19.59964),)]


def test_whole_counts_are_never_below_zero_and_sums_may_be(engine: duckdb.DuckDBPyConnection) -> None:
    whole = POLICY.model_copy(update={"answers": POLICY.answers.model_copy(update={"counts": "whole"})})
    both = [COUNT, replace(COUNT, label="sum", coordinates=(0,))]
    found = run(
        engine,
        "SELECT m0, m1 FROM _r0",
        [("n", BIGINT), ("s", BIGINT)],
        measures=both,
        coordinates=[coordinate([-7, 7])],
        policy=whole,
    )
    assert rows(found) == [(0, -7), (7, 7)]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_beyond_a_bigint_stays_at_its_end(engine: duckdb.DuckDBPyConnection, sign: int) -> None:
    found = run(
        engine, "SELECT m0 FROM _r0", [("n", BIGINT)], measures=[COUNT], coordinates=[coordinate([sign * 2**70])]
    )
    ((value,),) = rows(found)
    assert value * sign > 2**63 - 2048


def test_a_sum_around_a_centre_adds_the_centre_back(engine: duckdb.DuckDBPyConnection) -> None:
    measure = MeasureColumn("sum", "sum", BIGINT, (0, 1))
    parts = [coordinate([10, 0], scale=1), coordinate([-5, 3], scale=2, centre=50)]
    found = run(
        engine, "SELECT m0, e0 FROM _r0", [("s", BIGINT), ("e", DOUBLE)], measures=[measure], coordinates=parts
    )
    half = math.hypot(2 * LN20, 50 * LN20) + 0.5
    assert rows(found) == [(495, pytest.approx(half)), (3, pytest.approx(half))]


def test_a_mean_is_a_ratio_around_its_centre_and_unknown_without_rows(engine: duckdb.DuckDBPyConnection) -> None:
    parts = [coordinate([10, 0, -4], scale=0.01), coordinate([-5, 3, 3], scale=0.01, centre=50)]
    found = run(engine, "SELECT m0, e0 FROM _r0", [("a", NUMERIC), ("e", DOUBLE)], measures=[MEAN], coordinates=parts)
    ((mean, margin), *others) = rows(found)
    assert mean == "49.5"
    assert 0 < margin < 0.01
    assert others == [(None, None), (None, None)]


def test_a_mean_and_its_margin_stay_within_the_public_range(engine: duckdb.DuckDBPyConnection) -> None:
    measure = replace(MEAN, low=0.0, high=100.0)
    parts = [coordinate([2, 1000, 0], scale=5), coordinate([900, 0, 0], scale=5, centre=50)]
    found = run(
        engine, "SELECT m0, e0 FROM _r0", [("a", NUMERIC), ("e", DOUBLE)], measures=[measure], coordinates=parts
    )
    (first, second, third) = rows(found)
    assert first == ("100.0", 100.0)
    assert second[0] == "50.0"
    assert second[1] < 1
    assert third == (None, None)


@given(
    total=st.floats(-1e6, 1e6),
    count=st.floats(1e-3, 1e6),
    half_total=st.floats(1e-3, 1e5),
    half_count=st.floats(1e-3, 1e5),
)
def test_the_ends_of_a_means_interval_are_as_far_as_the_noise_reaches(
    total: float, count: float, half_total: float, half_count: float
) -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        (margin,) = _ratio_margin(np.array([total]), np.array([count]), half_total, half_count)
    if count <= half_count:
        assert math.isnan(margin)
        return
    assert margin >= half_total / count * (1 - 1e-9)
    if count > 1.01 * half_count:
        for sign in (1, -1):  # no mean farther than the margin is within the noise of the difference
            mean = total / count + sign * margin * 1.001
            assert abs(total - mean * count) >= math.hypot(half_total, mean * half_count) * (1 - 1e-6)


def test_the_notice_gets_the_median_half_width_of_each_aggregate(engine: duckdb.DuckDBPyConnection) -> None:
    parts = [coordinate([100, 50, 10], scale=0.01), coordinate([0, 0, 0], scale=1)]
    found = run(engine, "SELECT m0 FROM _r0", [("a", NUMERIC)], measures=[MEAN], coordinates=parts)
    ((label, half),) = found.margins
    assert label == "avg"
    assert half == pytest.approx(LN20 / 50, rel=1e-3)


def test_an_aggregate_without_any_margin_is_left_out_of_the_notice(engine: duckdb.DuckDBPyConnection) -> None:
    parts = [coordinate([0], scale=1), coordinate([0], scale=1)]
    assert run(engine, "SELECT m0 FROM _r0", [("a", NUMERIC)], measures=[MEAN], coordinates=parts).margins == ()


def test_a_release_of_keys_alone_has_its_rows(engine: duckdb.DuckDBPyConnection) -> None:
    key = (KeyColumn(TEXT, None), ["a", None])
    assert rows(run(engine, "SELECT k0 FROM _r0", [("k", TEXT)], keys=[key])) == [("a",), (None,)]


def test_a_release_without_keys_or_aggregates_is_one_row(engine: duckdb.DuckDBPyConnection) -> None:
    shape = ReleasedTable("_r0", RELEASE, (), ())
    query = Rewritten((shape,), "SELECT 'x' AS a FROM _r0", (OutputColumn("a", TEXT),), {}, ())
    assert rows(process(engine, query, (Noised((), 1, ()),), POLICY, {})) == [("x",)]


# description


def test_a_description_has_the_columns_and_no_rows(engine: duckdb.DuckDBPyConnection) -> None:
    found = run(
        engine,
        "SELECT k0, m0 FROM _r0",
        [("k", TEXT), ("n", BIGINT)],
        keys=[(KeyColumn(TEXT, None), [])],
        measures=[COUNT],
        releases=(),
    )
    assert [(c.name, c.type_oid) for c in found.columns] == [("k", 25), ("n", 20)]
    assert (found.table.num_rows, found.margins) == (0, ())


def test_a_view_is_read_like_a_table(engine: duckdb.DuckDBPyConnection) -> None:
    view = pa.table({"unit": ["member"], "spent": [0.25]})
    query = Rewritten(
        (),
        "SELECT unit, spent FROM _dp_budget",
        (OutputColumn("u", TEXT), OutputColumn("s", DOUBLE)),
        {},
        ("budget",),
    )
    assert rows(process(engine, query, (), POLICY, {"budget": view})) == [("member", 0.25)]


# types and texts of results


@pytest.mark.parametrize(
    ("sql", "type_", "oid", "value"),
    [
        ("1.5::DOUBLE", NUMERIC, 1700, "1.5"),
        ("1e-7::DOUBLE", NUMERIC, 1700, "0.0000001"),
        ("1e22::DOUBLE", NUMERIC, 1700, "10000000000000000000000"),
        ("'nan'::DOUBLE", NUMERIC, 1700, "NaN"),
        ("'inf'::DOUBLE", NUMERIC, 1700, "Infinity"),
        ("'-inf'::DOUBLE", NUMERIC, 1700, "-Infinity"),
        ("12.50::DECIMAL(10,2)", NUMERIC, 1700, "12.50"),
        ("12.5::DOUBLE", SqlType("numeric", None, 2), 1700, "12.50"),
        ("12.5::DOUBLE", SqlType("numeric", None, 0), 1700, "12"),
        ("12::HUGEINT", NUMERIC, 1700, "12"),
        ("NULL::DOUBLE", NUMERIC, 1700, None),
        ("7::HUGEINT", BIGINT, 20, 7),
        ("7::BIGINT", INTEGER, 23, 7),
        ("7.6::DOUBLE", DOUBLE, 701, 7.6),
        ("7::BIGINT", None, 20, 7),
        ("7::INTEGER", None, 23, 7),
        ("7::TINYINT", None, 23, 7),
        ("true", None, 16, True),
        ("1.5", None, 1700, "1.5"),
        ("1.5::FLOAT", None, 701, 1.5),
        ("'x'", None, 25, "x"),
        ("DATE '2020-01-01'", None, 1082, dt.date(2020, 1, 1)),
        ("TIMESTAMP '2020-01-01'", None, 1114, dt.datetime(2020, 1, 1)),  # noqa: DTZ001
        ("'x'", parse("varchar(3)"), 1043, "x"),
        ("NULL", None, 25, None),
    ],
)
def test_a_result_is_of_the_declared_type_or_the_nearest_to_the_engines(
    engine: duckdb.DuckDBPyConnection, sql: str, type_: SqlType | None, oid: int, value: Any
) -> None:
    found = run(engine, f"SELECT {sql}", [("x", type_)])
    assert found.columns[0].type_oid == oid
    assert rows(found) == [(value,)]


def test_public_tables_have_their_natural_types(engine: duckdb.DuckDBPyConnection) -> None:
    names = list(POLICY.tables["places"].columns)
    types = [column.type for column in POLICY.tables["places"].columns.values()]
    found = run(engine, "SELECT * FROM places ORDER BY name", list(zip(names, types, strict=True)))
    moment = dt.datetime(2020, 1, 1, tzinfo=UTC)
    assert [c.type_oid for c in found.columns] == [21, 25, 1700, 701, 1082, 1184, 16]
    assert rows(found) == [
        (None, "", None, 1e308, None, None, None),
        (1, "Zanzibar", "1.500", 0.1, dt.date(2020, 1, 31), moment, True),
        (2, None, "-22.125", None, None, None, False),
    ]


# failures


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("SELECT CAST(name AS INTEGER) FROM places", "22P02"),
        ("SELECT CAST(name AS DATE) FROM places", "22P02"),
        ("SELECT place * 9223372036854775807 FROM places", "22003"),
        ("SELECT CAST(1e30::DOUBLE AS BIGINT) FROM places", "22003"),
        ("SELECT name + 1 FROM places", "42883"),
        ("SELECT upper(ok, ok) FROM places", "42883"),
        ("SELECT name, count(*) FROM places", "42803"),
        ("SELECT name FROM places a, places b", "42702"),
        ("SELECT nothing(1)", "0A000"),
        ("SELECT * FROM nowhere", "0A000"),
        ("SELECT FROM WHERE", "0A000"),
        ("DROP TABLE places", "0A000"),
        ("SELECT 1; SELECT 2", "0A000"),
    ],
)
def test_what_the_engine_cannot_do_is_told_without_a_value_of_any_row(
    engine: duckdb.DuckDBPyConnection, sql: str, sqlstate: str
) -> None:
    with pytest.raises(Refusal) as raised:
        run(engine, sql, [("x", None)])
    assert raised.value.sqlstate == sqlstate
    for word in ("Zanzibar", "22.125", "9223", "1e30", "LINE", "Candidate"):
        assert word not in f"{raised.value.message} {raised.value.hint} {raised.value.detail}"
    assert raised.value.__suppress_context__ or raised.value.__context__ is None  # nor in a traceback


def test_a_number_that_does_not_fit_its_column_is_out_of_range(engine: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(Refusal, match="out of range") as raised:
        run(engine, "SELECT 3000000000", [("x", INTEGER)])
    assert raised.value.sqlstate == "22003"


@pytest.mark.parametrize("sql", ["SELECT 7 // 0", "SELECT 7 % 0", "SELECT 7::SMALLINT // 0::SMALLINT"])
def test_whole_numbers_divided_by_zero_are_null(engine: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert rows(run(engine, sql, [("x", INTEGER)])) == [(None,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY places TO '/tmp/x'",
        "SET threads = 1",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "PRAGMA enable_profiling",
    ],
)
def test_the_engine_reaches_no_file_and_changes_no_setting(engine: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(duckdb.Error):
        engine.cursor().execute(sql).fetchall()


def test_a_session_leaves_nothing_behind(engine: duckdb.DuckDBPyConnection) -> None:
    key = (KeyColumn(TEXT, None), ["a"])
    run(engine, "SELECT k0 FROM _r0", [("k", TEXT)], keys=[key])
    with pytest.raises(Refusal):
        run(engine, "SELECT k0 FROM _r0", [("k", TEXT)])


def test_whoever_waits_gets_what_interrupts_the_engine(engine: duckdb.DuckDBPyConnection) -> None:
    given_: list[Any] = []
    run(engine, "SELECT 1", [("x", INTEGER)], on_start=given_.append)
    assert len(given_) == 1
    assert callable(given_[0])
