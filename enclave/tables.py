"""tables: an owner's Parquet or CSV file -> Arrow, by the policy's columns. Reading alone; no engine."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from policies.model import Policy, Table
from policies.sqltype import SqlType
from rewriter.terms import quote, stored_type, truth

_HASH_CHUNK: Final = 1 << 20
_INEXACT: Final = "'VARCHAR', 'DOUBLE', 'FLOAT'"  # raw types whose values need not be whole


class LoadError(Exception):
    """A file cannot be loaded. Its words are for the owner and the operator and hold no value of the data."""


class PublicTables:
    """Sizes of the public tables that an engine holds (`rewriter.keys.PublicFacts`)."""

    def __init__(self, number: Callable[[str], int]) -> None:
        """Take how to run SQL for one number; results are kept, public tables do not change while the room runs."""
        self._number = number
        self._known: dict[str, int] = {}

    def rows(self, table: str) -> int:
        """Rows of a public table."""
        return self._count(f"SELECT count(*) FROM {quote(table)}")

    def distinct(self, table: str, columns: tuple[str, ...]) -> int:
        """Distinct combinations of some columns of a public table."""
        picked = ", ".join(map(quote, columns)) or "1"
        return self._count(f"SELECT count(*) FROM (SELECT DISTINCT {picked} FROM {quote(table)})")

    def _count(self, sql: str) -> int:
        if sql not in self._known:
            self._known[sql] = self._number(sql)
        return self._known[sql]


def find(folder: Path, policy: Policy) -> dict[str, Path]:
    """The file of each table of a policy: `<table>.parquet` or `<table>.csv` in a folder.

    Raises:
        LoadError: a table has no file, or two.
    """
    found = {}
    for name in policy.tables:
        paths = [path for path in (folder / f"{name}.parquet", folder / f"{name}.csv") if path.is_file()]
        if len(paths) != 1:
            what = "both a .parquet and a .csv file" if paths else "no file"
            raise LoadError(f"table {name}: {what} in the data folder; put {name}.parquet or {name}.csv there")
        found[name] = paths[0]
    return found


def epoch(files: Mapping[str, Path]) -> str:
    """A name for the state of the data: SHA-256 over the files' own, in hex. Answers are kept per epoch."""
    digest = hashlib.sha256()
    for name in sorted(files):
        inner = hashlib.sha256()
        with files[name].open("rb") as file:
            while chunk := file.read(_HASH_CHUNK):
                inner.update(chunk)
        digest.update(name.encode() + b"\0" + inner.digest())
    return digest.hexdigest()


def read(name: str, path: Path, table: Table) -> pa.Table:
    """The columns that the policy names, in its order; other columns of the file are not read.

    Raises:
        LoadError: the file is unreadable or lacks a column.
    """
    try:
        columns = _csv_columns(path) if path.suffix == ".csv" else pq.read_schema(path).names
        _check_columns(name, columns, table)
        data = _read_csv(path, table) if path.suffix == ".csv" else pq.read_table(path, columns=list(table.columns))
        return pa.table({column: _plain(data.column(column)) for column in table.columns})
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as error:
        # Their messages echo cells.
        raise LoadError(f"table {name}: the file cannot be read ({type(error).__name__})") from None


def stored(column: str, type_: SqlType, *, uncut: bool = False) -> str:
    """SQL that turns a raw column into its stored form, NULL where a value is not of the type.

    Numerics become integers of 10**-scale units; dates stay between the years 1 and 9999, since arithmetic on
    the engine's infinities fails; NaN becomes NULL. `uncut` keeps texts longer than their type, as where they
    identify someone: cut, they would be someone else.
    """
    target = stored_type(type_)
    if type_.name == "numeric":
        decimal = f"TRY_CAST({column} AS DECIMAL({type_.precision}, {type_.scale}))"
        # The text of a DECIMAL always has all digits of its scale: without the point it is the number of units.
        return f"TRY_CAST(replace(CAST({decimal} AS VARCHAR), '.', '') AS {target})"
    if type_.is_integer:
        top = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}[type_.name]
        whole = f"TRY_CAST({column} AS HUGEINT)"  # rounds: without the next line 1.4 would be the person 1
        same = f"(typeof({column}) NOT IN ({_INEXACT}) OR TRY_CAST({column} AS DECIMAL(38, 9)) = {whole})"
        return f"CAST(CASE WHEN {whole} BETWEEN -{top} AND {top - 1} AND {same} THEN {whole} END AS {target})"
    if type_.is_floating:
        number = f"TRY_CAST({column} AS DOUBLE)"
        clipped = f"greatest(least({number}, 1e308), -1e308) + 0.0::DOUBLE"  # + 0.0: no -0.0, which equals 0.0
        return f"CASE WHEN {number} IS NULL OR isnan({number}) THEN NULL ELSE {clipped} END"
    if type_.is_temporal:
        moment = f"TRY_CAST({column} AS {target})"
        if type_.name == "timestamptz":  # a cast to TIMESTAMP would drop the zone of a text
            moment = f"CAST(TRY_CAST({column} AS TIMESTAMPTZ) AS TIMESTAMP)"
        return f"CASE WHEN {moment} BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999' THEN {moment} END"
    if type_.name == "boolean":
        return truth(f"CAST({column} AS VARCHAR)")
    text = f"CAST({column} AS VARCHAR)"
    if not uncut:
        text = f"replace({text}, chr(0), '')"  # Postgres has no text with NUL in it
    if type_.precision and not uncut:
        text = f"left({text}, {type_.precision})"
    return f"rtrim({text})" if type_.name == "char" else text


def _check_columns(name: str, columns: Sequence[str], table: Table) -> None:
    missing = [column for column in table.columns if column not in columns]
    if missing:
        raise LoadError(f"table {name}: the file has no column {', '.join(missing)}")
    twice = [column for column in table.columns if columns.count(column) > 1]
    if twice:
        raise LoadError(f"table {name}: the file has more than one column {', '.join(twice)}")


def _csv_columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _read_csv(path: Path, table: Table) -> pa.Table:
    """All columns as text; the empty unquoted field is NULL (Postgres docs, COPY, CSV format)."""
    options = pacsv.ConvertOptions(
        column_types=dict.fromkeys(table.columns, pa.string()),
        include_columns=list(table.columns),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pacsv.read_csv(path, convert_options=options, parse_options=pacsv.ParseOptions(newlines_in_values=True))


def _plain(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Times in UTC without a zone and microseconds; dictionaries unpacked."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us"), safe=False)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
