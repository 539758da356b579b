"""postprocess: noised releases -> the answer, in an engine that holds public tables and nothing clear.

Everything here is post-processing of released numbers (Dwork and Roth 2014, Proposition 2.1): it can cost accuracy
or look odd, but it cannot cost privacy.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from enclave import tables
from enclave.answer import Noised, NoisyCoordinate, ResultColumn
from policies.model import Policy
from policies.sqltype import BIGINT, SqlType
from rewriter.cost import HALF_WIDTH
from rewriter.refusal import Refusal
from rewriter.released import KeyColumn, MeasureColumn, ReleasedTable
from rewriter.rewrite import Rewritten
from rewriter.terms import quote

MEMORY_LIMIT: Final = "1GB"
"""Released tables are small; an analyst's cross join must not take the machine."""
RESULT_BYTES_MAX: Final = 64 * 2**20
"""A million rows of eight numbers. Keeper and front each hold a result whole until the client has read it."""
_OIDS: Final = {
    "boolean": 16, "smallint": 21, "integer": 23, "bigint": 20, "numeric": 1700, "real": 700, "double precision": 701,
    "text": 25, "varchar": 1043, "char": 1042, "date": 1082, "timestamp": 1114, "timestamptz": 1184,
}  # fmt: skip
_ARROW: Final[dict[int, pa.DataType]] = {
    16: pa.bool_(), 21: pa.int16(), 23: pa.int32(), 20: pa.int64(), 700: pa.float32(), 701: pa.float64(),
    1082: pa.date32(), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
}  # fmt: skip
_INT8: Final = 2.0**63


def load_public(policy: Policy, read: Callable[[str], pa.Table]) -> duckdb.DuckDBPyConnection:
    """An engine with the public tables in their natural types, shut off from files and settings."""
    connection = duckdb.connect(":memory:")
    for setting in ("temp_directory = ''", "error_on_division_by_zero = false", f"memory_limit = '{MEMORY_LIMIT}'"):
        connection.execute(f"SET GLOBAL {setting}")
    for name, table in policy.tables.items():
        if table.public:
            connection.register("raw", read(name))
            columns = ", ".join(f"{_natural(c, d.type)} AS {quote(c)}" for c, d in table.columns.items())
            connection.execute(f"CREATE TABLE {quote(name)} AS SELECT {columns} FROM raw").fetchall()
            connection.unregister("raw")
    connection.execute("SET python_enable_replacements = false")  # no name is ever looked up among our variables
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@dataclass(frozen=True, slots=True)
class Processed:
    """What remains of a query after post-processing."""

    columns: tuple[ResultColumn, ...]
    table: pa.Table
    margins: tuple[tuple[str, float], ...]  # label and typical 95 % half-width of each aggregate


def process(
    connection: duckdb.DuckDBPyConnection,
    query: Rewritten,
    releases: Sequence[Noised],
    policy: Policy,
    views: Mapping[str, pa.Table],
    on_start: Callable[[Callable[[], None]], None] = lambda _: None,
) -> Processed:
    """Run the rest of a query over its releases.

    Args:
        connection: what `load_public` made.
        query: the rewritten query.
        releases: one per `query.releases`; none for a description of the columns alone.
        policy: says how counts are shown.
        views: contents of the dp views that the query reads.
        on_start: is given what interrupts the engine.

    Raises:
        Refusal: the engine cannot bind or run the text; in words of ours, since its own echo values.
    """
    cursor = connection.cursor()
    on_start(cursor.interrupt)
    whole = policy.answers.counts == "whole"
    margins: list[tuple[str, float]] = []
    try:
        for place, shape in enumerate(query.releases):
            noised = releases[place] if releases else _empty(shape)
            table = _released_table(shape, noised, whole)
            margins += _typical_margins(shape, table) if releases else []
            cursor.register(shape.name, table)
        for name, table in views.items():
            cursor.register(f"_dp_{name}", table)
        result = _run(cursor, query.sql)
    finally:
        cursor.close()
    return _answer(query, result, tuple(margins))


def _run(cursor: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    try:
        # The text was made from a checked tree. Should a way be found to write more into it than was checked, it
        # must at least not change what other sessions read.
        if [statement.type for statement in cursor.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
            raise _not_supported()
        table: pa.Table = cursor.sql(sql).to_arrow_table()
    except duckdb.BinderException as error:
        raise _not_bound(str(error)) from None
    except (duckdb.CatalogException, duckdb.ParserException, duckdb.NotImplementedException):
        raise _not_supported() from None
    except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
        if isinstance(error, duckdb.OutOfRangeException) or "out of range" in str(error):
            raise Refusal("22003", "a value of the released results is out of range") from None
        raise Refusal("22P02", "a text of the released results is not of the form that its cast asks for") from None
    except duckdb.InvalidInputException:
        raise Refusal("22000", "a value of the released results does not fit the expression") from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise Refusal("53200", "out of memory", hint="Join or sort fewer released rows.") from None
    if table.nbytes > RESULT_BYTES_MAX:
        raise Refusal(
            "54000", f"the result is larger than {RESULT_BYTES_MAX >> 20} MB", hint="Aggregate, or LIMIT it."
        )
    return table


_UNGROUPED: Final = re.compile(r'column "?([^"]*?)"? must appear in the GROUP BY clause')
_AMBIGUOUS: Final = re.compile(r'Ambiguous reference to column name "([^"]*)"')


def _not_bound(words: str) -> Refusal:
    """What the engine could not bind. Of its words only a column's name is told: the asker wrote it."""
    if match := _UNGROUPED.search(words):
        rule = "must appear in the GROUP BY clause or be used in an aggregate function"
        return Refusal("42803", f'column "{match[1]}" {rule}')
    if match := _AMBIGUOUS.search(words):
        return Refusal("42702", f'column reference "{match[1]}" is ambiguous')
    return Refusal(
        "42883",
        "an expression over the released results has no meaning for these types",
        hint="Add explicit type casts, or write it in a simpler way.",
    )


def _not_supported() -> Refusal:
    return Refusal("0A000", "this form of query is not supported over released results", hint="Write it more simply.")


def _released_table(shape: ReleasedTable, noised: Noised, whole: bool) -> pa.Table:
    columns: dict[str, Any] = {
        f"k{n}": _key(key, texts) for n, (key, texts) in enumerate(zip(shape.keys, noised.keys, strict=True))
    }
    for number, measure in enumerate(shape.measures):
        parts = [noised.coordinates[place] for place in measure.coordinates]
        value, margin = _measure(measure, parts)
        columns[f"m{number}"] = _typed(measure, value, whole)
        columns[f"e{number}"] = pa.array(margin, pa.float64(), from_pandas=True)
    return pa.table(columns) if columns else pa.table({"whole": pa.array([True] * noised.groups)})


def _measure(
    measure: MeasureColumn, parts: Sequence[NoisyCoordinate]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Value and 95 % half-width of an aggregate in each group."""
    values = [np.asarray(part.values, dtype=np.float64) * float(part.step) for part in parts]
    halves = [HALF_WIDTH[part.noise] * part.scale * float(part.step) for part in parts]
    if measure.kind == "number":
        rounding = 0.5 if measure.type.is_integer else 0.0
        return values[0], np.full(len(values[0]), halves[0] + rounding)
    count, total = values
    centre = float(parts[1].centre)
    if measure.kind == "sum":
        rounding = 0.5 if measure.type.is_integer else 0.0
        half = math.hypot(halves[1], centre * halves[0]) + rounding
        return total + centre * count, np.full(len(count), half)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(count > 0, total / count, np.nan) + centre
        margin = _ratio_margin(total, count, halves[1], halves[0])
    if measure.low is not None and measure.high is not None:
        mean = np.clip(mean, measure.low, measure.high)
        margin = np.fmin(margin, measure.high - measure.low)  # fmin: where nothing is known, the range still is
    return mean, np.where(count > 0, margin, np.nan)


def _ratio_margin(
    total: np.ndarray[Any, Any], count: np.ndarray[Any, Any], half_total: float, half_count: float
) -> np.ndarray[Any, Any]:
    """The 95 % half-width of total / count; NaN where the count may be 0, so that there is no bound.

    Fieller 1954, "Some Problems in Interval Estimation": the means m with |total - m count| within the half-width of
    that difference, hypot(half_total, m half_count). The interval is not symmetric; its farther end counts. The
    first-order rule (dividing by count alone) held the true value in less than half of the cells of small groups.
    """
    lead = np.where(count > half_count, count**2 - half_count**2, np.nan)
    root = np.sqrt((total * half_count) ** 2 + (count * half_total) ** 2 - (half_total * half_count) ** 2)
    half: np.ndarray[Any, Any] = (np.abs(total) * half_count**2 / count + root) / lead
    return half


def _typed(measure: MeasureColumn, value: np.ndarray[Any, Any], whole: bool) -> pa.Array[Any]:
    if measure.type != BIGINT:
        return pa.array(value, pa.float64(), from_pandas=True)
    rounded = np.clip(np.rint(value), -_INT8, _INT8 - 1024)
    if whole and measure.label == "count":
        rounded = np.maximum(rounded, 0)
    return pa.array(rounded.astype(np.int64), pa.int64())


def _key(key: KeyColumn, texts: Sequence[str | None]) -> pa.Array[Any]:
    """A key column from the engine's text form."""
    read = _KEY_READERS.get(key.type.name)
    if key.type.name == "numeric" and key.scale is not None:
        scale = key.scale
        return pa.array(
            [None if t is None else Decimal(int(t)).scaleb(-scale) for t in texts], pa.decimal128(38, scale)
        )
    if read is None:
        return pa.array(texts, pa.string())
    parse, type_ = read
    return pa.array([None if text is None else parse(text) for text in texts], type_)


_KEY_READERS: Final[dict[str, tuple[Callable[[str], Any], pa.DataType]]] = {
    "boolean": (lambda text: text == "true", pa.bool_()),
    "smallint": (int, pa.int64()),
    "integer": (int, pa.int64()),
    "bigint": (int, pa.int64()),
    "numeric": (float, pa.float64()),
    "real": (float, pa.float64()),
    "double precision": (float, pa.float64()),
    "date": (dt.date.fromisoformat, pa.date32()),
    "timestamp": (dt.datetime.fromisoformat, pa.timestamp("us")),
    "timestamptz": (dt.datetime.fromisoformat, pa.timestamp("us")),
}


def _typical_margins(shape: ReleasedTable, table: pa.Table) -> list[tuple[str, float]]:
    """The median half-width of each aggregate over its groups."""
    found = []
    for number, measure in enumerate(shape.measures):
        known = [value for value in table.column(f"e{number}").to_pylist() if value is not None]
        if known:
            found.append((measure.label, statistics.median(known)))
    return found


def _empty(shape: ReleasedTable) -> Noised:
    count = 1 + max((place for m in shape.measures for place in m.coordinates), default=-1)
    nothing = NoisyCoordinate((), step=Fraction(1), noise="gaussian", scale=1.0, bound=Fraction(1))
    return Noised(tuple(() for _ in shape.keys), 0, (nothing,) * count)


def _answer(query: Rewritten, result: pa.Table, margins: tuple[tuple[str, float], ...]) -> Processed:
    if len(query.columns) != result.num_columns:
        raise AssertionError("the engine returned other columns than the rewriter expects")
    columns, arrays = [], []
    for place, wanted in enumerate(query.columns):
        oid, array = _column(wanted.type, result.column(place).combine_chunks())
        columns.append(ResultColumn(wanted.name, oid))
        arrays.append(array)
    table = pa.table(arrays, names=[f"c{n}" for n in range(len(arrays))])
    return Processed(tuple(columns), table, margins)


def _column(type_: SqlType | None, array: pa.Array[Any]) -> tuple[int, pa.Array[Any]]:
    """OID and values as `values.py` wants them; without a known type, what the engine's type comes nearest to."""
    oid = _engine_oid(array.type) if type_ is None else _OIDS[type_.name]
    if oid == 1700:
        return oid, _numeric(type_, array)
    if oid in _ARROW and not pa.types.is_string(array.type):
        return oid, _cast(array, _ARROW[oid])
    try:
        return (oid if oid not in _ARROW else 25), array.cast(pa.string())
    except pa.ArrowNotImplementedError:
        raise Refusal("0A000", "a column has a type that cannot be shown", hint="Cast it to text.") from None


def _cast(array: pa.Array[Any], type_: pa.DataType) -> pa.Array[Any]:
    try:
        return array.cast(type_, safe=not pa.types.is_floating(array.type))
    except pa.ArrowInvalid:
        raise Refusal("22003", "a value of the released results is out of range") from None


def _engine_oid(type_: pa.DataType) -> int:
    if pa.types.is_boolean(type_):
        return 16
    if pa.types.is_decimal(type_):
        return 1700
    if pa.types.is_integer(type_):
        return 23 if type_.bit_width <= 32 else 20
    if pa.types.is_floating(type_):
        return 701
    if pa.types.is_date(type_):
        return 1082
    if pa.types.is_timestamp(type_):
        return 1114 if type_.tz is None else 1184
    return 25


def _numeric(type_: SqlType | None, array: pa.Array[Any]) -> pa.Array[Any]:
    """Postgres' text of numerics: a fixed scale where the type has one, else the shortest exact form."""
    scale = None if type_ is None else type_.scale
    return pa.array(
        [None if value is None else _numeric_text(value, scale) for value in array.to_pylist()], pa.string()
    )


def _numeric_text(value: float | int | Decimal, scale: int | None) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    exact = (
        value if isinstance(value, Decimal) else Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    )
    return f"{exact:.{scale}f}" if scale is not None else f"{exact:f}"


def _natural(column: str, type_: SqlType) -> str:
    """A public column in the engine's own type."""
    if type_.name == "numeric":
        return f"TRY_CAST({quote(column)} AS DECIMAL({type_.precision}, {type_.scale}))"
    return tables.stored(quote(column), type_)
