"""`dp.margin()`: over a thousand fresh rooms, how often the clipped true value lies within what was promised.

Promised are at least 94 %, and for raw counts and sums at most 97 % where the noise scale is 10 or more. Cells of a
room share the bound that it found, and given that bound their noise is independent, so hits are binomial. A test
fails where so few (many) hits have a probability below FALSE_ALARM although each is as likely as 94 % (97 %): the
band is wider than the promise by this exact tail alone, about one percentage point for 16,000 cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from enclave.answer import Noised, NoisyCoordinate, Question
from rewriter.released import MeasureColumn
from tests.rooms import Data, certificate

ROOMS = 1000
FALSE_ALARM = 4e-7
"""Of one comparison. A column is compared with two limits and can miss one of them only."""
UNITS = 1000
GROUPS = tuple(f"g{number:02d}" for number in range(16))
WIDE = 10.0
POLICY = """
[room]
name = "margins"
version = 1
environment = "development"
[units.member]
[tables.visits]
unit = {{ name = "member", column = "id" }}
rows_per_unit = 4
[tables.visits.columns]
id = {{ type = "bigint", not_null = true }}
grp = {{ type = "text", values = {groups}, not_null = true }}
days = {{ type = "integer", bounds = [0, 100], not_null = true }}
paid = {{ type = "bigint" }}
[budgets.member]
epsilon = "50"
delta = "1e-6"
accountant = "{accountant}"
[roles.researcher]
tables = ["visits"]
epsilon = "50"
query_epsilon = "0.1"
[analysts.ana]
role = "researcher"
certificate = "{certificate}"
"""

Vector = np.ndarray[Any, Any]
Row = tuple[int, str, int, int | None]
"""Member, group, days, paid."""


def visits() -> list[Row]:
    """Members with one to four visits, a few of them far dearer than the rest, so that bounds do clip."""
    dice = np.random.default_rng(7)
    made: list[Row] = []
    for member in range(UNITS):
        for _ in range(int(dice.integers(1, 5))):
            paid = int(dice.normal(0, 40) * (30 if member % 50 == 0 else 1))
            unknown = dice.random() < 0.1
            made.append((member, GROUPS[dice.integers(0, 16)], int(dice.integers(0, 101)), None if unknown else paid))
    return made


ROWS = visits()


def load(accountant: str) -> Data:
    columns = zip(*ROWS, strict=True)
    table = pa.table(dict(zip(("id", "grp", "days", "paid"), map(pa.array, columns), strict=True)))
    policy = POLICY.format(groups=list(GROUPS), accountant=accountant, certificate=certificate("ana"))
    return Data(policy, {"visits": table})


@dataclass
class Tally:
    """Cells and hits of one column: all of them, and those whose noise is wide."""

    cells: int = 0
    hits: int = 0
    wide: int = 0
    wide_hits: int = 0

    def add(self, values: Sequence[Any], margins: Sequence[Any], truths: Vector, width: float) -> None:
        assert [value is None for value in values] == [margin is None for margin in margins]
        known = [n for n, value in enumerate(values) if value is not None]
        off = np.abs(np.array(values, dtype=float) - truths)[known]  # numerics come as text
        hits = int(np.sum(off <= np.array(margins, dtype=float)[known]))
        self.cells, self.hits = self.cells + len(known), self.hits + hits
        if width >= WIDE:
            self.wide, self.wide_hits = self.wide + len(known), self.wide_hits + hits

    def check(self, least: float, most: float) -> None:
        words = f"{self.hits} of {self.cells} are within the margin, of the wide ones {self.wide_hits} of {self.wide}"
        assert self.hits >= binom.ppf(FALSE_ALARM, self.cells, least), words
        assert self.wide_hits <= binom.isf(FALSE_ALARM, self.wide, most), words


def cells(value: Callable[[Row], float]) -> Vector:
    """The sums of each member (rows) in each group (columns) before clipping, from the rows themselves."""
    found = np.zeros((UNITS, len(GROUPS)))
    for row in ROWS:
        found[row[0], GROUPS.index(row[1])] += value(row)
    return found


COUNT, DAYS, PAID = cells(lambda _: 1.0), cells(lambda row: row[2]), cells(lambda row: row[3] or 0)


def clipped(*parts: tuple[NoisyCoordinate, Vector]) -> list[Vector]:
    """What coordinates estimate: each member's vectors scaled, by one factor, until their norms are in bounds."""
    factor = np.ones(UNITS)
    for coordinate, vectors in parts:
        norm = np.linalg.norm(vectors, ord=1 if coordinate.noise == "laplace" else 2, axis=1)
        factor = np.minimum(factor, float(coordinate.bound) / np.maximum(norm, 1e-9))
    return [factor @ vectors for _, vectors in parts]


def measures(data: Data, sql: str) -> tuple[MeasureColumn, ...]:
    """Which coordinates of the release each aggregate of a query is made of."""
    assert data._desk._desk is not None
    return data._desk._desk._query(Question(sql, "ana")).releases[0].measures


def width(coordinate: NoisyCoordinate) -> float:
    """The noise scale of a coordinate in its own unit."""
    return coordinate.scale * float(coordinate.step)


def ask(data: Data, sql: str, epsilon: str) -> tuple[list[tuple[Any, ...]], Noised]:
    """The columns of a fresh room's answer beside the groups, and the release they were made of."""
    with data.room() as room:
        groups, *columns = zip(*room.rows(sql, epsilon=epsilon), strict=True)
        (noised,) = room.stored()
    assert groups == GROUPS
    return columns, noised


@pytest.mark.system
@pytest.mark.parametrize("accountant", ["pure", "zcdp"])
def test_margins_of_counts_and_sums_hold_the_clipped_true_value_as_often_as_promised(accountant: str) -> None:
    sql = (
        "SELECT grp, count(*), dp.margin(count(*)), sum(days), dp.margin(sum(days)), sum(paid), dp.margin(sum(paid)) "
        "FROM visits GROUP BY grp"
    )
    data = load(accountant)
    places = [measure.coordinates[0] for measure in measures(data, sql)]
    tallies = [Tally(), Tally(), Tally()]
    for _ in range(ROOMS):
        columns, noised = ask(data, sql, {"pure": "0.8", "zcdp": "0.2"}[accountant])
        for n, (tally, vectors) in enumerate(zip(tallies, (COUNT, DAYS, PAID), strict=True)):
            coordinate = noised.coordinates[places[n]]
            (truths,) = clipped((coordinate, vectors))
            tally.add(columns[2 * n], columns[2 * n + 1], truths, width(coordinate))
    print(accountant, tallies)
    for tally in tallies:
        tally.check(0.94, 0.97)
        assert tally.wide > tally.cells / 2, "the upper limit was hardly tried"


@pytest.mark.system
@pytest.mark.parametrize(
    ("accountant", "epsilon", "rooms"), [("pure", "3", ROOMS), ("zcdp", "0.3", ROOMS), ("pure", "0.1", 300)]
)
def test_margins_of_means_hold_the_clipped_true_value_as_often_as_promised(
    accountant: str, epsilon: str, rooms: int
) -> None:
    """At 3 the counts are some 20 times their noise, at 0.1 the noise is the greater: then many means are NULL."""
    sql = (
        "SELECT grp, avg(days), dp.margin(avg(days)), sum(days), dp.margin(sum(days)), count(*), dp.margin(count(*)) "
        "FROM visits GROUP BY grp"
    )
    data = load(accountant)
    places = next(measure.coordinates for measure in measures(data, sql) if measure.kind == "mean")
    mean, total, count = Tally(), Tally(), Tally()
    for _ in range(rooms):
        columns, noised = ask(data, sql, epsilon)
        counted, summed = (noised.coordinates[place] for place in places)
        centre = float(summed.centre)
        counts, around = clipped((counted, COUNT), (summed, DAYS - centre * COUNT))
        mean.add(columns[0], columns[1], around / counts + centre, 0.0)  # at least 94 % is all that is promised
        total.add(columns[2], columns[3], around + centre * counts, width(summed))
        count.add(columns[4], columns[5], counts, width(counted))
    print(accountant, epsilon, mean, total, count)
    for tally in (mean, total, count):
        tally.check(0.94, 0.97)
    assert mean.cells > rooms * len(GROUPS) / 3
    assert total.cells == count.cells == rooms * len(GROUPS)
