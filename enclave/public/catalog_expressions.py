"""catalog_expressions: sqlglot's expressions -> the engine's text with Postgres types.

Every character of the engine's text is written here: no node passes through, so what is not listed is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlglot import exp

from enclave.answer import Parameter
from enclave.public.catalog_calls import NULL, WORK_MAX, arguments_of, unsupported, with_sql
from enclave.public.catalog_names import fold, function_name, target_name
from enclave.public.catalog_parse import PARAMETER
from enclave.public.catalog_predicates import COMPARISONS, Predicates
from enclave.public.catalog_scope import Bound, OutputColumn, Scope
from enclave.public.catalog_types import (
    BOOL,
    DATE,
    FLOAT8,
    INT2VECTOR,
    INT4,
    INT8,
    INTERVAL,
    NUMERIC,
    OIDVECTOR,
    RECORD,
    TEXT,
    TIMESTAMP,
    UNKNOWN,
    identifier,
    quote,
    type_named,
    type_of,
    unify,
)
from rewriter.refusal import Refusal

_ARITHMETIC: Final[Mapping[type[exp.Expr], str]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
}
_EXTRACTS: Final = frozenset(
    [
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "second",
        "dow",
        "isodow",
        "doy",
        "week",
        "quarter",
        "epoch",
        "century",
        "decade",
        "millisecond",
        "microsecond",
    ]
)


class Expressions(Predicates):
    """Binds expressions; queries inside them are bound by the subclass."""

    def bind(self, node: exp.Expr, scope: Scope) -> Bound:
        """Bind one expression.

        Raises:
            Refusal: 42703, 42P01, 42883, 42804, 22P02 in Postgres' words; 0A000 for what is not supported here.
        """
        self.work += 1
        if self.work > WORK_MAX:
            raise Refusal("54001", "statement is too complex")
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            return handler(self, node, scope)
        if isinstance(node, exp.Func):
            return self.call(function_name(node), arguments_of(node), scope)
        raise unsupported(node)

    def column(self, node: exp.Expr, scope: Scope) -> Bound:
        """Bind a column, a whole row, a parameter in disguise, or a niladic function."""
        name, table, schema = fold(node.this), fold(node.args.get("table")), fold(node.args.get("db"))
        match = PARAMETER.fullmatch(name)
        if match and not table:
            return self.parameter(int(match[1]))
        if isinstance(node.this, exp.Star):
            raise unsupported(node)
        bound = scope.qualified(table, schema, name) if table else scope.column(name)
        if bound is not None:
            return bound
        if not table and (source := scope.source(name)) is not None:
            return _whole_row(source.columns, source.engine_alias)
        if not table and not node.this.args.get("quoted") and name in ("user", "current_role", "session_user"):
            return self.call(name, [], scope)
        shown = f"{table}.{name}" if table else f'"{name}"'
        raise Refusal("42703", f"column {shown} does not exist", position=_position(node))

    def parameter(self, number: int) -> Bound:
        """Bind `$n`: typed if Parse or the value says so, else as an unknown literal."""
        self.parameter_count = max(self.parameter_count, number)
        if number < 1:
            raise Refusal("42P02", f"there is no parameter ${number}")
        given = self.parameters[number - 1] if number <= len(self.parameters) else Parameter(0, None)
        literal = Bound("NULL", UNKNOWN, given.value, number)
        if given.type_oid in (0, UNKNOWN):
            return literal
        return self.caster.cast(literal, given.type_oid)

    def _placeholder(self, node: exp.Expr, _scope: Scope) -> Bound:
        number = node.name.removeprefix("$")
        if not number.isdigit():
            raise unsupported(node)
        return self.parameter(int(number))

    def _literal(self, node: exp.Expr, _scope: Scope) -> Bound:
        text = node.name
        if node.args.get("is_string") or not isinstance(node, exp.Literal):
            return Bound(quote(text), UNKNOWN, text)
        if text.isdigit() and len(text) <= 18:
            return Bound(text, INT4 if int(text) < 2**31 else INT8)
        return self.caster.cast(Bound("NULL", UNKNOWN, text), NUMERIC)

    def _null(self, _node: exp.Expr, _scope: Scope) -> Bound:
        return NULL

    def _boolean(self, node: exp.Expr, _scope: Scope) -> Bound:
        return Bound("TRUE" if node.this else "FALSE", BOOL)

    def _interval(self, node: exp.Expr, _scope: Scope) -> Bound:
        unit = node.args.get("unit")
        amount = node.this.name if isinstance(node.this, exp.Literal) else ""
        text = f"{amount} {unit.name.lower()}" if unit else amount
        return self.caster.cast(Bound("NULL", UNKNOWN, text), INTERVAL)

    # Structure

    def _paren(self, node: exp.Expr, scope: Scope) -> Bound:
        bound = self.bind(node.this, scope)
        return bound if bound.oid == UNKNOWN else with_sql(bound, f"({bound.sql})")

    def _alias(self, node: exp.Expr, scope: Scope) -> Bound:
        return self.bind(node.this, scope)

    def _collate(self, node: exp.Expr, scope: Scope) -> Bound:
        return self.bind(node.this, scope)  # one collation here: C, which is the database's

    def _cast(self, node: exp.Expr, scope: Scope) -> Bound:
        target = node.args["to"]
        kind = type_named(target_name(target))
        if kind is None:
            raise Refusal("42704", f'type "{target_name(target)}" does not exist')
        return self.caster.cast(self.bind(node.this, scope), kind.oid, _typmod(target, kind.name))

    def _dot(self, node: exp.Expr, scope: Scope) -> Bound:
        last = node.expression
        if isinstance(last, exp.Func):
            qualifier = fold(node.this)
            return self.call(function_name(last), arguments_of(last), scope, qualifier)
        bound = self.bind(node.this, scope)
        name = fold(last)
        for field, oid in bound.fields:
            if field == name:
                return Bound(f"({bound.sql}).{identifier(field)}", oid)
        raise Refusal("42703", f'column "{name}" not found in data type {type_of(bound.oid).sql_name}')

    def _subquery(self, node: exp.Expr, scope: Scope) -> Bound:
        query = self.query(node, scope.child())
        if len(query.columns) != 1:
            raise Refusal("42601", "subquery must return only one column")
        column = query.columns[0]
        return Bound(f"({query.sql})", column.oid, fields=column.fields)

    def _exists(self, node: exp.Expr, scope: Scope) -> Bound:
        return Bound(f"EXISTS ({self.query(node.this, scope.child()).sql})", BOOL)

    def _array(self, node: exp.Expr, scope: Scope) -> Bound:
        items = node.expressions
        if len(items) == 1 and isinstance(items[0], exp.Query):
            query = self.query(items[0], scope.child())
            array = type_of(query.columns[0].oid).array or type_of(TEXT).array
            return Bound(f"ARRAY({query.sql})", array)
        bounds, oid = self.caster.alike([self.bind(item, scope) for item in items], "ARRAY")
        array = type_of(oid).array or type_of(TEXT).array
        return Bound(f"[{', '.join(bound.sql for bound in bounds)}]::{type_of(array).duck}", array)

    def _bracket(self, node: exp.Expr, scope: Scope) -> Bound:
        bound = self.bind(node.this, scope)
        kind = type_of(bound.oid)
        index = node.expressions[0]
        if not kind.element:
            raise Refusal("42804", f"cannot subscript type {kind.sql_name} because it does not support subscripting")
        first = int(bound.oid in (INT2VECTOR, OIDVECTOR))  # vectors count from 0, arrays and the engine from 1
        if isinstance(index, exp.Slice):
            ends = (self._subscript(end, scope, first) for end in (index.this, index.expression))
            return with_sql(bound, f"list_slice({bound.sql}, {', '.join(ends)})")
        at = self._subscript(index, scope, first + int(_is_shifted(index)))
        return Bound(f"(CASE WHEN {at} > 0 THEN {bound.sql}[{at}] END)", kind.element)

    def _subscript(self, node: exp.Expr | None, scope: Scope, shift: int) -> str:
        if node is None:
            return "NULL"
        return f"(CAST({self.caster.coerce(self.bind(node, scope), INT4).sql} AS BIGINT) + {shift})"

    def _tuple(self, node: exp.Expr, scope: Scope) -> Bound:
        return self.row([self.typed(item, scope) for item in node.expressions])

    # Arithmetic and text

    def _arithmetic(self, node: exp.Expr, scope: Scope) -> Bound:
        operator = _ARITHMETIC[type(node)]
        left, right = self.bind(node.this, scope), self.bind(node.expression, scope)
        categories = type_of(left.oid).category + type_of(right.oid).category
        if categories in ("DT", "TD", "DD") and operator in "+-":
            return _moved(left, right, operator, categories)
        if left.oid == DATE and categories == "DN":
            return _date_shift(left, right, operator)
        left, right = self.caster.pair(left, right, operator)
        if type_of(left.oid).category != "N" or type_of(right.oid).category != "N":
            return _date_shift(left, right, operator)
        oid = unify([left.oid, right.oid]) or left.oid
        divides = operator in "/%"
        if divides and _is_zero(node.expression):
            raise Refusal("22012", "division by zero")
        if operator == "/" and oid not in (NUMERIC, 700, FLOAT8):
            operator = "//"
        sql = f"({left.sql} {operator} {right.sql})"
        return Bound(sql if oid in (NUMERIC, FLOAT8) else f"TRY_CAST({sql} AS {type_of(oid).duck})", oid)

    def _neg(self, node: exp.Expr, scope: Scope) -> Bound:
        bound = self.bind(node.this, scope)
        if bound.oid == UNKNOWN:
            bound = self.caster.cast(bound, FLOAT8)
        return Bound(f"(-{bound.sql})", bound.oid)

    def _concat(self, node: exp.Expr, scope: Scope) -> Bound:
        left, right = self.bind(node.this, scope), self.bind(node.expression, scope)
        for side, other in ((left, right), (right, left)):
            kind = type_of(side.oid)
            if kind.element and side.oid != UNKNOWN:
                return self._concat_array(left, right, side.oid, other)
        left, right = (self.caster.cast(bound, TEXT) for bound in (left, right))
        return Bound(f"({left.sql} || {right.sql})", TEXT)

    def _concat_array(self, left: Bound, right: Bound, oid: int, other: Bound) -> Bound:
        element = type_of(oid).element
        lone = other.oid != UNKNOWN and not type_of(other.oid).element
        sides = [
            f"[{self.caster.cast(side, element).sql}]" if lone and side is other else self.caster.cast(side, oid).sql
            for side in (left, right)
        ]
        return Bound(f"list_concat({sides[0]}, {sides[1]})", oid)

    # Conditionals

    def _case(self, node: exp.Expr, scope: Scope) -> Bound:
        whens: list[exp.Expr] = list(node.args["ifs"])
        default = node.args.get("default")
        # Postgres looks at ELSE first when it chooses the type (transformCaseExpr).
        results = [self.bind(default, scope) if default is not None else NULL]
        results += [self.bind(when.args["true"], scope) for when in whens]
        (otherwise, *results), oid = self.caster.alike(results, "CASE")
        arms = [
            f"WHEN {self._when(node, when, scope).sql} THEN {result.sql}"
            for when, result in zip(whens, results, strict=True)
        ]
        return Bound(f"(CASE {' '.join(arms)} ELSE {otherwise.sql} END)", oid)

    def _when(self, node: exp.Expr, when: exp.Expr, scope: Scope) -> Bound:
        subject = node.args.get("this")
        if subject is None:
            return self.condition(when.this, scope, "CASE/WHEN")
        left, right = self.caster.pair(self.bind(subject, scope), self.bind(when.this, scope), "=")
        return Bound(f"({left.sql} = {right.sql})", BOOL)

    def _coalesce(self, node: exp.Expr, scope: Scope) -> Bound:
        nodes = [node.this, *node.expressions]
        name = {"greatest": "greatest", "least": "least"}.get(type(node).__name__.lower(), "coalesce")
        bounds, oid = self.caster.alike([self.bind(item, scope) for item in nodes], name.upper())
        return Bound(f"{name}({', '.join(bound.sql for bound in bounds)})", oid)

    def _nullif(self, node: exp.Expr, scope: Scope) -> Bound:
        left, right = self.caster.pair(self.bind(node.this, scope), self.bind(node.expression, scope), "=")
        return Bound(f"nullif({left.sql}, {right.sql})", left.oid)

    def _extract(self, node: exp.Expr, scope: Scope) -> Bound:
        unit = node.name.lower()
        if unit not in _EXTRACTS:
            raise Refusal("22023", f'unit "{unit}" not recognized for type timestamp with time zone')
        value = self.bind(node.expression, scope)
        value = self.caster.cast(value, TIMESTAMP) if value.oid == UNKNOWN else value
        scale = 6 if unit in ("second", "epoch") else 0
        return Bound(f"CAST(date_part('{unit}', {value.sql}) AS DECIMAL(38,{scale}))", NUMERIC)

    def _truncate(self, node: exp.Expr, scope: Scope) -> Bound:
        unit = exp.Literal.string(node.args["unit"].name.lower())
        return self.call("date_trunc", [unit, node.this], scope)


def _is_shifted(index: exp.Expr) -> bool:
    """Whether sqlglot made a subscript count from 0: it does where it knows the type to be integer."""
    return index.type is None or not index.type.is_type(exp.DataType.Type.UNKNOWN)


def _is_zero(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.args.get("is_string") and not node.name.strip("0.")


def _typmod(target: exp.Expr, name: str) -> int:
    numbers = [int(part.name) for part in target.expressions if part.name.isdigit()]
    if not numbers:
        return 5 if name == "bpchar" else -1
    if name == "numeric":
        return (numbers[0] << 16 | (numbers[1] if len(numbers) > 1 else 0)) + 4
    return numbers[0] + 4 if name in ("varchar", "bpchar") else -1


def _position(node: exp.Expr) -> int | None:
    start = node.this.meta.get("start") if isinstance(node.this, exp.Identifier) else None
    return start + 1 if isinstance(start, int) else None


def _moved(left: Bound, right: Bound, operator: str, categories: str) -> Bound:
    if categories == "DD":
        days = left.oid == right.oid == DATE
        cast = f"CAST({left.sql} - {right.sql} AS INTEGER)" if days else f"({left.sql} - {right.sql})"
        return Bound(cast, INT4 if days else INTERVAL)
    moment = left.oid if categories == "DT" else right.oid
    return Bound(f"({left.sql} {operator} {right.sql})", TIMESTAMP if moment == DATE else moment)


def _date_shift(left: Bound, right: Bound, operator: str) -> Bound:
    if left.oid == DATE and right.oid in (INT4, INT8) and operator in "+-":
        return Bound(f"({left.sql} {operator} {right.sql})", DATE)
    names = f"{type_of(left.oid).sql_name} {operator} {type_of(right.oid).sql_name}"
    raise Refusal("42883", f"operator does not exist: {names}")


def _whole_row(columns: tuple[OutputColumn, ...], engine_alias: str) -> Bound:
    if len(columns) == 1:
        only = columns[0]
        return Bound(f"{engine_alias}.{identifier(only.engine_name)}", only.oid, fields=only.fields)
    fields = tuple((column.name, column.oid) for column in columns)
    packed = ", ".join(f"{identifier(c.name)} := {engine_alias}.{identifier(c.engine_name)}" for c in columns)
    return Bound(f"struct_pack({packed})", RECORD, fields=fields)


_Handler = Callable[[Expressions, exp.Expr, Scope], Bound]
_HANDLERS: Final[dict[type[exp.Expr], _Handler]] = {
    exp.Column: Expressions.column,
    exp.Parameter: Expressions._placeholder,
    exp.Placeholder: Expressions._placeholder,
    exp.Literal: Expressions._literal,
    exp.ByteString: Expressions._literal,
    exp.UnicodeString: Expressions._literal,
    exp.National: Expressions._literal,
    exp.Null: Expressions._null,
    exp.Boolean: Expressions._boolean,
    exp.Interval: Expressions._interval,
    exp.Paren: Expressions._paren,
    exp.Alias: Expressions._alias,
    exp.Collate: Expressions._collate,
    exp.Cast: Expressions._cast,
    exp.Dot: Expressions._dot,
    exp.Subquery: Expressions._subquery,
    exp.Select: Expressions._subquery,
    exp.Union: Expressions._subquery,
    exp.Exists: Expressions._exists,
    exp.Array: Expressions._array,
    exp.Bracket: Expressions._bracket,
    exp.Tuple: Expressions._tuple,
    exp.And: Expressions.bind_connector,
    exp.Or: Expressions.bind_connector,
    exp.Not: Expressions.bind_not,
    exp.Is: Expressions.bind_is,
    exp.In: Expressions.bind_in,
    exp.Between: Expressions.bind_between,
    exp.Like: Expressions.bind_like,
    exp.ILike: Expressions.bind_like,
    exp.Escape: Expressions.bind_escape,
    exp.RegexpLike: Expressions.bind_regex,
    exp.RegexpILike: Expressions.bind_regex,
    exp.Operator: Expressions.bind_operator,
    exp.Neg: Expressions._neg,
    exp.DPipe: Expressions._concat,
    exp.Case: Expressions._case,
    exp.Coalesce: Expressions._coalesce,
    exp.Greatest: Expressions._coalesce,
    exp.Least: Expressions._coalesce,
    exp.Nullif: Expressions._nullif,
    exp.Extract: Expressions._extract,
    exp.TimestampTrunc: Expressions._truncate,
    exp.Filter: Expressions._filter,
    exp.Window: Expressions._window,
    **dict.fromkeys(COMPARISONS, Expressions.bind_comparison),
    **dict.fromkeys(_ARITHMETIC, Expressions._arithmetic),
}
