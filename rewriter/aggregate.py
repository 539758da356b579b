"""aggregate: a SELECT over protected rows -> a release, and the same SELECT over the released table.

The boundary between clear rows and answers: aggregates and group keys become columns of the released table, WHERE
and GROUP BY go into the release, and everything above them (HAVING, ORDER BY, LIMIT, arithmetic) stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from policies.model import Policy
from policies.sqltype import BIGINT, SqlType
from rewriter import bound, cost, post
from rewriter.bound import Protected
from rewriter.keys import PublicFacts, groups_for
from rewriter.parse import function_name, position
from rewriter.plan import Call, Column, Constant, Expression, Measure, MeasureKind, Relation, Release
from rewriter.refusal import Refusal, not_private
from rewriter.released import KeyColumn, MeasureColumn, ReleasedTable
from rewriter.resolve import Resolver

_AGGREGATES: Final = (exp.Count, exp.Sum, exp.Avg)
KEYS_MAX: Final = 32  # group keys of one query
MEASURES_MAX: Final = 64  # aggregates of one query: each gets a share of one price


@dataclass(frozen=True, slots=True)
class _Aggregate:
    """An aggregate as the query writes it, before measures are shared."""

    kind: MeasureKind
    argument: Expression | None
    label: str


def is_aggregate(node: exp.Expr) -> bool:
    """True if the expression contains an aggregate that is not a window function."""
    return any(isinstance(found, exp.AggFunc) and not isinstance(found.parent, exp.Window) for found in node.walk())


class Aggregation:
    """Rewrites one SELECT over protected rows."""

    def __init__(
        self, name: str, select: exp.Select, source: Relation, resolver: Resolver, policy: Policy, facts: PublicFacts
    ) -> None:
        """Take the SELECT (changed in place), its resolved FROM and WHERE, and the name of the released table."""
        self._name, self._select, self._source = name, select, source
        self._resolver, self._policy, self._facts = resolver, policy, facts
        self._aggregates: list[_Aggregate] = []
        self._keys: list[Expression] = []

    def rewrite(self) -> tuple[ReleasedTable, dict[str, SqlType]]:
        """Rewrite the SELECT in place.

        Returns:
            The released table, and the types of its columns by name.

        Raises:
            Refusal: the SELECT asks for rows, or for something that no bound is known for.
        """
        found = bound.property_of(self._source, self._policy, self._facts)
        assert isinstance(found, Protected)
        self._refuse_clauses()
        self._keys = [self._key(node) for node in self._key_nodes()]
        self._check_keys(found)
        self._lift_clauses()
        if not self._aggregates and not self._keys:
            raise _rows_refused(found.unit)
        released = self._released(found)
        self._select.set("from_", exp.From(this=exp.to_table(self._name)))
        for clause in ("joins", "where", "group", "having", "distinct"):
            self._select.set(clause, None)
        if self._having is not None:
            self._select.set("where", exp.Where(this=self._having))
        return released, _types(released)

    def _refuse_clauses(self) -> None:
        for clause, name in (("windows", "WINDOW"), ("qualify", "QUALIFY"), ("laterals", "LATERAL")):
            if self._select.args.get(clause):
                raise Refusal("0A000", f"{name} is not supported over protected rows")
        distinct = self._select.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            raise not_private("DISTINCT ON", "it picks rows of people", "Aggregate instead.")
        group = self._select.args.get("group")
        if group is not None and any(group.args.get(kind) for kind in ("grouping_sets", "cube", "rollup", "totals")):
            raise Refusal(
                "0A000", "GROUPING SETS, CUBE and ROLLUP are not supported yet", hint="Write one query per level."
            )

    def _key_nodes(self) -> list[exp.Expr]:
        group = self._select.args.get("group")
        items: list[exp.Expr] = [i.this if isinstance(i, exp.Alias) else i for i in self._select.expressions]
        if group is None:
            if self._select.args.get("distinct") is not None and not any(map(is_aggregate, items)):
                return items
            return []
        nodes: list[exp.Expr] = [self._key_node(node, items) for node in group.expressions]
        if len(nodes) > KEYS_MAX:
            raise Refusal("54001", f"more than {KEYS_MAX} group keys")
        return nodes

    def _key_node(self, node: exp.Expr, items: list[exp.Expr]) -> exp.Expr:
        """GROUP BY 2, GROUP BY alias, GROUP BY expression: a column's name goes before an alias (Postgres docs)."""
        if isinstance(node, exp.Literal) and not node.args.get("is_string") and str(node.this).isdigit():
            place = int(str(node.this))
            if not 1 <= place <= len(items):
                raise Refusal("42P10", f"GROUP BY position {place} is not in select list", position=position(node))
            return items[place - 1]
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            try:
                self._resolver.column(node)
            except Refusal as refusal:
                named = [i.this for i in self._select.expressions if isinstance(i, exp.Alias) and _same(i, node)]
                if refusal.sqlstate != "42703" or not named:
                    raise
                target: exp.Expr = named[0]
                return target
        return node

    def _key(self, node: exp.Expr) -> Expression:
        if is_aggregate(node):
            raise Refusal("42803", "aggregate functions are not allowed in GROUP BY", position=position(node))
        return self._resolver.resolve(node)

    def _check_keys(self, found: Protected) -> None:
        for key in self._keys:
            if isinstance(key, Column) and self._is_unit(key):
                raise not_private(
                    f"a group for each {found.unit}",
                    "it would show every person",
                    f"Group by something that many share, or count with COUNT(DISTINCT {key.name}).",
                )

    def _is_unit(self, column: Column) -> bool:
        unit = self._resolver.scope.table(column.alias).unit
        return unit is not None and unit.column == column.name

    def _lift_clauses(self) -> None:
        names = {post.output_name(item) for item in self._select.expressions}
        if any(isinstance(item, exp.Star) or item.is_star for item in self._select.expressions):
            raise _rows_refused(self._unit())
        grouped = bool(self._keys) or any(map(is_aggregate, self._select.expressions))
        having = self._select.args.get("having")
        if not grouped and having is None:
            for column in self._select.find_all(exp.Column):
                if not post.is_parameter(column):
                    self._resolver.column(column)  # a column that does not exist is the better message
            raise _rows_refused(self._unit())
        self._select.set("expressions", [self._lift_item(item) for item in self._select.expressions])
        self._having = None if having is None else self._lift(having.this)
        order = self._select.args.get("order")
        for ordered in order.expressions if order is not None else ():
            plain = isinstance(ordered.this, exp.Column) and ordered.this.args.get("table") is None
            if isinstance(ordered.this, exp.Literal) or (plain and ordered.this.name.lower() in names):
                continue
            ordered.set("this", self._lift(ordered.this))

    def _unit(self) -> str:
        found = bound.property_of(self._source, self._policy, self._facts)
        assert isinstance(found, Protected)
        return found.unit

    def _lift_item(self, item: exp.Expr) -> exp.Expr:
        lifted = self._lift(item.this if isinstance(item, exp.Alias) else item)
        return exp.alias_(lifted, post.output_name(item), quoted=True)

    def _lift(self, node: exp.Expr) -> exp.Expr:
        """Replace aggregates, margins and group keys by columns of the released table."""
        return node.copy().transform(self._lift_node)

    def _lift_node(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Dot) and (margin := _margin_argument(node)) is not None:
            return _column(f"e{self._aggregate(margin)}")
        if isinstance(node, exp.Filter) and isinstance(node.this, exp.AggFunc):
            return _column(f"m{self._aggregate(node)}")
        if isinstance(node, exp.AggFunc) and not isinstance(node.parent, exp.Window):
            return _column(f"m{self._aggregate(node)}")
        if isinstance(node, exp.Subquery | exp.Exists):
            raise Refusal(
                "0A000",
                "a subquery inside a query over protected rows is not supported yet",
                hint="Put it in a WITH clause and join the results.",
                position=position(node),
            )
        if (key := self._key_number(node)) is not None:
            return _column(f"k{key}")
        if isinstance(node, exp.Column) and not post.is_parameter(node):
            self._refuse_ungrouped(node)
        return node

    def _key_number(self, node: exp.Expr) -> int | None:
        if isinstance(node, exp.Literal | exp.Null | exp.Boolean | exp.Identifier) or is_aggregate(node):
            return None
        if post.is_parameter(node):
            return None  # asked alone, it would settle as text; its place above the release says what it is
        try:
            return self._keys.index(self._resolver.resolve(node))
        except (Refusal, ValueError):
            return None

    def _refuse_ungrouped(self, node: exp.Column) -> None:
        column = self._resolver.column(node)
        table = self._resolver.scope.names[column.alias]
        raise Refusal(
            "42803",
            f'column "{table}.{column.name}" must appear in the GROUP BY clause or be used in an aggregate function',
            position=position(node),
        )

    def _aggregate(self, node: exp.Expr) -> int:
        """The number of an aggregate; the same one written twice is one."""
        condition = None
        if isinstance(node, exp.Filter):
            condition, node = self._resolver.condition(node.expression.this), node.this
        if not isinstance(node, _AGGREGATES):
            raise Refusal(
                "0A000",
                f"aggregate {_name_of(node)} is not supported over protected rows",
                hint="Use COUNT, SUM or AVG.",
                position=position(node),
            )
        found = self._read_aggregate(node, condition)
        if found not in self._aggregates:
            self._aggregates.append(found)
        if len(self._aggregates) > MEASURES_MAX:
            raise Refusal("54001", f"more than {MEASURES_MAX} aggregates", hint="Ask in several queries.")
        return self._aggregates.index(found)

    def _read_aggregate(self, node: exp.Expr, condition: Expression | None) -> _Aggregate:
        argument = node.this
        if isinstance(argument, exp.Distinct):
            return self._distinct(node, argument, condition)
        if isinstance(node, exp.Count):
            resolved = None if isinstance(argument, exp.Star) else self._resolver.resolve(argument)
            if resolved is not None and not self._resolver.scope.term(resolved).nullable:
                resolved = None  # count(x) of a column that is never NULL is count(*)
            return _Aggregate("count", resolved if condition is None else _counted(condition, resolved), "count")
        resolved = self._resolver.resolve(argument)
        type_ = self._resolver.type_of(resolved)
        label = "avg" if isinstance(node, exp.Avg) else "sum"
        if not type_.is_numeric:
            raise Refusal(
                "42883",
                f"function {label}({type_}) does not exist",
                hint="No function matches the given name and argument types. Cast the argument to a number.",
                position=position(node),
            )
        self._refuse_unit_values(resolved, label)
        argument_of = _where(condition, resolved) if condition else resolved
        return _Aggregate("mean" if label == "avg" else "sum", argument_of, label)

    def _refuse_unit_values(self, resolved: Expression, label: str) -> None:
        if isinstance(resolved, Column) and self._is_unit(resolved):
            raise not_private(f"{label}({resolved.name})", "it identifies people", "Use COUNT(DISTINCT ...).")

    def _distinct(self, node: exp.Expr, distinct: exp.Distinct, condition: Expression | None) -> _Aggregate:
        argument = self._resolver.resolve(distinct.expressions[0]) if len(distinct.expressions) == 1 else None
        if isinstance(node, exp.Count) and isinstance(argument, Column) and self._is_unit(argument):
            if condition is not None:
                raise Refusal("0A000", "COUNT(DISTINCT x) FILTER is not supported yet", hint="Use WHERE.")
            return _Aggregate("units", argument, "count")
        unit = self._unit()
        raise Refusal(
            "0A000",
            f"DISTINCT inside an aggregate is supported for the column that identifies a {unit} alone",
            hint="Write COUNT(DISTINCT <unit column>), or group by the expression and count the groups.",
            position=position(node),
        )

    def _released(self, found: Protected) -> ReleasedTable:
        measures = self._measures()
        groups = groups_for(self._keys, self._source, found, self._policy, self._facts)
        release = Release(found.unit, self._source, tuple(self._keys), groups, measures)
        places = cost.places(release, self._policy, self._facts)
        columns = tuple(self._column(aggregate, release, places) for aggregate in self._aggregates)
        terms = [self._resolver.scope.term(key) for key in self._keys]
        keys = tuple(KeyColumn(_key_type(term.type, term.scale), term.scale) for term in terms)
        return ReleasedTable(self._name, release, keys, columns)

    def _measures(self) -> tuple[Measure, ...]:
        """The measures to buy, in one order. A mean's count and sum serve a sum of the same argument too."""
        means = {a.argument for a in self._aggregates if a.kind == "mean"}
        bought = {
            Measure("mean" if a.argument in means and a.kind == "sum" else a.kind, a.argument)
            for a in self._aggregates
        }
        return tuple(sorted(bought, key=repr))

    def _column(self, aggregate: _Aggregate, release: Release, places: tuple[tuple[int, ...], ...]) -> MeasureColumn:
        mean, argument = Measure("mean", aggregate.argument), aggregate.argument
        own = Measure(aggregate.kind, argument)
        bought = own if own in release.measures else mean
        place = places[release.measures.index(bought)]
        if aggregate.kind in ("count", "units"):
            return MeasureColumn(aggregate.label, "number", BIGINT, place)
        assert argument is not None
        term = self._resolver.scope.term(argument)
        if aggregate.kind == "sum":
            type_ = _sure(post.sum_type(_scaled(term.type, term.scale)))
            return MeasureColumn("sum", "number" if bought == own else "sum", type_, place)
        known = self._resolver.scope.known_range(argument)
        low = float(term.low) if known and term.low is not None else None
        high = float(term.high) if known and term.high is not None else None
        return MeasureColumn("avg", "mean", _sure(post.mean_type(term.type)), place, low, high)


def _types(released: ReleasedTable) -> dict[str, SqlType]:
    types = {f"k{number}": key.type for number, key in enumerate(released.keys)}
    types |= {f"m{number}": measure.type for number, measure in enumerate(released.measures)}
    return types | {f"e{number}": SqlType("double precision") for number in range(len(released.measures))}


def _where(condition: Expression, value: Expression) -> Expression:
    """`aggregate(value) FILTER (WHERE condition)`: value where the condition is true, else NULL."""
    return Call("case", (condition, value, Constant(BIGINT, None)))


def _counted(condition: Expression, argument: Expression | None) -> Expression:
    """What COUNT(argument) FILTER (WHERE condition) counts, as an argument that is NULL on all other rows."""
    if argument is not None:
        condition = Call("and", (condition, Call("not", (Call("is null", (argument,)),))))
    return _where(condition, Constant(BIGINT, "1"))


def _margin_argument(node: exp.Dot) -> exp.Expr | None:
    """The aggregate of `dp.margin(aggregate)`, or None if the node is something else."""
    call = node.expression
    if node.this.name.lower() != "dp" or not isinstance(call, exp.Anonymous):
        return None
    if str(call.this).lower() != "margin" or len(call.expressions) != 1:
        raise Refusal("42883", f"function dp.{str(call.this).lower()} does not exist", hint="There is dp.margin().")
    argument = call.expressions[0]
    if not isinstance(argument, exp.AggFunc | exp.Filter):
        raise Refusal("42803", "dp.margin takes an aggregate", hint="Write dp.margin(count(*)).")
    return argument


def _rows_refused(unit: str | None) -> Refusal:
    return not_private(
        "a query that returns rows",
        f"each row belongs to one {unit or 'person'}",
        "Aggregate: for example SELECT count(*), or GROUP BY a column that many share.",
    )


def _same(alias: exp.Alias, column: exp.Column) -> bool:
    return post.output_name(alias) == column.name.lower()


def _name_of(node: exp.Expr) -> str:
    return function_name(node) if isinstance(node, exp.Func) else type(node).__name__.lower()


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))


def _key_type(type_: SqlType, scale: int | None) -> SqlType:
    return _scaled(type_, scale) if type_.name == "numeric" else type_


def _scaled(type_: SqlType, scale: int | None) -> SqlType:
    return SqlType("numeric", None, scale) if type_.name == "numeric" else type_


def _sure(type_: SqlType | None) -> SqlType:
    assert type_ is not None
    return type_
