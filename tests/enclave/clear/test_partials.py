from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.clear.contribution import GRID, bins_for, centre, centre_bins
from enclave.clear.partials import Partials, prf_of_unit
from enclave.clear.vault import connect
from rewriter.cost import Coordinate, Noise
from rewriter.plan import Column
from rewriter.terms import Units

HUGE = 2**125
X = Column("t", "x")
SUM = Coordinate("sum", X, Units("x", 1, HUGE), HUGE)
MEAN = (
    Coordinate("arguments", X, None, 100),
    Coordinate("centred", X, Units("x", 1, 2**40), 2**60, twice_centre=10, count=0),
)
Cells = Sequence[tuple[Any, ...]]


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect(threads=1)
    connection.execute(
        "CREATE TABLE _units_member AS SELECT range::INTEGER AS _unit, 'v' || range AS value FROM range(9)"
    )
    yield connection
    connection.close()


def partials(engine: duckdb.DuckDBPyConnection, cells: Cells, coordinates: Sequence[Coordinate] = (SUM,)) -> Partials:
    """Partial sums of (unit, group, sums...) with all their groups public."""
    found = Partials(engine.cursor(), coordinates, 1)
    names = ", ".join(f"s{number}" for number in range(len(coordinates)))
    row = ", ".join(["CAST(? AS INTEGER)", "CAST(? AS VARCHAR)", *("CAST(? AS HUGEINT)" for _ in coordinates)])
    found._connection.execute(
        f"CREATE TEMP TABLE given AS SELECT * FROM (SELECT {row}) t(_unit, k0, {names}) LIMIT 0", cells[0]
    )
    found._connection.executemany(f"INSERT INTO given VALUES ({row})", [list(cell) for cell in cells])
    found.load("SELECT * FROM given")
    return found


def grouped(found: Partials, *groups: str | None) -> Partials:
    found.set_groups(pa.table({"k0": pa.array(groups, pa.string())}))
    return found


def clipped(
    found: Partials, bound: Fraction | Sequence[Fraction], noise: Noise
) -> dict[tuple[int, int], tuple[int, ...]]:
    bounds = [bound] if isinstance(bound, Fraction) else bound
    return {(unit, group): tuple(steps) for unit, group, *steps in found._run(found.clipped(bounds, noise))}


@pytest.mark.parametrize("noise", ["laplace", "gaussian"])
def test_a_vector_within_the_bound_is_put_on_the_grid_alone(engine: duckdb.DuckDBPyConnection, noise: Noise) -> None:
    found = grouped(partials(engine, [(1, "a", 3), (1, "b", -4)]), "a", "b")
    assert clipped(found, Fraction(8), noise) == {(1, 0): (3 * GRID // 8,), (1, 1): (-4 * GRID // 8,)}


@pytest.mark.parametrize(("noise", "length"), [("laplace", 7), ("gaussian", 5)])
def test_a_longer_vector_is_scaled_to_the_bound(engine: duckdb.DuckDBPyConnection, noise: Noise, length: int) -> None:
    found = grouped(partials(engine, [(1, "a", 3), (1, "b", -4)]), "a", "b")
    steps = clipped(found, Fraction(1), noise)
    assert steps[1, 0][0] == pytest.approx(3 * GRID / length, abs=1)
    assert steps[1, 1][0] == pytest.approx(-4 * GRID / length, abs=1)


def test_rounding_is_toward_zero(engine: duckdb.DuckDBPyConnection) -> None:
    found = grouped(partials(engine, [(1, "a", 2), (2, "a", -2)]), "a")
    assert clipped(found, Fraction(3), "laplace") == {(1, 0): (2 * GRID // 3,), (2, 0): (-(2 * GRID // 3),)}


@settings(deadline=None, max_examples=40)
@given(
    sums=st.lists(st.one_of(st.integers(-5, 5), st.integers(-HUGE, HUGE)), min_size=1, max_size=30),
    bound=st.fractions(Fraction(1, 2**30), 2**100),
    noise=st.sampled_from(["laplace", "gaussian"]),
)
def test_no_vector_is_longer_than_the_bound(sums: list[int], bound: Fraction, noise: Noise) -> None:
    with connect(threads=1) as engine:
        names = [f"g{number}" for number in range(len(sums))]
        found = grouped(partials(engine, [(1, n, s) for n, s in zip(names, sums, strict=True)]), *names)
        steps = [row[0] for row in clipped(found, bound, noise).values()]
    if noise == "laplace":
        assert sum(map(abs, steps)) <= GRID
    else:
        assert sum(step * step for step in steps) <= GRID**2


def test_a_mean_keeps_its_ratio_because_one_factor_serves_both(engine: duckdb.DuckDBPyConnection) -> None:
    found = grouped(partials(engine, [(1, "a", 50, 50 * 105)], MEAN), "a")  # 2 * 5250 - 10 * 50 = 10000
    ((count, total),) = clipped(found, [Fraction(10), Fraction(5000)], "laplace").values()
    assert Fraction(total * 5000, count * 10) == pytest.approx(Fraction(10000, 50), rel=1e-4)
    assert total < GRID // 2


def test_rows_outside_the_groups_count_for_nothing(engine: duckdb.DuckDBPyConnection) -> None:
    found = grouped(partials(engine, [(1, "a", 1), (1, "b", 2**100)]), "a")
    assert clipped(found, Fraction(1), "laplace") == {(1, 0): (GRID,)}


def test_null_is_a_group_like_others_and_not_the_text_null(engine: duckdb.DuckDBPyConnection) -> None:
    found = grouped(partials(engine, [(1, None, 1), (2, "NULL", 1)]), None, "NULL")
    assert found.totals([Fraction(1)], "laplace") == [[GRID, GRID]]


def test_totals_list_every_group_in_order_and_empty_ones_as_zero(engine: duckdb.DuckDBPyConnection) -> None:
    found = grouped(partials(engine, [(1, "b", 1), (2, "b", 1), (2, "a", 1)]), "b", "nobody", "a")
    assert found.totals([Fraction(2)], "gaussian") == [[GRID, 0, GRID // 2]]


def test_a_histogram_counts_units_by_octaves_of_their_norm(engine: duckdb.DuckDBPyConnection) -> None:
    cells = [
        (0, "a", 0),
        (1, "a", 1),
        (2, "a", -2),
        (3, "a", 3),
        (4, "a", 4),
        (5, "a", 3),
        (5, "b", -2),
        (6, "a", HUGE),
    ]
    found = grouped(partials(engine, cells), "a", "b")
    counts = found.norm_histogram(0, "laplace")
    assert len(counts) == bins_for(HUGE)
    assert {bin_: count for bin_, count in enumerate(counts) if count} == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 126: 1}


def test_squares_of_huge_sums_do_not_overflow(engine: duckdb.DuckDBPyConnection) -> None:
    cells = [(1, f"g{n}", (-1) ** n * HUGE // 16) for n in range(16)]  # norm 2^125 / 4
    found = grouped(partials(engine, cells), *(f"g{n}" for n in range(16)))
    counts = found.norm_histogram(0, "gaussian")
    assert {bin_: count for bin_, count in enumerate(counts) if count} == {124: 1}


def test_small_squares_are_exact(engine: duckdb.DuckDBPyConnection) -> None:
    small = Coordinate("sum", X, Units("x", 1, 2**20), 2**40)
    found = grouped(partials(engine, [(1, "a", 3), (1, "b", 4), (2, "a", 6), (2, "b", 8)], [small]), "a", "b")
    counts = found.norm_histogram(0, "gaussian")
    assert {bin_: count for bin_, count in enumerate(counts) if count} == {4: 1, 5: 1}  # norms 5 and 10


@pytest.mark.parametrize("most", [2**31 - 1, 2**31, 2**50, 2**50 + 1, 2**60, 2**62 - 4, 2**126 - 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_squares_around_any_centre_do_not_overflow(engine: duckdb.DuckDBPyConnection, most: int, sign: int) -> None:
    """A found centre can lie beyond all values: noise alone may lift the last bin of its histogram."""
    rows = 1000
    magnitude = most // (4 * rows)
    coordinate = Coordinate("centred", X, Units("x", 1, magnitude), 4 * rows * magnitude, count=0)
    found = grouped(partials(engine, [(1, "a", rows, -sign * rows * magnitude)], [MEAN[0], coordinate]), "a")
    farthest = [0] * (2 * centre_bins(magnitude) + 1)
    farthest[-1 if sign > 0 else 0] = 10**6
    found.set_centre(1, centre(farthest, 1.0))
    for noise in ("laplace", "gaussian"):
        assert sum(found.norm_histogram(1, noise)) == 1
        assert len(found.totals([Fraction(1), Fraction(1)], noise)) == 2


def test_the_centre_histogram_puts_a_unit_at_its_mean(engine: duckdb.DuckDBPyConnection) -> None:
    found = Coordinate("centred", X, Units("x", 1, 2**20), 2**40, count=0)
    cells = [(1, "a", 2, 16), (2, "a", 1, -8), (3, "a", 0, 0), (4, "a", 5, 1), (5, "a", 1, 8), (5, "b", 1, 8)]
    counts = grouped(partials(engine, cells, [MEAN[0], found]), "a", "b").centre_histogram(1)
    middle = len(counts) // 2
    assert {bin_ - middle: count for bin_, count in enumerate(counts) if count} == {0: 1, 13: 2, -13: 1}


def test_a_unit_supports_at_most_k_groups_the_same_ones_every_time(engine: duckdb.DuckDBPyConnection) -> None:
    cells = [(unit, f"g{n}", 1) for unit in range(9) for n in range(unit + 1)]
    prf = prf_of_unit("member", b"\1" * 32)
    supports = [partials(engine, order).supporters(3, prf).to_pydict() for order in (cells, cells[::-1])]
    assert supports[0] == supports[1]
    assert sum(supports[0]["n"]) == sum(min(unit + 1, 3) for unit in range(9))


def test_another_secret_chooses_other_groups(engine: duckdb.DuckDBPyConnection) -> None:
    cells = [(unit, f"g{n}", 1) for unit in range(9) for n in range(20)]
    found = [
        partials(engine, cells).supporters(2, prf_of_unit("member", bytes([n]) * 32)).to_pydict() for n in (1, 2)
    ]
    assert found[0] != found[1]


def test_without_a_choice_every_group_of_a_unit_counts(engine: duckdb.DuckDBPyConnection) -> None:
    found = partials(engine, [(1, "a", 1), (1, None, 1), (2, "a", 1)]).supporters(2, None)
    assert found.to_pydict() == {"k0": ["a", None], "n": [2, 1]}
