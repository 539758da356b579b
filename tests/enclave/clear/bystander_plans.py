"""bystander_plans: random releases over the bystanders' policy, each around an operator that is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bystander_world import TEXTS, Dice

from policies.model import Policy
from policies.sqltype import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, NUMERIC, TEXT, TIMESTAMP, SqlType
from rewriter.bound import Protected, is_determined, property_of, scope
from rewriter.cost import coordinates
from rewriter.functions import OPERATORS
from rewriter.keys import PublicFacts, groups_for
from rewriter.moments import TRUNCATIONS
from rewriter.plan import (
    Call,
    Cast,
    Column,
    Constant,
    Expression,
    Filter,
    Join,
    Measure,
    NoisyGroups,
    Relation,
    Release,
    Scan,
    columns,
    null_supplied,
    scans,
)
from rewriter.refusal import Refusal

M, E, P, PL, T = (Scan(table, table[:2]) for table in ("members", "events", "payments", "places", "tags"))
E2 = Scan("events", "e2")
SAME_UNIT = Call("=", (Column("me", "member_id"), Column("ev", "member_id")))
SAME_EVENT = Call("=", (Column("ev", "event_id"), Column("pa", "event_id")))
PLACE = Call("=", (Column("ev", "place_id"), Column("pl", "place_id")))
KIND = Call("=", (Column("ta", "kind"), Column("ev", "kind")))
SHAPES: dict[str, Relation] = {
    "members": M,
    "events": E,
    "payments": P,
    "unit join": Join("inner", M, E, (SAME_UNIT,)),
    "unit left join": Join("left", M, E, (SAME_UNIT,)),
    "key join": Join("inner", P, E, (SAME_EVENT,)),
    "key left join": Join("left", E, P, (SAME_EVENT,)),
    "three tables": Join("inner", Join("left", M, E, (SAME_UNIT,)), P, (SAME_EVENT,)),
    "self join": Join("inner", E, E2, (Call("=", (Column("ev", "member_id"), Column("e2", "member_id"))),)),
    "nested join": Join("left", M, Join("inner", E, P, (SAME_EVENT,)), (SAME_UNIT,)),
    "public key join": Join("inner", E, PL, (PLACE,)),
    "public key left join": Join("left", E, PL, (PLACE,)),
    "public first": Join("inner", PL, E, (PLACE,)),
    "public join without key": Join("inner", E, T, (KIND,)),
    "public left join without key": Join("left", E, T, (KIND,)),
    "public cross join": Join("inner", M, T, ()),
    "unit join and public": Join("left", Join("inner", M, E, (SAME_UNIT,)), PL, (PLACE,)),
}
UNITS = [*TRUNCATIONS]
CASTS = ("cast to number", "cast to text", "cast to time")
THEMES = (*OPERATORS, *CASTS)
MEASURES = ("count", "count of argument", "units", "sum", "mean in range", "mean of found centre")
KEYS = (
    "no key",
    "declared values",
    "boolean",
    "CASE",
    "date_trunc",
    "extract",
    "public column",
    "null-supplied public column",
    "unknown text",
    "determined by unit",
    "span of integers",
    "any expression",
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A release with the names of what is in it: in all of it, and in each measure alone."""

    release: Release
    shared: frozenset[str]
    by_measure: tuple[frozenset[str], ...]

    def labels(self, changed: frozenset[int]) -> frozenset[str]:
        """The names of what took part in a change of some measures."""
        return self.shared.union(*(self.by_measure[number] for number in changed)) if changed else frozenset()


class Writer:
    """Writes random expressions over the columns of a relation."""

    def __init__(self, dice: Dice, source: Relation, policy: Policy, seen: Counter[str]) -> None:
        self.dice, self.scope, self._seen = dice, scope(source, policy), seen
        self.columns: dict[str, list[Column]] = {"number": [], "text": [], "time": [], "boolean": []}
        for scan in scans(source):
            for name, declared in policy.tables[scan.table].columns.items():
                self.columns[_family(declared.type)].append(Column(scan.alias, name))

    def any(self, family: str, depth: int) -> Expression:
        """An expression of a family of types."""
        found = self.columns[family]
        if depth <= 0 or self.dice.random() < 0.4:
            return self.dice.choice(found) if found and self.dice.random() < 0.75 else self.constant(family)
        return self.call(_due(self.dice, _RESULTS[family], self._seen), depth)

    def constant(self, family: str) -> Expression:
        """A constant, NULL among them."""
        return self.dice.choice(_CONSTANTS[family])

    def call(self, theme: str, depth: int = 2) -> Expression:
        """A call of an operator, or a cast."""
        return _WRITERS[theme.split(" ")[0] if theme.startswith("extract") else theme](self, theme, depth - 1)

    def family(self, expression: Expression) -> str:
        """The family of an expression's type."""
        return _family(self.scope.term(expression).type)

    def condition(self, expression: Expression) -> Expression:
        """A condition of an expression that a good part of rows fulfils."""
        if self.family(expression) != "boolean":
            return Call("is null", (expression,)) if self.dice.random() < 0.3 else Call("not", (_known(expression),))
        return self.dice.choice(
            (expression, Call("not", (expression,)), Call("or", (expression, _known(expression))))
        )

    def number(self, expression: Expression) -> Expression:
        """A number made of an expression, so that it can be summed."""
        family = self.family(expression)
        if family == "number":
            return expression
        condition = expression if family == "boolean" else _known(expression)
        return Call("case", (condition, Constant(INTEGER, "1"), self.any("number", 0)))


def draw(dice: Dice, policy: Policy, facts: PublicFacts, seen: Counter[str]) -> Drawn:
    """A release with an operator, a measure and a kind of key that have been drawn least."""
    while True:
        shape = _due(dice, tuple(SHAPES), seen)
        try:
            return _drawn(dice, shape, _due(dice, THEMES, seen), policy, facts, seen)
        except Refusal:
            continue


def names_of(expression: Expression) -> Iterator[str]:
    """The operators and casts of an expression."""
    match expression:
        case Call(operator, arguments):
            yield operator
            for argument in arguments:
                yield from names_of(argument)
        case Cast(argument, type_):
            yield f"cast to {_family(type_)}"
            yield from names_of(argument)
        case _:
            return


def _drawn(dice: Dice, shape: str, theme: str, policy: Policy, facts: PublicFacts, seen: Counter[str]) -> Drawn:
    source = SHAPES[shape]
    writer = Writer(dice, source, policy, seen)
    where = [writer.condition(writer.call(theme))] if dice.random() < 0.4 else []
    relation = Filter(source, tuple(where)) if where else source
    key = writer.call(_due(dice, THEMES, seen)) if dice.random() < 0.2 else None
    key_kind, keys = _keys(dice, writer, source, policy, seen, key)
    measures: dict[Measure, str] = {}
    for kind in (_due(dice, MEASURES, seen), *(dice.choice(MEASURES) for _ in range(2))):
        measures |= {measure: kind for measure in _measure(dice, writer, kind, writer.call(_due(dice, THEMES, seen)))}
    found = property_of(relation, policy, facts)
    assert isinstance(found, Protected)
    groups = groups_for(keys, relation, found, policy, facts)
    if key_kind == "determined by unit" and not isinstance(groups, NoisyGroups):
        raise Refusal("0A000", "another kind of key")
    release = Release("member", relation, keys, groups, tuple(measures))
    arguments = [measure.argument for measure in measures]
    for expression in (*where, *keys, *(a for a in arguments if a is not None)):
        writer.scope.term(expression)
    coordinates(release, policy, facts)
    shared = {name for expression in (*where, *keys) for name in names_of(expression)}
    named = ({*(names_of(m.argument) if m.argument is not None else ()), kind} for m, kind in measures.items())
    return Drawn(release, frozenset({*shared, shape, key_kind, type(groups).__name__}), tuple(map(frozenset, named)))


def _keys(
    dice: Dice, writer: Writer, source: Relation, policy: Policy, seen: Counter[str], theme: Expression | None
) -> tuple[str, tuple[Expression, ...]]:
    if theme is not None:
        return "any expression", (theme,) if list(columns(theme)) else ()
    options = {
        kind: found for kind, make in _KEY_MAKERS.items() if (found := make(source, policy)) or kind == "no key"
    }
    kind = _due(dice, tuple(options), seen)
    if kind == "no key":
        return kind, ()
    first = dice.choice(options[kind])
    if dice.random() < 0.25:
        second = dice.choice([key for keys in options.values() for key in keys])
        return kind, (first, second)
    return kind, (first,)


def _measure(dice: Dice, writer: Writer, kind: str, theme: Expression) -> list[Measure]:
    """A measure; beside a sum the count of its argument, so that a sum of nothing can be told."""
    match kind:
        case "count":
            return [Measure("count", None)]
        case "count of argument":
            return [Measure("count", theme)]
        case "units":
            return [Measure("units", dice.choice(_unit_columns(writer)))]
        case "mean in range":
            ranged = [Column("ev", "small"), Column("ev", "price"), Column("ev", "part"), Column("me", "age")]
            known = [column for column in ranged if column.alias in writer.scope.names]
            if not known:
                raise Refusal("0A000", "no range here")
            return [Measure("mean", dice.choice(known))]
        case "sum":
            argument = writer.number(theme)
            return [Measure("sum", argument), Measure("count", argument)]
        case _:
            argument = writer.number(theme)
            if writer.scope.known_range(argument):
                argument = Call("+", (argument, dice.choice(_unbounded(writer))))
            return [Measure("mean", argument)]


def _unbounded(writer: Writer) -> list[Column]:
    names = ("amount", "ratio", "cost", "score", "paid")
    return [column for column in writer.columns["number"] if column.name in names]


def _unit_columns(writer: Writer) -> list[Column]:
    found = [c for family in writer.columns.values() for c in family if c.name == "member_id"]
    if not found:
        raise Refusal("0A000", "no unit column here")
    return found


def _due(dice: Dice, options: tuple[str, ...], seen: Counter[str]) -> str:
    """Mostly the option seen least, so that a few thousand releases cover everything."""
    if dice.random() < 0.25:
        return dice.choice(options)
    few = [dice.choice(options) for _ in range(12)]
    return min(few, key=lambda option: seen[option])


def _family(type_: SqlType) -> str:
    if type_.is_numeric:
        return "number"
    if type_.is_text:
        return "text"
    return "boolean" if type_ == BOOLEAN else "time"


def _known(expression: Expression) -> Expression:
    return Call("is null", (expression,))


def _columns_of(*names: str) -> Callable[[Relation, Policy], list[Expression]]:
    wanted = [Column(*name.split(".")) for name in names]

    def found(source: Relation, policy: Policy) -> list[Expression]:
        aliases = {scan.alias for scan in scans(source)}
        return [column for column in wanted if column.alias in aliases]

    return found


def _calls_of(*calls: Expression) -> Callable[[Relation, Policy], list[Expression]]:
    def found(source: Relation, policy: Policy) -> list[Expression]:
        aliases = {scan.alias for scan in scans(source)}
        return [call for call in calls if {column.alias for column in columns(call)} <= aliases]

    return found


def _public(padded: bool) -> Callable[[Relation, Policy], list[Expression]]:
    def found(source: Relation, policy: Policy) -> list[Expression]:
        scans_ = [s for s in scans(source) if policy.tables[s.table].public]
        return [
            Column(s.alias, name)
            for s in scans_
            if (s.alias in null_supplied(source)) == padded
            for name in policy.tables[s.table].columns
        ]

    return found


def _determined(source: Relation, policy: Policy) -> list[Expression]:
    if "me" not in {scan.alias for scan in scans(source)}:
        return []
    found: list[Expression] = [Column("me", "city"), Column("me", "born"), Call("lower", (Column("me", "city"),))]
    return [key for key in found if is_determined(key, source, policy)]


_CASE = Call(
    "case",
    (
        Call(">", (Column("ev", "amount"), Constant(INTEGER, "1"))),
        Constant(TEXT, "more"),
        Call("is null", (Column("ev", "note"),)),
        Constant(TEXT, "none"),
        Constant(TEXT, None),
    ),
)
_MEMBER_CASE = Call("case", (Call("is true", (Column("me", "vip"),)), Constant(TEXT, "v"), Constant(TEXT, "w")))
_PAID_CASE = Call(
    "case",
    (Call("<", (Column("pa", "paid"), Constant(INTEGER, "1"))), Constant(INTEGER, "7"), Constant(INTEGER, None)),
)
_KEY_MAKERS: dict[str, Callable[[Relation, Policy], list[Expression]]] = {
    "no key": lambda source, policy: [],
    "declared values": _columns_of("me.race", "me.gender", "ev.kind"),
    "boolean": _columns_of("me.vip", "ev.ok"),
    "CASE": _calls_of(_CASE, _MEMBER_CASE, _PAID_CASE),
    "date_trunc": _calls_of(
        Call("date_trunc", (Constant(TEXT, "month"), Column("ev", "at"))),
        Call("date_trunc", (Constant(TEXT, "week"), Column("pa", "due"))),
        Call("date_trunc", (Constant(TEXT, "quarter"), Column("ev", "at"))),
    ),
    "extract": _calls_of(
        Call("extract dow", (Column("ev", "day"),)),
        Call("extract year", (Column("ev", "at"),)),
        Call("extract month", (Column("pa", "due"),)),
        Call("extract isodow", (Column("me", "born"),)),
    ),
    "public column": _public(False),
    "null-supplied public column": _public(True),
    "unknown text": _columns_of("ev.note", "pa.method", "ev.amount", "ev.ratio", "ev.seen", "ev.cost"),
    "determined by unit": _determined,
    "span of integers": _columns_of("ev.small", "me.age", "pa.due"),
}

_PATTERNS = ("%", "a%", "%a%", "_", "", "A", "%'%", "é%", "\\%", "!_%", "%!%b%")
_CONSTANTS: dict[str, tuple[Expression, ...]] = {
    "number": (
        *(Constant(INTEGER, str(n)) for n in (0, 1, -1, 2, 7, 2**31 - 1)),
        *(Constant(BIGINT, str(n)) for n in (2**63 - 1, -(2**63), 10**12)),
        *(Constant(NUMERIC, n) for n in ("0.1", "-2.5", "99999999999999999999.99", "0.000000000000000001")),
        *(Constant(DOUBLE, n) for n in ("0.5", "-0.0", "1e308", "-3.0")),
        Constant(INTEGER, None),
    ),
    "text": tuple(Constant(TEXT, text) for text in TEXTS),
    "time": (
        *(Constant(DATE, day) for day in ("0001-01-01", "2020-02-29", "9999-12-31", None)),
        *(Constant(TIMESTAMP, moment) for moment in ("2020-01-05 12:00:00", "9999-12-31 23:59:59.999999")),
    ),
    "boolean": (Constant(BOOLEAN, "true"), Constant(BOOLEAN, "false"), Constant(BOOLEAN, None)),
}
_FIELDS = tuple(name for name in OPERATORS if name.startswith("extract "))
_RESULTS: dict[str, tuple[str, ...]] = {
    "number": (
        "+",
        "-",
        "*",
        "/",
        "%",
        "negate",
        "abs",
        "case",
        "coalesce",
        "nullif",
        "length",
        "cast to number",
        *_FIELDS,
    ),
    "text": ("lower", "upper", "cast to text"),
    "time": ("date_trunc", "cast to time"),
    "boolean": ("=", "<>", "<", "<=", ">", ">=", "and", "or", "not", "is null", "is true", "in", "like", "ilike"),
}


def _numbers(writer: Writer, theme: str, depth: int) -> Expression:
    if theme in "+-" and writer.dice.random() < 0.15:
        return Call("-", (writer.any("time", depth), writer.any("number", depth)))
    count = 1 if theme in ("negate", "abs") else 2
    return Call(theme, tuple(writer.any("number", depth) for _ in range(count)))


def _sides(writer: Writer, theme: str, depth: int) -> Expression:
    family = writer.dice.choice(("number", "number", "text", "time", "boolean"))
    return Call(theme, (writer.any(family, depth), writer.any(family, depth)))


def _list(writer: Writer, theme: str, depth: int) -> Expression:
    family = writer.dice.choice(("number", "text"))
    return Call(theme, (writer.any(family, depth), *(writer.constant(family) for _ in range(3))))


def _like(writer: Writer, theme: str, depth: int) -> Expression:
    escape = writer.dice.choice(("\\", "", "!"))
    return Call(
        theme, (writer.any("text", depth), Constant(TEXT, writer.dice.choice(_PATTERNS)), Constant(TEXT, escape))
    )


def _branches(writer: Writer, theme: str, depth: int) -> Expression:
    family = writer.dice.choice(("number", "number", "text", "time"))
    first, second = writer.any(family, depth), writer.any(family, depth)
    return Call(theme, (writer.any("boolean", depth), first, second) if theme == "case" else (first, second))


def _booleans(writer: Writer, theme: str, depth: int) -> Expression:
    count = 2 if theme in ("and", "or") else 1
    return Call(theme, tuple(writer.any("boolean", depth) for _ in range(count)))


def _null(writer: Writer, theme: str, depth: int) -> Expression:
    return Call(theme, (writer.any(writer.dice.choice(("number", "text", "time", "boolean")), depth),))


def _trunc(writer: Writer, theme: str, depth: int) -> Expression:
    return Call(theme, (Constant(TEXT, writer.dice.choice(UNITS)), writer.any("time", depth)))


def _field(writer: Writer, theme: str, depth: int) -> Expression:
    moment = writer.any("time", depth)
    if not list(columns(moment)):
        # The engine gives a folded NULL of a field another type: no harm, and nothing to learn.
        raise Refusal("0A000", "no field of constants")
    return Call(theme, (moment,))


def _texts(writer: Writer, theme: str, depth: int) -> Expression:
    return Call(theme, (writer.any("text", depth),))


def _cast(writer: Writer, theme: str, depth: int) -> Expression:
    targets = {
        "cast to number": ("number", "text", (INTEGER, BIGINT, NUMERIC, DOUBLE, SqlType("numeric", 30, 2))),
        "cast to text": ("text", "number", (TEXT, SqlType("varchar", 2))),
        "cast to time": ("time", "text", (DATE, TIMESTAMP)),
    }
    one, other, types = targets[theme]
    target = writer.dice.choice(types)
    argument = writer.any(writer.dice.choice((one, other)), depth)
    if writer.scope.term(argument).type == target:
        raise Refusal("0A000", "no cast")
    return Cast(argument, target)


_WRITERS: dict[str, Callable[[Writer, str, int], Expression]] = {
    **dict.fromkeys(("+", "-", "*", "/", "%", "negate", "abs"), _numbers),
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), _sides),
    **dict.fromkeys(("and", "or", "not", "is true"), _booleans),
    "is null": _null,
    "in": _list,
    **dict.fromkeys(("like", "ilike"), _like),
    **dict.fromkeys(("case", "coalesce", "nullif"), _branches),
    "date_trunc": _trunc,
    "extract": _field,
    **dict.fromkeys(("lower", "upper", "length"), _texts),
    **dict.fromkeys(CASTS, _cast),
}
