"""rewrite: a query over policy tables -> releases, and the rest of the query as SQL over their results.

Every relation has a property (bound.py): Public, Protected or Released. A query is answerable if its root is
Public or Released; a SELECT over Protected rows becomes a release (aggregate.py) wherever in the query it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from sqlglot import exp

from policies.model import Policy
from policies.sqltype import BIGINT, DOUBLE, INTEGER, TEXT, SqlType
from rewriter import post
from rewriter.aggregate import Aggregation, is_aggregate
from rewriter.bound import scope
from rewriter.keys import PublicFacts
from rewriter.parse import PARAMETER, position
from rewriter.plan import Call, Column, Expression, Filter, Join, Relation, Scan, columns, scans
from rewriter.refusal import Refusal, not_private
from rewriter.released import ReleasedTable
from rewriter.resolve import UNKNOWN, Parameters, Resolver, Source

RELEASES_MAX: Final = 8  # of one query; each gets an equal part of its price
JOINS_MAX: Final = 16
COLUMNS_MAX: Final = 1664  # of an answer (Postgres' MaxTupleAttributeNumber)
PUBLIC_SCHEMA: Final = "main"
"""Where the engine keeps public tables: with it, a name is never taken for a CTE's."""
_OWN: Final = re.compile(r"_(?:r\d+|dp_.*)", re.S)
"""Names of released tables and views in the engine; a policy's names begin with a letter."""
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
            name = _name(cte.args["alias"].this)
            if _OWN.fullmatch(name.lower()):
                raise Refusal("42939", f'the name "{name}" is reserved', position=position(cte.args["alias"].this))
            columns_ = self._query(cte.this, ctes, outer)
            given = [column.name.lower() for column in cte.args["alias"].columns]
            names = given + [name for name, _ in columns_[len(given) :]]
            ctes[name] = dict(zip(names, (type_ for _, type_ in columns_), strict=False))
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
            given = [column.name.lower() for column in node.args["alias"].columns] if node.args.get("alias") else []
            names = given + [name for name, _ in inner[len(given) :]]
            return alias or f"_s{id(node)}", dict(zip(names, (type_ for _, type_ in inner), strict=False)), False
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise Refusal("0A000", "only tables and subqueries can stand in FROM", position=position(node))
        table, schema = _name(node.this), _name(node.args["db"]) if node.args.get("db") else ""
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
        if catalog is not None and _name(catalog) != _DATABASE:
            full = f"{_name(catalog)}.{schema}.{table}"
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
        builder = _SourceBuilder(self._policy, ctes, self._parameters)
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
        tables = list(found.tables.values())
        outputs = self._outputs(select, tables, found)
        self._bind(select, _lookup(tables, found))
        self._divide_all(select, _lookup(tables, found))
        return outputs

    @staticmethod
    def _divide_all(select: exp.Select, lookup: post.ColumnType) -> None:
        for clause in ("expressions", "where", "having", "order"):
            value = select.args.get(clause)
            if isinstance(value, list):
                select.set(clause, [post.integer_division(item, lookup) for item in value])
            elif value is not None:
                select.set(clause, post.integer_division(value, lookup))

    def _check_columns(self, select: exp.Select, scopes: tuple[_From, ...]) -> None:
        """Name unknown columns as Postgres would; the engine's own words could echo more than the text."""
        names = {name for scope_ in scopes for columns_ in scope_.tables.values() for name in columns_}
        aliases = {post.output_name(item) for item in select.expressions if isinstance(item, exp.Alias)}
        for column in _own_columns(select):
            if post.is_parameter(column) or isinstance(column.this, exp.Star):
                continue
            name, table = _name(column.this), column.args.get("table")
            if table is not None:
                self._check_qualified(column, _name(table), name, scopes)
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
                outputs += list((found.tables if found else {}).get(_name(item.args["table"]), {}).items())
            else:
                outputs.append((post.output_name(item), post.type_of(item, lookup)))
        renamed = [
            item
            if isinstance(item, exp.Alias) or item.is_star
            else exp.alias_(item, post.output_name(item), quoted=True)
            for item in select.expressions
        ]
        select.set("expressions", renamed)
        return outputs

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


class _SourceBuilder:
    """Builds the relation of a SELECT over protected rows."""

    def __init__(self, policy: Policy, ctes: dict[str, _Columns], parameters: Parameters) -> None:
        self._policy, self._ctes, self._parameters = policy, ctes, parameters
        self._sources: list[Source] = []
        self._merged: dict[str, Column] = {}

    def build(self, select: exp.Select, where: exp.Expr | None) -> tuple[Relation, Resolver]:
        joins = select.args.get("joins") or []
        if len(joins) > JOINS_MAX:
            raise Refusal("54001", f"more than {JOINS_MAX} joins")
        relation: Relation = self._scan(select.args["from_"].this)
        for join in joins:
            relation = self._join(relation, join)
        resolver = self._resolver(relation)
        if where is None:
            return relation, resolver
        if is_aggregate(where):
            raise Refusal("42803", "aggregate functions are not allowed in WHERE", position=position(where))
        kept: list[Expression] = []
        for condition in _conjuncts(resolver.condition(where)):
            moved = _into_join(relation, condition)
            relation, kept = (relation, [*kept, condition]) if moved is None else (moved, kept)
        return (Filter(relation, tuple(sorted(kept, key=repr))) if kept else relation), resolver

    def _scan(self, node: exp.Expr) -> Scan:
        if (
            not isinstance(node, exp.Table)
            or not isinstance(node.this, exp.Identifier)
            or _name(node.this) in self._ctes
        ):
            raise not_private(
                "a join of protected rows with a subquery or CTE",
                "its effect on one person is not bounded yet",
                "Aggregate the protected tables in a CTE of their own and join the results.",
                position(node),
            )
        name = _name(node.this)
        if _OWN.fullmatch(name):
            raise Refusal(
                "0A000", "a view of schema dp cannot be joined with protected rows", position=position(node)
            )
        alias = f"t{len(self._sources)}"
        shown = node.alias.lower() if node.alias else name
        self._sources.append(Source(shown, alias, tuple(self._policy.tables[name].columns)))
        return Scan(name, alias)

    def _resolver(self, relation: Relation) -> Resolver:
        resolver = Resolver(self._sources, scope(relation, self._policy), self._parameters)
        resolver.merged = self._merged
        return resolver

    def _join(self, left: Relation, node: exp.Join) -> Relation:
        side, word = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
        if (
            str(node.args.get("method") or "").upper() == "NATURAL"
            or side == "FULL"
            or word not in ("", "INNER", "OUTER", "CROSS")
        ):
            shown = " ".join(filter(None, (str(node.args.get("method") or ""), side, word)))
            raise Refusal(
                "0A000",
                f"{shown} JOIN of protected rows is not supported yet",
                hint="Use an inner or left join with ON or USING.",
                position=position(node),
            )
        right = self._scan(node.this)
        kind: Literal["inner", "left"] = "left" if side in ("LEFT", "RIGHT") else "inner"
        sides: tuple[Relation, Relation] = (right, left) if side == "RIGHT" else (left, right)
        bare = Join(kind, *sides, ())
        on = self._on(node, bare, left)
        return Join(kind, *sides, tuple(sorted(on, key=repr)))

    def _on(self, node: exp.Join, bare: Join, left: Relation) -> list[Expression]:
        resolver = self._resolver(bare)
        if node.args.get("on") is not None:
            return _conjuncts(resolver.condition(node.args["on"]))
        conditions: list[Expression] = []
        before, added = self._sources[:-1], self._sources[-1]
        for identifier in node.args.get("using") or ():
            name = _name(identifier)
            holders = [source for source in before if name in source.columns]
            if name not in added.columns or not holders:
                where = "right" if name not in added.columns else "left"
                raise Refusal("42703", f'column "{name}" specified in USING clause does not exist in {where} table')
            first = self._merged.get(name, Column(holders[0].alias, name))
            second = Column(added.alias, name)
            conditions.append(Call("=", (first, second)))
            self._merged[name] = second if bare.left != left else first
        return conditions


def _into_join(relation: Relation, condition: Expression) -> Relation | None:
    """Move a condition that ties both sides of an inner join into it, where that does not change the rows."""
    if not isinstance(relation, Join):
        return None
    read = {column.alias for column in columns(condition)}
    left = {scan.alias for scan in scans(relation.left)}
    if read <= left:
        inner = _into_join(relation.left, condition)
        return None if inner is None else Join(relation.kind, inner, relation.right, relation.on)
    if relation.kind != "inner" or not read & left:
        return None
    on = tuple(sorted({*relation.on, condition}, key=repr))
    return Join("inner", relation.left, relation.right, on)


def _conjuncts(condition: Expression) -> list[Expression]:
    match condition:
        case Call("and", parts):
            return [conjunct for part in parts for conjunct in _conjuncts(part)]
        case _:
            return [condition]


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
        name, table = _name(node.this), node.args.get("table")
        if table is not None and found is not None:
            return found.tables.get(_name(table), {}).get(name)
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


def _nothing(_: exp.Column) -> SqlType | None:
    return None


def _renamed(columns_: _Columns, node: exp.Expr) -> _Columns:
    """The columns of an entry of FROM, by the names that its alias gives the first of them."""
    alias = node.args.get("alias")
    given = [_name(column) for column in alias.columns] if alias is not None else []
    names = [*given, *list(columns_)[len(given) :]]
    return dict(zip(names, columns_.values(), strict=False))


def _name_in_engine(node: exp.Expr, name: str, schema: str | None) -> None:
    """Let an entry of FROM read this table of the engine, under the name that it has in the query."""
    if not node.alias:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(_name(node.this), quoted=True)))
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


def _name(identifier: exp.Expr) -> str:
    """Postgres folds unquoted names to lower case."""
    quoted = isinstance(identifier, exp.Identifier) and identifier.args.get("quoted")
    return identifier.name if quoted else identifier.name.lower()


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
