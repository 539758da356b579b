"""catalog_bind: sqlglot's tree of a catalogue query -> the engine's text and the columns Postgres would name."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlglot import exp

from enclave.public.catalog_calls import unsupported
from enclave.public.catalog_from import Sources, renamed
from enclave.public.catalog_names import column_name, fold
from enclave.public.catalog_scope import Bound, OutputColumn, Query, Scope, Source
from enclave.public.catalog_sources import column_type, columns_of, returns_rows, row_list
from enclave.public.catalog_types import INT8, RECORD, TEXT, UNKNOWN, identifier, type_of, unify
from rewriter.refusal import Refusal

_SET_WORDS: Final[dict[type[exp.Expr], str]] = {
    exp.Union: "UNION",
    exp.Intersect: "INTERSECT",
    exp.Except: "EXCEPT",
}
_QUERY_ARGS: Final = frozenset(
    [
        "kind",
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "order",
        "limit",
        "offset",
        "distinct",
        "with_",
        "laterals",
        "windows",
        "operation_modifiers",
    ]
)


class Queries(Sources):
    """Binds whole queries."""

    def query(self, node: exp.Expr, scope: Scope, targets: list[int] | None = None) -> Query:
        """Bind a SELECT, VALUES or set operation.

        Args:
            node: the query.
            scope: a fresh scope, whose parent is the query around it.
            targets: types that literals nothing else has typed should take, by column; text without.

        Raises:
            Refusal: as Expressions.bind; 42601 where set operations do not match.
        """
        body = node
        while isinstance(body, exp.Subquery | exp.Paren):
            body = body.this
        if isinstance(body, exp.Select) and targets is None:
            return self._query(node, scope, [TEXT] * len(body.expressions))
        bound = self._query(node, scope, targets)
        if any(column.oid == UNKNOWN for column in bound.columns):
            wanted = [TEXT if column.oid == UNKNOWN else column.oid for column in bound.columns]
            return self._query(node, _again(scope), wanted)
        return bound

    def _query(self, node: exp.Expr, scope: Scope, targets: list[int] | None) -> Query:
        match node:
            case exp.Subquery() if isinstance(node.this, exp.Query) and not node.args.get("joins"):
                return self._parenthesised(node, scope, targets)
            case exp.Select():
                return self._select(node, scope, targets)
            case exp.SetOperation():
                return self._set_operation(node, scope, targets)
            case exp.Values():
                return self._values(node, scope, targets)
            case exp.Paren():
                return self._query(node.this, scope, targets)
            case _:
                raise unsupported(node)

    def _parenthesised(self, node: exp.Subquery, scope: Scope, targets: list[int] | None) -> Query:
        inner = self._query(node.this, scope, targets)
        if not any(node.args.get(key) for key in ("order", "limit", "offset")):
            return inner
        return replace(inner, sql=f"({inner.sql}){self._tail(node, scope, inner.columns)}")

    # WITH

    def _with(self, node: exp.Expr, scope: Scope) -> str:
        clause = node.args.get("with_")
        if clause is None:
            return ""
        recursive = bool(clause.args.get("recursive"))
        parts = [self._cte(cte, scope, recursive) for cte in clause.expressions]
        return f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(parts)} "

    def _cte(self, cte: exp.Expr, scope: Scope, recursive: bool) -> str:
        name, body = fold(cte.args["alias"].this), cte.this
        names = [fold(column) for column in cte.args["alias"].args.get("columns") or []]
        engine_name = f"w{next(self.numbers)}"
        if recursive and isinstance(body, exp.Union):
            return self._recursive(name, engine_name, names, body, scope)
        query = self.query(body, scope.child())
        scope.ctes[name] = (engine_name, renamed(query.columns, names))
        return f"{engine_name} AS ({query.sql})"

    def _recursive(self, name: str, engine_name: str, names: list[str], body: exp.Union, scope: Scope) -> str:
        anchor = self.query(body.this, scope.child())
        columns = renamed(anchor.columns, names)
        scope.ctes[name] = (engine_name, columns)
        step = self.query(body.expression, scope.child(), [column.oid for column in columns])
        word = "UNION" if body.args.get("distinct") else "UNION ALL"
        listed = ", ".join(identifier(column.engine_name) for column in columns)
        return (
            f"{engine_name}({listed}) AS (({self._recast(anchor, columns)}) {word} ({self._recast(step, columns)}))"
        )

    def _recast(self, query: Query, columns: tuple[OutputColumn, ...]) -> str:
        if len(query.columns) != len(columns):
            raise Refusal("42601", "each UNION query must have the same number of columns")
        if all(have.oid == want.oid for have, want in zip(query.columns, columns, strict=True)):
            return query.sql
        casts = (
            f"{self.caster.cast(Bound(f'q.{have.engine_name}', have.oid), want.oid).sql} AS {want.engine_name}"
            for have, want in zip(query.columns, columns, strict=True)
        )
        return f"SELECT {', '.join(casts)} FROM ({query.sql}) q"

    # Set operations and VALUES

    def _set_operation(self, node: exp.SetOperation, scope: Scope, targets: list[int] | None) -> Query:
        prefix = self._with(node, scope)
        left, right = (self._query(side, scope.child(), targets) for side in (node.this, node.expression))
        word = _SET_WORDS[type(node)]
        if len(left.columns) != len(right.columns):
            raise Refusal("42601", f"each {word} query must have the same number of columns")
        oids = [_common(a, b, word) for a, b in zip(left.columns, right.columns, strict=True)]
        if targets is None and UNKNOWN in [c.oid for c in (*left.columns, *right.columns)]:
            return self._set_operation(node, _again(scope), oids)
        columns = tuple(replace(column, oid=oid, typmod=-1) for column, oid in zip(left.columns, oids, strict=True))
        every = "" if node.args.get("distinct") else " ALL"
        sides = [self._recast(side, columns) for side in (left, right)]
        sql = f"{prefix}({sides[0]}) {word}{every} ({sides[1]}){self._tail(node, scope, columns)}"
        return Query(sql, columns)

    def _values(self, node: exp.Values, scope: Scope, targets: list[int] | None) -> Query:
        rows = [item.expressions if isinstance(item, exp.Tuple) else [item] for item in node.expressions]
        if len({len(row) for row in rows}) != 1:
            raise Refusal("42601", "VALUES lists must all be the same length")
        bound = [[self.bind(item, scope) for item in row] for row in rows]
        unified = [self.caster.alike(list(column), "VALUES") for column in zip(*bound, strict=True)]
        if targets is not None:
            unified = [
                ([self.caster.coerce(item, oid) for item in column], oid) if given == UNKNOWN else (column, given)
                for (column, given), oid in zip(unified, targets, strict=True)
            ]
        lines = ", ".join(
            f"({', '.join(item.sql for item in row)})" for row in zip(*(c for c, _ in unified), strict=True)
        )
        columns = tuple(OutputColumn(f"column{at}", f"c{at}", oid) for at, (_, oid) in enumerate(unified, 1))
        names = ", ".join(column.engine_name for column in columns)
        return Query(f"SELECT * FROM (VALUES {lines}) v({names}){self._tail(node, scope, columns)}", columns)

    # SELECT

    def _select(self, node: exp.Select, scope: Scope, targets: list[int] | None) -> Query:
        for key, value in node.args.items():
            if value and key not in _QUERY_ARGS:
                raise Refusal("0A000", f"{key.strip('_').upper()} is not supported in a catalogue query")
        prefix = self._with(node, scope)
        source = self.from_clause(node, scope)
        where = node.args.get("where")
        condition = f" WHERE {self.condition(where.this, scope, 'WHERE').sql}" if where else ""
        scope.references.clear()
        items = self._items(node, scope, targets)
        columns = tuple(
            OutputColumn(name, f"c{at}", bound.oid, bound.typmod, bound.fields)
            for at, (name, bound) in enumerate(items, 1)
        )
        listed = ", ".join(f"{bound.sql} AS c{at}" for at, (_, bound) in enumerate(items, 1)) or "NULL AS c0"
        having = node.args.get("having")
        after = f" HAVING {self.condition(having.this, scope, 'HAVING').sql}" if having else ""
        tail = self._tail(node, scope, columns, items)
        grouping = self._group(node, scope, items)
        distinct = self._distinct(node, scope)
        return Query(f"{prefix}SELECT {distinct}{listed}{source}{condition}{grouping}{after}{tail}", columns)

    def _items(self, node: exp.Select, scope: Scope, targets: list[int] | None) -> list[tuple[str, Bound]]:
        items: list[tuple[str, Bound]] = []
        for item in node.expressions:
            items += self._item(item, scope)
        if targets is None:
            return items
        wanted = [*targets, *[TEXT] * len(items)]  # a star may have made more items than there were nodes
        return [
            (name, self.caster.coerce(bound, oid) if bound.oid == UNKNOWN and oid != UNKNOWN else bound)
            for (name, bound), oid in zip(items, wanted, strict=False)
        ]

    def _item(self, item: exp.Expr, scope: Scope) -> list[tuple[str, Bound]]:
        if isinstance(item, exp.Star):
            if not scope.sources:
                raise Refusal("42601", "SELECT * with no tables specified is not valid")
            return [pair for source in scope.sources for pair in _star(source, scope, merged=True)]
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            alias = fold(item.args.get("table"))
            source = next((source for source in scope.sources if source.alias == alias), None)
            if source is None:
                raise Refusal("42P01", f'missing FROM-clause entry for table "{alias}"')
            return _star(source, scope, merged=False)
        return [(column_name(item), self.bind(item, scope))]

    def call(self, name: str, nodes: list[exp.Expr], scope: Scope, qualifier: str = "") -> Bound:
        """Bind a call; one that returns rows, in a select list, becomes an unnest."""
        if qualifier in ("", "pg_catalog", "information_schema") and returns_rows(name):
            bounds = [self.caster.typed(self.bind(node, scope)) for node in nodes]
            rows = row_list(name, bounds)
            if rows is None:
                return _no_rows(name)
            return Bound(f"unnest({rows.sql})", rows.oid, fields=rows.fields)
        return super().call(name, nodes, scope, qualifier)

    def _group(self, node: exp.Select, scope: Scope, items: list[tuple[str, Bound]]) -> str:
        group = node.args.get("group")
        if group is None:
            return ""
        if any(group.args.get(key) for key in ("grouping_sets", "cube", "rollup")):
            raise unsupported(group)
        if not group.expressions:
            raise Refusal("42601", "syntax error at end of input")
        references = list(scope.references)
        keys = [self._group_key(key, scope, items) for key in group.expressions]
        extra = [sql for source, sql in references if _determined(source, keys)]
        return f" GROUP BY {', '.join(dict.fromkeys([*keys, *extra]))}"

    def _group_key(self, key: exp.Expr, scope: Scope, items: list[tuple[str, Bound]]) -> str:
        if isinstance(key, exp.Literal) and key.name.isdigit():
            return items[_ordinal(key, len(items), "GROUP BY") - 1][1].sql
        if isinstance(key, exp.Column) and not key.args.get("table") and scope.column(fold(key.this)) is None:
            named = [bound.sql for name, bound in items if name == fold(key.this)]
            if named:
                return named[0]
        return self.typed(key, scope).sql

    def _distinct(self, node: exp.Select, scope: Scope) -> str:
        distinct = node.args.get("distinct")
        if distinct is None:
            return ""
        on = distinct.args.get("on")
        if on is None:
            return "DISTINCT "
        keys = on.expressions if isinstance(on, exp.Tuple) else [on]
        return f"DISTINCT ON ({', '.join(self.typed(key, scope).sql for key in keys)}) "

    def _tail(
        self,
        node: exp.Expr,
        scope: Scope,
        columns: tuple[OutputColumn, ...],
        items: list[tuple[str, Bound]] | None = None,
    ) -> str:
        """Bind ORDER BY, LIMIT and OFFSET; without `items` only output columns may be named."""
        order, limit, offset = (node.args.get(key) for key in ("order", "limit", "offset"))
        keys = [self._order_key(item, scope, columns, items) for item in order.expressions] if order else []
        text = f" ORDER BY {', '.join(keys)}" if keys else ""
        for word, clause in (("LIMIT", limit), ("OFFSET", offset)):
            amount = clause and (clause.args.get("expression") or clause.args.get("count"))
            if amount is not None and not isinstance(amount, exp.Null) and amount.name.upper() != "ALL":
                text += f" {word} {self.caster.cast(self.bind(amount, Scope()), INT8).sql}"
        return text

    def _order_key(
        self,
        item: exp.Expr,
        scope: Scope,
        columns: tuple[OutputColumn, ...],
        items: list[tuple[str, Bound]] | None,
    ) -> str:
        key = item.this
        if isinstance(key, exp.Literal) and key.name.isdigit() and not key.args.get("is_string"):
            return self.ordered(item, scope, str(_ordinal(key, len(columns), "ORDER BY")))
        if isinstance(key, exp.Column) and not key.args.get("table"):
            named = [at for at, column in enumerate(columns, 1) if column.name == fold(key.this)]
            if named:
                return self.ordered(item, scope, str(named[0]))
        if items is None:
            raise Refusal("0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause")
        return self.ordered(item, scope)


def _no_rows(name: str) -> Bound:
    """A call in a select list of a function that has no rows here."""
    fields = tuple((column.name, column_type(column)) for column in columns_of(name))
    if len(fields) == 1:
        return Bound(f"unnest([]::{type_of(fields[0][1]).duck}[])", fields[0][1])
    struct = ", ".join(f"{identifier(field)} {type_of(oid).duck}" for field, oid in fields)
    return Bound(f"unnest([]::STRUCT({struct})[])", RECORD, fields=fields)


def _star(source: Source, scope: Scope, merged: bool) -> list[tuple[str, Bound]]:
    shown = [column for column in source.columns if not (merged and column.name in source.merged)]
    return [(column.name, scope.noted(source, source.bind(column))) for column in shown]


def _determined(source: Source, keys: list[str]) -> bool:
    """Whether GROUP BY names the primary key of a catalogue relation, which determines its other columns."""
    return bool(source.table_oid) and f'{source.engine_alias}."oid"' in keys


def _ordinal(node: exp.Expr, columns: int, clause: str) -> int:
    position = int(node.name)
    if not 1 <= position <= columns:
        raise Refusal("42P10", f"{clause} position {position} is not in select list")
    return position


def _common(left: OutputColumn, right: OutputColumn, word: str) -> int:
    if left.oid == right.oid:
        return left.oid
    oid = unify([left.oid, right.oid])
    if oid is None:
        names = f"{type_of(left.oid).sql_name} and {type_of(right.oid).sql_name}"
        raise Refusal("42804", f"{word} types {names} cannot be matched")
    return oid


def _again(scope: Scope) -> Scope:
    """A fresh scope in the place of one whose query is bound a second time."""
    return Scope(parent=scope.parent, ctes=dict(scope.ctes))
