"""rewrite: a query over policy tables -> releases, and the rest of the query as SQL over their results.

Every relation has a property (bound.py): Public, Protected or Released. A query is answerable if its root is
Public or Released; a SELECT over Protected rows becomes a release (aggregate.py) wherever in the query it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from policies.model import Policy
from policies.sqltype import BIGINT, DOUBLE, INTEGER, TEXT, SqlType
from rewriter import post
from rewriter.aggregate import Aggregation
from rewriter.keys import PublicFacts
from rewriter.parse import PARAMETER, folded, position
from rewriter.plan import Relation
from rewriter.refusal import Refusal
from rewriter.released import OWN_NAME, ReleasedTable
from rewriter.resolve import UNKNOWN, Parameters, Resolver
from rewriter.source import SourceBuilder

RELEASES_MAX: Final = 8  # of one query; each gets an equal part of its price
COLUMNS_MAX: Final = 1664  # of an answer (Postgres' MaxTupleAttributeNumber)
PUBLIC_SCHEMA: Final = "main"
"""Where the engine keeps public tables: with it, a name is never taken for a CTE's."""
_DATABASE: Final = "cleanroom"  # what clients connect to
_SEEN: Final = "seen"
"""Mark of the tables in a tree that were checked against the analyst's role."""

VIEWS: Final[dict[str, dict[str, SqlType]]] = {
    "budget": {
        "unit": TEXT,
        "scope": TEXT,
        "name": TEXT,
        "epsilon": DOUBLE,
        "delta": DOUBLE,
        "spent": DOUBLE,
        "questions_left": INTEGER,
    }
}
"""Views of schema `dp`, filled by the keeper: what the room tells of itself."""


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of the answer; `type` is None where only the engine knows it."""

    name: str
    type: SqlType | None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A query as the room runs it.

    Attributes:
        releases: what must be bought or found, in order.
        sql: the rest, in the engine's dialect, over `_r<n>`, public tables and `_dp_<view>`.
        columns: names and types of the answer.
        parameters: the type found for each `$n` that appears.
        views: names of the dp views that are read.
    """

    releases: tuple[ReleasedTable, ...]
    sql: str
    columns: tuple[OutputColumn, ...]
    parameters: dict[int, SqlType]
    views: tuple[str, ...]


_NAMELESS: Final = re.compile(r"_s\d+")  # what a subquery without an alias is called here
_Columns = dict[str, SqlType | None]


@dataclass(slots=True)
class _From:
    """What one SELECT reads: its tables by the name they have in it."""

    tables: dict[str, _Columns] = field(default_factory=dict)
    protected: bool = False


def rewrite(
    tree: exp.Expr,
    policy: Policy,
    analyst: str,
    facts: PublicFacts,
    values: Sequence[tuple[int, str | None]] = (),
) -> Rewritten:
    """Rewrite one query of one analyst.

    Args:
        tree: a parsed SELECT, WITH or set operation.
        policy: what holds.
        analyst: whose role says which tables exist.
        facts: sizes of public tables.
        values: type OID (0: open) and text of each parameter.

    Raises:
        Refusal: it cannot be answered, decided by text and policy alone.
    """
    if not isinstance(tree, exp.Query):
        raise Refusal("42601", "only queries can be answered here", hint="Write SELECT or WITH.", position=1)
    return _Rewriter(policy, analyst, facts, Parameters(values)).run(tree.copy())


class _Rewriter:
    def __init__(self, policy: Policy, analyst: str, facts: PublicFacts, parameters: Parameters) -> None:
        self._policy, self._facts, self._parameters = policy, facts, parameters
        self._visible = set(policy.visible_tables(analyst))
        self._releases: list[ReleasedTable] = []
        self._views: set[str] = set()

    def run(self, tree: exp.Query) -> Rewritten:
        _plain_strings(tree)
        found = self._query(tree, {}, ())
        if len(found) > COLUMNS_MAX:
            raise Refusal("54011", f"target lists can have at most {COLUMNS_MAX} entries")
        self._bind(tree, _nothing)
        _quote_identifiers(tree)
        _check_whole(tree)
        return Rewritten(
            tuple(self._releases),
            tree.sql(dialect="duckdb", comments=False),
            tuple(OutputColumn(name, type_) for name, type_ in found),
            dict(self._parameters.types),
            tuple(sorted(self._views)),
        )

    def _query(
        self, query: exp.Expr, ctes: dict[str, _Columns], outer: tuple[_From, ...]
    ) -> list[tuple[str, SqlType | None]]:
        """Rewrite a query in place; its columns by name and type."""
        ctes = self._with(query, dict(ctes), outer)
        if isinstance(query, exp.Subquery):
            return self._query(query.this, ctes, outer)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes, outer)
        if isinstance(query, exp.Values):
            post.check(query)
            first = query.expressions[0].expressions
            return [(f"column{n + 1}", post.type_of(v, _nothing)) for n, v in enumerate(first)]
        if not isinstance(query, exp.Select):
            raise Refusal("0A000", f"{type(query).__name__.upper()} is not supported", position=position(query))
        found = self._from(query, ctes, outer)
        if found.protected:
            return self._aggregate(query, ctes)
        return self._released(query, found, ctes, outer)

    def _with(self, query: exp.Expr, ctes: dict[str, _Columns], outer: tuple[_From, ...]) -> dict[str, _Columns]:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        if clause.args.get("recursive"):
            raise Refusal("0A000", "WITH RECURSIVE is not supported yet", position=position(clause))
        for cte in clause.expressions:
            name = folded(cte.args["alias"].this)
            if OWN_NAME.fullmatch(name.lower()):
                raise Refusal("42939", f'the name "{name}" is reserved', position=position(cte.args["alias"].this))
            ctes[name] = _columns_of(self._query(cte.this, ctes, outer), cte)
        return ctes

    def _set_operation(
        self, query: exp.SetOperation, ctes: dict[str, _Columns], outer: tuple[_From, ...]
    ) -> list[tuple[str, SqlType | None]]:
        left = self._query(query.this, ctes, outer)
        right = self._query(query.expression, ctes, outer)
        if len(left) != len(right):
            word = type(query).__name__.upper()
            raise Refusal(
                "42601", f"each {word} query must have the same number of columns", position=position(query)
            )
        names = {name for name, _ in left}
        for ordered in self._ordered(query):
            if isinstance(ordered, exp.Column) and ordered.name.lower() not in names:
                raise Refusal("42703", f'column "{ordered.name}" does not exist', position=position(ordered))
        return [(name, post.common(type_, other)) for (name, type_), (_, other) in zip(left, right, strict=True)]

    @staticmethod
    def _ordered(query: exp.Expr) -> list[exp.Expr]:
        order = query.args.get("order")
        return [] if order is None else [ordered.this for ordered in order.expressions]

    # FROM

    def _from(self, select: exp.Select, ctes: dict[str, _Columns], outer: tuple[_From, ...]) -> _From:
        found = _From()
        for node in _tables(select):
            name, columns_, protected = self._table(node, ctes, outer)
            if name in found.tables:
                raise Refusal("42712", f'table name "{name}" specified more than once', position=position(node))
            found.tables[name] = columns_
            found.protected |= protected
        return found

    def _table(
        self, node: exp.Expr, ctes: dict[str, _Columns], outer: tuple[_From, ...]
    ) -> tuple[str, _Columns, bool]:
        """Name, columns and protection of one entry of FROM."""
        alias = node.alias.lower() if node.alias else ""
        if isinstance(node, exp.Subquery | exp.Values):
            inner = self._query(node.this if isinstance(node, exp.Subquery) else node, ctes, outer)
            return alias or f"_s{id(node)}", _columns_of(inner, node), False
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise Refusal("0A000", "only tables and subqueries can stand in FROM", position=position(node))
        table, schema = folded(node.this), folded(node.args["db"]) if node.args.get("db") else ""
        node.meta[_SEEN] = True
        self._check_form(node, table, schema)
        if not schema and table in ctes:
            return alias or table, _renamed(ctes[table], node), False
        if schema == "dp" and table in VIEWS:
            self._views.add(table)
            _name_in_engine(node, f"_dp_{table}", None)
            return alias or table, _renamed(dict(VIEWS[table]), node), False
        self._check_visible(table, schema, node)
        columns_: _Columns = {name: column.type for name, column in self._policy.tables[table].columns.items()}
        protected = not self._policy.tables[table].public
        if protected and node.args.get("alias") and node.args["alias"].columns:
            raise Refusal("0A000", "columns of protected rows cannot be renamed in FROM", position=position(node))
        if not protected:
            _name_in_engine(node, table, PUBLIC_SCHEMA)
        return alias or table, _renamed(columns_, node), protected

    @staticmethod
    def _check_form(node: exp.Table, table: str, schema: str) -> None:
        """Refuse what else a table can carry: a nested join, TABLESAMPLE, PIVOT, another database."""
        catalog = node.args.get("catalog")
        if catalog is not None and folded(catalog) != _DATABASE:
            full = f"{folded(catalog)}.{schema}.{table}"
            raise Refusal(
                "0A000", f'cross-database references are not implemented: "{full}"', position=position(node)
            )
        node.set("catalog", None)
        if any(value for name, value in node.args.items() if name not in ("this", "db", "alias")):
            raise Refusal(
                "0A000",
                "this form of a table in FROM is not supported",
                hint="Join tables one after the other, each with its own ON.",
                position=position(node),
            )

    def _check_visible(self, table: str, schema: str, node: exp.Expr) -> None:
        if schema not in ("", "public") or table not in self._policy.tables:
            shown = f"{schema}.{table}" if schema else table
            hint = f"Tables here: {', '.join(sorted(self._visible))}."
            raise Refusal("42P01", f'relation "{shown}" does not exist', hint=hint, position=position(node))
        if table not in self._visible:
            raise Refusal("42501", f"permission denied for table {table}", position=position(node))

    # over protected rows

    def _aggregate(self, select: exp.Select, ctes: dict[str, _Columns]) -> list[tuple[str, SqlType | None]]:
        if len(self._releases) >= RELEASES_MAX:
            raise Refusal("54001", f"more than {RELEASES_MAX} aggregations of protected rows in one query")
        source, resolver = self._source(select, ctes)
        name = f"_r{len(self._releases)}"
        aggregation = Aggregation(name, select, source, resolver, self._policy, self._facts)
        released, types = aggregation.rewrite()
        self._releases.append(released)
        select.args["from_"].this.meta[_SEEN] = True
        post.check(select)
        outputs = self._outputs(select, [dict(types)])
        self._bind(select, _lookup([dict(types)], None))
        self._divide_all(select, _lookup([dict(types)], None))
        return outputs

    def _source(self, select: exp.Select, ctes: dict[str, _Columns]) -> tuple[Relation, Resolver]:
        """FROM and WHERE as a relation, with inner joins holding the conditions that tie their sides."""
        builder = SourceBuilder(self._policy, ctes, self._parameters)
        where = select.args.get("where")
        return builder.build(select, None if where is None else where.this)

    # over released and public rows

    def _released(
        self, select: exp.Select, found: _From, ctes: dict[str, _Columns], outer: tuple[_From, ...]
    ) -> list[tuple[str, SqlType | None]]:
        scopes = (found, *outer)
        for node in _subqueries(select):
            self._query(node, ctes, scopes)
        post.check(select)
        self._check_columns(select, scopes)
        _expand_star(select, found)
        tables = list(found.tables.values())
        outputs = self._outputs(select, tables, found)
        self._bind(select, _lookup(tables, found))
        self._divide_all(select, _lookup(tables, found))
        return outputs

    @staticmethod
    def _divide_all(select: exp.Select, lookup: post.ColumnType) -> None:
        for clause in ("expressions", "where", "group", "having", "order"):
            value = select.args.get(clause)
            if isinstance(value, list):
                select.set(clause, [post.integer_division(item, lookup) for item in value])
            elif value is not None:
                select.set(clause, post.integer_division(value, lookup))
        for join in select.args.get("joins") or ():
            if join.args.get("on") is not None:
                join.set("on", post.integer_division(join.args["on"], lookup))

    def _check_columns(self, select: exp.Select, scopes: tuple[_From, ...]) -> None:
        """Name unknown columns as Postgres would; the engine's own words could echo more than the text."""
        names = {name for scope_ in scopes for columns_ in scope_.tables.values() for name in columns_}
        aliases = {post.output_name(item) for item in select.expressions if isinstance(item, exp.Alias)}
        for column in _own_columns(select):
            if post.is_parameter(column) or isinstance(column.this, exp.Star):
                continue
            name, table = folded(column.this), column.args.get("table")
            if table is not None:
                self._check_qualified(column, folded(table), name, scopes)
            elif name not in names and name not in aliases:
                raise Refusal("42703", f'column "{name}" does not exist', position=position(column))

    @staticmethod
    def _check_qualified(column: exp.Column, table: str, name: str, scopes: tuple[_From, ...]) -> None:
        known = next((scope_.tables[table] for scope_ in scopes if table in scope_.tables), None)
        if known is None:
            raise Refusal("42P01", f'missing FROM-clause entry for table "{table}"', position=position(column))
        if name not in known:
            raise Refusal("42703", f"column {table}.{name} does not exist", position=position(column))

    def _outputs(
        self, select: exp.Select, tables: Sequence[_Columns], found: _From | None = None
    ) -> list[tuple[str, SqlType | None]]:
        outputs: list[tuple[str, SqlType | None]] = []
        lookup = _lookup(tables, found)
        for item in select.expressions:
            if isinstance(item, exp.Star):
                outputs += [pair for columns_ in tables for pair in columns_.items()]
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                outputs += list((found.tables if found else {}).get(folded(item.args["table"]), {}).items())
            else:
                outputs.append((post.output_name(item), post.type_of(item, lookup)))
        renamed = [
            item
            if isinstance(item, exp.Alias) or item.is_star
            else exp.alias_(item, post.output_name(item), quoted=True)
            for item in select.expressions
        ]
        select.set("expressions", renamed)
        self._check_places(select, len(outputs))
        return outputs

    def _check_places(self, select: exp.Select, count: int) -> None:
        """ORDER BY 3 and GROUP BY 3 name an output column."""
        group = select.args.get("group")
        clauses = (("ORDER BY", self._ordered(select)), ("GROUP BY", [] if group is None else group.expressions))
        for clause, items in clauses:
            for item in items:
                place = item.this if isinstance(item, exp.Literal) and not item.is_string else ""
                if place.isdigit() and not 1 <= int(place) <= count:
                    words = f"{clause} position {place} is not in select list"
                    raise Refusal("42P10", words, position=position(item))

    def _bind(self, tree: exp.Expr, lookup: post.ColumnType) -> None:
        """Put parameters that stand above a release into the text, as literals of the type their place asks for."""
        for node in list(tree.find_all(exp.Column)):
            match = PARAMETER.fullmatch(node.name) if post.is_parameter(node) else None
            if match is None:
                continue
            constant = self._parameters.constant(int(match[1]))
            if constant.type.name == UNKNOWN:
                constant = self._parameters.settle(constant, _type_at(node, lookup))
            node.replace(_literal(constant.type, constant.value))


def _tables(select: exp.Select) -> Iterator[exp.Expr]:
    if select.args.get("laterals"):
        raise Refusal("0A000", "LATERAL is not supported yet", position=position(select))
    clause = select.args.get("from_")
    if clause is not None:
        yield clause.this
    for join in select.args.get("joins") or ():
        yield join.this


def _subqueries(select: exp.Select) -> Iterator[exp.Expr]:
    """The queries inside a SELECT's expressions, outermost first; those of FROM and WITH are taken elsewhere."""
    for clause, value in select.args.items():
        if clause in ("from_", "with_") or value is None:
            continue
        for part in value if isinstance(value, list) else [value]:
            start = part.args.get("on") if isinstance(part, exp.Join) else part
            if isinstance(start, exp.Expr):
                yield from (
                    n for n in start.dfs(prune=lambda n: isinstance(n, exp.Query)) if isinstance(n, exp.Query)
                )


def _own_columns(select: exp.Select) -> Iterator[exp.Column]:
    """The columns a SELECT names itself, not those inside its subqueries."""
    for value in select.args.values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr) and not isinstance(part, exp.From | exp.With):
                for node in part.dfs(prune=lambda n: isinstance(n, exp.Query)):
                    if isinstance(node, exp.Column):
                        yield node


def _lookup(tables: Sequence[_Columns], found: _From | None) -> post.ColumnType:
    def column(node: exp.Column) -> SqlType | None:
        name, table = folded(node.this), node.args.get("table")
        if table is not None and found is not None:
            return found.tables.get(folded(table), {}).get(name)
        return next((columns_[name] for columns_ in tables if name in columns_), None)

    return column


def _type_at(node: exp.Expr, lookup: post.ColumnType) -> SqlType:
    """The type that a parameter's place asks for: that of the other side, bigint for LIMIT, else text."""
    parent = node.parent
    if isinstance(parent, exp.Limit | exp.Offset | exp.Fetch):
        return BIGINT
    if isinstance(parent, exp.Cast):
        return post.type_of(parent, lookup) or TEXT
    sides: list[exp.Expr] = []
    if isinstance(parent, exp.Binary):
        sides = [parent.this, parent.expression]
    elif isinstance(parent, exp.Between | exp.In):
        sides = [parent.this]
    known = (post.type_of(side, lookup) for side in sides if side is not node)
    return next((type_ for type_ in known if type_ is not None), TEXT)


def _columns_of(found: Sequence[tuple[str, SqlType | None]], node: exp.Expr) -> _Columns:
    """The columns of a subquery or CTE, the first of them under the names that its alias gives."""
    alias = node.args.get("alias")
    given = [folded(column) for column in alias.columns] if alias is not None else []
    if len(given) > len(found):
        words = f"table has {len(found)} columns available but {len(given)} columns specified"
        raise Refusal("42P10", words, position=position(node))
    names = [*given, *(name for name, _ in found[len(given) :])]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise Refusal(
            "0A000",
            f'two columns of a subquery are called "{twice}"',
            hint="Give them different names with AS.",
            position=position(node),
        )
    return dict(zip(names, (type_ for _, type_ in found), strict=True))


def _expand_star(select: exp.Select, found: _From) -> None:
    """Write out `*` over joins with USING: the engine and Postgres order its columns differently."""
    joins = select.args.get("joins") or ()
    if not any(join.args.get("using") or join.args.get("method") for join in joins):
        return
    sides: list[list[tuple[str, str | None]]] = [
        [(name, None if _NAMELESS.fullmatch(table) else table) for name in columns_]
        for table, columns_ in found.tables.items()
    ]
    output = sides[0]
    for join, right in zip(joins, sides[1:], strict=True):
        theirs = {name for name, _ in right}
        merged = [folded(identifier) for identifier in join.args.get("using") or ()]
        if str(join.args.get("method") or "").upper() == "NATURAL":
            merged = [name for name, _ in output if name in theirs]
        rest = [pair for pair in (*output, *right) if pair[0] not in merged]
        output = [*((name, None) for name in merged), *rest]
    written = [
        exp.column(exp.to_identifier(name, quoted=True), table=table and exp.to_identifier(table, quoted=True))
        for name, table in output
    ]
    expanded = [written if isinstance(item, exp.Star) else [item] for item in select.expressions]
    select.set("expressions", [item for items in expanded for item in items])


def _nothing(_: exp.Column) -> SqlType | None:
    return None


def _renamed(columns_: _Columns, node: exp.Expr) -> _Columns:
    """The columns of an entry of FROM, by the names that its alias gives the first of them."""
    alias = node.args.get("alias")
    given = [folded(column) for column in alias.columns] if alias is not None else []
    names = [*given, *list(columns_)[len(given) :]]
    return dict(zip(names, columns_.values(), strict=False))


def _name_in_engine(node: exp.Expr, name: str, schema: str | None) -> None:
    """Let an entry of FROM read this table of the engine, under the name that it has in the query."""
    if not node.alias:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(folded(node.this), quoted=True)))
    node.set("this", exp.to_identifier(name, quoted=True))
    node.set("db", None if schema is None else exp.to_identifier(schema, quoted=True))


def _check_whole(tree: exp.Expr) -> None:
    """Look over the whole once more before it becomes text.

    What stands in a corner that no step above has visited (a subquery in LIMIT or VALUES, ORDER BY of a UNION) was
    not held against the analyst's role.
    """
    post.check(tree)
    for table in tree.find_all(exp.Table):
        if not table.meta.get(_SEEN):
            raise Refusal("0A000", "a subquery is not supported here", position=position(table))


def _plain_strings(tree: exp.Expr) -> None:
    """Make `$$text$$` a string like others."""
    for node in list(tree.find_all(exp.RawString)):
        node.replace(exp.Literal.string(node.name))


def _quote_identifiers(tree: exp.Expr) -> None:
    """Fold and quote every name: the engine has other reserved words and keeps no case."""
    for node in tree.find_all(exp.Identifier):
        if not node.args.get("quoted"):
            node.set("this", node.name.lower())
            node.set("quoted", True)


def _literal(type_: SqlType, value: str | None) -> exp.Expr:
    if value is None:
        return exp.Null()
    if type_.is_numeric:
        return exp.cast(exp.Literal.string(value), str(type_)) if type_.is_floating else exp.Literal.number(value)
    if type_.name in ("boolean", "date", "timestamp", "timestamptz"):
        return exp.cast(exp.Literal.string(value), type_.name)
    return exp.Literal.string(value)
