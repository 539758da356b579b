from __future__ import annotations

from collections.abc import Sequence

import pytest
from edges import call, const, lit, num, to
from room import MEMBERS, POLICY, VISITS, inner, refused
from sqlglot import exp

from policies import sqltype
from policies.sqltype import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, NUMERIC, TEXT, TIMESTAMP, TIMESTAMPTZ, SqlType
from rewriter.bound import scope
from rewriter.parse import parse
from rewriter.plan import Column, Constant, Expression
from rewriter.refusal import Refusal
from rewriter.resolve import OIDS, Parameters, Resolver, Source, _construct

SOURCES = [
    Source("members", "m", tuple(POLICY.tables["members"].columns)),
    Source("visits", "v", tuple(POLICY.tables["visits"].columns)),
]
BOTH = inner(MEMBERS, VISITS, call("=", Column("m", "id"), Column("v", "id")))


def resolver(values: Sequence[tuple[int, str | None]] = ()) -> Resolver:
    return Resolver(SOURCES, scope(BOTH, POLICY), Parameters(values))


def node(text: str) -> exp.Expr:
    [found] = parse(f"SELECT {text}").tree.expressions
    return found.unalias()


def resolved(text: str, *values: tuple[int, str | None]) -> Expression:
    return resolver(values).resolve(node(text))


def refusal(text: str, *values: tuple[int, str | None]) -> Refusal:
    return refused(resolved, text, *values)


AGE, SEX, CITY, BORN, MINUTES, AT = (
    Column("m", "age"),
    Column("m", "sex"),
    Column("m", "city"),
    Column("m", "born"),
    Column("v", "minutes"),
    Column("v", "at"),
)
COST, SMOKES, HEIGHT = Column("v", "cost"), Column("m", "smokes"), Column("m", "height")
NULL = Constant(TEXT, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # names
        ("age", AGE),
        ("AGE", AGE),
        ('"age"', AGE),
        ("members.age", AGE),
        ("Members.Age", AGE),
        ("(age)", AGE),
        # literals
        ("1", num("1")),
        ("2147483648", const("bigint", "2147483648")),
        ("9223372036854775808", const("numeric", "9223372036854775808")),
        ("1.50", const("numeric", "1.5")),
        ("1e2", const("numeric", "100")),
        ("'a'", lit("a")),
        ("NULL", NULL),
        ("true", const("boolean", "true")),
        ("-5", num("-5")),
        # operators; an unknown literal takes the type of the other side
        ("age = 1", call("=", AGE, num("1"))),
        ("age <> '1'", call("<>", AGE, num("1"))),
        ("'1' < age", call("<", num("1"), AGE)),
        ("cost >= '1.239'", call(">=", COST, const("numeric", "1.239"))),
        ("height = '0.10'", call("=", HEIGHT, const("double precision", "0.1"))),
        ("born > '2024-01-02'", call(">", BORN, const("date", "2024-01-02"))),
        ("born > '2024-01-02 10:00'", call(">", BORN, const("date", "2024-01-02"))),
        ("at <= '2024-01-02T10:00'", call("<=", AT, const("timestamp", "2024-01-02 10:00:00"))),
        ("smokes = 'yes'", call("=", SMOKES, const("boolean", "true"))),
        ("sex = NULL", call("=", SEX, NULL)),
        ("'a' = 'b'", call("=", lit("a"), lit("b"))),
        (
            "age + 1 - minutes * 2 / 3 % 4",
            call(
                "-", call("+", AGE, num("1")), call("%", call("/", call("*", MINUTES, num("2")), num("3")), num("4"))
            ),
        ),
        ("age BETWEEN 1 AND 2", call("and", call("<=", AGE, num("2")), call(">=", AGE, num("1")))),
        ("age NOT BETWEEN 1 AND 2", call("not", call("and", call("<=", AGE, num("2")), call(">=", AGE, num("1"))))),
        ("age IN (2, 1)", call("in", AGE, num("1"), num("2"))),
        ("sex NOT IN ('m')", call("not", call("in", SEX, lit("m")))),
        ("smokes AND age = 1 AND sex = 'f'", call("and", call("=", AGE, num("1")), call("=", SEX, lit("f")), SMOKES)),
        ("smokes OR (smokes AND smokes)", call("or", call("and", SMOKES, SMOKES), SMOKES)),
        ("NOT smokes", call("not", SMOKES)),
        ("age IS NULL", call("is null", AGE)),
        ("age IS NOT NULL", call("not", call("is null", AGE))),
        ("smokes IS TRUE", call("is true", SMOKES)),
        ("smokes IS NOT FALSE", call("not", call("is true", call("not", SMOKES)))),
        ("city LIKE 'a%'", call("like", CITY, lit("a%"), lit("\\"))),
        ("city NOT ILIKE 'a%'", call("not", call("ilike", CITY, lit("a%"), lit("\\")))),
        ("city LIKE 'a!%' ESCAPE '!'", call("like", CITY, lit("a!%"), lit("!"))),
        # CASE and functions
        ("CASE WHEN smokes THEN 'a' END", call("case", SMOKES, lit("a"), NULL)),
        ("CASE WHEN smokes THEN 1 ELSE NULL END", call("case", SMOKES, num("1"), const("integer", None))),
        (
            "CASE sex WHEN 'f' THEN 1 WHEN 'm' THEN 2 ELSE 3 END",
            call("case", call("=", SEX, lit("f")), num("1"), call("=", SEX, lit("m")), num("2"), num("3")),
        ),
        ("CASE WHEN smokes THEN cost ELSE '1.239' END", call("case", SMOKES, COST, const("numeric", "1.239"))),
        ("coalesce(age, 0)", call("coalesce", AGE, num("0"))),
        ("coalesce(city, sex, 'x')", call("coalesce", CITY, SEX, lit("x"))),
        ("nullif(city, '')", call("nullif", CITY, lit(""))),
        ("abs(age)", call("abs", AGE)),
        ("lower(city)", call("lower", CITY)),
        ("upper(city)", call("upper", CITY)),
        ("length(city)", call("length", CITY)),
        # times
        ("date_trunc('Month', at)", call("date_trunc", lit("month"), AT)),
        ("extract(dow FROM at)", call("extract dow", AT)),
        ("extract(epoch FROM born)", call("extract epoch", BORN)),
        (
            "extract(year FROM TIMESTAMP '2024-01-01')",
            call("extract year", const("timestamp", "2024-01-01 00:00:00")),
        ),
        ("date_part('year', at)", call("extract year", AT)),
        # casts
        ("age::bigint", to("bigint", AGE)),
        ("CAST(cost AS integer)", to("integer", COST)),
        ("age::smallint", AGE),
        ("cost::numeric", to("numeric", COST)),
        ("'2024-01-02'::date", const("date", "2024-01-02")),
        ("DATE '2024-01-02'", const("date", "2024-01-02")),
        ("'1.5'::numeric(5,1)", const("numeric(5,1)", "1.5")),
        ("'t'::boolean", const("boolean", "true")),
        ("at::date", to("date", AT)),
    ],
)
def test_an_expression_means_what_it_means_in_postgres(text: str, expected: Expression) -> None:
    assert resolved(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("smokes AND age = 1", "age = 1 AND smokes"),
        ("age = 1 OR smokes OR sex = 'f'", "sex = 'f' OR smokes OR age = 1"),
        ("age IN (1, 2, 3)", "age IN (3, 1, 2)"),
        ("age BETWEEN 1 AND 2", "age >= 1 AND age <= 2"),
        ("AGE = 1", 'members."age"=1'),
        ("height = '0.1'", "height = '0.10'"),
        ("smokes = 'yes'", "smokes = 't'"),
    ],
)
def test_what_means_the_same_resolves_to_the_same(one: str, other: str) -> None:
    assert resolved(one) == resolved(other)


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("nothing", "42703", 'column "nothing" does not exist'),
        ('"AGE"', "42703", 'column "AGE" does not exist'),
        ("members.nothing", "42703", "column members.nothing does not exist"),
        ("m.age", "42P01", 'missing FROM-clause entry for table "m"'),
        ("id", "42702", 'column reference "id" is ambiguous'),
        ("age = 'x'", "22P02", 'invalid input syntax for type smallint: "x"'),
        ("age = '1.5'", "22P02", 'invalid input syntax for type smallint: "1.5"'),
        ("age = '40000'", "22003", 'value "40000" is out of range for type smallint'),
        ("born = 'x'", "22007", 'invalid input syntax for type date: "x"'),
        ("at = '2024-13-01'", "22007", 'invalid input syntax for type timestamp: "2024-13-01"'),
        ("smokes = 'maybe'", "22P02", 'invalid input syntax for type boolean: "maybe"'),
        ("1e999999999", "22003", "a value is out of range for type numeric"),
        ("age = city", "42883", "operator does not exist: = (smallint, text)"),
        ("age + city", "42883", "operator does not exist: + (smallint, text)"),
        ("NOT age", "42804", "argument of WHERE must be type boolean, not type smallint"),
        ("smokes AND age", "42804", "argument of WHERE must be type boolean, not type smallint"),
        ("CASE WHEN smokes THEN 1 ELSE city END", "42804", "CASE types integer and text cannot be matched"),
        ("city LIKE sex", "0A000", "LIKE needs a constant pattern"),
        ("city LIKE 'a\\'", "22025", "LIKE pattern must not end with escape character"),
        ("city LIKE 'a' ESCAPE 'xx'", "22025", "invalid escape string"),
        (
            "date_trunc('fortnight', at)",
            "22023",
            'unit "fortnight" not recognized for type timestamp without time zone',
        ),
        (
            "extract(fortnight FROM at)",
            "22023",
            'unit "fortnight" not recognized for type timestamp without time zone',
        ),
        ("extract(year FROM city)", "42883", "function pg_catalog.extract(unknown, text) does not exist"),
        ("city::date::integer", "42846", "cannot cast type date to integer"),
        ("age::money", "0A000", "a cast to money is not supported over protected rows"),
        ("age BETWEEN SYMMETRIC 2 AND 1", "0A000", "BETWEEN is not supported over protected rows"),
        ("sum(age)", "42803", "aggregate functions are not allowed here"),
        ("(SELECT 1)", "0A000", "a subquery is not supported over protected rows"),
        ("age IN (SELECT 1)", "0A000", "IN (SELECT ...) is not supported over protected rows"),
        ("EXISTS (SELECT 1)", "0A000", "EXISTS is not supported over protected rows"),
        ("random()", "0A000", "random() is not supported over protected rows"),
        ("pg_sleep(1)", "0A000", "pg_sleep() is not supported over protected rows"),
        ("query('SELECT 1')", "0A000", "query() is not supported over protected rows"),
        ("city || 'x'", "0A000", "DPIPE is not supported over protected rows"),
        ("age IS DISTINCT FROM 1", "0A000", "is not supported over protected rows"),
        ("ARRAY[age]", "0A000", "is not supported over protected rows"),
        ("city ~ 'x'", "0A000", "is not supported over protected rows"),
        ("now()", "0A000", "is not supported over protected rows"),
        ("row_number() OVER ()", "0A000", "WINDOW is not supported over protected rows"),
    ],
)
def test_what_is_not_known_is_refused_by_name(text: str, state: str, words: str) -> None:
    found = refusal(text)
    assert found.sqlstate == state
    assert words in found.message


def test_a_refusal_says_where_and_what_is_near() -> None:
    found = refusal("1 + agee")
    assert found.position == len("SELECT 1 + ") + 1
    assert found.hint == "Columns here: age."
    assert (refusal("zzz").hint or "").startswith("Columns here: id, sex, age")


def test_a_condition_is_boolean() -> None:
    assert resolver().condition(node("age = 1")) == call("=", AGE, num("1"))
    assert resolver().condition(node("'t'")) == const("boolean", "true")
    assert refused(resolver().condition, node("age")).sqlstate == "42804"


def test_columns_that_using_merges_are_not_ambiguous() -> None:
    found = resolver()
    found.merged["id"] = Column("v", "id")
    assert found.resolve(node("id")) == Column("v", "id")
    assert found.resolve(node("members.id")) == Column("m", "id")


def test_types_are_those_of_the_scope() -> None:
    assert resolver().type_of(AGE) == sqltype.SMALLINT
    assert resolver().type_of(call("+", AGE, MINUTES)) == INTEGER


# parameters


@pytest.mark.parametrize(
    ("text", "value", "expected", "type_"),
    [
        ("age = $1", (0, "5"), call("=", AGE, num("5")), sqltype.SMALLINT),
        ("$1 = city", (0, "x"), call("=", lit("x"), CITY), TEXT),
        ("age = $1", (20, "5"), call("=", AGE, num("5")), BIGINT),
        ("born > $1", (0, "2024-01-02"), call(">", BORN, const("date", "2024-01-02")), DATE),
        ("born > $1", (0, None), call(">", BORN, Constant(DATE, None)), DATE),
        (
            "at > $1",
            (1184, "2024-01-02 00:00:00+02"),
            call(">", AT, const("timestamptz", "2024-01-01 22:00:00")),
            TIMESTAMPTZ,
        ),
        ("cost > $1", (1700, "1.10"), call(">", COST, const("numeric", "1.1")), NUMERIC),
        ("height > $1", (701, "1e0"), call(">", HEIGHT, const("double precision", "1.0")), DOUBLE),
        ("$1::date", (0, "2024-01-02"), const("date", "2024-01-02"), DATE),
        ("smokes AND $1", (0, "on"), call("and", SMOKES, const("boolean", "true")), BOOLEAN),
        ("$1", (0, "x"), lit("x"), TEXT),
        ("$1", (600, "(1,2)"), lit("(1,2)"), TEXT),
        (
            "date_trunc('day', $1)",
            (0, "2024-01-02"),
            call("date_trunc", lit("day"), const("timestamp", "2024-01-02 00:00:00")),
            TIMESTAMP,
        ),
        ("city LIKE $1", (25, "a%"), call("like", CITY, lit("a%"), lit("\\")), TEXT),
    ],
)
def test_a_parameter_takes_its_type_from_the_client_or_from_around_it(
    text: str, value: tuple[int, str | None], expected: Expression, type_: SqlType
) -> None:
    parameters = Parameters([value])
    found = Resolver(SOURCES, scope(BOTH, POLICY), parameters).resolve(node(text))
    if isinstance(expected, type(call("and"))) and expected.operator == "and":
        assert set(expected.arguments) == set(found.arguments)  # type: ignore[union-attr]
    else:
        assert found == expected
    assert parameters.types == {1: type_}


def test_a_parameter_without_a_value_is_null_and_keeps_its_first_type() -> None:
    parameters = Parameters([])
    found = Resolver(SOURCES, scope(BOTH, POLICY), parameters)
    assert found.resolve(node("age = $2")) == call("=", AGE, Constant(sqltype.SMALLINT, None))
    found.resolve(node("city = $2"))
    assert parameters.types == {2: sqltype.SMALLINT}


def test_a_parameter_that_is_no_value_of_its_type_is_refused() -> None:
    assert refusal("age = $1", (0, "x")).sqlstate == "22P02"
    assert refusal("age = $1", (23, "x")).sqlstate == "22P02"
    assert refusal("age = $1", (23, "2147483648")).sqlstate == "22003"
    assert refusal("born = $1", (1082, "soon")).sqlstate == "22007"


def test_every_oid_is_a_type_a_policy_can_have() -> None:
    assert all(type_ == NUMERIC or sqltype.parse(str(type_)) == type_ for type_ in OIDS.values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("f(1)", "f()"),
        ("random()", "random()"),
        ("EXISTS (SELECT 1)", "EXISTS"),
        ("upper(a)", "upper()"),
        ("(SELECT 1)", "a subquery"),
        ("a IN (SELECT 1)", "IN (SELECT ...)"),
        ("CASE WHEN a THEN 1 END", "CASE"),
        ("a::int", "CAST"),
    ],
)
def test_a_construct_is_named_as_sql_writes_it(text: str, name: str) -> None:
    assert _construct(node(text)) == name


def test_the_deepest_expression_that_parses_resolves() -> None:
    assert resolved("+".join(["age"] * 78))
    assert resolved("(" * 47 + "age" + " + 1)" * 47)
    assert resolved("CASE WHEN smokes THEN " * 30 + "1" + " END" * 30)
