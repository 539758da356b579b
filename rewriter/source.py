"""source: FROM and WHERE of a SELECT over protected rows -> a plan's relation."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from sqlglot import exp

from policies.model import Policy
from rewriter.aggregate import is_aggregate
from rewriter.bound import scope
from rewriter.parse import folded, position
from rewriter.plan import Call, Column, Expression, Filter, Join, Relation, Scan, columns, scans
from rewriter.refusal import Refusal, not_private
from rewriter.released import OWN_NAME
from rewriter.resolve import Parameters, Resolver, Source

JOINS_MAX: Final = 16


class SourceBuilder:
    """Builds the relation of a SELECT over protected rows."""

    def __init__(self, policy: Policy, ctes: Collection[str], parameters: Parameters) -> None:
        """Take the policy, the names of CTEs (no tables here), and what is bound to `$n`."""
        self._policy, self._ctes, self._parameters = policy, ctes, parameters
        self._sources: list[Source] = []
        self._merged: dict[str, Column] = {}

    def build(self, select: exp.Select, where: exp.Expr | None) -> tuple[Relation, Resolver]:
        """The relation of FROM and WHERE, and what resolves names over it.

        Raises:
            Refusal: something in it has no bound, does not exist or is of another type.
        """
        joins = select.args.get("joins") or []
        if len(joins) > JOINS_MAX:
            raise Refusal("54001", f"more than {JOINS_MAX} joins")
        relation: Relation = self._scan(select.args["from_"].this)
        for join in joins:
            relation = self._join(relation, join)
        resolver = self._resolver(relation)
        if where is None:
            return relation, resolver
        if is_aggregate(where):
            raise Refusal("42803", "aggregate functions are not allowed in WHERE", position=position(where))
        kept: list[Expression] = []
        for condition in _conjuncts(resolver.condition(where)):
            moved = _into_join(relation, condition)
            relation, kept = (relation, [*kept, condition]) if moved is None else (moved, kept)
        return (Filter(relation, tuple(sorted(kept, key=repr))) if kept else relation), resolver

    def _scan(self, node: exp.Expr) -> Scan:
        if (
            not isinstance(node, exp.Table)
            or not isinstance(node.this, exp.Identifier)
            or folded(node.this) in self._ctes
        ):
            raise not_private(
                "a join of protected rows with a subquery or CTE",
                "its effect on one person is not bounded yet",
                "Aggregate the protected tables in a CTE of their own and join the results.",
                position(node),
            )
        name = folded(node.this)
        if OWN_NAME.fullmatch(name):
            raise Refusal(
                "0A000", "a view of schema dp cannot be joined with protected rows", position=position(node)
            )
        alias = f"t{len(self._sources)}"
        shown = node.alias.lower() if node.alias else name
        self._sources.append(Source(shown, alias, tuple(self._policy.tables[name].columns)))
        return Scan(name, alias)

    def _resolver(self, relation: Relation) -> Resolver:
        resolver = Resolver(self._sources, scope(relation, self._policy), self._parameters)
        resolver.merged = self._merged
        return resolver

    def _join(self, left: Relation, node: exp.Join) -> Relation:
        side, word = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
        if (
            str(node.args.get("method") or "").upper() == "NATURAL"
            or side == "FULL"
            or word not in ("", "INNER", "OUTER", "CROSS")
        ):
            shown = " ".join(filter(None, (str(node.args.get("method") or ""), side, word)))
            raise Refusal(
                "0A000",
                f"{shown} JOIN of protected rows is not supported yet",
                hint="Use an inner or left join with ON or USING.",
                position=position(node),
            )
        right = self._scan(node.this)
        kind: Literal["inner", "left"] = "left" if side in ("LEFT", "RIGHT") else "inner"
        sides: tuple[Relation, Relation] = (right, left) if side == "RIGHT" else (left, right)
        bare = Join(kind, *sides, ())
        on = self._on(node, bare, left)
        return Join(kind, *sides, tuple(sorted(on, key=repr)))

    def _on(self, node: exp.Join, bare: Join, left: Relation) -> list[Expression]:
        resolver = self._resolver(bare)
        if node.args.get("on") is not None:
            return _conjuncts(resolver.condition(node.args["on"]))
        conditions: list[Expression] = []
        before, added = self._sources[:-1], self._sources[-1]
        for identifier in node.args.get("using") or ():
            name = folded(identifier)
            holders = [source for source in before if name in source.columns]
            if name not in added.columns or not holders:
                where = "right" if name not in added.columns else "left"
                raise Refusal("42703", f'column "{name}" specified in USING clause does not exist in {where} table')
            first = self._merged.get(name, Column(holders[0].alias, name))
            second = Column(added.alias, name)
            conditions.append(Call("=", (first, second)))
            self._merged[name] = second if bare.left != left else first
        return conditions


def _into_join(relation: Relation, condition: Expression) -> Relation | None:
    """Move a condition that ties both sides of an inner join into it, where that does not change the rows."""
    if not isinstance(relation, Join):
        return None
    read = {column.alias for column in columns(condition)}
    left = {scan.alias for scan in scans(relation.left)}
    if read <= left:
        inner = _into_join(relation.left, condition)
        return None if inner is None else Join(relation.kind, inner, relation.right, relation.on)
    if relation.kind != "inner" or not read & left:
        return None
    on = tuple(sorted({*relation.on, condition}, key=repr))
    return Join("inner", relation.left, relation.right, on)


def _conjuncts(condition: Expression) -> list[Expression]:
    match condition:
        case Call("and", parts):
            return [conjunct for part in parts for conjunct in _conjuncts(part)]
        case _:
            return [condition]
