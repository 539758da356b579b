"""functions: the operators of a plan. Each maps terms to a term, total: no row can make one fail.

`OPERATORS` is the allow-list. An entry derives type, range and NULLs of its result and writes the engine's SQL
in one step, so that what is proven and what runs cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from policies.sqltype import (
    BOOLEAN,
    INTEGER,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
)
from rewriter.arithmetic import (
    absolute,
    add,
    any_null,
    divide,
    modulo,
    multiply,
    negate,
    no_operator,
    number_type,
    same_numbers,
)
from rewriter.casts import cast
from rewriter.moments import FIELDS, TRUNCATIONS, Operator, date_trunc, extract
from rewriter.plan import Call, Cast, Column, Constant, Expression
from rewriter.refusal import Refusal
from rewriter.terms import (
    Term,
    constant,
    exact,
    widen,
)

SQL_MAX: Final = 2**21  # characters of one expression; an IN list of 20,000 entries has some 800,000
LIST_MAX: Final = 20_000  # entries of an IN list; a BI tool's filter widget sends up to 10,000


def evaluate(expression: Expression, column: Callable[[Column], Term]) -> Term:
    """Compile an expression; `column` gives the term of a column reference.

    Raises:
        Refusal: an operator is not on the list, or does not take arguments of these types (42883).
    """
    match expression:
        case Column():
            return column(expression)
        case Constant():
            return constant(expression)
        case Cast(argument, type_):
            return _bounded(cast(evaluate(argument, column), type_))
        case Call(name, arguments):
            operator = OPERATORS.get(name)
            if operator is None:
                raise Refusal("42883", f"function {name} does not exist")
            least, most = ARITY.get(name, (1, LIST_MAX))
            if name == "in" and len(arguments) > LIST_MAX:
                raise Refusal("54000", f"IN list has more than {LIST_MAX} entries", hint="Join with a public table.")
            if not least <= len(arguments) <= most:
                raise Refusal("42883", f"function {name} does not take {len(arguments)} arguments")
            _check_constants(name, arguments)
            return _bounded(operator([evaluate(argument, column) for argument in arguments]))


def _bounded(term: Term) -> Term:
    """Refuse what has grown too long: some operators write an argument twice, so nesting doubles the text."""
    if len(term.sql) > SQL_MAX:
        raise Refusal("54001", "expression is too complex", hint="Nest fewer divisions, casts and CASEs.")
    return term


def _check_constants(name: str, arguments: Sequence[Expression]) -> None:
    """Arguments that the engine reads once, or fails on at some rows only, are constants of a known form."""
    if name in ("like", "ilike"):
        match arguments:
            case (_, Constant(_, pattern), Constant(_, str() as escape)):
                _check_pattern(pattern or "", escape, folded=name == "ilike")
            case _:
                raise Refusal("0A000", "LIKE needs a constant pattern", hint="Write the pattern as a literal.")
    if name == "date_trunc":
        match arguments:
            case (Constant(_, unit), _) if unit in TRUNCATIONS:
                return
            case _:
                raise Refusal("22023", "date_trunc needs a known unit", hint=f"One of {', '.join(TRUNCATIONS)}.")


def _check_pattern(pattern: str, escape: str, *, folded: bool) -> None:
    """The engine raises at the rows that reach a bad escape, and ILIKE folds the pattern before it looks for it."""
    if len(escape) > 1 or not escape.isascii() or (folded and escape.isalpha()):
        raise Refusal("22025", "invalid escape string", hint="Escape with one ASCII character, no letter for ILIKE.")
    trailing = len(pattern) - len(pattern.rstrip(escape)) if escape else 0
    if trailing % 2 == 1:
        raise Refusal("22025", "LIKE pattern must not end with escape character")


def _compare(sign: str) -> Operator:
    def compare(terms: Sequence[Term]) -> Term:
        left, right = _comparable(sign, terms)
        return Term(f"({left.sql} {sign} {right.sql})", BOOLEAN, any_null(terms))

    return compare


def _comparable(sign: str, terms: Sequence[Term]) -> Sequence[Term]:
    """Bring the sides of a comparison to one engine type, or refuse as Postgres does (42883)."""
    types = [term.type for term in terms]
    if all(type_.is_numeric for type_ in types):
        aligned, is_exact = same_numbers(terms)
        if not is_exact:
            return aligned
        width = max(term.width for term in aligned)
        return [replace(term, sql=widen(term, width), width=width) for term in aligned]
    if all(type_.is_text for type_ in types) or len({type_.name for type_ in types}) == 1:
        return terms
    if all(type_.is_temporal for type_ in types):
        return [cast(term, TIMESTAMP) for term in terms]
    raise no_operator(sign, terms)


def _connect(word: str) -> Operator:
    def connect(terms: Sequence[Term]) -> Term:
        for term in terms:
            if term.type != BOOLEAN:
                raise Refusal("42804", f"argument of {word} must be type boolean, not type {term.type}")
        return Term("(" + f" {word} ".join(term.sql for term in terms) + ")", BOOLEAN, any_null(terms))

    return connect


def _not(terms: Sequence[Term]) -> Term:
    if len(terms) != 1 or terms[0].type != BOOLEAN:
        raise Refusal("42804", f"argument of NOT must be type boolean, not type {terms[0].type}")
    return Term(f"(NOT {terms[0].sql})", BOOLEAN, terms[0].nullable)


def _is_null(terms: Sequence[Term]) -> Term:
    return Term(f"({terms[0].sql} IS NULL)", BOOLEAN, False)


def _is_true(terms: Sequence[Term]) -> Term:
    if terms[0].type != BOOLEAN:
        raise Refusal("42804", f"argument of IS TRUE must be type boolean, not type {terms[0].type}")
    return Term(f"({terms[0].sql} IS TRUE)", BOOLEAN, False)


def _in(terms: Sequence[Term]) -> Term:
    value, *members = _comparable("=", terms)
    return Term(f"({value.sql} IN ({', '.join(m.sql for m in members)}))", BOOLEAN, any_null(terms))


def _like(keyword: str) -> Operator:
    def like(terms: Sequence[Term]) -> Term:
        value, pattern, escape = terms
        if not (value.type.is_text and pattern.type.is_text):
            raise no_operator(keyword, terms[:2])
        sql = f"({value.sql} {keyword} {pattern.sql} ESCAPE {escape.sql})"
        return Term(sql, BOOLEAN, value.nullable or pattern.nullable)

    return like


def _case(terms: Sequence[Term]) -> Term:
    """`CASE WHEN c1 THEN v1 ... ELSE e END` over c1, v1, ..., e; a missing ELSE arrives as NULL."""
    if len(terms) % 2 == 0:
        raise Refusal("42883", f"function case does not take {len(terms)} arguments")
    conditions, values = terms[:-1:2], [*terms[1:-1:2], terms[-1]]
    if any(condition.type != BOOLEAN for condition in conditions):
        raise Refusal("42804", "argument of CASE/WHEN must be type boolean")
    merged = _merge("CASE", values)
    whens = " ".join(f"WHEN {c.sql} THEN {v.sql}" for c, v in zip(conditions, merged, strict=False))
    return _union(f"(CASE {whens} ELSE {merged[-1].sql} END)", merged, any(v.nullable for v in values))


def _coalesce(terms: Sequence[Term]) -> Term:
    merged = _merge("COALESCE", terms)
    sql = f"coalesce({', '.join(term.sql for term in merged)})"
    return _union(sql, merged, all(term.nullable for term in terms))


def _nullif(terms: Sequence[Term]) -> Term:
    left, right = _comparable("=", terms)
    sql = f"(CASE WHEN {left.sql} = {right.sql} THEN NULL ELSE {terms[0].sql} END)"
    return replace(terms[0], sql=sql, nullable=True)


def _merge(construct: str, terms: Sequence[Term]) -> Sequence[Term]:
    """One type for the branches of a construct (Postgres docs, UNION, CASE, and Related Constructs)."""
    types = [term.type for term in terms]
    if all(type_.is_numeric for type_ in types):
        type_ = number_type(terms)
        aligned, is_exact = same_numbers(terms)
        width = max(term.width for term in aligned)
        return [replace(t, type=type_, sql=widen(t, width) if is_exact else t.sql, width=width) for t in aligned]
    if all(type_.is_text for type_ in types):
        return [replace(term, type=TEXT) for term in terms]
    if len({type_.name for type_ in types}) == 1:
        return terms
    if all(type_.is_temporal for type_ in types):
        target = TIMESTAMPTZ if TIMESTAMPTZ in types else TIMESTAMP
        return [cast(term, target) for term in terms]
    raise Refusal("42804", f"{construct} types {types[0]} and {types[-1]} cannot be matched")


def _union(sql: str, terms: Sequence[Term], nullable: bool) -> Term:
    lows, highs = [term.low for term in terms], [term.high for term in terms]
    low = None if None in lows else min(value for value in lows if value is not None)
    high = None if None in highs else max(value for value in highs if value is not None)
    return replace(terms[0], sql=sql, nullable=nullable, low=low, high=high)


def _text_function(form: str) -> Operator:
    def function(terms: Sequence[Term]) -> Term:
        if not all(term.type.is_text for term in terms):
            raise no_operator(form.split("(")[0], terms)
        return Term(form.format(*(term.sql for term in terms)), TEXT, any_null(terms))

    return function


def _length(terms: Sequence[Term]) -> Term:
    if not terms[0].type.is_text:
        raise no_operator("length", terms)
    top = Fraction(2**30)
    return exact(f"length({terms[0].sql})", INTEGER, terms[0].nullable, 0, Fraction(0), top, 64)


OPERATORS: Final[dict[str, Operator]] = {
    "+": lambda terms: add(terms, "+"),
    "-": lambda terms: add(terms, "-"),
    "*": multiply,
    "/": divide,
    "%": modulo,
    "negate": negate,
    "abs": absolute,
    "=": _compare("="),
    "<>": _compare("<>"),
    "<": _compare("<"),
    "<=": _compare("<="),
    ">": _compare(">"),
    ">=": _compare(">="),
    "and": _connect("AND"),
    "or": _connect("OR"),
    "not": _not,
    "is null": _is_null,
    "is true": _is_true,
    "in": _in,
    "like": _like("LIKE"),
    "ilike": _like("ILIKE"),
    "case": _case,
    "coalesce": _coalesce,
    "nullif": _nullif,
    "date_trunc": date_trunc,
    **{f"extract {field}": extract(field) for field in FIELDS},
    "lower": _text_function("lower({0})"),
    "upper": _text_function("upper({0})"),
    "length": _length,
}
_TWO: Final = ("+", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "nullif", "date_trunc")
_ONE: Final = (
    "negate",
    "abs",
    "not",
    "is null",
    "is true",
    "lower",
    "upper",
    "length",
    *map("extract {}".format, FIELDS),
)
ARITY: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(_ONE, (1, 1)),
    **dict.fromkeys((*_TWO, "-"), (2, 2)),
    **dict.fromkeys(("like", "ilike"), (3, 3)),
    "in": (2, LIST_MAX + 1),
    "case": (3, LIST_MAX),
}
"""Least and most arguments of an operator; one or more where it is not said. Only a forged plan has others."""
