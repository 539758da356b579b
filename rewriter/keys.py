"""keys: how the groups of a release are known: from the policy alone, or by a noisy threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from policies.model import Policy
from rewriter.bound import Facts, Protected, is_determined, scope
from rewriter.cost import no_delta
from rewriter.domains import PublicCounts, public_groups
from rewriter.plan import Expression, Groups, NoisyGroups, PublicGroups, Relation, scans


class PublicFacts(Facts, PublicCounts, Protocol):
    """Everything the rewriter may ask about public tables."""


def groups_for(
    keys: Sequence[Expression], source: Relation, found: Protected, policy: Policy, facts: PublicFacts
) -> Groups:
    """Choose how the groups are known. No key at all is one public group, the whole.

    Raises:
        Refusal: they need a threshold, and the budget has no delta for one.
    """
    if not keys:
        return PublicGroups((), ())
    public = public_groups(keys, source, scope(source, policy), facts)
    if public is not None:
        return public
    if policy.budgets[found.unit].delta == 0:
        raise no_delta()
    return NoisyGroups(groups_per_unit(keys, source, found, policy))


def groups_per_unit(keys: Sequence[Expression], source: Relation, found: Protected, policy: Policy) -> int:
    """How many unknown groups one unit may support: 1 where it determines the group, else what the policy says."""
    if all(is_determined(key, source, policy) for key in keys):
        return 1
    tables = [policy.tables[scan.table] for scan in scans(source)]
    declared = max(table.groups_per_unit_max for table in tables if not table.public)
    return min(declared, found.rows_max)
