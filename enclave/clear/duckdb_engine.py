"""duckdb_engine: a plan and its price -> a noised release, on DuckDB.

Everything of the plan is derived anew here: property, bounds, sensitivities and stages. A plan that claims
anything cannot be written (plan.py), and one that is not private is refused by the same rules that the rewriter
applied (bound.py, cost.py), so a broken or forged public worker gains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

import duckdb
import pyarrow as pa

from enclave.answer import Noised, NoisyCoordinate
from enclave.clear import contribution, noise
from enclave.clear.noise import Noisy, Sampler
from enclave.clear.partials import Partials, prf_of_unit
from enclave.clear.vault import run
from enclave.tables import PublicTables
from policies.model import Policy
from rewriter import compile as compiler
from rewriter import cost
from rewriter.bound import ROWS_PER_UNIT_MAX, groups_max, property_of
from rewriter.cost import Coordinate, Price, Stages
from rewriter.plan import NoisyGroups, Release
from rewriter.refusal import Refusal

_MEAN_ABSOLUTE: Final = {"laplace": 1.0, "gaussian": math.sqrt(2 / math.pi)}
"""Expected absolute value of noise of scale 1."""


class Engine:
    """Answers plans over the tables of a loaded vault."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, policy: Policy, secret: bytes, sampler: Sampler
    ) -> None:
        """Take a connection to a loaded vault; `secret` keys every choice of rows or groups."""
        self._connection = connection
        self._policy = policy
        self._secret = secret
        self._sampler = sampler
        self.facts = PublicTables(lambda sql: int(run(connection.cursor(), sql)[0][0]))

    def release(
        self, plan: Release, price: Price, on_start: Callable[[Callable[[], None]], None] = lambda _: None
    ) -> Noised:
        """Run a plan at a price; `on_start` is given what interrupts it.

        Ensures: the result is as private as its price says (SECURITY.md, "What an answer promises").

        Raises:
            Refusal: the plan is not private.
        """
        found = cost.coordinates(plan, self._policy, self.facts)
        stages = cost.stages(plan, found, price)
        assert stages.total <= price.amount
        run_of = _Run(self, plan, price, found, stages, self._connection.cursor())
        on_start(run_of.connection.interrupt)
        try:
            return run_of.answer()
        finally:
            run_of.connection.close()

    @property
    def policy(self) -> Policy:
        """The policy that plans are checked against."""
        return self._policy

    @property
    def secret(self) -> bytes:
        """The key of the PRF."""
        return self._secret

    @property
    def sampler(self) -> Sampler:
        """What adds noise."""
        return self._sampler


class _Run:
    """One release on its way through the stages."""

    def __init__(
        self,
        engine: Engine,
        plan: Release,
        price: Price,
        found: tuple[Coordinate, ...],
        stages: Stages,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self.engine, self.plan, self.price, self.stages = engine, plan, price, stages
        self.coordinates, self.connection = found, connection
        self.partials = Partials(connection, found, len(plan.keys))
        self.noise = cost.noise_of(price.accountant)

    def answer(self) -> Noised:
        self.partials.load(compiler.partials(self.plan, self.coordinates, self.engine.policy))
        groups = self._groups()
        self.partials.set_groups(groups)
        centres = {index: self._centre(index) for index in self.stages.centres}
        bounds = [self._bound(index, groups.num_rows) for index in range(len(self.coordinates))]
        totals = self.partials.totals(bounds, self.noise) if self.coordinates else []
        noisy = [self._add(values, index) for index, values in enumerate(totals)]
        released = tuple(self._coordinate(i, noisy[i], bounds[i], centres) for i in range(len(noisy)))
        return Noised(self._key_texts(), groups.num_rows, released)

    def _groups(self) -> pa.Table:
        if isinstance(self.plan.groups, NoisyGroups):
            return self._noisy_groups(self.plan.groups.per_unit)
        if not self.plan.keys:
            return pa.table({"whole": pa.array([True])})
        sql = compiler.groups(self.plan, self.engine.policy)
        table: pa.Table = self.connection.sql(sql).to_arrow_table()
        return table

    def _noisy_groups(self, per_unit: int) -> pa.Table:
        """The groups whose noisy count of units reaches the threshold."""
        if not 1 <= per_unit <= ROWS_PER_UNIT_MAX:
            raise Refusal("0A000", "a unit supports from one group up to as many as it may have rows")
        found = property_of(self.plan.source, self.engine.policy, self.engine.facts)
        sure = groups_max(self.plan, found.rows_max, self.engine.policy) <= per_unit
        prf = None if sure else prf_of_unit(self.plan.unit, self.engine.secret)
        supporters = self.partials.supporters(per_unit, prf)
        kind, amount = cost.threshold(self.price, self.stages.keys, per_unit)
        norm = per_unit if kind == "laplace" else math.isqrt(per_unit - 1) + 1
        counts = [int(n) for n in supporters.column("n").to_numpy()]
        noisy = self.engine.sampler.add(kind, counts, norm, amount)
        least = noise.threshold(kind, noisy.scale, per_unit, self.price.delta_keys)
        shown = pa.array([value >= least for value in noisy.values], pa.bool_())
        return supporters.drop_columns(["n"]).filter(shown)

    def _centre(self, index: int) -> int:
        noisy = self._histogram(self.partials.centre_histogram(index), self.stages.centres[index])
        return self.partials.set_centre(index, contribution.centre(noisy.values, noisy.scale, noisy.noise))

    def _bound(self, index: int, groups: int) -> Fraction:
        """The contribution bound C of a coordinate, in its units: declared, static, or found."""
        coordinate = self.coordinates[index]
        if coordinate.declared is not None:
            return contribution.on_grid(min(coordinate.declared, Fraction(coordinate.static_max)))
        if not coordinate.is_found:
            return Fraction(coordinate.static_max)
        noisy = self._histogram(self.partials.norm_histogram(index, self.noise), self.stages.bounds[index])
        scale = cost.noise_scale(self.price.accountant, self.stages.sums[index], 1.0)
        cell = scale * _MEAN_ABSOLUTE[self.noise]
        most = coordinate.static_max
        return contribution.choose(noisy.values, noisy.scale, cell, max(1, groups), most, noisy.noise)

    def _histogram(self, counts: list[int], amount: Fraction) -> Noisy:
        """Noise a histogram over units: one unit is in one bin, so its sensitivity is 1 in every norm."""
        return self.engine.sampler.add(self.noise, counts, 1, amount)

    def _add(self, values: list[int], index: int) -> Noisy:
        return self.engine.sampler.add(self.noise, values, contribution.GRID, self.stages.sums[index])

    def _coordinate(self, index: int, noisy: Noisy, bound: Fraction, centres: dict[int, int]) -> NoisyCoordinate:
        coordinate = self.coordinates[index]
        real = bound / coordinate.per_one
        twice = 2 * centres[index] if index in centres else coordinate.twice_centre or 0
        return NoisyCoordinate(
            noisy.values,
            real / contribution.GRID,
            noisy.noise,
            noisy.scale,
            real,
            Fraction(twice, coordinate.per_one),
        )

    def _key_texts(self) -> tuple[tuple[str | None, ...], ...]:
        if not self.plan.keys:
            return ()
        columns = ", ".join(f"CAST(k{number} AS VARCHAR)" for number in range(len(self.plan.keys)))
        rows = run(self.connection, f"SELECT {columns} FROM g ORDER BY gid")
        return tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in self.plan.keys)
