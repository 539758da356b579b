"""resolve: sqlglot's tree of an expression -> a plan's expression, with names and types as Postgres finds them.

Everything not named here is refused: nothing is allowed by falling through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from sqlglot import exp

from policies import sqltype
from policies.sqltype import BIGINT, BOOLEAN, INTEGER, NUMERIC, TEXT, SqlType
from rewriter import terms
from rewriter.bound import Scope
from rewriter.moments import FIELDS, TRUNCATIONS
from rewriter.parse import PARAMETER, folded, function_name, position
from rewriter.plan import Call, Cast, Column, Constant, Expression
from rewriter.refusal import Refusal

UNKNOWN: Final = "unknown"
"""The type name of a text literal or parameter until its surroundings say more (Postgres docs, 10.2)."""

OIDS: Final[dict[int, SqlType]] = {
    16: BOOLEAN,
    20: BIGINT,
    21: sqltype.SMALLINT,
    23: INTEGER,
    700: SqlType("real"),
    701: sqltype.DOUBLE,
    1700: NUMERIC,
    25: TEXT,
    1043: SqlType("varchar"),
    1042: SqlType("char"),
    19: TEXT,
    1082: sqltype.DATE,
    1114: sqltype.TIMESTAMP,
    1184: sqltype.TIMESTAMPTZ,
}


@dataclass(slots=True)
class Parameters:
    """Values bound to `$n`, and the types that their surroundings give them (for Describe)."""

    values: Sequence[tuple[int, str | None]]
    types: dict[int, SqlType] = field(default_factory=dict)

    def constant(self, number: int) -> Constant:
        """The constant of `$number`; open types stay unknown and remember the number as their precision."""
        oid, value = self.values[number - 1] if number <= len(self.values) else (0, None)
        known = OIDS.get(oid)
        if known is None:
            return Constant(SqlType(UNKNOWN, number), value)
        self.types[number] = known
        return _constant(known, value)

    def settle(self, constant: Constant, type_: SqlType) -> Constant:
        """Give an unknown constant its type."""
        if constant.type.precision is not None:
            self.types.setdefault(constant.type.precision, type_)
        return _constant(type_, constant.value)


@dataclass(frozen=True, slots=True)
class Source:
    """A table of FROM: the name it has in the query, and its scan's alias and columns."""

    name: str
    alias: str
    columns: Sequence[str]


class Resolver:
    """Resolves expressions over the tables of one FROM."""

    def __init__(self, sources: Sequence[Source], scope: Scope, parameters: Parameters) -> None:
        """Take the tables in order; `scope` types their columns."""
        self._sources = sources
        self.scope = scope
        self._parameters = parameters
        self.merged: dict[str, Column] = {}

    def resolve(self, node: exp.Expr) -> Expression:
        """Resolve an expression; a literal of unknown type becomes text."""
        return self._settled(self._any(node), TEXT)

    def condition(self, node: exp.Expr) -> Expression:
        """Resolve a boolean expression.

        Raises:
            Refusal: 42804, it is not boolean.
        """
        found = self._settled(self._any(node), BOOLEAN)
        type_ = self.type_of(found)
        if type_ != BOOLEAN:
            raise Refusal(
                "42804", f"argument of WHERE must be type boolean, not type {type_}", position=position(node)
            )
        return found

    def type_of(self, expression: Expression) -> SqlType:
        """The Postgres type of a resolved expression."""
        return self.scope.term(expression).type

    def column(self, node: exp.Column) -> Column:
        """Find a column by its name.

        Raises:
            Refusal: 42703 or 42P01 no such column or table, 42702 ambiguous.
        """
        name, table = folded(node.this), node.args.get("table")
        at = position(node)
        if table is not None:
            wanted = folded(table)
            source = next((s for s in self._sources if s.name == wanted), None)
            if source is None:
                raise Refusal("42P01", f'missing FROM-clause entry for table "{wanted}"', position=at)
            if name not in source.columns:
                raise Refusal("42703", f"column {wanted}.{name} does not exist", position=at)
            return Column(source.alias, name)
        if name in self.merged:
            return self.merged[name]
        found = [source for source in self._sources if name in source.columns]
        if not found:
            raise Refusal("42703", f'column "{name}" does not exist', hint=self._similar(name), position=at)
        if len(found) > 1:
            raise Refusal("42702", f'column reference "{name}" is ambiguous', position=at)
        return Column(found[0].alias, name)

    def _similar(self, name: str) -> str:
        columns = [column for source in self._sources for column in source.columns]
        near = [column for column in columns if column.startswith(name[:3])] or columns
        return f"Columns here: {', '.join(near[:8])}."

    def _any(self, node: exp.Expr) -> Expression:
        handler = _HANDLERS.get(type(node))
        if handler is None:
            raise _unsupported(node)
        return handler(self, node)

    def _settled(self, expression: Expression, type_: SqlType) -> Expression:
        if isinstance(expression, Constant) and expression.type.name == UNKNOWN:
            return self._parameters.settle(expression, type_)
        return expression

    def _call(self, operator: str, *arguments: Expression) -> Expression:
        """A call whose types are checked now, so that the refusal knows nothing but the text and the policy."""
        call = Call(operator, tuple(self._settled(argument, TEXT) for argument in arguments))
        self.scope.term(call)
        return call

    def _alike(self, nodes: Sequence[exp.Expr]) -> list[Expression]:
        """Resolve operands; unknown ones take the type of the first known one."""
        found = [self._any(node) for node in nodes]
        known = [e for e in found if not (isinstance(e, Constant) and e.type.name == UNKNOWN)]
        type_ = self.type_of(known[0]) if known else TEXT
        if type_.name == "numeric":
            type_ = NUMERIC
        return [self._settled(expression, type_) for expression in found]

    def _literal(self, node: exp.Expr) -> Expression:
        text = str(node.this)
        if node.args.get("is_string"):
            return Constant(SqlType(UNKNOWN), text)
        if re.fullmatch(r"\d+", text):
            return Constant(_literal_type(int(text)), str(int(text)))
        return Constant(NUMERIC, _canonical(NUMERIC, text))

    def _column_or_parameter(self, node: exp.Expr) -> Expression:
        assert isinstance(node, exp.Column)
        match = PARAMETER.fullmatch(node.name) if node.this.args.get("quoted") else None
        return self._parameters.constant(int(match[1])) if match else self.column(node)

    def _binary(self, node: exp.Expr) -> Expression:
        return self._call(_BINARY[type(node)], *self._alike([node.this, node.expression]))

    def _paren(self, node: exp.Expr) -> Expression:
        return self._any(node.this)

    def _null(self, _node: exp.Expr) -> Expression:
        return Constant(SqlType(UNKNOWN), None)

    def _truth(self, node: exp.Expr) -> Expression:
        return Constant(BOOLEAN, "true" if node.this else "false")

    def _not(self, node: exp.Expr) -> Expression:
        return self._call("not", self.condition(node.this))

    def _negate(self, node: exp.Expr) -> Expression:
        negated = self._any(node.this)
        if isinstance(negated, Constant) and negated.type.is_numeric and negated.value is not None:
            opposite = negated.value[1:] if negated.value.startswith("-") else f"-{negated.value}"
            return Constant(negated.type, _canonical(negated.type, opposite))
        return self._call("negate", negated)

    def _connector(self, node: exp.Expr) -> Expression:
        word = "and" if isinstance(node, exp.And) else "or"
        parts = [self.condition(part) for part in node.flatten()]
        flat = [inner for part in parts for inner in _operands(word, part)]
        return self._call(word, *_sorted(flat))

    def _in(self, node: exp.Expr) -> Expression:
        if node.args.get("query") is not None or node.args.get("unnest") is not None:
            raise _unsupported(node)
        value, *members = self._alike([node.this, *node.expressions])
        return self._call("in", value, *_sorted(members))

    def _between(self, node: exp.Expr) -> Expression:
        value, low, high = self._alike([node.this, node.args["low"], node.args["high"]])
        if node.args.get("symmetric"):
            raise _unsupported(node)
        return self._call("and", *_sorted([self._call(">=", value, low), self._call("<=", value, high)]))

    def _is(self, node: exp.Expr) -> Expression:
        tested, what = self._any(node.this), node.expression
        found = self._is_what(tested, what, node)
        return self._call("not", found) if node.args.get("negate") else found

    def _is_what(self, tested: Expression, what: exp.Expr, node: exp.Expr) -> Expression:
        if isinstance(what, exp.Null):
            return self._call("is null", tested)
        if isinstance(what, exp.Boolean):
            tested = self._settled(tested, BOOLEAN)
            return self._call("is true", tested if what.this else self._call("not", tested))
        raise _unsupported(node)

    def _like(self, node: exp.Expr) -> Expression:
        escape = "\\"
        if isinstance(node, exp.Escape):
            escape, node = str(node.expression.this), node.this
        operator = "ilike" if isinstance(node, exp.ILike) else "like"
        value, pattern = self.resolve(node.this), self.resolve(node.expression)
        found = self._call(operator, value, pattern, Constant(TEXT, escape))
        return self._call("not", found) if node.args.get("negate") else found

    def _case(self, node: exp.Expr) -> Expression:
        conditions = []
        for branch in node.args["ifs"]:
            if node.this is None:
                conditions.append(self.condition(branch.this))
            else:
                conditions.append(self._call("=", *self._alike([node.this, branch.this])))
        default = node.args.get("default") or exp.Null()
        values = self._alike([*(branch.args["true"] for branch in node.args["ifs"]), default])
        arguments = [part for pair in zip(conditions, values, strict=False) for part in pair]
        return self._call("case", *arguments, values[-1])

    def _cast(self, node: exp.Expr) -> Expression:
        target = self.type_named(node.args["to"])
        argument = self._any(node.this)
        if isinstance(argument, Constant) and argument.type.name == UNKNOWN:
            settled = self._settled(argument, target)
            if isinstance(settled, Constant) and target.precision and target.is_text and settled.value is not None:
                return Constant(target, settled.value[: target.precision])  # only an explicit cast cuts
            return settled
        cast = Cast(argument, target)
        return argument if self.type_of(argument) == target else self._typed(cast)

    def _typed(self, expression: Expression) -> Expression:
        self.scope.term(expression)
        return expression

    def type_named(self, node: exp.Expr) -> SqlType:
        """The SqlType of a type name in a cast.

        Raises:
            Refusal: 0A000, no such type here.
        """
        name = node.sql(dialect="postgres").lower()
        try:
            return NUMERIC if name in ("numeric", "decimal") else sqltype.parse(name)
        except ValueError:
            raise Refusal("0A000", f"a cast to {name} is not supported over protected rows") from None

    def _date_trunc(self, node: exp.Expr) -> Expression:
        unit = str(node.args["unit"].name).lower()
        if unit not in TRUNCATIONS:
            raise Refusal("22023", f'unit "{unit}" not recognized for type timestamp without time zone')
        value = self._settled(self._any(node.this), sqltype.TIMESTAMP)
        return self._call("date_trunc", Constant(TEXT, unit), value)

    def _extract(self, node: exp.Expr) -> Expression:
        part = str(node.this.name).lower()
        if part not in FIELDS:
            raise Refusal("22023", f'unit "{part}" not recognized for type timestamp without time zone')
        return self._call(f"extract {part}", self._settled(self._any(node.expression), sqltype.TIMESTAMP))

    def _anonymous(self, node: exp.Expr) -> Expression:
        if str(node.this).lower() == "date_part" and len(node.expressions) == 2:
            part = str(node.expressions[0].name).lower()
            if part in FIELDS:
                value = self._settled(self._any(node.expressions[1]), sqltype.TIMESTAMP)
                return self._typed(Cast(self._call(f"extract {part}", value), sqltype.DOUBLE))
        raise _unsupported(node)

    def _function(self, node: exp.Expr) -> Expression:
        """A function of `_FUNCTIONS`; sqlglot keeps NULLIF's second argument apart."""
        second = [node.expression] if isinstance(node, exp.Nullif) else []
        return self._call(_FUNCTIONS[type(node)], *self._alike([node.this, *second, *node.expressions]))


def _constant(type_: SqlType, value: str | None) -> Constant:
    """A typed constant. A driver sends 3 as int2, int4, int8 or text as it likes: the question is the same one."""
    text = _canonical(type_, value)
    return Constant(_literal_type(int(text)) if type_.is_integer and text is not None else type_, text)


def _literal_type(value: int) -> SqlType:
    """The type of an integer literal (Postgres docs, 4.1.2.6)."""
    return INTEGER if abs(value) < 2**31 else BIGINT if abs(value) < 2**63 else NUMERIC


def _construct(node: exp.Expr) -> str:
    """How a refusal names a construct: as SQL writes it, without its arguments."""
    words = {exp.Subquery: "a subquery", exp.Select: "a subquery", exp.Exists: "EXISTS", exp.In: "IN (SELECT ...)"}
    if type(node) in words:
        return words[type(node)]
    if isinstance(node, exp.Func) and not isinstance(node, exp.Case | exp.Cast):
        return f"{function_name(node)}()"
    return type(node).__name__.upper()


def _unsupported(node: exp.Expr) -> Refusal:
    if isinstance(node, exp.AggFunc):
        return Refusal("42803", "aggregate functions are not allowed here", position=position(node))
    return Refusal(
        "0A000",
        f"{_construct(node)} is not supported over protected rows",
        hint="Use comparisons, AND/OR/NOT, IN, BETWEEN, IS NULL, LIKE, CASE, arithmetic, casts, date_trunc or "
        "extract; after aggregation any SQL is possible.",
        position=position(node),
    )


def _operands(word: str, condition: Expression) -> Sequence[Expression]:
    """The operands of a nested AND or OR, so that parentheses do not make another question."""
    return condition.arguments if isinstance(condition, Call) and condition.operator == word else (condition,)


def _sorted(expressions: Sequence[Expression]) -> list[Expression]:
    """One order for operands that commute, so that a question asked again the other way round is the same."""
    return sorted(expressions, key=repr)


def _canonical(type_: SqlType, value: str | None) -> str | None:
    """One text for equal constants; also checks that the text is of the type (22P02, 22007)."""
    if value is None or type_.is_text or type_.name == UNKNOWN:
        return value
    if type_ == BOOLEAN:
        return _boolean(value)
    if type_ == sqltype.DATE:
        return terms.parse_date(value[:10] if len(value) > 10 and value[10] in " T" else value).isoformat()
    if type_.is_temporal:
        return str(terms.parse_timestamp(value))
    terms.constant(Constant(type_, value))
    return repr(float(value)) if type_.is_floating else _number(value)


def _boolean(value: str) -> str:
    word = value.strip().lower()
    if word in ("t", "true", "y", "yes", "on", "1"):
        return "true"
    if word in ("f", "false", "n", "no", "off", "0"):
        return "false"
    raise Refusal("22P02", f'invalid input syntax for type boolean: "{value}"')


def _number(value: str) -> str:

    number = Decimal(value.strip())
    return format(number.normalize() if number else Decimal(0), "f")  # 1.50 and 1.5 are one constant


_BINARY: Final[Mapping[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
_FUNCTIONS: Final[Mapping[type[exp.Expr], str]] = {
    exp.Abs: "abs",
    exp.Nullif: "nullif",
    exp.Coalesce: "coalesce",
    exp.Lower: "lower",
    exp.Upper: "upper",
    exp.Length: "length",
}
_HANDLERS: Final[dict[type[exp.Expr], Callable[[Resolver, exp.Expr], Expression]]] = {
    exp.Literal: Resolver._literal,
    exp.Column: Resolver._column_or_parameter,
    exp.Paren: Resolver._paren,
    exp.Null: Resolver._null,
    exp.Boolean: Resolver._truth,
    exp.And: Resolver._connector,
    exp.Or: Resolver._connector,
    exp.Not: Resolver._not,
    exp.Neg: Resolver._negate,
    exp.In: Resolver._in,
    exp.Between: Resolver._between,
    exp.Is: Resolver._is,
    exp.Like: Resolver._like,
    exp.ILike: Resolver._like,
    exp.Escape: Resolver._like,
    exp.Case: Resolver._case,
    exp.Cast: Resolver._cast,
    exp.TimestampTrunc: Resolver._date_trunc,
    exp.DateTrunc: Resolver._date_trunc,
    exp.Extract: Resolver._extract,
    exp.Anonymous: Resolver._anonymous,
    **dict.fromkeys(_BINARY, Resolver._binary),
    **dict.fromkeys(_FUNCTIONS, Resolver._function),
}
