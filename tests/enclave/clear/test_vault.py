from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave import tables
from enclave.clear import vault
from enclave.clear.vault import LoadError, TableReport, connect, load, lock, prove_locked, prove_no_spill, run
from policies.model import Policy

SECRET = b"s" * 32
ROOM = {"name": "r", "version": 1, "environment": "development"}
Rows = Sequence[tuple[Any, ...]]


def policy(**given: dict[str, Any]) -> Policy:
    return Policy.model_validate({"room": ROOM, "units": {"p": {}, "q": {}}, "tables": given})


def own(columns: dict[str, Any], **rules: Any) -> dict[str, Any]:
    """A table whose unit is its column u."""
    return {"unit": {"name": "p", "column": "u"}, "columns": {"u": {"type": "text"}, **columns}, **rules}


def loaded(
    what: Policy,
    secret: bytes = SECRET,
    threads: int = 1,
    report: Callable[[TableReport], None] = lambda _: None,
    **rows: Rows,
) -> duckdb.DuckDBPyConnection:
    """A vault of rows given as a CSV file has them: texts or None."""
    connection = connect(threads)

    def read(name: str) -> pa.Table:
        names = list(what.tables[name].columns)
        return pa.table({c: pa.array([r[i] for r in rows[name]], pa.string()) for i, c in enumerate(names)})

    load(connection, what, read, secret, report)
    return connection


def fetch(
    connection: duckdb.DuckDBPyConnection, table: str, columns: str = "*", order: str = "ALL"
) -> list[tuple[Any, ...]]:
    return run(connection, f"SELECT {columns} FROM {table} ORDER BY {order}")


# columns


def test_values_beyond_their_bounds_are_clipped_and_null_stays_null() -> None:
    what = policy(
        t=own(
            {
                "i": {"type": "integer", "bounds": (-1, 9)},
                "n": {"type": "numeric(30,2)", "bounds": (Decimal("0.5"), Decimal("1.25"))},
                "f": {"type": "double precision", "bounds": (Decimal("0.3"), Decimal(2))},
                "d": {"type": "date", "bounds": (dt.date(2000, 1, 1), dt.date(2001, 1, 1))},
            }
        )
    )
    rows = [
        ("a", "-5", "0", "-inf", "0001-01-01"),
        ("b", "50", "9", "inf", "9999-12-31"),
        ("c", *[None] * 4),
        ("d", "3", "1", "1", "2000-02-29"),
    ]
    assert fetch(loaded(what, t=rows), "t", "u, i, n, f, d") == [
        ("a", -1, 50, 0.3, dt.date(2000, 1, 1)),
        ("b", 9, 125, 2.0, dt.date(2001, 1, 1)),
        ("c", None, None, None, None),
        ("d", 3, 100, 1.0, dt.date(2000, 2, 29)),
    ]


def test_values_that_are_not_declared_become_null() -> None:
    what = policy(
        t=own({"s": {"type": "char(3)", "values": ("it's", "b")}, "i": {"type": "smallint", "values": (1, 2)}})
    )
    rows = [("a", "b  ", "1"), ("b", "B", "3"), ("c", None, None), ("d", "", "x")]
    assert fetch(loaded(what, t=rows), "t", "u, s, i") == [
        ("a", "b", 1),
        ("b", None, None),
        ("c", None, None),
        ("d", None, None),
    ]


def test_a_row_with_null_in_a_not_null_column_is_dropped_and_counted() -> None:
    what = policy(
        t=own({"i": {"type": "integer", "not_null": True}}),
        r={"public": True, "columns": {"x": {"type": "integer", "not_null": True}}},
    )
    reports: list[TableReport] = []
    vault_ = loaded(what, report=reports.append, t=[("a", "1"), ("a", "x"), ("b", None)], r=[("1",), (None,), ("x",)])
    assert fetch(vault_, "t", "u, i") == [("a", 1)]
    assert fetch(vault_, "r") == [(1,)]
    assert reports == [TableReport("t", None, 1, 0, 0, 2, 0, {"i": 1})]


def test_an_identifier_beyond_its_bounds_goes_with_its_row() -> None:
    unit = {"unit": {"name": "p", "column": "u"}}
    what = policy(
        t={**unit, "columns": {"u": {"type": "integer", "bounds": (1, 9)}}, "rows_per_unit": 5},
        r={"public": True, "key": ("k",), "columns": {"k": {"type": "integer", "values": (1, 2)}}},
    )
    vault_ = loaded(what, t=[("1",), ("99",), ("-7",), ("9",)], r=[("1",), ("3",)])
    assert fetch(vault_, "t", "u") == [(1,), (9,)]
    assert fetch(vault_, "_units_p", "value") == [("1",), ("9",)]
    assert fetch(vault_, "r") == [(1,)]


def test_a_column_whose_type_has_no_cast_is_named_without_a_cell() -> None:
    what = policy(t=own({"i": {"type": "boolean"}, "d": {"type": "numeric(12,2)"}}))
    raw = pa.table({"u": ["n42-secret"], "i": [True], "d": pa.array([Decimal(1)], pa.decimal256(50, 2))})
    with pytest.raises(LoadError) as caught:
        load(connect(1), what, lambda _: raw, SECRET)
    assert "table t: column d cannot be converted" in str(caught.value)
    assert "n42-secret" not in str(caught.value)


def test_a_bound_that_does_not_fit_its_type_stops_the_load() -> None:
    wide = policy(t=own({"n": {"type": "numeric(30,29)", "bounds": (0, 10**20)}}))
    with pytest.raises(LoadError, match="column n: a declared bound or value does not fit its type"):
        loaded(wide, t=[("a", "1")])


# units


def test_units_are_numbered_densely_over_all_tables_of_their_kind() -> None:
    what = policy(
        t=own({}),
        s=own({"x": {"type": "integer"}}),
        q={"unit": {"name": "q", "column": "u"}, "columns": {"u": {"type": "text"}}},
    )
    vault_ = loaded(what, t=[("b",), ("a",)], s=[("c", "1"), ("b", "2")], q=[("z",)])
    assert fetch(vault_, "_units_p") == [(1, "a"), (2, "b"), (3, "c")]
    assert fetch(vault_, "_units_q") == [(1, "z")]
    assert fetch(vault_, "s", "_unit, u") == [(2, "b"), (3, "c")]


def test_a_row_without_a_unit_is_dropped_and_counted() -> None:
    reports: list[TableReport] = []
    vault_ = loaded(policy(t=own({})), report=reports.append, t=[("a",), (None,), ("",)])
    assert fetch(vault_, "t", "u") == [("",), ("a",)]
    assert reports == [TableReport("t", None, 2, 0, 1, 0, 0, {})]


def test_a_kind_without_tables_has_no_units() -> None:
    assert fetch(loaded(policy(t=own({})), t=[]), "_units_q") == []


def test_the_owner_is_told_of_their_table() -> None:
    what = Policy.model_validate(
        {"room": ROOM, "owners": {"o": {}}, "units": {"p": {}}, "tables": {"t": own({}, owner="o")}}
    )
    reports: list[TableReport] = []
    loaded(what, report=reports.append, t=[("a",)])
    assert reports[0].owner == "o"


CHAIN = policy(
    b={
        "unit": {"name": "p", "through": "a", "on": "ka"},
        "key": ("kb",),
        "columns": {"kb": {"type": "bigint"}, "ka": {"type": "bigint"}},
    },
    c={
        "unit": {"name": "p", "through": "b", "on": "kb"},
        "columns": {"kb": {"type": "bigint"}, "x": {"type": "integer"}},
    },
    a={
        "unit": {"name": "p", "column": "u"},
        "key": ("ka",),
        "columns": {"ka": {"type": "bigint"}, "u": {"type": "text"}},
    },
)


def test_a_unit_is_found_through_other_tables() -> None:
    vault_ = loaded(
        CHAIN,
        a=[("1", "x"), ("2", "y"), ("3", None)],
        b=[("10", "1"), ("11", "2"), ("12", "9"), ("13", "3"), ("14", None)],
        c=[("10", "1"), ("10", "2"), ("11", "3"), ("12", "4"), ("13", "5"), (None, "6"), ("99", "7")],
    )
    assert fetch(vault_, "b", "_unit, kb, ka") == [(1, 10, 1), (2, 11, 2)]
    assert fetch(vault_, "c", "_unit, kb, x") == [(1, 10, 1), (1, 10, 2), (2, 11, 3)]


def test_a_row_keeps_its_unit_when_the_row_it_came_through_is_cut() -> None:
    what = policy(
        a={
            "unit": {"name": "p", "column": "u"},
            "key": ("k",),
            "rows_per_unit": 1,
            "columns": {"k": {"type": "bigint"}, "u": {"type": "text"}},
        },
        b={"unit": {"name": "p", "through": "a", "on": "k"}, "columns": {"k": {"type": "bigint"}}},
    )
    vault_ = loaded(what, a=[("1", "x"), ("2", "x")], b=[("1",), ("2",)])
    assert len(fetch(vault_, "a")) == 1
    assert fetch(vault_, "b", "_unit, k") == [(1, 1), (1, 2)]


# keys


def test_a_key_that_occurs_twice_stops_the_load_without_a_cell() -> None:
    for rules in (own({}, key=("u",)), {"public": True, "key": ("u",), "columns": {"u": {"type": "text"}}}):
        with pytest.raises(LoadError) as caught:
            loaded(policy(t=rules), t=[("n42",), ("n42",), ("b",)])
        assert str(caught.value) == "table t: 1 values of the declared key (u) occur more than once"


def test_a_key_of_two_columns_is_unique_as_a_whole() -> None:
    what = policy(t=own({"v": {"type": "integer"}}, key=("u", "v")))
    assert len(fetch(loaded(what, t=[("a", "1"), ("a", "2"), ("b", "1"), ("b", None), ("b", "x")]), "t")) == 3
    with pytest.raises(LoadError, match=r"\(u, v\)"):
        loaded(what, t=[("a", "1"), ("a", " 1 ")])


# rows per unit


MANY = policy(t=own({"x": {"type": "integer"}, "y": {"type": "double precision"}}, rows_per_unit=3))


def test_no_unit_has_more_rows_than_declared() -> None:
    reports: list[TableReport] = []
    rows = [(u, str(x), "0.5") for u in "abc" for x in range(10)] + [("d", "1", None)] * 2
    vault_ = loaded(MANY, report=reports.append, t=rows)
    counted = run(vault_, "SELECT u, count(*), max(_rank) FROM t GROUP BY u ORDER BY u")
    assert counted == [("a", 3, 3), ("b", 3, 3), ("c", 3, 3), ("d", 2, 2)]
    assert reports == [TableReport("t", None, 11, 0, 0, 0, 21, {})]


def test_undeclared_limits_hold_all_the_same() -> None:
    vault_ = loaded(policy(t=own({"x": {"type": "integer"}})), t=[("a", str(x)) for x in range(1001)])
    assert run(vault_, "SELECT count(*) FROM t") == [(1000,)]


def kept(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for unit, *row in run(connection, "SELECT u, _rank, x, y FROM t ORDER BY u, _rank"):
        found.setdefault(unit, []).append(tuple(row))
    return found


ROW = st.tuples(
    st.sampled_from("abcde"),
    st.none() | st.integers(0, 3).map(str),
    st.sampled_from([None, "0", "-0.0", "1e308", "nan"]),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_which_rows_stay_depends_on_the_units_own_rows_alone(rows: list[tuple[Any, ...]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    whole = kept(loaded(MANY, t=rows))
    assert kept(loaded(MANY, t=shuffled, threads=2)) == whole
    gone = rows[0][0]
    rest = kept(loaded(MANY, t=[row for row in rows if row[0] != gone]))
    assert rest == {unit: found for unit, found in whole.items() if unit != gone}


def test_which_rows_stay_depends_on_the_secret() -> None:
    rows = [("a", str(x), None) for x in range(100)]
    choices = {tuple(kept(loaded(MANY, secret=bytes([n]) * 32, t=rows))["a"]) for n in range(4)}
    assert len(choices) == 4


def test_the_choice_is_not_the_same_for_every_unit() -> None:
    rows = [(u, str(x), None) for u in "abcd" for x in range(50)]
    found = kept(loaded(MANY, t=rows))
    assert len({tuple(places) for places in found.values()}) == 4


def test_texts_that_join_alike_are_different_rows() -> None:
    what = policy(t=own({"x": {"type": "text"}, "y": {"type": "text"}}, rows_per_unit=2))
    rows = [("a", "b", "c"), ("a", "b,c", None), ("a", "null", "c"), ("a", None, "c"), ("a", '"b"', "c")]
    picks = {frozenset(run(loaded(what, secret=bytes([n]) * 32, t=rows), "SELECT x, y FROM t")) for n in range(30)}
    assert len(picks) > 4


def test_rows_of_a_unit_stand_together_in_rank_order() -> None:
    vault_ = loaded(MANY, t=[(u, str(x), None) for x in range(5) for u in "ba"])
    stored = run(vault_, "SELECT _unit, _rank FROM t")
    assert stored == sorted(stored) == [(unit, rank) for unit in (1, 2) for rank in (1, 2, 3)]


def test_nothing_is_left_of_loading() -> None:
    vault_ = loaded(MANY, t=[("a", "1", None)])
    assert {row[0] for row in run(vault_, "SHOW TABLES")} == {"t", "_units_p", "_units_q"}


# files


def test_a_csv_and_a_parquet_file_give_the_same_vault(tmp_path: Path) -> None:
    columns = {
        "s": {"type": "text"},
        "n": {"type": "numeric(12,2)"},
        "f": {"type": "double precision"},
        "d": {"type": "date"},
        "z": {"type": "timestamptz"},
        "b": {"type": "boolean"},
    }
    what = policy(t=own(columns))
    raw = {
        "u": ["a", "b", "c"],
        "s": ["two\nlines", "", None],
        "n": pa.array([Decimal("1.25"), Decimal("-0.05"), None], pa.decimal128(12, 2)),
        "f": [0.1, -1e300, None],
        "d": pa.array([dt.date(2024, 2, 29), dt.date(1, 1, 1), None]),
        "z": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        "b": [True, False, None],
    }
    folders = [tmp_path / kind for kind in ("csv", "parquet")]
    for folder in folders:
        folder.mkdir()
    pq.write_table(pa.table(raw), folders[1] / "t.parquet")
    text = (
        "u,s,n,f,d,z,b\n"
        'a,"two\nlines",1.25,0.1,2024-02-29,1970-01-01 02:00:00+02,t\n'
        'b,"",-0.05,-1e300,0001-01-01,1970-01-01 00:00:00.000001Z,no\n'
        "c,,,,,,\n"
    )
    (folders[0] / "t.csv").write_text(text)
    vaults = []
    for folder in folders:
        connection = connect(1)
        load(connection, what, vault.file_reader(tables.find(folder, what), what), SECRET)
        vaults.append(fetch(connection, "t"))
    assert vaults[0] == vaults[1]
    assert [row[3] for row in vaults[0]] == ["two\nlines", "", None]


# the lock


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(1)
    yield connection
    connection.close()


def test_a_locked_engine_passes_its_own_test(engine: duckdb.DuckDBPyConnection) -> None:
    lock(engine)
    prove_locked(engine)
    assert run(engine, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("missing", ["enable_external_access", "lock_configuration", "everything"])
def test_an_engine_without_a_part_of_the_lock_fails_it(engine: duckdb.DuckDBPyConnection, missing: str) -> None:
    for setting, value in (("enable_external_access", "false"), ("lock_configuration", "true")):
        if missing not in (setting, "everything"):
            run(engine, f"SET {setting} = {value}")
    with pytest.raises(LoadError, match="the engine is not locked"):
        prove_locked(engine)


def test_an_engine_that_could_spill_fails_it(tmp_path: Path) -> None:
    engine = duckdb.connect(":memory:")
    run(engine, f"SET temp_directory = '{tmp_path}'")
    lock(engine)
    with pytest.raises(LoadError, match="it could spill to disk"):
        prove_locked(engine)


def test_an_engine_out_of_memory_fails_and_does_not_spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove_no_spill()

    def spilling(threads: int | None = None, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
        connection = connect(threads, memory_limit)
        run(connection, f"SET temp_directory = '{tmp_path}'")
        return connection

    monkeypatch.setattr(vault, "connect", spilling)
    with pytest.raises(LoadError, match="it spilled to disk"):
        prove_no_spill()


def test_an_engine_has_the_settings_it_is_given() -> None:
    engine = connect(threads=1, memory_limit="64MiB")
    asked = "SELECT current_setting('threads'), current_setting('memory_limit'), current_setting('TimeZone')"
    assert run(engine, asked) == [(1, "64.0 MiB", "UTC")]
    assert vault.memory_limit().endswith("MiB")
    assert run(connect(), "SELECT 1 // 0") == [(None,)]


def test_cells_that_became_null_and_rows_without_a_key_are_reported_by_column() -> None:
    columns = {
        "visit": {"type": "bigint"},
        "value": {"type": "numeric(6,2)"},  # a name that the units' own table has too
        "sex": {"type": "text", "values": ("F", "M")},
    }
    reports: list[TableReport] = []
    rows = [("a", "7", "1.5", "F"), ("a", None, "x", "f"), ("b", "8", None, "M")]
    vault_ = loaded(policy(t=own(columns, key=("visit",))), report=reports.append, t=rows)
    assert fetch(vault_, "t", "u, value, sex") == [("a", 150, "F"), ("b", None, "M")]
    assert reports == [TableReport("t", None, 2, 1, 0, 0, 0, {"value": 1, "sex": 1})]
