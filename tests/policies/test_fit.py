from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import fit
from policies.document import PolicyError, read
from policies.sqltype import BIGINT, SqlType, parse

POLICY = """
[room]
name = "r"
version = 1
environment = "development"
[tables.t]
public = true
[tables.t.columns]
x = {{ type = "{}", {} }}
"""


def problems(kind: str, declared: str) -> list[str]:
    try:
        read(POLICY.format(kind, declared))
    except PolicyError as error:
        return [
            f"{problem.field.removeprefix('tables.t.columns.x.')}: {problem.message}" for problem in error.problems
        ]
    return []


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("text", 'values = ["a", "", "é"]'),
        ("varchar(2)", 'values = ["ab", "éé"]'),
        ("smallint", "values = [-32768, 32767]"),
        ("bigint", "bounds = [-9223372036854775808, 9223372036854775807]"),
        ("integer", "bounds = [0, 0]"),
        ("numeric(4,2)", "bounds = [-99.99, 99.990]"),
        ("numeric(30,0)", "bounds = [0.00, 999999999999999999999999999999]"),
        ("double precision", "bounds = [-1e25, 7e25]"),
        ("real", "bounds = [0, 0.5]"),
        ("date", "bounds = [2020-01-01, 2020-12-31]"),
        ("timestamp", "bounds = [2020-01-01T00:00:00, 2020-12-31 23:59:59.999999]"),
        ("timestamptz", "bounds = [2020-01-01T00:00:00+01:00, 2020-01-01T00:00:00Z]"),
    ],
)
def test_what_fits_is_accepted(kind: str, declared: str) -> None:
    assert problems(kind, declared) == []


@pytest.mark.parametrize(
    ("kind", "declared", "expected"),
    [
        ("text", 'values = ["a", 1]', "values[1]: must be a text in quotes"),
        ("text", 'values = ["a", "b", "a"]', "values[2]: is in the list twice"),
        ("text", "values = []", "values: must be 1 to"),
        ("text", 'values = ["a\\u0000"]', "values[0]: a text in Postgres cannot hold"),
        ("char(1)", 'values = ["ab"]', "values[0]: is longer than char(1)"),
        ("smallint", "values = [32768]", "values[0]: is outside the range of smallint"),
        ("integer", 'values = ["1"]', "values[0]: must be a whole number without quotes"),
        ("boolean", 'values = ["t"]', "values: are for text and integer columns, not boolean: its values are known"),
        ("date", 'values = ["2020-01-01"]', "values: are for text and integer columns, not date: give bounds"),
        ("text", "bounds = [1, 2]", "bounds: are for numbers, dates and timestamps, not text: give values"),
        ("boolean", "bounds = [0, 1]", "bounds: are for numbers"),
        ("integer", "bounds = [0, 1.5]", "bounds[1]: must be a whole number"),
        ("integer", "bounds = [2, 1]", "bounds: the lower bound comes first"),
        ("integer", "bounds = [1]", "bounds[1]: is missing"),
        ("integer", "bounds = [1, 2, 3]", "bounds: has too many items"),
        ("integer", "bounds = 3", "bounds: must be a list in [ ]"),
        ("integer", "bounds = [2020-01-01, 3]", "bounds[0]: must be a whole number"),
        ("numeric(4,2)", "bounds = [0, 100]", "bounds[1]: is outside the range of numeric(4,2)"),
        ("numeric(4,2)", "bounds = [0.001, 1]", "bounds[0]: has more digits after the point"),
        ("double precision", "bounds = [0, 8e25]", "bounds[1]: is outside the range of double precision"),
        ("double precision", "bounds = [1e-99, 1]", "bounds[0]: has more digits after the point"),
        ("double precision", "bounds = [nan, 1]", "bounds[0]: must be a finite number"),
        ("double precision", "bounds = [-inf, 1]", "bounds[0]: must be a finite number"),
        ("double precision", "bounds = [0, 1e999999999999999999999]", "bounds[1]: must be a finite number"),
        ("date", "bounds = [2020-01-01, 2020-01-01T00:00:00]", "bounds[1]: must be like 2020-12-31 "),
        ("timestamp", "bounds = [2020-01-01, 2020-01-01T00:00:00]", "bounds[0]: must be like 2020-12-31T23:59:59 "),
        ("timestamp", "bounds = [2020-01-01T00:00:00, 2020-01-01T00:00:00Z]", "bounds[1]: must be like"),
        ("timestamptz", "bounds = [2020-01-01T00:00:00, 2020-01-01T00:00:00Z]", "bounds[0]: must be like"),
        ("date", "bounds = [2021-01-01, 2020-01-01]", "bounds: the lower bound comes first"),
    ],
)
def test_what_does_not_fit_is_named(kind: str, declared: str, expected: str) -> None:
    (found,) = problems(kind, declared)
    assert found.startswith(expected)


def test_an_unknown_type_leaves_nothing_to_say_about_its_values() -> None:
    (found,) = problems("json", "values = [1, 1], bounds = [2, 1]")
    assert found.startswith("type: type 'json' is not supported")


def test_ranges_are_those_of_postgres() -> None:
    assert fit.type_range(BIGINT) == (-(2**63), 2**63 - 1)
    assert fit.type_range(parse("numeric(3,1)")) == (Decimal("-99.9"), Decimal("99.9"))
    assert fit.type_range(parse("text")) is None


@given(st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=4), st.integers(0, 3))
def test_digits_after_the_point_are_those_that_matter(number: Decimal, zeros: int) -> None:
    places = fit.decimals(number)
    assert 0 <= places <= 4
    assert number == round(number, places)
    assert fit.decimals(Decimal(f"{number:f}" + "0" * zeros)) == places


def kinds() -> Iterator[SqlType]:
    yield from map(parse, ("smallint", "integer", "bigint", "numeric(30,10)", "numeric(1,1)", "real"))


def test_a_type_holds_the_ends_of_its_range() -> None:
    for kind in kinds():
        limits = fit.type_range(kind)
        assert limits is not None
        assert problems(str(kind), f"bounds = [{limits[0]}, {limits[1]}]") == []
