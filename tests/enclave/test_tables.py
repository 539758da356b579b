from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from enclave import tables
from enclave.tables import LoadError, PublicTables
from policies import sqltype
from policies.model import Column, Policy, Table

ROOM = {"name": "r", "version": 1, "environment": "development"}
SECRET_CELL = "n42-secret"


def table(**columns: str) -> Table:
    return Table(columns={name: Column(type=sqltype.parse(kind)) for name, kind in columns.items()}, public=True)


def policy(*names: str) -> Policy:
    return Policy.model_validate({"room": ROOM, "tables": {name: table(x="text") for name in names}})


def stored(kind: str, values: Sequence[Any], *, uncut: bool = False) -> list[Any]:
    """What becomes of raw values: Python values as Arrow types them, texts as a CSV file has them."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    raw = values if isinstance(values, pa.Array) else pa.array(values)
    connection.register("raw", pa.table({"v": raw}))
    sql = tables.stored('"v"', sqltype.parse(kind), uncut=uncut)
    return [row[0] for row in connection.execute(f"SELECT {sql} FROM raw").fetchall()]


# files


def test_each_table_has_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.parquet").touch()
    (tmp_path / "other.csv").touch()
    assert tables.find(tmp_path, policy("a", "b")) == {"a": tmp_path / "a.csv", "b": tmp_path / "b.parquet"}


def test_a_table_without_a_file_or_with_two_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="table a: no file in the data folder"):
        tables.find(tmp_path, policy("a"))
    (tmp_path / "a.csv").touch()
    (tmp_path / "a.parquet").touch()
    with pytest.raises(LoadError, match=r"table a: both a \.parquet and a \.csv"):
        tables.find(tmp_path, policy("a"))


def test_the_epoch_names_the_contents_of_the_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * (3 << 20))
    two.write_bytes(b"y")
    before = tables.epoch({"a": one, "b": two})
    assert len(before) == 64
    assert tables.epoch({"b": two, "a": one}) == before
    assert tables.epoch({"a": two, "b": one}) != before
    two.write_bytes(b"z")
    assert tables.epoch({"a": one, "b": two}) != before


# reading


def csv(tmp_path: Path, text: str | bytes, **columns: str) -> dict[str, list[Any]]:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return tables.read("t", path, table(**columns)).to_pydict()


def test_a_csv_file_gives_texts_in_the_policys_order(tmp_path: Path) -> None:
    found = csv(tmp_path, "b,extra,a\n007,x,1\n,y,2.50\n", a="bigint", b="text")
    assert found == {"a": ["1", "2.50"], "b": ["007", None]}
    assert list(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a\n""\n', [""]),
        ('a,b\n,1\n"",2\n', [None, ""]),
        ('a\n"two\nlines"\n', ["two\nlines"]),
        ('a\n"say ""hi"", you"\n', ['say "hi", you']),
        ("a\nNULL\n", ["NULL"]),
        ("a\n é \n", [" é "]),
        ("\ufeffa\nx\n", ["x"]),
        ('"a"\nx\n', ["x"]),
        ('a,"two\nlines"\nx,y\n', ["x"]),
        ("a\r\nx\r\n", ["x"]),
        ("a\n", []),
        ("a\n" + "x" * 100_000 + "\n", ["x" * 100_000]),
    ],
)
def test_csv_is_read_as_postgres_reads_it(tmp_path: Path, text: str, expected: list[str | None]) -> None:
    assert csv(tmp_path, text, a="text") == {"a": expected}


def test_a_parquet_file_gives_the_same_texts_and_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"b": ["x", None, ""], "a": [1, 2, None]}), tmp_path / "t.parquet")
    found = tables.read("t", tmp_path / "t.parquet", table(a="bigint", b="text"))
    assert found.to_pydict() == {"a": [1, 2, None], "b": ["x", None, ""]}


def test_times_become_utc_microseconds_and_dictionaries_are_unpacked(tmp_path: Path) -> None:
    moment = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    raw = {
        "zoned": pa.array([moment], pa.timestamp("ns", "Europe/Berlin")),
        "plain": pa.array([10**9 + 1], pa.timestamp("ns")),
        "word": pa.array(["x"]).dictionary_encode(),
    }
    pq.write_table(pa.table(raw), tmp_path / "t.parquet")
    found = tables.read("t", tmp_path / "t.parquet", table(zoned="timestamptz", plain="timestamp", word="text"))
    assert found.schema.types == [pa.timestamp("us"), pa.timestamp("us"), pa.string()]
    assert str(found["zoned"][0]) == "2024-01-01 10:00:00"
    assert str(found["plain"][0]) == "1970-01-01 00:00:01"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"b,c\n1,2\n", "the file has no column a"),
        ("t.csv", b"", "the file has no column a"),
        ("t.csv", b"a,b,a\n1,2,n42-secret\n", "the file has more than one column a"),
        ("t.csv", b"a\nn42-secret,1\n", "the file cannot be read"),
        ("t.csv", b"a\nn42-secret\xff\n", "the file cannot be read"),
        ("t.csv", b"a\xff\n1\n", "the file cannot be read"),
        ("t.csv", b"a," + b"n42-secret" * 20_000 + b"\nn42-secret\n", "the file cannot be read"),
        ("t.csv", b'a\n"n42-secret\n', None),
        ("t.parquet", b"n42-secret", "the file cannot be read"),
        ("t.parquet", b"", "the file cannot be read"),
        ("t.parquet", b"PAR1" + b"n42-secret" * 9 + b"PAR1", "the file cannot be read"),
    ],
)
def test_an_unreadable_file_is_named_without_a_cell(
    tmp_path: Path, name: str, content: bytes, words: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    if words is None:  # an open quote at the end of a file is read leniently
        assert tables.read("t", tmp_path / name, table(a="text")).num_rows <= 1
        return
    with pytest.raises(LoadError) as caught:
        tables.read("t", tmp_path / name, table(a="text"))
    assert str(caught.value).startswith(f"table t: {words}")
    assert SECRET_CELL not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_missing_file_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read"):
        tables.read("t", tmp_path / "t.csv", table(a="text"))


def test_every_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no column b, c"):
        csv(tmp_path, "a\n1\n", a="text", b="text", c="text")


def test_a_column_twice_in_parquet_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(LoadError, match="more than one column a"):
        tables.read("t", tmp_path / "t.parquet", table(a="bigint"))


# stored forms


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (
            "smallint",
            ["32767", "32768", "-32768", "x", "", " 7 ", "1.4", None],
            [32767, None, -32768, None, None, 7, None, None],
        ),
        ("integer", [2147483647, 2147483648, -(2**31)], [2147483647, None, -(2**31)]),
        (
            "bigint",
            ["9223372036854775807", "9223372036854775808", "-9223372036854775808"],
            [2**63 - 1, None, -(2**63)],
        ),
        ("bigint", [1.0, 1.4, 1e300, float("nan"), float("inf"), None], [1, None, None, None, None, None]),
        ("integer", [True, False], [1, 0]),
        ("numeric(6,2)", ["12.345", "-0.05", "-0", "9999.995", "x", "1e2"], [1235, -5, 0, None, None, 10000]),
        ("numeric(6,2)", [0.125, -2.5], [13, -250]),
        ("numeric(3,3)", ["0.1234", "-0.9996", "1"], [123, None, None]),
        ("numeric(30,0)", ["9" * 30, "-" + "9" * 30, "1" + "0" * 30], [10**30 - 1, 1 - 10**30, None]),
        ("numeric(30,29)", ["9." + "9" * 29], [10**30 - 1]),
        ("double precision", ["1e400", "-inf", "nan", "0.1", "x"], [1e308, -1e308, None, 0.1, None]),
        ("double precision", [float("inf"), float("nan"), -0.0, None], [1e308, None, 0.0, None]),
        ("real", ["0.5"], [0.5]),
        (
            "boolean",
            ["t", "YES", " on ", "0", "of", "2", "", None],
            [True, True, True, False, False, None, None, None],
        ),
        ("boolean", [True, False, None], [True, False, None]),
        ("boolean", [1, 0, 2], [True, False, None]),
        ("date", ["2024-02-29", "2023-02-29", "infinity", "10000-01-01"], [dt.date(2024, 2, 29), None, None, None]),
        ("date", [dt.date(1, 1, 1), None], [dt.date(1, 1, 1), None]),
        ("text", ["a ", "", None], ["a ", "", None]),
        ("text", [1, 20], ["1", "20"]),
        ("varchar(2)", ["héllo", "a "], ["hé", "a "]),
        ("char(2)", ["a b", "ab  ", "  "], ["a", "ab", ""]),
    ],
)
def test_raw_values_take_their_types_form_or_become_null(kind: str, given: list[Any], expected: list[Any]) -> None:
    assert stored(kind, given) == expected


def test_minus_zero_is_zero() -> None:
    assert str(stored("double precision", [-0.0])[0]) == "0.0"


def test_identifying_texts_are_not_cut() -> None:
    assert stored("varchar(2)", ["abc"], uncut=True) == ["abc"]
    assert stored("char(2)", ["abc "], uncut=True) == ["abc"]


def test_times_are_stored_in_utc() -> None:
    texts = ["2024-01-01 00:00:00+02", "2024-01-01T00:00:00Z", "2024-01-01", "infinity", "x"]
    shown = [None if moment is None else str(moment) for moment in stored("timestamptz", texts)]
    assert shown == ["2023-12-31 22:00:00", "2024-01-01 00:00:00", "2024-01-01 00:00:00", None, None]
    # Postgres ignores the zone of a text that becomes a timestamp without one (docs, 8.5.1.3).
    assert str(stored("timestamp", ["2024-01-01 00:00:00+02"])[0]) == "2024-01-01 00:00:00"
    assert str(stored("timestamptz", pa.array([0], pa.timestamp("us")))[0]) == "1970-01-01 00:00:00"
    assert stored("timestamp", pa.array([9 * 10**17], pa.timestamp("us"))) == [None]


# sizes


def test_sizes_of_public_tables_are_counted_once() -> None:
    connection = duckdb.connect(":memory:")
    connection.execute(
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'x'), (1, 'y'), (NULL, 'y'), (NULL, 'y')) v(a, b)"
    )
    asked: list[str] = []

    def number(sql: str) -> int:
        asked.append(sql)
        [(found,)] = connection.execute(sql).fetchall()
        return int(found)

    facts = PublicTables(number)
    for _ in range(2):
        assert facts.rows("t") == 4
        assert facts.distinct("t", ("a",)) == 2
        assert facts.distinct("t", ("a", "b")) == 3
        assert facts.distinct("t", ()) == 1
    assert len(asked) == 4
