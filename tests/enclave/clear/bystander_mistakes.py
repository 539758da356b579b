"""bystander_mistakes: mistakes that a privacy path invites, each planted into the product's real code."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest

from enclave.clear import duckdb_engine, partials, vault
from enclave.clear.partials import Partials
from policies.model import Policy
from rewriter import bound, compile, cost, terms
from rewriter.bound import Facts, Property, Scope
from rewriter.cost import Coordinate, Noise
from rewriter.plan import Join, Relation
from rewriter.terms import Term

Plant = Callable[[pytest.MonkeyPatch], None]


def _bound_doubled(patch: pytest.MonkeyPatch) -> None:
    """C doubled behind the clip."""
    patch.setattr(partials, "GRID", 2 * partials.GRID)


def _unit_equality_dropped(patch: pytest.MonkeyPatch) -> None:
    def on(join: Join, names: Scope, policy: Policy) -> list[str]:
        return [names.term(c).sql for c in join.on if not compile._equates_units(c, names)]

    patch.setattr(compile, "_on", on)


def _clipped_patched(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    original = Partials.clipped

    def clipped(self: Partials, bounds: Sequence[Fraction], noise: Noise) -> str:
        return change(original(self, bounds, noise))

    patch.setattr(Partials, "clipped", clipped)


def _clip_missing_after_join(patch: pytest.MonkeyPatch) -> None:
    """A join that doubles rows after the clip: no clip follows it."""
    doubled = "SELECT _unit, gid, {} FROM ({}) c JOIN (VALUES (1), (2)) twice(n) ON TRUE GROUP BY ALL"

    def change(sql: str) -> str:
        sums = ", ".join(f"CAST(sum({name}) AS HUGEINT) AS {name}" for name in re.findall(r" AS (c\d+)", sql))
        return doubled.format(sums, sql)

    _clipped_patched(patch, change)


def _not_clipped(patch: pytest.MonkeyPatch) -> None:
    """Clipping after totals: units themselves are not clipped at all."""
    patch.setattr(partials, "_factor", lambda index, noise: "any_value(1.0::DOUBLE)")


def _norm_over_one_group(patch: pytest.MonkeyPatch) -> None:
    def change(sql: str) -> str:
        sql = sql.replace("FROM x GROUP BY _unit", "FROM x GROUP BY _unit, gid")
        return sql.replace("f AS (SELECT _unit,", "f AS (SELECT _unit, gid,").replace(
            "USING (_unit)", "USING (_unit, gid)"
        )

    _clipped_patched(patch, change)


def _null_unit_kept(patch: pytest.MonkeyPatch) -> None:
    """Rows that belong to nobody become those of one more unit."""

    everyone = "SELECT * REPLACE (coalesce(_value, 'nobody') AS _value) FROM (SELECT "

    def change(sql: str) -> str:
        sql = sql.replace("f._value FROM", "coalesce(f._value, 'nobody') AS _value FROM")
        return sql.replace("SELECT ", everyone, 1) + ")" if sql.endswith(" AS _value FROM raw") else sql

    _vault_patched(patch, change)


def _null_counts_as_limit(patch: pytest.MonkeyPatch) -> None:
    """least() ignores NULL: without the guard a NULL is the limit itself."""

    def keep_null(term: Term, sql: str) -> str:
        return f"({sql})"

    patch.setattr(terms, "_keep_null", keep_null)


def _vault_patched(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    original = vault.run
    patch.setattr(vault, "run", lambda connection, sql: original(connection, change(sql)))


def _rank_by_row_number(patch: pytest.MonkeyPatch) -> None:
    """The rows that are kept are chosen by their place in the file."""
    pattern = re.compile(r"PARTITION BY u\._unit ORDER BY sha256\(.*?\]\)\)\)\)? AS INTEGER\) AS _rank", re.DOTALL)
    by_row = "PARTITION BY u._unit ORDER BY hash(t.rowid)) AS INTEGER) AS _rank"
    _vault_patched(patch, lambda sql: pattern.sub(by_row, sql))


def _rank_by_dense_id(patch: pytest.MonkeyPatch) -> None:
    """Rows are chosen by a hash over the dense unit id, which the removal of another unit shifts."""
    _vault_patched(patch, lambda sql: sql.replace(", _value, CAST", ", CAST(u._unit AS VARCHAR), CAST"))


def _groups_by_dense_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(duckdb_engine, "prf_of_unit", lambda unit, secret: "sha256(CAST(p._unit AS VARCHAR))")


def _rows_per_unit_forgotten(patch: pytest.MonkeyPatch) -> None:
    _vault_patched(patch, lambda sql: re.sub(r"WHERE _rank <= \d+ ", "", sql))


def _one_group_too_many(patch: pytest.MonkeyPatch) -> None:
    original = Partials._chosen

    def chosen(self: Partials, *given: Any) -> str:
        *source, per_unit, prf = given
        return original(self, *source, per_unit + 1, prf)

    patch.setattr(Partials, "_chosen", chosen)


def _any_groups(patch: pytest.MonkeyPatch) -> None:
    """All groups of a unit count as its support."""
    patch.setattr(Partials, "_chosen", lambda self, *given: self._stored())


def _floating_sum(patch: pytest.MonkeyPatch) -> None:
    original = compile._partial

    def partial(coordinate: Coordinate, names: Scope) -> str:
        sql = original(coordinate, names)
        return sql.replace("sum(", "sum(0.1::DOUBLE * ") if sql.startswith("coalesce(sum(") else sql

    patch.setattr(compile, "_partial", partial)


def _rounding_casts(patch: pytest.MonkeyPatch) -> None:
    """The engine's casts round half up: a clipped vector can then be longer than C."""
    _clipped_patched(patch, lambda sql: sql.replace("trunc(", "("))


def _factor_not_tight(patch: pytest.MonkeyPatch) -> None:
    """A factor that is rounded up a little."""
    patch.setattr(partials, "_TIGHT", 1 + 2.0**-18)


def _squares_not_roots(patch: pytest.MonkeyPatch) -> None:
    """Vectors are held in the L2 ball for Laplace noise, too."""
    original = partials._factor
    patch.setattr(partials, "_factor", lambda index, noise: original(index, "gaussian"))


def _histogram_of_cells(patch: pytest.MonkeyPatch) -> None:
    """A histogram of (unit, group) cells: one unit is in many bins."""
    original = Partials._run

    def run(self: Partials, sql: str) -> list[tuple[Any, ...]]:
        if sql.startswith("SELECT b, count(*)"):
            sql = sql.replace("GROUP BY _unit ", "GROUP BY _unit, gid ")
        return original(self, sql)

    patch.setattr(Partials, "_run", run)


def _rows_not_multiplied(patch: pytest.MonkeyPatch) -> None:
    """Every public join is taken for one along a declared key."""
    patch.setattr(bound, "_on_whole_key", lambda side, on, names: True)


def _determined_by_anything(patch: pytest.MonkeyPatch) -> None:
    """Every key is taken for one that the unit determines: then one unit supports many groups, hidden as one."""
    patch.setattr(bound, "is_determined", lambda expression, relation, policy: True)


def _one_row_is_enough(patch: pytest.MonkeyPatch) -> None:
    """The static bound of a count forgets joins."""
    original = cost.property_of

    def one_row(relation: Relation, policy: Policy, facts: Facts) -> Property:
        return dataclasses.replace(original(relation, policy, facts), rows_max=1)

    patch.setattr(cost, "property_of", one_row)


L1_OR_L2 = "L1 norm in grid steps|L2 norm in grid steps"
MISTAKES: dict[str, tuple[Plant, str]] = {
    "C doubled behind the clip": (_bound_doubled, L1_OR_L2),
    "unit equality dropped from a join": (
        _unit_equality_dropped,
        "histogram|static bound|bit-identical|others support",
    ),
    "no clip after a multiplying join": (_clip_missing_after_join, L1_OR_L2),
    "clip after totals": (_not_clipped, L1_OR_L2),
    "norm over one group only": (_norm_over_one_group, L1_OR_L2),
    "NULL unit kept at load": (_null_unit_kept, "every stored row belongs to a unit of the data"),
    "least() over NULL without its guard": (_null_counts_as_limit, "a NULL adds nothing"),
    "rows chosen by row number": (_rank_by_row_number, "other units' rows and ranks are the same"),
    "rows chosen by dense id": (_rank_by_dense_id, "other units' rows and ranks are the same"),
    "groups chosen by dense id": (_groups_by_dense_id, "others support the same groups"),
    "rows_per_unit forgotten": (_rows_per_unit_forgotten, "no unit has more rows than rows_per_unit"),
    "one group too many": (_one_group_too_many, "counts change by at most k in all"),
    "all groups supported": (_any_groups, "counts change by at most k in all"),
    "floating sum below the boundary": (_floating_sum, "nothing floating is summed"),
    "casts that round": (_rounding_casts, L1_OR_L2),
    "factor rounded up": (_factor_not_tight, L1_OR_L2),
    "L2 ball for Laplace noise": (_squares_not_roots, "L1 norm in grid steps"),
    "histogram of cells": (_histogram_of_cells, "a histogram changes by at most 1 in one bin"),
    "public joins do not multiply": (
        _rows_not_multiplied,
        "static bound|counts change by at most k|no expression fails",
    ),
    "every key is determined": (
        _determined_by_anything,
        "counts change by at most k in all|static bound|no expression fails",
    ),
    "joins forgotten in static bounds": (_one_row_is_enough, "static bound|no expression fails"),
}
"""What to plant, and the claims of which one must be seen to break."""
