"""explain: a rewritten query and its price -> the lines of EXPLAIN. Reads text, policy and public tables alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from policies.model import Policy
from rewriter import cost
from rewriter.bound import Protected, property_of
from rewriter.cost import Coordinate, Price, Stages
from rewriter.keys import PublicFacts
from rewriter.plan import Filter, Join, NoisyGroups, Relation, Release, Scan
from rewriter.released import ReleasedTable
from rewriter.rewrite import Rewritten


def explain(query: Rewritten, prices: Mapping[str, Price], policy: Policy, facts: PublicFacts) -> list[str]:
    """Describe plan, bounds, charge and margins of a query without running it.

    Args:
        query: the rewritten query.
        prices: of the whole question, by kind of unit; its releases share it equally.
        policy: what bounds are derived from.
        facts: sizes of public tables.
    """
    lines = [f"Post-process: {query.sql}"]
    for shape in query.releases:
        whole = prices[shape.release.unit]
        share = replace(
            whole, amount=whole.amount / len(query.releases), delta_keys=whole.delta_keys / len(query.releases)
        )
        lines += _release(shape, share, policy, facts)
    return lines


def _release(shape: ReleasedTable, price: Price, policy: Policy, facts: PublicFacts) -> list[str]:
    release = shape.release
    found = property_of(release.source, policy, facts)
    assert isinstance(found, Protected)
    coordinates = cost.coordinates(release, policy, facts)
    stages = cost.stages(release, coordinates, price)
    lines = [f"Release {shape.name}: {_charge(price)}, protects each {release.unit} (at most {found.rows_max} rows)"]
    lines += [f"  {line}" for line in _tree(release.source)]
    lines.append(f"  Groups: {_groups(release, stages, price)}")
    for number, measure in enumerate(shape.measures):
        margins = ", ".join(_margin(coordinates[place], place, stages, price) for place in measure.coordinates)
        lines.append(f"  m{number} {measure.label}: {margins}")
    return lines


def _charge(price: Price) -> str:
    if price.accountant == "pure":
        return f"charges epsilon {float(price.amount):.3g}"
    return f"charges epsilon {math.sqrt(2 * float(price.amount)):.3g} (rho {float(price.amount):.3g})"


def _tree(relation: Relation) -> list[str]:
    match relation:
        case Scan(table, alias):
            return [f"Scan {table} {alias}"]
        case Filter(source, where):
            return [f"Filter: {len(where)} conditions", *(f"  {line}" for line in _tree(source))]
        case Join(kind, left, right, on):
            inner = [*_tree(left), *_tree(right)]
            return [f"{kind.capitalize()} join: {len(on)} conditions", *(f"  {line}" for line in inner)]


def _groups(release: Release, stages: Stages, price: Price) -> str:
    if isinstance(release.groups, NoisyGroups):
        kind, _ = cost.threshold(price, stages.keys, release.groups.per_unit)
        return (
            f"unknown, shown from a noisy count of units on ({kind} threshold, delta {float(price.delta_keys):.1g}, "
            f"at most {release.groups.per_unit} groups a unit)"
        )
    return "one" if not release.keys else "public, every one is in the answer"


def _margin(coordinate: Coordinate, place: int, stages: Stages, price: Price) -> str:
    """Contribution bound and 95 % half-width of one coordinate; a formula while C is not found."""
    per_bound = cost.noise_scale(price.accountant, stages.sums[place], 1.0)
    width = per_bound * cost.HALF_WIDTH[cost.noise_of(price.accountant)]
    name = {"rows": "count", "arguments": "count", "units": "units", "sum": "sum", "centred": "centred sum"}[
        coordinate.kind
    ]
    if coordinate.is_found:
        top = coordinate.static_max / coordinate.per_one
        return f"{name} +-{width:.3g} C, C found, at most {top:.6g}"
    bound = float(min(coordinate.declared or coordinate.static_max, coordinate.static_max)) / coordinate.per_one
    word = "declared" if coordinate.declared is not None else "proven"
    return f"{name} +-{width * bound:.3g} (C = {bound:g}, {word})"
