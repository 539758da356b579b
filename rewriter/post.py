"""post: what may be done with released and public rows: allowed constructs, Postgres' result types and names.

Above a release anything is private (post-processing), so the allow-list here keeps the public worker safe and the
answers Postgres-like; it protects no one's rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sqlglot import exp

from policies import sqltype
from policies.sqltype import BIGINT, BOOLEAN, DOUBLE, INTEGER, NUMERIC, TEXT, SqlType
from rewriter.parse import PARAMETER, folded, function_name, position
from rewriter.refusal import Refusal

ColumnType = Callable[[exp.Column], SqlType | None]

_ALLOWED: Final = (
    exp.Select, exp.Subquery, exp.SetOperation, exp.With, exp.CTE, exp.From, exp.Join, exp.Table, exp.TableAlias,
    exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Fetch, exp.Distinct,
    exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Tuple,
    exp.Var, exp.DataType, exp.DataTypeParam, exp.Values, exp.And, exp.Or, exp.Not, exp.Neg, exp.In, exp.EQ, exp.NEQ,
    exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv,
    exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot, exp.BitwiseLeftShift, exp.BitwiseRightShift,
    exp.Between, exp.Is, exp.Like, exp.ILike, exp.Escape, exp.Case, exp.If, exp.Cast, exp.Interval, exp.Window,
    exp.WindowSpec, exp.Exists, exp.Any, exp.All, exp.Filter, exp.WithinGroup, exp.GroupingSets, exp.Rollup, exp.Cube,
    exp.IgnoreNulls, exp.RespectNulls,
)  # fmt: skip
_FUNCTIONS: Final = (
    exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance,
    exp.VariancePop, exp.Median, exp.PercentileCont, exp.PercentileDisc, exp.RowNumber, exp.Rank, exp.DenseRank,
    exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.PercentRank, exp.CumeDist,
    exp.Abs, exp.Round, exp.Ceil, exp.Floor, exp.Trunc, exp.Sign, exp.Sqrt, exp.Exp, exp.Ln, exp.Log, exp.Pow,
    exp.Mod, exp.Greatest, exp.Least, exp.Coalesce, exp.Nullif, exp.Lower, exp.Upper, exp.Length, exp.Trim,
    exp.Substring, exp.Left, exp.Right, exp.Concat, exp.ConcatWs, exp.DPipe, exp.Replace, exp.StrPosition,
    exp.SplitPart, exp.Initcap, exp.TimestampTrunc, exp.DateTrunc, exp.Extract, exp.CurrentDate,
    exp.CurrentTimestamp, exp.Case, exp.Cast, exp.If, exp.Exists, exp.Any, exp.And, exp.Or, exp.Grouping,
    exp.GroupConcat,
)  # fmt: skip
_TYPES: Final = frozenset(
    exp.DType[name]
    for name in (
        "BOOLEAN", "SMALLINT", "INT", "BIGINT", "DECIMAL", "FLOAT", "DOUBLE", "TEXT", "VARCHAR", "CHAR", "NAME",
        "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL",
    )
)  # fmt: skip
_WORDS: Final = re.compile(r"[A-Za-z0-9_]*(?: [A-Za-z]+)*")
_DIGITS_SHOWN: Final = 38  # of a numeric, behind the point
_NUMBER: Final = re.compile(r"[0-9.]+(?:[eE][+-]?[0-9]+)?")


def check(tree: exp.Expr) -> None:
    """Refuse every construct that is not on the list (0A000, 42883, 42601)."""
    for node in tree.walk():
        if isinstance(node, exp.Anonymous):
            raise Refusal("42883", f"function {str(node.this).lower()} does not exist", position=position(node))
        if isinstance(node, exp.Func) and not isinstance(node, _FUNCTIONS):
            name = function_name(node)
            raise Refusal("0A000", f"function {name} is not supported", position=position(node))
        if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Anonymous):
            continue  # a function of some schema: refused by its own name, above
        if not isinstance(node, _ALLOWED + _FUNCTIONS):
            raise Refusal("0A000", f"{type(node).__name__.upper()} is not supported", position=position(node))
        if node.args.get("locks") or node.args.get("into"):
            raise Refusal("25006", "cannot execute SELECT ... INTO or FOR UPDATE in a read-only transaction")
        _check_arguments(node)


def _check_arguments(node: exp.Expr) -> None:
    """Refuse what a node of the list may not carry.

    sqlglot keeps some words of a statement as texts and writes them as they were, even where they came in quotes:
    `EXTRACT("year FROM x); DROP TABLE t; --" FROM x)`. Only what reads as words again may pass.
    """
    if isinstance(node, exp.DataType) and (node.this not in _TYPES or node.args.get("nested")):
        raise Refusal("0A000", "a cast to this type is not supported", position=position(node))
    if isinstance(node, exp.Identifier) or (isinstance(node, exp.Literal) and node.is_string):
        return  # written with quotes around them, and theirs doubled
    form = _NUMBER if isinstance(node, exp.Literal) else _WORDS
    for value in node.args.values():
        if isinstance(value, str) and not form.fullmatch(value):
            raise Refusal("42601", "syntax error in a keyword", position=position(node))


def integer_division(tree: exp.Expr, column: ColumnType) -> exp.Expr:
    """Postgres divides integers to an integer; the engine's `/` never does. By zero both sides give NULL here."""

    def divide(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Div):
            return node
        types = [type_of(side, column) for side in (node.this, node.expression)]
        if all(type_ is not None and type_.is_integer for type_ in types):
            return exp.IntDiv(this=divided(node.this), expression=divided(node.expression))
        if isinstance(node.expression, exp.Nullif) or _is_not_zero(node.expression):
            return node
        quotient = node.copy()  # by a floating zero the engine gives an infinity
        quotient.set("this", divided(node.this))
        quotient.set("expression", exp.Nullif(this=divided(node.expression), expression=exp.Literal.number(0)))
        return quotient

    def divided(node: exp.Expr) -> exp.Expr:
        return node.copy().transform(divide)

    return tree.transform(divide)


def type_of(node: exp.Expr, column: ColumnType) -> SqlType | None:
    """The Postgres type of an expression over released rows; None leaves it to the engine."""
    match node:
        case exp.Column():
            return None if is_parameter(node) else column(node)
        case exp.Literal():
            return _literal_type(node)
        case exp.Boolean() | exp.Predicate() | exp.Connector() | exp.Not():
            return BOOLEAN
        case exp.Cast():
            return _named(node.args["to"])
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div() | exp.Mod() | exp.IntDiv():
            return _computed(node, column)
        case exp.Count() | exp.RowNumber() | exp.Rank() | exp.DenseRank():
            return BIGINT
        case exp.Ntile() | exp.Grouping():
            return INTEGER
        case exp.Sum():
            return sum_type(type_of(node.this, column))
        case exp.Avg():
            return mean_type(type_of(node.this, column))
        case exp.Lower() | exp.Upper() | exp.Concat() | exp.DPipe() | exp.Trim() | exp.Substring():
            return TEXT
        case exp.GroupConcat():
            return TEXT
        case exp.Length() | exp.StrPosition():
            return INTEGER
        case exp.Round() | exp.Ceil() | exp.Floor() | exp.Trunc():
            return _rounded(node, column)
        case exp.Sqrt() | exp.Exp() | exp.Ln() | exp.Log() | exp.Pow() | exp.Sign():
            return _inexact(type_of(node.this, column))
        case exp.Stddev() | exp.StddevPop() | exp.StddevSamp() | exp.Variance() | exp.VariancePop():
            return mean_type(type_of(node.this, column))
        case exp.Case():
            branches = [branch.args["true"] for branch in node.args["ifs"]]
            return _first([*branches, node.args.get("default")], column)
        case exp.Coalesce() | exp.Greatest() | exp.Least():
            return _first([node.this, *node.expressions], column)
        case exp.Paren() | exp.Neg() | exp.Abs() | exp.Alias() | exp.Nullif() | exp.Min() | exp.Max() | exp.Window():
            return type_of(node.this, column)
        case exp.Lag() | exp.Lead() | exp.FirstValue() | exp.LastValue() | exp.Filter():
            return type_of(node.this, column)
        case exp.TimestampTrunc() | exp.DateTrunc():
            inner = type_of(node.this, column)
            return sqltype.TIMESTAMP if inner == sqltype.TIMESTAMP else sqltype.TIMESTAMPTZ
        case exp.Extract():
            return NUMERIC
        case exp.Subquery():
            query = node.this
            return (
                type_of(query.expressions[0], column) if isinstance(query, exp.Select) and query.expressions else None
            )
        case _:
            return None


def sum_type(argument: SqlType | None) -> SqlType | None:
    """Postgres' type of sum(argument) (docs, 9.21)."""
    if argument is None or argument.is_floating:
        return argument
    if argument in (INTEGER, sqltype.SMALLINT):
        return BIGINT
    return SqlType("numeric", None, argument.scale or 0) if argument.is_numeric else argument


def mean_type(argument: SqlType | None) -> SqlType | None:
    """Postgres' type of avg(argument)."""
    return DOUBLE if argument is not None and argument.is_floating else NUMERIC


def output_name(node: exp.Expr) -> str:
    """The name Postgres gives an output column (its FigureColname)."""
    match node:
        case exp.Alias():
            return folded(node.args["alias"])
        case exp.Column():
            return folded(node.this)
        case exp.Paren() | exp.Window() | exp.Filter() | exp.WithinGroup():
            return output_name(node.this)
        case exp.Cast():
            inner = output_name(node.this)
            return inner if inner != "?column?" else _cast_name(node.args["to"])
        case exp.Case():
            default = node.args.get("default")
            inner = output_name(default) if isinstance(default, exp.Column) else "?column?"
            return inner if inner != "?column?" else "case"
        case exp.TimestampTrunc() | exp.DateTrunc():
            return "date_trunc"
        case exp.Dot():
            return output_name(node.expression)
        case exp.Anonymous():
            return str(node.this).lower()
        case exp.GroupConcat():
            return "string_agg"
        case exp.StrPosition():
            return "strpos"
        case exp.Trim():
            return {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(
                str(node.args.get("position") or "").upper(), "btrim"
            )
        case exp.Boolean():
            return "?column?"
        case exp.Exists():
            return "exists"
        case exp.Subquery():
            query = node.this
            return output_name(query.expressions[0]) if isinstance(query, exp.Select) else "?column?"
        case exp.Func() if not isinstance(node, exp.Binary | exp.Connector):
            name = function_name(node)
            return {"ceiling": "ceil", "variance_pop": "var_pop"}.get(name, name)
        case _:
            return "?column?"


def is_parameter(node: exp.Expr) -> bool:
    """True for the stand-in of `$n`."""
    return (
        isinstance(node, exp.Column) and bool(node.this.args.get("quoted")) and bool(PARAMETER.fullmatch(node.name))
    )


def _literal_type(node: exp.Literal) -> SqlType | None:
    if node.args.get("is_string"):
        return TEXT
    text = str(node.this)
    if not text.isdigit():
        return NUMERIC
    return INTEGER if int(text) < 2**31 else BIGINT if int(text) < 2**63 else NUMERIC


def _is_not_zero(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and float(node.this) != 0


def _computed(node: exp.Expr, column: ColumnType) -> SqlType | None:
    """The type of an operator's result; an operand whose type only the engine knows decides nothing here."""
    left, right = (type_of(side, column) for side in (node.this, node.expression))
    if isinstance(node, exp.Add | exp.Sub) and sqltype.DATE in (left, right):
        if left == right:
            return INTEGER if isinstance(node, exp.Sub) else None
        return sqltype.DATE if any(t is not None and t.is_integer for t in (left, right)) else None
    for side, type_ in ((node.this, left), (node.expression, right)):
        if type_ is None and not is_parameter(side) and not isinstance(side, exp.Null):
            return None
    return _arithmetic(left, right)


def _rounded(node: exp.Expr, column: ColumnType) -> SqlType | None:
    """Postgres has round(double) and round(numeric): integers take the first, unless digits are asked for."""
    inner = type_of(node.this, column)
    digits = node.args.get("decimals")
    if inner is None or not inner.is_numeric:
        return None
    if inner.is_floating or (inner.is_integer and digits is None):
        return DOUBLE
    if digits is None:
        return SqlType("numeric", None, 0)
    known = isinstance(digits, exp.Literal) and str(digits.this).isdigit()
    return SqlType("numeric", None, min(int(digits.this), _DIGITS_SHOWN)) if known else NUMERIC


def _inexact(argument: SqlType | None) -> SqlType | None:
    """Roots and logarithms: a numeric of a numeric, a double of everything else that is a number."""
    if argument is None or not argument.is_numeric:
        return None
    return NUMERIC if argument.name == "numeric" else DOUBLE


def _arithmetic(left: SqlType | None, right: SqlType | None) -> SqlType | None:
    known = [type_ for type_ in (left, right) if type_ is not None]
    if not known or not all(type_.is_numeric for type_ in known):
        return None
    if any(type_.is_floating for type_ in known):
        return DOUBLE
    if any(type_.name == "numeric" for type_ in known):
        return NUMERIC
    return BIGINT if BIGINT in known else INTEGER


def common(left: SqlType | None, right: SqlType | None) -> SqlType | None:
    """The type of a column of a set operation; None leaves it to the engine."""
    if left == right:
        return left
    if left is not None and right is not None and left.is_numeric and right.is_numeric:
        return _arithmetic(left, right)
    return None


def _first(nodes: list[exp.Expr | None], column: ColumnType) -> SqlType | None:
    found = [type_of(node, column) for node in nodes if node is not None and not isinstance(node, exp.Null)]
    known = [type_ for type_ in found if type_ is not None]
    if known and all(type_.is_numeric for type_ in known):
        widest = known[0]
        for type_ in known[1:]:
            widest = _arithmetic(widest, type_) or widest
        return widest
    return known[0] if known else None


def _named(node: exp.Expr) -> SqlType | None:
    name = node.sql(dialect="postgres").lower()
    try:
        return NUMERIC if name in ("numeric", "decimal") else sqltype.parse(name)
    except ValueError:
        return None


def _cast_name(node: exp.Expr) -> str:
    """A cast names its column after the type's internal name."""
    type_ = _named(node)
    internal = {"integer": "int4", "bigint": "int8", "smallint": "int2", "double precision": "float8"}
    internal |= {"boolean": "bool", "real": "float4", "char": "bpchar"}
    return "?column?" if type_ is None else internal.get(type_.name, type_.name)
