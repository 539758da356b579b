"""catalog_calls: calls of functions, aggregates and window functions -> the engine's text."""

from __future__ import annotations

import re
from typing import Final

from sqlglot import exp

from enclave.answer import Parameter
from enclave.public import catalog_functions as functions
from enclave.public.catalog_casts import Caster
from enclave.public.catalog_data import known_functions
from enclave.public.catalog_names import function_name
from enclave.public.catalog_scope import Bound, Environment, Query, Scope
from enclave.public.catalog_types import (
    BOOL,
    JSON,
    RECORD,
    REGTYPE,
    TEXT,
    UNKNOWN,
    identifier,
    type_named,
    type_of,
)
from rewriter.refusal import Refusal

WORK_MAX: Final = 50_000
"""Expressions bound for one statement; the largest captured one has 3,000. Nested set operations bind parts twice."""
NULL: Final = Bound("NULL", UNKNOWN)
_ARGUMENT: Final = re.compile(r"\{(\*|[0-9])\}")


class Calls:
    """Binds calls; what their arguments are is bound by the subclasses.

    Args:
        environment: what there is to resolve names to.
        parameters: the values of $1, $2, ...
    """

    def __init__(self, environment: Environment, parameters: tuple[Parameter, ...]) -> None:
        self.environment = environment
        self.parameters = parameters
        self.caster = Caster(environment)
        self.parameter_count = len(parameters)
        self.work = 0

    def query(self, node: exp.Expr, scope: Scope, targets: list[int] | None = None) -> Query:
        """Bind a query; see catalog_bind."""
        raise NotImplementedError

    def bind(self, node: exp.Expr, scope: Scope) -> Bound:
        """Bind one expression; see catalog_expressions."""
        raise NotImplementedError

    def typed(self, node: exp.Expr, scope: Scope) -> Bound:
        """Bind, and make an untyped literal text."""
        return self.caster.typed(self.bind(node, scope))

    def condition(self, node: exp.Expr, scope: Scope, clause: str) -> Bound:
        """Bind what must be boolean."""
        bound = self.caster.coerce(self.bind(node, scope), BOOL) if _is_literal(node) else self.bind(node, scope)
        bound = self.caster.cast(bound, BOOL) if bound.oid == UNKNOWN else bound
        if bound.oid != BOOL:
            name = type_of(bound.oid).sql_name
            raise Refusal("42804", f"argument of {clause} must be type boolean, not type {name}")
        return bound

    def call(self, name: str, nodes: list[exp.Expr], scope: Scope, qualifier: str = "") -> Bound:
        """Bind a call of a scalar function or an aggregate.

        Raises:
            Refusal: 42883 where Postgres has no such function either.
        """
        from_us = qualifier in ("", "pg_catalog")
        if from_us and functions.is_aggregate(name):
            return self._aggregate(name, nodes, scope)
        if name in ("row",) and from_us:
            return self.row([self.typed(node, scope) for node in nodes])
        bounds = [self.bind(node, scope) for node in nodes]
        if name == "pg_typeof" and from_us and len(bounds) == 1:
            return Bound(f"CAST({bounds[0].oid} AS BIGINT)", REGTYPE)
        if name == "json_build_object" and from_us and len(bounds) % 2 == 0:
            return self._json_object([self.caster.typed(bound) for bound in bounds])
        function = functions.find(name, [bound.oid for bound in bounds]) if from_us else None
        if function is not None:
            return self._applied(function, bounds)
        known = known_functions().get(name)
        if qualifier == "pg_catalog" or (from_us and known is not None and not functions.exists(name)):
            for bound in bounds:
                self.caster.typed(bound)
            kind = type_named(known.type_name) if known else None
            oid = kind.oid if kind else TEXT
            return Bound(f"CAST(NULL AS {type_of(oid).duck})", oid)
        given = ", ".join(type_of(bound.oid).sql_name for bound in bounds)
        shown = f"{qualifier}.{name}" if qualifier else name
        hint = "No function matches the given name and argument types. You might need to add explicit type casts."
        raise Refusal("42883", f"function {shown}({given}) does not exist", hint=hint)

    def _json_object(self, bounds: list[Bound]) -> Bound:
        keys = [self.caster.cast(bound, TEXT).sql for bound in bounds[::2]]
        values = [f"coalesce(CAST(to_json({bound.sql}) AS VARCHAR), 'null')" for bound in bounds[1::2]]
        pairs = [f"CAST(to_json({key}) AS VARCHAR), ' : ', {value}" for key, value in zip(keys, values, strict=True)]
        parts = ", ', ', ".join(pairs)
        return Bound(f"concat('{{', {parts or chr(39) * 2}, '}}')", JSON)

    def row(self, bounds: list[Bound]) -> Bound:
        """Make a composite value."""
        fields = tuple((f"f{at}", bound.oid) for at, bound in enumerate(bounds, 1))
        packed = ", ".join(
            f"{identifier(name)} := {bound.sql}" for (name, _), bound in zip(fields, bounds, strict=True)
        )
        return Bound(f"struct_pack({packed})", RECORD, fields=fields)

    def _applied(self, function: functions.Function, bounds: list[Bound]) -> Bound:
        wanted = function.wanted(len(bounds))
        spread = function.variadic
        cast = [self._argument(bound, oid, spread) for bound, oid in zip(bounds, wanted, strict=True)]
        whole = ", ".join(bound.sql for bound in cast)
        sql = _ARGUMENT.sub(lambda m: whole if m[1] == "*" else cast[int(m[1])].sql, function.template)
        return Bound(f"({sql})", _result(function.result, cast))

    def _argument(self, bound: Bound, oid: int, spread: bool) -> Bound:
        if oid == functions.ANY:
            return self.caster.cast(bound, TEXT) if spread else self.caster.typed(bound)
        return self.caster.typed(bound) if oid == functions.ANY_ARRAY else self.caster.coerce(bound, oid)

    def _aggregate(self, name: str, nodes: list[exp.Expr], scope: Scope) -> Bound:
        outer, scope.in_aggregate = scope.in_aggregate, True
        try:
            return self._aggregated(name, nodes, scope)
        finally:
            scope.in_aggregate = outer

    def _aggregated(self, name: str, nodes: list[exp.Expr], scope: Scope) -> Bound:
        order: list[exp.Expr] = []
        distinct = ""
        items = [node for node in nodes if not isinstance(node, exp.Star)]
        if items and isinstance(items[0], exp.Order):
            order, items[0] = items[0].expressions, items[0].this
        if items and isinstance(items[0], exp.Distinct):
            distinct, items = "DISTINCT ", [*items[0].expressions, *items[1:]]
        if items and isinstance(items[-1], exp.Order):
            order, items[-1] = items[-1].expressions, items[-1].this
        bounds = [self.bind(item, scope) for item in items]
        function = functions.find_aggregate(name, [bound.oid for bound in bounds])
        if function is None:
            given = ", ".join(type_of(bound.oid).sql_name for bound in bounds)
            raise Refusal("42883", f"function {name}({given}) does not exist")
        applied = self._applied(function, bounds)
        inside = ", ".join(self.ordered(item, scope) for item in order)
        return with_sql(applied, _decorated(applied.sql, distinct, inside))

    def ordered(self, node: exp.Expr, scope: Scope, sql: str | None = None) -> str:
        """Bind an item of ORDER BY; `sql` if it is known already. Postgres sorts NULL last, or first if DESC."""
        descending = bool(node.args.get("desc"))
        first = node.args.get("nulls_first")
        nulls = "FIRST" if (descending if first is None else first) else "LAST"
        key = sql or self.typed(node.this, scope).sql
        return f"{key} {'DESC' if descending else 'ASC'} NULLS {nulls}"

    def _filter(self, node: exp.Expr, scope: Scope) -> Bound:
        bound = self.bind(node.this, scope)
        outer, scope.in_aggregate = scope.in_aggregate, True
        condition = self.condition(node.expression.this, scope, "FILTER")
        scope.in_aggregate = outer
        return with_sql(bound, _after_call(bound.sql, f"FILTER (WHERE {condition.sql})"))

    def _window(self, node: exp.Expr, scope: Scope) -> Bound:
        inner = node.this
        if node.args.get("spec") or node.args.get("alias") or not isinstance(inner, exp.Func):
            raise unsupported(node)
        bounds = [self.typed(item, scope) for item in arguments_of(inner) if not isinstance(item, exp.Star)]
        name = function_name(inner)
        oids = [bound.oid for bound in bounds]
        function = functions.find_window(name, oids) or functions.find_aggregate(name, oids)
        if function is None:
            raise Refusal("42883", f"function {name}() does not exist")
        applied = self._applied(function, bounds)
        by = ", ".join(self.typed(item, scope).sql for item in node.args.get("partition_by") or [])
        order = node.args.get("order")
        keys = ", ".join(self.ordered(item, scope) for item in order.expressions) if order else ""
        over = " ".join(
            part for part in (f"PARTITION BY {by}" if by else "", f"ORDER BY {keys}" if keys else "") if part
        )
        return with_sql(applied, _after_call(applied.sql, f"OVER ({over})"))


def unsupported(node: exp.Expr) -> Refusal:
    """Refuse a construct by its name (0A000)."""
    name = type(node).__name__
    return Refusal("0A000", f"{name} is not supported in a catalogue query")


def arguments_of(node: exp.Expr) -> list[exp.Expr]:
    """The arguments of a function node, in the order of its signature."""
    found: list[exp.Expr] = []
    for key in node.arg_types:
        value = node.args.get(key)
        if isinstance(value, list):
            found += [item for item in value if isinstance(item, exp.Expr)]
        elif isinstance(value, exp.Expr) and not isinstance(value, exp.Var):
            found.append(value)
    if isinstance(node, exp.StrPosition | exp.TimeToStr | exp.StrToTime) or _pads_arguments(node):
        return found[:2]
    return found


def _pads_arguments(node: exp.Expr) -> bool:
    """Whether trailing arguments of the node are the parser's own additions."""
    return isinstance(node, exp.RegexpReplace) and len(node.args) < 3


def _is_literal(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and bool(node.args.get("is_string"))


def with_sql(bound: Bound, sql: str) -> Bound:
    """The same value from another text."""
    return Bound(sql, bound.oid, bound.literal, bound.parameter, bound.typmod, bound.fields)


def _decorated(sql: str, distinct: str, order: str) -> str:
    """Put DISTINCT and ORDER BY into the aggregate call of a template, the innermost function of its text."""
    if not distinct and not order:
        return sql
    open_at = _call_at(sql)
    close_at = _closing(sql, open_at)
    inner = sql[open_at + 1 : close_at]
    return f"{sql[: open_at + 1]}{distinct}{inner}{f' ORDER BY {order}' if order else ''}{sql[close_at:]}"


def _after_call(sql: str, clause: str) -> str:
    close_at = _closing(sql, _call_at(sql))
    return f"{sql[: close_at + 1]} {clause}{sql[close_at + 1 :]}"


_WRAPPERS: Final = ("CAST", "to_json")


def _call_at(sql: str) -> int:
    """Where the aggregate's parenthesis opens: after the wrappers that a template may have around it."""
    at = 1 if sql.startswith("(") else 0
    while sql.startswith(_WRAPPERS, at):
        at = sql.index("(", at) + 1
    return sql.index("(", at)


def _closing(sql: str, open_at: int) -> int:
    depth, quoted = 0, ""
    for at in range(open_at, len(sql)):
        character = sql[at]
        if quoted:
            quoted = "" if character == quoted else quoted
        elif character in "'\"":
            quoted = character
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return at
    raise AssertionError("unbalanced template")


def _result(result: int, bounds: list[Bound]) -> int:
    if result == functions.SAME:
        return bounds[0].oid
    if result == functions.ELEMENT:
        return type_of(bounds[0].oid).element
    if result == functions.ARRAY_OF:
        return type_of(bounds[0].oid).array or type_of(TEXT).array
    return result
