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
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    NUMERIC,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
)
from rewriter.plan import Call, Cast, Column, Constant, Expression
from rewriter.refusal import Refusal
from rewriter.terms import (
    SCALE_MAX,
    WIDTHS,
    Term,
    constant,
    exact,
    floating,
    rescale,
    stored_type,
    stored_width,
    truth,
    type_range,
    widen,
    width_for,
)

Operator = Callable[[Sequence[Term]], Term]
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
            if not least <= len(arguments) <= most:
                raise Refusal("42883", f"function {name} does not take {len(arguments)} arguments")
            _check_constants(name, arguments)
            return _bounded(operator([evaluate(argument, column) for argument in arguments]))


def _bounded(term: Term) -> Term:
    """Refuse what has grown too long: some operators write an argument twice, so nesting doubles the text."""
    if len(term.sql) > SQL_MAX:
        raise Refusal("54001", "expression is too complex", hint="Nest fewer divisions, casts and CASEs.")
    return term


def equates_exactly(left: Term, right: Term) -> bool:
    """True if `left = right` can hold for one value of either side only, given the other.

    Comparing a whole number with a double, or numerics too wide for one scale, compares doubles: then one value
    equals many keys, and a join on a declared key meets several rows.
    """
    if not (left.type.is_numeric and right.type.is_numeric):
        return True
    return (left.scale is None and right.scale is None) or _same_numbers((left, right))[1]


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


def cast(term: Term, target: SqlType) -> Term:
    """`CAST(term AS target)`; a value that cannot be cast is NULL.

    Raises:
        Refusal: 42846, Postgres has no such cast or this engine none that is total.
    """
    source = term.type
    if source == target:
        return term
    if target.is_numeric and source.is_numeric:
        return _cast_number(term, target)
    if target.is_numeric and source == BOOLEAN and target == INTEGER:
        return exact(f"CAST({term.sql} AS INTEGER)", target, term.nullable, 0, Fraction(0), Fraction(1), 32)
    if target.is_text and source.is_text:
        return replace(term, sql=_as_text(term.sql, target), type=target)
    if target.is_text and (source.is_integer or source in (DATE, BOOLEAN)):
        return Term(_as_text(f"CAST({term.sql} AS VARCHAR)", target), target, term.nullable)
    if target.is_temporal and source.is_temporal:
        if stored_type(source) == stored_type(target):
            return replace(term, type=target)
        return Term(f"CAST({term.sql} AS {stored_type(target)})", target, term.nullable)
    if source.is_text and (target.is_integer or target in (DATE, TIMESTAMP, BOOLEAN) or target.is_floating):
        return _cast_text(term, target)
    raise Refusal("42846", f"cannot cast type {source} to {target}")


def _as_text(sql: str, target: SqlType) -> str:
    """Cut to the length of a varchar(n) or char(n); spaces at the end of a char(n) do not count."""
    cut = f"left({sql}, {target.precision})" if target.precision else sql
    return f"rtrim({cut})" if target.name == "char" else cut


def _cast_number(term: Term, target: SqlType) -> Term:
    """Rounds half away from zero from exact sources, half to even from floating ones, as Postgres does."""
    if target.is_floating:
        return replace(floating(term), type=target)
    if target == NUMERIC:
        return replace(term, type=target)
    scale = target.scale or 0
    if term.scale is not None and term.scale > scale:
        return _round_exact(term, scale, target)
    finer = None if term.scale is None else rescale(term, scale)
    if finer is not None:
        return _in_range(replace(finer, type=target))
    width = stored_width(target)
    number = floating(term).sql
    sql = f"TRY_CAST(round_even({number} * 1e{scale}, 0) AS {WIDTHS[width]})"
    low, high = Fraction(-(2 ** (width - 1)), 10**scale), Fraction(2 ** (width - 1) - 1, 10**scale)
    return _in_range(exact(sql, target, True, scale, low, high, width))


def _in_range(term: Term) -> Term:
    """NULL where an exact number is beyond its type: Postgres fails there, and that would tell of a row."""
    low, high = type_range(term.type)
    assert low is not None and high is not None and term.low is not None and term.high is not None  # noqa: PT018
    if low <= term.low and term.high <= high:
        return term
    least, most = (f"CAST({end * 10 ** (term.scale or 0)} AS HUGEINT)" for end in (low, high))
    sql = f"(CASE WHEN {term.sql} BETWEEN {least} AND {most} THEN {term.sql} END)"
    clip = (max(low, min(high, end)) for end in (term.low, term.high))
    return replace(term, sql=sql, nullable=True, low=next(clip), high=next(clip))


def _round_exact(term: Term, scale: int, target: SqlType) -> Term:
    assert term.scale is not None
    assert term.low is not None
    assert term.high is not None
    unit, step = 10 ** (term.scale - scale), Fraction(1, 10**scale)
    half, low, high = unit // 2, term.low - step, term.high + step
    width = width_for(term.scale, low, high)
    if width is None:
        return _cast_number(floating(term), target)
    width = max(width, term.width)
    sql = f"(({widen(term, width)} + (CASE WHEN {term.sql} < 0 THEN -{half} ELSE {half} END)) // {unit})"
    return _in_range(exact(sql, target, term.nullable, scale, low, high, width))


_WHOLE: Final = r"\s*[+-]?[0-9]+\s*"  # the engine alone would read '1.5', '1e3' and '0x1f' as integers too


def _cast_text(term: Term, target: SqlType) -> Term:
    sql = f"TRY_CAST({term.sql} AS {stored_type(target)})"
    if target.is_integer:
        whole = f"(CASE WHEN regexp_full_match({term.sql}, '{_WHOLE}') THEN {sql} END)"
        top, width = Fraction(2 ** (stored_width(target) - 1)), stored_width(target)
        return _in_range(exact(whole, target, True, 0, -top, top - 1, width))
    if target == BOOLEAN:
        sql = truth(term.sql)
    if target.is_temporal:  # the engine reads 'infinity', and years that overflow once cast to TIMESTAMP
        sql = f"(CASE WHEN {sql} BETWEEN '0001-01-01' AND '{_LAST[target.name]}' THEN {sql} END)"
    return Term(sql, target, True)


_LAST: Final = {"date": "9999-12-31", "timestamp": "9999-12-31 23:59:59.999999"}


def _same_numbers(terms: Sequence[Term]) -> tuple[list[Term], bool]:
    """Bring numbers to one form: exact at the finest scale where every one fits, else floating."""
    if all(term.scale is not None for term in terms):
        scale = max(term.scale or 0 for term in terms)
        finer = [rescale(term, scale) for term in terms]
        if all(term is not None for term in finer):
            return [term for term in finer if term is not None], True
    return [floating(term) for term in terms], False


def _number_type(terms: Sequence[Term]) -> SqlType:
    """Postgres' result type of arithmetic over these numbers."""
    if any(term.type.is_floating for term in terms):
        return DOUBLE
    if any(term.type.name == "numeric" for term in terms):
        return NUMERIC
    return BIGINT if any(term.type == BIGINT for term in terms) else INTEGER


def _numbers(name: str, terms: Sequence[Term], arity: int) -> None:
    if len(terms) != arity or not all(term.type.is_numeric for term in terms):
        raise _no_operator(name, terms)


def _no_operator(name: str, terms: Sequence[Term]) -> Refusal:
    types = ", ".join(str(term.type) for term in terms)
    return Refusal("42883", f"operator does not exist: {name} ({types})", hint="Add an explicit type cast.")


def _add(terms: Sequence[Term], sign: str) -> Term:
    if sign == "-" and len(terms) == 2 and all(term.type == DATE for term in terms):
        days = Fraction(20_000_000)
        return exact(f"({terms[0].sql} - {terms[1].sql})", INTEGER, _any_null(terms), 0, -days, days, 64)
    if len(terms) == 2 and terms[0].type == DATE and terms[1].type.is_integer:
        return _shift_date(terms[0], terms[1], sign)
    _numbers(sign, terms, 2)
    (left, right), is_exact = _same_numbers(terms)
    low = high = None
    if None not in (left.low, left.high, right.low, right.high):
        assert left.low is not None and right.low is not None and left.high is not None and right.high is not None  # noqa: PT018
        low = left.low + right.low if sign == "+" else left.low - right.high
        high = left.high + right.high if sign == "+" else left.high - right.low
    return _arithmetic(sign, left, right, is_exact, left.scale or 0, low, high, _number_type(terms))


def _shift_date(date: Term, days: Term, sign: str) -> Term:
    """A date moved by at most 100,000 days: fifty of these on end stay in the engine's range of timestamps."""
    moved = f"CAST(greatest(least({days.sql}, 100000), -100000) AS INTEGER)"
    sql = f"CASE WHEN {days.sql} IS NULL THEN NULL ELSE {date.sql} {sign} {moved} END"
    return Term(f"({sql})", DATE, _any_null((date, days)))


def _multiply(terms: Sequence[Term]) -> Term:
    _numbers("*", terms, 2)
    left, right = terms
    low = high = None
    if None not in (left.low, left.high, right.low, right.high):
        corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]  # type: ignore[operator]
        low, high = min(corners), max(corners)
    scale = (left.scale or 0) + (right.scale or 0)
    is_exact = left.scale is not None and right.scale is not None and scale <= SCALE_MAX
    if not is_exact:
        left, right = floating(left), floating(right)
    return _arithmetic("*", left, right, is_exact, scale, low, high, _number_type(terms))


def _arithmetic(
    sign: str,
    left: Term,
    right: Term,
    is_exact: bool,
    scale: int,
    low: Fraction | None,
    high: Fraction | None,
    type_: SqlType,
) -> Term:
    """Write `left sign right`, exact where an integer holds every possible result, else in DOUBLE."""
    nullable = left.nullable or right.nullable
    if is_exact and low is not None and high is not None:
        width = width_for(scale, low, high)
        if width is not None:
            width = max(width, left.width, right.width)
            sql = f"({widen(left, width)} {sign} {widen(right, width)})"
            return exact(sql, type_, nullable, scale, low, high, width)
    left, right = floating(left), floating(right)
    return Term(f"({left.sql} {sign} {right.sql})", type_, nullable, None, low, high)


def _divide(terms: Sequence[Term]) -> Term:
    """Postgres' `/`: integers truncate toward zero. By zero it is NULL: an error would tell of a row."""
    _numbers("/", terms, 2)
    left, right = terms
    if left.type.is_integer and right.type.is_integer and left.scale == 0 and right.scale == 0:
        magnitude = left.magnitude or Fraction(0)
        width = _roomy(left, right)
        sql = f"(CASE WHEN {right.sql} = 0 THEN NULL ELSE {widen(left, width)} // {widen(right, width)} END)"
        return exact(sql, _number_type(terms), True, 0, -magnitude, magnitude, width)
    a, b = floating(left), floating(right)
    sql = f"(CASE WHEN {b.sql} = 0 THEN NULL ELSE {a.sql} / {b.sql} END)"
    return Term(sql, _number_type(terms), True)


def _modulo(terms: Sequence[Term]) -> Term:
    _numbers("%", terms, 2)
    (left, right), is_exact = _same_numbers(terms)
    if not is_exact:
        raise _no_operator("%", terms)
    assert right.scale is not None
    width, magnitude = _roomy(left, right), right.magnitude or Fraction(0)
    sql = f"(CASE WHEN {right.sql} = 0 THEN NULL ELSE {widen(left, width)} % {widen(right, width)} END)"
    return exact(sql, _number_type(terms), True, right.scale, -magnitude, magnitude, width)


def _negate(terms: Sequence[Term]) -> Term:
    zero = Constant(INTEGER, "0")
    _numbers("-", terms, 1)
    return _add([constant(zero), terms[0]], "-") if not terms[0].type.is_floating else _negate_double(terms[0])


def _negate_double(term: Term) -> Term:
    low = None if term.high is None else -term.high
    high = None if term.low is None else -term.low
    return replace(term, sql=f"(-{term.sql})", low=low, high=high)


def _absolute(terms: Sequence[Term]) -> Term:
    _numbers("abs", terms, 1)
    term = terms[0]
    if term.scale is None:
        return replace(term, sql=f"abs({term.sql})", low=Fraction(0), high=term.magnitude)
    width = _roomy(term)
    return replace(term, sql=f"abs({widen(term, width)})", low=Fraction(0), high=term.magnitude, width=width)


def _roomy(*terms: Term) -> int:
    """A width in which the operands' negatives exist too: abs, // and % of the least BIGINT overflow in BIGINT."""
    needed = [width_for(t.scale or 0, t.low or Fraction(0), t.high or Fraction(0)) or 128 for t in terms]
    return max(64, *needed, *(term.width for term in terms))


def _any_null(terms: Sequence[Term]) -> bool:
    return any(term.nullable for term in terms)


def _compare(sign: str) -> Operator:
    def compare(terms: Sequence[Term]) -> Term:
        left, right = _comparable(sign, terms)
        return Term(f"({left.sql} {sign} {right.sql})", BOOLEAN, _any_null(terms))

    return compare


def _comparable(sign: str, terms: Sequence[Term]) -> Sequence[Term]:
    """Bring the sides of a comparison to one engine type, or refuse as Postgres does (42883)."""
    types = [term.type for term in terms]
    if all(type_.is_numeric for type_ in types):
        aligned, is_exact = _same_numbers(terms)
        if not is_exact:
            return aligned
        width = max(term.width for term in aligned)
        return [replace(term, sql=widen(term, width), width=width) for term in aligned]
    if all(type_.is_text for type_ in types) or len({type_.name for type_ in types}) == 1:
        return terms
    if all(type_.is_temporal for type_ in types):
        return [cast(term, TIMESTAMP) for term in terms]
    raise _no_operator(sign, terms)


def _connect(word: str) -> Operator:
    def connect(terms: Sequence[Term]) -> Term:
        for term in terms:
            if term.type != BOOLEAN:
                raise Refusal("42804", f"argument of {word} must be type boolean, not type {term.type}")
        return Term("(" + f" {word} ".join(term.sql for term in terms) + ")", BOOLEAN, _any_null(terms))

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
    if len(terms) > LIST_MAX:
        raise Refusal("54000", f"IN list has more than {LIST_MAX} entries", hint="Join with a public table.")
    value, *members = _comparable("=", terms)
    return Term(f"({value.sql} IN ({', '.join(m.sql for m in members)}))", BOOLEAN, _any_null(terms))


def _like(keyword: str) -> Operator:
    def like(terms: Sequence[Term]) -> Term:
        value, pattern, escape = terms
        if not (value.type.is_text and pattern.type.is_text):
            raise _no_operator(keyword, terms[:2])
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
        type_ = _number_type(terms)
        aligned, is_exact = _same_numbers(terms)
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


TRUNCATIONS: Final = (
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "decade",
    "century",
)
FIELDS: Final[dict[str, tuple[str, int, int, int]]] = {
    # field: SQL over {x}, scale, least, greatest value in units (Postgres docs, Date/Time Functions, 9.9.1)
    "year": ("extract(year FROM {x})", 0, -300_000, 300_000),
    "quarter": ("extract(quarter FROM {x})", 0, 1, 4),
    "month": ("extract(month FROM {x})", 0, 1, 12),
    "week": ("extract(week FROM {x})", 0, 1, 53),
    "day": ("extract(day FROM {x})", 0, 1, 31),
    "dow": ("extract(dow FROM {x})", 0, 0, 6),
    "isodow": ("extract(isodow FROM {x})", 0, 1, 7),
    "doy": ("extract(doy FROM {x})", 0, 1, 366),
    "isoyear": ("extract(isoyear FROM {x})", 0, -300_000, 300_000),
    "hour": ("extract(hour FROM {x})", 0, 0, 23),
    "minute": ("extract(minute FROM {x})", 0, 0, 59),
    "second": ("extract(microsecond FROM {x})", 6, 0, 60_000_000),
    "epoch": ("epoch_us({x})", 6, -(2**62), 2**62),
}


def _date_trunc(terms: Sequence[Term]) -> Term:
    """`date_trunc(unit, x)`; of a date it is a timestamptz, as in Postgres, whose zone here is UTC."""
    unit, value = terms
    if not value.type.is_temporal:
        raise Refusal("42883", f"function date_trunc(unknown, {value.type}) does not exist")
    type_ = TIMESTAMP if value.type == TIMESTAMP else TIMESTAMPTZ
    moment = f"CAST({value.sql} AS TIMESTAMP)"
    if unit.sql == "'century'":  # Postgres' begin in 1901 and 2001, the engine's in 1900 and 2000
        shifted = f"date_trunc('century', {moment} - INTERVAL 1 YEAR)"
        return Term(f"({shifted} + INTERVAL 1 YEAR)", type_, value.nullable)
    return Term(f"date_trunc({unit.sql}, {moment})", type_, value.nullable)


def _extract(field: str) -> Operator:
    form, scale, low, high = FIELDS[field]

    def extract(terms: Sequence[Term]) -> Term:
        value = terms[0]
        if not value.type.is_temporal:
            raise Refusal("42883", f"function pg_catalog.extract(unknown, {value.type}) does not exist")
        sql = form.format(x=f"CAST({value.sql} AS TIMESTAMP)")
        unit = 10**scale
        return exact(sql, NUMERIC, value.nullable, scale, Fraction(low, unit), Fraction(high, unit), 64)

    return extract


def _text_function(form: str) -> Operator:
    def function(terms: Sequence[Term]) -> Term:
        if not all(term.type.is_text for term in terms):
            raise _no_operator(form.split("(")[0], terms)
        return Term(form.format(*(term.sql for term in terms)), TEXT, _any_null(terms))

    return function


def _length(terms: Sequence[Term]) -> Term:
    if not terms[0].type.is_text:
        raise _no_operator("length", terms)
    top = Fraction(2**30)
    return exact(f"length({terms[0].sql})", INTEGER, terms[0].nullable, 0, Fraction(0), top, 64)


OPERATORS: Final[dict[str, Operator]] = {
    "+": lambda terms: _add(terms, "+"),
    "-": lambda terms: _add(terms, "-"),
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
    "negate": _negate,
    "abs": _absolute,
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
    "date_trunc": _date_trunc,
    **{f"extract {field}": _extract(field) for field in FIELDS},
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
