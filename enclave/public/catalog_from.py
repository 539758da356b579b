"""catalog_from: FROM of a catalogue query -> the engine's text and the sources it brings into scope."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Final

from sqlglot import exp

from enclave.answer import Parameter
from enclave.public.catalog_calls import arguments_of, unsupported
from enclave.public.catalog_data import Relation, RelationColumn, relations
from enclave.public.catalog_expressions import Expressions
from enclave.public.catalog_names import fold, function_name
from enclave.public.catalog_scope import Environment, OutputColumn, Scope, Source
from enclave.public.catalog_sources import RowList, column_type, columns_of, returns_rows, row_list
from enclave.public.catalog_types import INT8, identifier, type_of
from rewriter.refusal import Refusal

CATALOGUE_SCHEMAS: Final = ("pg_catalog", "information_schema")
_TABLE_ARGS: Final = frozenset({"this", "db", "catalog", "alias", "joins"})
_SIDES: Final = {"LEFT": "LEFT JOIN", "RIGHT": "RIGHT JOIN", "FULL": "FULL JOIN", "": "JOIN"}


class Sources(Expressions):
    """Binds FROM."""

    def __init__(self, environment: Environment, parameters: tuple[Parameter, ...]) -> None:
        super().__init__(environment, parameters)
        self.numbers = count(1)

    def from_clause(self, node: exp.Select, scope: Scope) -> str:
        """Bind FROM and its joins, and enter what they name into the scope."""
        clause = node.args.get("from_")
        if clause is None:
            return ""
        text = self._source(clause.this, scope)
        for join in node.args.get("joins") or []:
            text += self._join(join, scope)
        for lateral in node.args.get("laterals") or []:
            text += f", {self._source(lateral, scope)}"
        return f" FROM {text}"

    def _join(self, join: exp.Join, scope: Scope) -> str:
        kind, side = (join.args.get("kind") or "").upper(), (join.args.get("side") or "").upper()
        on, using = join.args.get("on"), join.args.get("using")
        before = list(scope.sources)
        item = self._source(join.this, scope)
        if join.args.get("method"):
            using = self._natural(before, scope.sources[len(before) :])
        if using:
            condition = self._using(using, side, before, scope)
            return f" {_SIDES[side]} {item} ON {condition}"
        if on is not None:
            return f" {_SIDES[side]} {item} ON {self.condition(on, scope, 'JOIN/ON').sql}"
        return f" CROSS JOIN {item}" if kind == "CROSS" else f", {item}"

    def _natural(self, left: list[Source], right: list[Source]) -> list[exp.Expr]:
        names = {column.name for source in left for column in source.columns}
        shared = [column.name for source in right for column in source.columns if column.name in names]
        return [exp.to_identifier(name, quoted=True) for name in shared]

    def _using(self, using: list[exp.Expr], side: str, before: list[Source], scope: Scope) -> str:
        if side == "FULL":
            raise Refusal("0A000", "FULL JOIN with USING is not supported in a catalogue query")
        names = [fold(name.this if isinstance(name, exp.Column) else name) for name in using]
        conditions = []
        joined = scope.sources[len(before) :]
        for name in names:
            left = next((bound for source in before if (bound := source.find(name))), None)
            right = next((bound for source in joined if (bound := source.find(name))), None)
            if left is None or right is None:
                where = "left" if left is None else "right"
                raise Refusal("42703", f'column "{name}" specified in USING clause does not exist in {where} table')
            left, right = self.caster.pair(left, right, "=")
            conditions.append(f"{left.sql} = {right.sql}")
        for source in before if side == "RIGHT" else joined:
            source.merged = source.merged | frozenset(names)
        return " AND ".join(conditions) or "TRUE"

    def _source(self, node: exp.Expr, scope: Scope) -> str:
        if _is_joined(node):
            return self._joined_group(node, scope)
        if isinstance(node, exp.Table) and not isinstance(node.this, exp.Func):
            text, source = self._relation(node, scope)
        elif isinstance(node, exp.Subquery | exp.Values):
            text, source = self._derived(node, scope, lateral=False)
        elif isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
            text, source = self._derived(node, scope, lateral=True)
        else:
            text, source = self._function(node, scope)
        if any(other.alias == source.alias and source.alias for other in scope.sources):
            raise Refusal("42712", f'table name "{source.alias}" specified more than once')
        scope.sources.append(source)
        joins = node.args.get("joins") or []
        return f"({text}{''.join(self._join(join, scope) for join in joins)})" if joins else text

    def _joined_group(self, node: exp.Expr, scope: Scope) -> str:
        text = self._source(node.this, scope)
        return f"({text}{''.join(self._join(join, scope) for join in node.args.get('joins') or [])})"

    def _relation(self, node: exp.Table, scope: Scope) -> tuple[str, Source]:
        for key, value in node.args.items():
            if value and key not in _TABLE_ARGS:
                raise Refusal("0A000", f"{key.upper()} is not supported in a catalogue query")
        schema, name = fold(node.args.get("db")), fold(node.this)
        alias, names = _alias(node, name)
        engine_alias = f"t{next(self.numbers)}"
        cte = scope.cte(name) if not schema else None
        if cte is not None:
            engine_name, columns = cte
            return f"{engine_name} AS {engine_alias}", Source(alias, engine_alias, renamed(columns, names))
        relation = relations().get((schema or "pg_catalog", name))
        if relation is None:
            if schema not in CATALOGUE_SCHEMAS:
                shown = f"{schema}.{name}" if schema else name
                raise Refusal("42P01", f'relation "{shown}" does not exist')
            empty = Source(alias, engine_alias, (), schema, open_ended=True)
            return f"(SELECT 1 AS c WHERE FALSE) AS {engine_alias}", empty
        columns = tuple(OutputColumn(c.name, c.name, column_type(c)) for c in relation.columns)
        shown_schema = relation.schema if alias == name else ""
        source = Source(alias, engine_alias, renamed(columns, names), shown_schema, relation.oid)
        return f"{self._mirror(relation)} AS {engine_alias}", source

    def _mirror(self, relation: Relation) -> str:
        if self.environment.filled(relation.physical):
            return identifier(relation.physical)
        nulls = (f"CAST(NULL AS {type_of(column_type(c)).duck}) AS {identifier(c.name)}" for c in relation.columns)
        return f"(SELECT {', '.join(nulls)} WHERE FALSE)"

    def _derived(self, node: exp.Expr, scope: Scope, lateral: bool) -> tuple[str, Source]:
        inner = node.this if lateral or isinstance(node, exp.Subquery) else node
        alias, names = _alias(node, "")
        # Without LATERAL a derived table does not see its siblings, but it does see the queries around.
        outside = scope if lateral else Scope(parent=scope.parent, ctes=scope.ctes)
        query = self.query(inner, outside.child())
        engine_alias = f"t{next(self.numbers)}"
        text = f"{'LATERAL ' if lateral else ''}({query.sql}) AS {engine_alias}"
        return text, Source(alias, engine_alias, renamed(query.columns, names))

    def _function(self, node: exp.Expr, scope: Scope) -> tuple[str, Source]:
        call, ordinality = _called(node)
        name = function_name(call)
        alias, names = _alias(node, name)
        engine_alias = f"t{next(self.numbers)}"
        if not returns_rows(name):
            bound = self.typed(call, scope)
            rows: RowList | None = RowList(f"[{bound.sql}]", bound.oid, bound.fields)
        else:
            bounds = [self.caster.typed(self.bind(argument, scope)) for argument in arguments_of(call)]
            rows = row_list(name, bounds)
        if rows is None:
            return self._rowless(name, alias, names, engine_alias, ordinality)
        columns = _function_columns(rows, alias if node.args.get("alias") else name, ordinality)
        text = _unnested(rows, ordinality)
        source = Source(alias, engine_alias, renamed(columns, names))
        return f"LATERAL ({text}) AS {engine_alias}", source

    def _rowless(
        self, name: str, alias: str, names: list[str], engine_alias: str, ordinality: str
    ) -> tuple[str, Source]:
        numbered = (RelationColumn(ordinality, "int8"),) if ordinality else ()
        relation = Relation("pg_catalog", name, 0, "f", columns_of(name) + numbered)
        columns = tuple(OutputColumn(c.name, c.name, column_type(c)) for c in relation.columns)
        if len(columns) == 1 and not names:
            names = [alias]
        return f"{self._mirror(relation)} AS {engine_alias}", Source(alias, engine_alias, renamed(columns, names))


def _is_joined(node: exp.Expr) -> bool:
    """Whether parentheses in FROM hold a join or a table, not a query."""
    if not isinstance(node, exp.Subquery):
        return False
    inner = node.this
    if isinstance(inner, exp.Subquery):
        return bool(inner.args.get("joins") or inner.args.get("alias")) or _is_joined(inner)
    return not isinstance(inner, exp.Query)


def _called(node: exp.Expr) -> tuple[exp.Expr, str]:
    """The function call of an entry of FROM, and the name of its WITH ORDINALITY column."""
    if isinstance(node, exp.Unnest):
        offset = node.args.get("offset")
        ordinality = "" if not offset else fold(offset) if isinstance(offset, exp.Identifier) else "ordinality"
        return exp.Explode(this=node.expressions[0]), ordinality
    inner = node.this if isinstance(node, exp.Table | exp.Lateral) else node
    if not isinstance(inner, exp.Func):
        raise unsupported(node)
    return inner, "ordinality" if node.args.get("ordinality") else ""


def _function_columns(rows: RowList, name: str, ordinality: str) -> tuple[OutputColumn, ...]:
    fields = rows.fields or ((name, rows.oid),)
    columns = [OutputColumn(field, f"c{at}", oid) for at, (field, oid) in enumerate(fields, 1)]
    if ordinality:
        columns.append(OutputColumn(ordinality, "o", INT8))
    return tuple(columns)


def _unnested(rows: RowList, ordinality: str) -> str:
    number = f", unnest(range(1, len({rows.sql}) + 1)) AS o" if ordinality else ""
    if not rows.fields:
        return f"SELECT unnest({rows.sql}) AS c1{number}"
    fields = ", ".join(f"r.{identifier(field)} AS c{at}" for at, (field, _) in enumerate(rows.fields, 1))
    kept = ", o" if ordinality else ""
    return f"SELECT {fields}{kept} FROM (SELECT unnest({rows.sql}) AS r{number})"


def _alias(node: exp.Expr, default: str) -> tuple[str, list[str]]:
    alias = node.args.get("alias")
    if not isinstance(alias, exp.TableAlias):
        return default, []
    return fold(alias.this) if alias.this else default, [fold(name) for name in alias.args.get("columns") or []]


def renamed(columns: tuple[OutputColumn, ...], names: list[str]) -> tuple[OutputColumn, ...]:
    """Give columns the names of an alias list."""
    if len(names) > len(columns):
        raise Refusal("42P10", f"table has {len(columns)} columns available but {len(names)} columns specified")
    return tuple(replace(c, name=name) for c, name in zip(columns, names, strict=False)) + columns[len(names) :]
