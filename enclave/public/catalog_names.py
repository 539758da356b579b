"""catalog_names: a select item -> the column name Postgres gives it, and a node -> its function's Postgres name."""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from enclave.public.catalog_parse import PARAMETER
from enclave.public.catalog_types import type_named

ANONYMOUS: Final = "?column?"
_NODE_NAMES: Final[dict[type[exp.Expr], str]] = {
    exp.ArrayAgg: "array_agg",
    exp.ArraySize: "array_length",
    exp.CurrentCatalog: "current_catalog",
    exp.CurrentVersion: "version",
    exp.Explode: "unnest",
    exp.ExplodingGenerateSeries: "generate_series",
    exp.Extract: "extract",
    exp.GenerateSeries: "generate_series",
    exp.GroupConcat: "string_agg",
    exp.JSONArrayAgg: "json_agg",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
    exp.MD5: "md5",
    exp.StrPosition: "strpos",
    exp.StrToTime: "to_timestamp",
    exp.TimeToStr: "to_char",
    exp.TimestampTrunc: "date_trunc",
}
_SYNONYMS: Final[dict[type[exp.Expr], tuple[str, ...]]] = {
    exp.Ceil: ("ceil", "ceiling"),
    exp.CurrentTimestamp: ("current_timestamp", "now"),
    exp.Length: ("length", "char_length", "character_length"),
    exp.Substring: ("substring", "substr"),
}


def function_name(node: exp.Expr) -> str:
    """The Postgres name of the function a node stands for, as typed where the parser kept it."""
    kept = node.meta.get("name")
    if isinstance(kept, str):
        return kept.lower()
    if type(node) in _SYNONYMS:
        # The parser keeps no name, but it keeps where the name stood.
        length = node.meta.get("end", -1) - node.meta.get("start", 0) + 1
        found = [name for name in _SYNONYMS[type(node)] if len(name) == length]
        return found[0] if found else _SYNONYMS[type(node)][0]
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower() if isinstance(node.this, str) else node.name.lower()
    if isinstance(node, exp.Trim):
        return {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or ""), "btrim")
    if type(node) in _NODE_NAMES:
        return _NODE_NAMES[type(node)]
    return node.sql_name().lower() if isinstance(node, exp.Func) else type(node).__name__.lower()


def fold(identifier: exp.Expr | str | None) -> str:
    """An identifier's name as Postgres folds it: lower case unless quoted."""
    if identifier is None or isinstance(identifier, str):
        return (identifier or "").lower()
    name = identifier.name
    return name if identifier.args.get("quoted") else name.lower()


def column_name(node: exp.Expr) -> str:
    """The name of an output column (Postgres, parse_target.c, FigureColname)."""
    if isinstance(node, exp.Alias):
        return fold(node.args["alias"])
    return _figure(node)[0] or ANONYMOUS


def _figure(node: exp.Expr) -> tuple[str, int]:
    """A name and how strong it is: 2 for a name of its own, 1 for a default that a cast's argument overrides."""
    match node:
        case exp.Alias():
            return fold(node.args["alias"]), 2
        case exp.Column():
            return ("", 0) if PARAMETER.fullmatch(node.name) else (fold(node.this), 2)
        case exp.Dot():
            return _dot(node)
        case exp.Cast():
            name, strength = _figure(node.this)
            return (name, strength) if strength > 1 else (cast_name(node.to), 1)
        case exp.Boolean():
            return "bool", 1  # TRUE is a cast of 't' in Postgres' grammar
        case exp.Interval():
            return "interval", 1
        case exp.Case():
            name, strength = _figure(node.args["default"]) if node.args.get("default") else ("", 0)
            return (name, strength) if strength > 1 else ("case", 1)
        case exp.Paren() | exp.Collate() | exp.Bracket() | exp.Filter() | exp.Window() | exp.AtTimeZone():
            return ("timezone", 2) if isinstance(node, exp.AtTimeZone) else _figure(node.this)
        case exp.Subquery() | exp.Select() | exp.SetOperation():
            return _subquery(node)
        case exp.Array() | exp.Exists() | exp.Coalesce() | exp.Nullif():
            return type(node).__name__.lower(), 2
        case exp.Anonymous() | exp.Func():
            return ("", 0) if isinstance(node, _OPERATORS) else (function_name(node), 2)
        case _:
            return "", 0


_OPERATORS: Final = (exp.Binary, exp.Unary, exp.Connector, exp.Predicate, exp.Any, exp.All)


def _dot(node: exp.Dot) -> tuple[str, int]:
    last = node.expression
    return (fold(last), 2) if isinstance(last, exp.Identifier) else _figure(last)


def _subquery(node: exp.Expr) -> tuple[str, int]:
    query = node
    while isinstance(query, exp.Subquery | exp.SetOperation):
        query = query.this
    return _figure(query.expressions[0]) if isinstance(query, exp.Select) and query.expressions else ("", 0)


def cast_name(target: exp.Expr) -> str:
    """The name of a cast's type as pg_type has it: `integer` gives int4."""
    text = target_name(target)
    kind = type_named(text)
    return (kind.name.removeprefix("_") if kind else text.removesuffix("[]")) or ANONYMOUS


def target_name(target: exp.Expr) -> str:
    """A cast's type as it can be looked up: lower case, without qualifier and modifiers, arrays with []."""
    if isinstance(target, exp.DataType) and target.this == exp.DataType.Type.ARRAY:
        return target_name(target.expressions[0]) + "[]" if target.expressions else "text[]"
    if isinstance(target, exp.DataType) and target.this == exp.DataType.Type.USERDEFINED:
        kind = target.args.get("kind")
        return _user_type(kind) if isinstance(kind, exp.Expr) else str(kind).lower()
    bare = target.copy()
    bare.set("expressions", [])
    return bare.sql("postgres").lower()


def _user_type(kind: exp.Expr) -> str:
    last = kind
    while isinstance(last, exp.Dot):
        last = last.expression
    quoted_char = isinstance(last, exp.Identifier) and last.args.get("quoted") and last.name == "char"
    return '"char"' if quoted_char else fold(last)
