"""vault: owners' files -> locked tables over which plans run.

    table   `_unit` dense id of its unit, `_rank` place of the row among its unit's rows, the policy's columns
    `_units_<kind>`  `_unit`, the owner's `value` as text

Claim: with and without all rows of one unit, the rows of every other unit are stored with the same columns and the
same `_rank`. `_unit` is dense, so it does change: nothing may choose by it. `_rank` orders a unit's rows by a keyed
hash of their content; rows that are equal in every column are interchangeable, so ties between them do not matter.

Loading enforces what the bounds rely on: at most `rows_per_unit` rows of a unit, declared bounds (clipped), declared
values (else NULL), NOT NULL (else the row is dropped), unique declared keys (else loading stops).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from enclave import tables
from enclave.tables import LoadError
from policies.model import Column, Policy, Table
from rewriter import terms
from rewriter.plan import Constant
from rewriter.refusal import Refusal
from rewriter.terms import quote, text

MEMORY_SHARE: Final = 0.6
"""Of the machine's memory, for the engine; the rest is for Arrow while loading and for the other processes."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """What loading changed in one table; for its owner alone, since it tells of rows.

    Attributes:
        rows: how many were kept.
        without_key, without_unit, null_in_not_null, beyond_rows_per_unit: how many were dropped, and why.
        made_null: by column, cells that are not of its type or not among its declared values, and so became NULL.
    """

    table: str
    owner: str | None
    rows: int
    without_key: int
    without_unit: int
    null_in_not_null: int
    beyond_rows_per_unit: int
    made_null: dict[str, int]


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement to its end and return its rows; the engine refuses the next one before that."""
    return connection.execute(sql).fetchall()


def connect(threads: int | None = None, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
    """An empty engine in memory that spills nothing to disk."""
    connection = duckdb.connect(":memory:")
    run(connection, "SET temp_directory = ''")
    run(connection, "SET GLOBAL error_on_division_by_zero = false")
    run(connection, "SET GLOBAL TimeZone = 'UTC'")
    if threads is not None:
        run(connection, f"SET threads = {int(threads)}")
    if memory_limit is not None:
        run(connection, f"SET memory_limit = {text(memory_limit)}")
    return connection


def memory_limit() -> str:
    """The engine's share of this machine's memory."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{int(pages * size * MEMORY_SHARE) >> 20}MiB"


def load(
    connection: duckdb.DuckDBPyConnection,
    policy: Policy,
    read: Callable[[str], pa.Table],
    secret: bytes,
    report: Callable[[TableReport], None] = lambda _: None,
) -> None:
    """Load every table of a policy.

    Args:
        connection: an engine without tables.
        policy: what to enforce.
        read: the raw columns of a table, as `tables.read` gives them.
        secret: 32 bytes that key the choice of rows.
        report: is given each protected table's report.

    Raises:
        LoadError: a declared key is not unique, or a table is not as the policy says.
    """
    changes = {name: _stage(connection, name, table, read(name)) for name, table in policy.tables.items()}
    for unit in policy.units:
        names = [name for name, table in policy.tables.items() if table.unit is not None and table.unit.name == unit]
        _number_units(connection, unit, names, policy)
        for name in names:
            report(_store(connection, name, policy, secret, changes[name]))
    for name, table in policy.tables.items():
        if table.public:
            columns = ", ".join(map(quote, table.columns))
            kept = f"SELECT {columns} FROM {_staged(name)} WHERE NOT ({_missing(table)})"
            run(connection, f"CREATE TABLE {quote(name)} AS {kept}")
    for name in policy.tables:
        run(connection, f"DROP TABLE {_staged(name)}")


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Shut the engine off from files, network and its own settings, for good. Set last, lock_configuration wins."""
    run(connection, "SET enable_external_access = false")
    run(connection, "SET lock_configuration = true")


def prove_locked(connection: duckdb.DuckDBPyConnection) -> None:
    """Try to break the lock of a loaded engine.

    Raises:
        LoadError: one of the attempts worked.
    """
    with tempfile.NamedTemporaryFile(suffix=".csv") as canary:
        canary.write(b"canary\n1\n")
        canary.flush()
        attempts = {
            "reading a file": f"SELECT * FROM read_csv({text(canary.name)})",
            "reading a text": f"SELECT * FROM read_text({text(canary.name)})",
            "writing a file": f"COPY (SELECT 1) TO {text(canary.name)}",
            "attaching a database": f"ATTACH {text(canary.name + '.db')} AS canary",
            "installing an extension": "INSTALL httpfs",
            "a setting": "SET threads = 1",
            "a directory to spill to": f"SET temp_directory = {text(str(Path(canary.name).parent))}",
            "unlocking": "SET lock_configuration = false",
        }
        for name, sql in attempts.items():
            if _works(connection, sql):
                raise LoadError(f"the engine is not locked: {name} worked")
    if run(connection, "SELECT current_setting('temp_directory')") != [("",)]:
        raise LoadError("the engine is not locked: it could spill to disk")


def prove_no_spill() -> None:
    """Make an engine of the same settings run out of memory: it must fail, not spill.

    Raises:
        LoadError: it went on, so its rows went to disk.
    """
    small = connect(threads=1, memory_limit="32MB")  # with less, it would fail even where it spills
    lock(small)
    if _works(small, "SELECT max(h) FROM (SELECT sha256(CAST(i AS VARCHAR)) h FROM range(600000) t(i) ORDER BY h)"):
        raise LoadError("the engine is not locked: it spilled to disk")
    small.close()


def _works(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    try:
        connection.cursor().execute(sql).fetchall()
    except duckdb.Error:
        return False
    return True


def _staged(name: str) -> str:
    return quote(f"_staged_{name}")


@dataclass(frozen=True, slots=True)
class _Changes:
    """What conversion changed: rows without a key, cells that became NULL by column."""

    without_key: int
    made_null: dict[str, int]


def _stage(connection: duckdb.DuckDBPyConnection, name: str, table: Table, raw: pa.Table) -> _Changes:
    """Convert a table to stored types, with declared bounds and values enforced and its unit's value resolved."""
    identifying = _identifying(table)
    columns = [
        f"{_enforced(name, column, declared, column in identifying)} AS {quote(column)}"
        for column, declared in table.columns.items()
    ]
    own = table.unit.column if table.unit is not None else None
    value = f", CAST({_enforced(name, own, table.columns[own], True)} AS VARCHAR) AS _value" if own else ""
    try:
        connection.register("raw", raw)
        run(connection, f"CREATE TABLE {_staged(name)} AS SELECT {', '.join(columns)}{value} FROM raw")
    except duckdb.Error as error:  # the engine's words echo cells
        raise LoadError(
            f"table {name}: {_misfits(connection, raw)} cannot be converted ({type(error).__name__})"
        ) from None
    finally:
        connection.unregister("raw")
    before = _nulls(connection, name, table)
    given = {column: raw.column(column).null_count for column in table.columns}
    made = {column: count - given[column] for column, count in before.items() if count > given[column]}
    return _Changes(_check_key(connection, name, table), made)


def _nulls(connection: duckdb.DuckDBPyConnection, name: str, table: Table) -> dict[str, int]:
    """NULLs of each column of a converted table."""
    counts = ", ".join(f"count(*) - count({quote(column)})" for column in table.columns)
    (row,) = run(connection, f"SELECT {counts} FROM {_staged(name)}")
    return dict(zip(table.columns, map(int, row), strict=True))


def _identifying(table: Table) -> set[str]:
    """Columns that tell rows or units apart: clipping them would merge two people."""
    unit = () if table.unit is None else (table.unit.column, table.unit.on)
    return {column for column in (*table.key, *unit) if column is not None}


def _enforced(name: str, column: str, declared: Column, identifies: bool) -> str:
    stored = tables.stored(quote(column), declared.type, uncut=identifies)
    if declared.bounds is not None:
        low, high = (_constant(name, column, declared, bound) for bound in declared.bounds)
        if identifies:  # clipped, it would be someone else; kept, it would break what is proven from the bounds
            return f"CASE WHEN {stored} BETWEEN {low} AND {high} THEN {stored} END"
        # least and greatest ignore NULL, which must stay NULL.
        stored = f"CASE WHEN {stored} IS NULL THEN NULL ELSE greatest(least({stored}, {high}), {low}) END"
    if declared.values is not None:
        allowed = ", ".join(_constant(name, column, declared, value) for value in declared.values)
        stored = f"CASE WHEN {stored} IN ({allowed}) THEN {stored} END"
    return stored


def _misfits(connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> str:
    """Name the columns that stop a load: those of an Arrow type that the engine does not read."""
    found = []
    for column in raw.column_names:
        try:
            connection.register("raw", raw.select([column]))
            run(connection, "SELECT count(*) FROM raw")
        except duckdb.Error:
            found.append(column)
    return f"column {', '.join(found)}" if found else "it"


def _constant(name: str, column: str, declared: Column, value: object) -> str:
    """A declared bound or value in the column's stored form."""
    try:
        term = terms.constant(Constant(declared.type, str(value)))
    except Refusal:
        term = None
    scaled = term if term is None or term.scale is None else terms.rescale(term, declared.type.scale or 0)
    if scaled is None:
        raise LoadError(f"table {name}: column {column}: a declared bound or value does not fit its type")
    return terms.floating(scaled).sql if declared.type.is_floating else scaled.sql


def _check_key(connection: duckdb.DuckDBPyConnection, name: str, table: Table) -> int:
    """Drop rows without a key and count them; refuse keys that are not unique.

    Declared keys are what joins rely on: two rows of one key would let one person reach another's.
    """
    if not table.key:
        return 0
    key = ", ".join(map(quote, table.key))
    missing = " OR ".join(f"{quote(column)} IS NULL" for column in table.key)
    without = _number(connection, f"SELECT count(*) FROM {_staged(name)} WHERE {missing}")
    run(connection, f"DELETE FROM {_staged(name)} WHERE {missing}")
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {_staged(name)} GROUP BY {key} HAVING count(*) > 1)"
    twice = _number(connection, sql)
    if twice:
        raise LoadError(
            f"table {name}: {twice} values of the declared key ({', '.join(table.key)}) occur more than once"
        )
    return without


def _number_units(connection: duckdb.DuckDBPyConnection, unit: str, names: list[str], policy: Policy) -> None:
    """Give every row its unit's value, and every value of a kind a dense number, in the values' own order."""
    for name in _nearest_first(names, policy):
        reference = policy.tables[name].unit
        if reference is None or reference.through is None:
            continue
        on = quote(str(reference.on))
        run(
            connection,
            f"CREATE OR REPLACE TABLE {_staged(name)} AS SELECT t.*, f._value FROM {_staged(name)} t "
            f"LEFT JOIN {_staged(reference.through)} f ON t.{on} = f.{on}",
        )
    values = " UNION ".join(f"SELECT DISTINCT _value FROM {_staged(name)} WHERE _value IS NOT NULL" for name in names)
    values = values or "SELECT CAST(NULL AS VARCHAR) AS _value WHERE FALSE"
    run(
        connection,
        f"CREATE TABLE {quote('_units_' + unit)} AS SELECT CAST(row_number() OVER (ORDER BY _value) AS INTEGER) "
        f"AS _unit, _value AS value FROM ({values})",
    )


def _nearest_first(names: list[str], policy: Policy) -> list[str]:
    """Tables in an order in which the one through which another finds its unit comes first."""

    def steps(name: str) -> int:
        unit = policy.tables[name].unit
        return 0 if unit is None or unit.through is None else 1 + steps(unit.through)

    return sorted(names, key=steps)


def _store(
    connection: duckdb.DuckDBPyConnection, name: str, policy: Policy, secret: bytes, changes: _Changes
) -> TableReport:
    """Write a protected table: rows of a unit together, in PRF order, at most rows_per_unit of them."""
    table = policy.tables[name]
    assert table.unit is not None
    rows = _number(connection, f"SELECT count(*) FROM {_staged(name)}")
    homeless = _number(connection, f"SELECT count(*) FROM {_staged(name)} WHERE _value IS NULL")
    run(connection, f"DELETE FROM {_staged(name)} WHERE _value IS NULL")
    missing = _missing(table)
    nulls = _number(connection, f"SELECT count(*) FROM {_staged(name)} WHERE {missing}")
    columns = list(map(quote, table.columns))
    texts = ", ".join(f"CAST({column} AS VARCHAR)" for column in columns)
    content = f"sha256(concat({text(secret.hex())}, to_json([{text(name)}, _value, {texts}])))"
    run(
        connection,
        f"CREATE TABLE {quote(name)} AS SELECT _unit, _rank, {', '.join(columns)} FROM (SELECT u._unit, "
        f"CAST(row_number() OVER (PARTITION BY u._unit ORDER BY {content}) AS INTEGER) AS _rank, "
        f"{', '.join('t.' + column for column in columns)} FROM {_staged(name)} t "
        f"JOIN (SELECT _unit, value AS _of FROM {quote('_units_' + table.unit.name)}) u ON t._value = u._of "
        f"WHERE NOT ({missing})) "
        f"WHERE _rank <= {table.rows_per_unit_max} ORDER BY _unit, _rank",
    )
    kept = _number(connection, f"SELECT count(*) FROM {quote(name)}")
    beyond = rows - homeless - nulls - kept
    return TableReport(name, table.owner, kept, changes.without_key, homeless, nulls, beyond, changes.made_null)


def _missing(table: Table) -> str:
    """SQL that is true of a row with NULL in a NOT NULL column."""
    required = [column for column, declared in table.columns.items() if declared.not_null]
    return " OR ".join(f"{quote(column)} IS NULL" for column in required) or "FALSE"


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(run(connection, sql)[0][0])


def file_reader(files: Mapping[str, Path], policy: Policy) -> Callable[[str], pa.Table]:
    """How `load` reads a folder of files."""
    return lambda name: tables.read(name, files[name], policy.tables[name])
