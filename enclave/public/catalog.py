"""catalog: questions about the catalogue -> answers, from an engine of its own that holds no data.

Every catalogue query is bound to Postgres' types and written anew (catalog_bind): of the analyst's text only
literals and names that were resolved reach the engine.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import duckdb
import pyarrow as pa
from sqlglot import exp

from enclave.answer import DATABASE, Answer, Parameter, ResultColumn
from enclave.public.catalog_bind import Queries
from enclave.public.catalog_casts import REG_KINDS
from enclave.public.catalog_data import relations
from enclave.public.catalog_from import CATALOGUE_SCHEMAS
from enclave.public.catalog_functions import SERIES_MAX
from enclave.public.catalog_macros import MACROS, VARIABLES
from enclave.public.catalog_mirrors import mirrors
from enclave.public.catalog_names import fold
from enclave.public.catalog_scope import Query, Scope
from enclave.public.catalog_settings import VERSION
from enclave.public.catalog_sources import TOO_LONG
from enclave.public.catalog_tables import REG_NAMES
from enclave.public.catalog_text import arrow_type, column
from enclave.public.catalog_types import TEXT, identifier, quote, type_named
from policies.model import Policy
from rewriter.refusal import InternalError, Refusal

_MEMORY_MAX: Final = "256MB"
"""The largest captured catalogue query needs a tenth of it."""
_SETTINGS: Final = (
    f"SET memory_limit = '{_MEMORY_MAX}'",
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_REG_ERRORS: Final = {
    "class": ("42P01", 'relation "{}" does not exist'),
    "type": ("42704", 'type "{}" does not exist'),
    "namespace": ("3F000", 'schema "{}" does not exist'),
    "role": ("42704", 'role "{}" does not exist'),
    "proc": ("42883", 'function "{}" does not exist'),
}


class Catalog:
    """pg_catalog and information_schema as one analyst may see them.

    Args:
        policy: what the owners agreed.
        analyst: whose catalogue this is.
        clock: gives the time of now().
    """

    def __init__(
        self, policy: Policy, analyst: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock = clock
        self._engine = duckdb.connect(":memory:", config={"threads": 1})
        tables = mirrors(policy, analyst)
        self._filled = frozenset(tables)
        for name, table in tables.items():
            self._engine.register("given", table)
            self._engine.execute(f"CREATE TABLE {identifier(name)} AS SELECT * FROM given")
            self._engine.unregister("given")
        self._names = _Names(tables[REG_NAMES])
        constants = {"version": VERSION, "database": DATABASE, "user": analyst}
        for name, value in constants.items():
            self._engine.execute(f"CREATE MACRO own_{name}() AS {quote(value)}")
        for variable in VARIABLES:
            self._engine.execute(f"SET VARIABLE {variable}")
        for definition in MACROS:
            self._engine.execute(f"CREATE MACRO {definition}")
        for setting in _SETTINGS:
            self._engine.execute(setting)

    @staticmethod
    def mentions(tree: exp.Expr) -> bool:
        """Whether a statement reads nothing but the catalogue and constants, so that it belongs here."""
        if not isinstance(tree, exp.Query | exp.Values):
            return False
        if any(fold(dot.this) == "dp" for dot in tree.find_all(exp.Dot)):
            return False  # the room's own functions are not the catalogue's
        ctes = {fold(cte.args["alias"].this) for cte in tree.find_all(exp.CTE)}
        return all(_in_catalogue(table, ctes) for table in tree.find_all(exp.Table))

    def answer(self, tree: exp.Expr, parameters: tuple[Parameter, ...] = (), describe: bool = False) -> Answer:
        """Answer a catalogue query.

        Args:
            tree: a statement for which `mentions` is true.
            parameters: values of $1, $2, ...; what they lack counts as NULL.
            describe: True gives columns and parameter types alone.

        Raises:
            Refusal: the statement names or uses something that is not there, in Postgres' words.
            InternalError: the engine failed.
        """
        queries = Queries(self, parameters)
        try:
            query = queries.query(tree, Scope())
        except RecursionError:
            raise Refusal("54001", "statement is too complex") from None
        columns = tuple(ResultColumn(c.name, c.oid, c.typmod) for c in query.columns)
        if describe:
            empty = pa.Table.from_arrays(
                [pa.array([], type=arrow_type(c.oid)) for c in query.columns], names=_unique(query)
            )
            return Answer(columns, empty, "SELECT 0", parameter_types=_parameter_types(queries, parameters))
        result = self._run(query)
        arrays = [column(result.column(at), c.oid, self._names.show) for at, c in enumerate(query.columns)]
        table = pa.Table.from_arrays(arrays, names=_unique(query))
        return Answer(columns, table, f"SELECT {table.num_rows}")

    def filled(self, physical: str) -> bool:
        """Whether there is a mirror of this name."""
        return physical in self._filled

    def resolve(self, reg_type: int, name: str) -> int:
        """Find the OID that a name given to regclass or its kin stands for.

        Raises:
            Refusal: there is none (42P01, 42704, 3F000, 42883).
        """
        kind = REG_KINDS.get(reg_type, "none")
        if name.strip().isdigit():
            return int(name)
        oid = self._names.find(kind, name)
        if oid is None:
            sqlstate, message = _REG_ERRORS.get(kind, ("42704", '"{}" does not exist'))
            shown = ".".join(part.strip('"') for part in name.strip().split("."))
            raise Refusal(sqlstate, message.format(shown))
        return oid

    def _run(self, query: Query) -> pa.Table:
        try:
            if "own_now()" in query.sql:
                moment = self._clock().astimezone(UTC).isoformat(" ")
                self._engine.execute(f"SET VARIABLE own_moment = TIMESTAMPTZ {quote(moment)}")
            result: pa.Table = self._engine.sql(query.sql).to_arrow_table()
        except duckdb.Error as error:
            raise _translated(error, query.sql) from None
        return result


def _translated(error: duckdb.Error, sql: str) -> Exception:
    """Say what failed without the engine's words: they echo values and texts that nobody typed."""
    words = str(error)
    if "More than one row returned by a subquery" in words:
        return Refusal("21000", "more than one row returned by a subquery used as an expression")
    if TOO_LONG in words:
        return Refusal("54000", f"generate_series() is limited to {SERIES_MAX} rows in a catalogue query")
    if "must appear in the GROUP BY clause" in words:
        return Refusal("42803", "a column must appear in the GROUP BY clause or be used in an aggregate function")
    if isinstance(error, duckdb.InvalidInputException) and "regexp_" in sql:
        return Refusal("2201B", "invalid regular expression")
    if isinstance(error, duckdb.BinderException | duckdb.NotImplementedException):
        return Refusal("0A000", "this form of catalogue query is not supported")
    if isinstance(error, duckdb.OutOfMemoryException):
        return Refusal("53200", "out of memory")
    error_id = secrets.token_hex(4)
    print(f"internal error {error_id}: catalogue, {type(error).__name__}", file=sys.stderr)  # noqa: T201
    return InternalError(error_id)


class _Names:
    """The names that regclass and its kin print, both ways."""

    def __init__(self, table: pa.Table) -> None:
        entries = [(row["kind"], row["oid"], row["name"]) for row in table.to_pylist()]
        self._by_oid = {(kind, oid): name for kind, oid, name in entries}
        self._by_name = {(kind, name): oid for kind, oid, name in reversed(entries)}

    def show(self, reg_type: int, oid: int) -> str:
        if oid == 0:
            return "-"
        shown: str = self._by_oid.get((REG_KINDS.get(reg_type, "none"), oid), str(oid))
        return shown

    def find(self, kind: str, name: str) -> int | None:
        bare = _unqualified(name)
        if kind == "type":
            found = type_named(bare)
            return found.oid if found else None
        return self._by_name.get((kind, bare))


def _unqualified(name: str) -> str:
    """A name as `show` prints it: folded, without the schemas of the search path."""
    parts = [part if part.startswith('"') else part.lower() for part in name.strip().split(".")]
    if len(parts) > 1 and parts[0] in ("pg_catalog", "public"):
        parts = parts[1:]
    plain = [
        part[1:-1] if part[:1] == '"' and part[1:-1].islower() and part[1:-1].isidentifier() else part
        for part in parts
    ]
    return ".".join(plain)


def _in_catalogue(table: exp.Table, ctes: set[str]) -> bool:
    if isinstance(table.this, exp.Func):
        return fold(table.args.get("db")) in ("", *CATALOGUE_SCHEMAS)
    schema, name = fold(table.args.get("db")), fold(table.this)
    if schema:
        return schema in CATALOGUE_SCHEMAS
    return name in ctes or ("pg_catalog", name) in relations()


def _unique(query: Query) -> list[str]:
    return [c.engine_name for c in query.columns]


def _parameter_types(queries: Queries, parameters: tuple[Parameter, ...]) -> tuple[int, ...]:
    inferred = queries.caster.parameter_types
    declared = [parameter.type_oid for parameter in parameters]
    return tuple(
        (declared[at] if at < len(declared) else 0) or inferred.get(at + 1, TEXT)
        for at in range(queries.parameter_count)
    )
