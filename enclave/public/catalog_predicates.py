"""catalog_predicates: comparisons, logic and pattern matches -> the engine's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlglot import exp

from enclave.public.catalog_calls import Calls, unsupported
from enclave.public.catalog_scope import Bound, Scope
from enclave.public.catalog_types import BOOL, TEXT, UNKNOWN, quote, type_of, unify
from rewriter.refusal import Refusal

COMPARISONS: Final[Mapping[type[exp.Expr], str]] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}
_OPERATOR_NODES: Final[Mapping[str, type[exp.Binary]]] = {
    "=": exp.EQ,
    "<>": exp.NEQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
    "+": exp.Add,
    "-": exp.Sub,
    "||": exp.DPipe,
}
_REGEX: Final = {"~": ("", False), "!~": ("", True), "~*": ("i", False), "!~*": ("i", True)}
_LIKE: Final = {"~~": ("LIKE", False), "!~~": ("LIKE", True), "~~*": ("ILIKE", False), "!~~*": ("ILIKE", True)}


class Predicates(Calls):
    """Binds what is true, false or unknown."""

    def bind_connector(self, node: exp.Expr, scope: Scope) -> Bound:
        """AND and OR."""
        word = "AND" if isinstance(node, exp.And) else "OR"
        left, right = (self.condition(side, scope, word) for side in (node.this, node.expression))
        return Bound(f"({left.sql} {word} {right.sql})", BOOL)

    def bind_not(self, node: exp.Expr, scope: Scope) -> Bound:
        """NOT."""
        return Bound(f"(NOT {self.condition(node.this, scope, 'NOT').sql})", BOOL)

    def bind_is(self, node: exp.Expr, scope: Scope) -> Bound:
        """IS [NOT] NULL, TRUE or FALSE."""
        left, right = self.typed(node.this, scope), node.expression
        negated = "NOT " if isinstance(right, exp.Not) else ""
        value = right.this if isinstance(right, exp.Not) else right
        if isinstance(value, exp.Null):
            return Bound(f"({left.sql} IS {negated}NULL)", BOOL)
        if isinstance(value, exp.Boolean):
            return Bound(f"({left.sql} IS {negated}{'TRUE' if value.this else 'FALSE'})", BOOL)
        raise unsupported(node)

    def bind_comparison(self, node: exp.Expr, scope: Scope) -> Bound:
        """A comparison, also with ANY or ALL."""
        operator = COMPARISONS[type(node)]
        right_node = node.expression
        quantifier = _quantifier(right_node)
        if quantifier:
            return self._quantified(node.this, operator, quantifier, right_node, scope)
        if isinstance(node.this, exp.Tuple) and isinstance(right_node, exp.Tuple):
            return self._rows_compared(node.this, operator, right_node, scope)
        left, right = self.caster.pair(self.bind(node.this, scope), self.bind(right_node, scope), operator)
        return Bound(f"({left.sql} {operator} {right.sql})", BOOL)

    def _rows_compared(self, left: exp.Expr, operator: str, right: exp.Expr, scope: Scope) -> Bound:
        sides = zip(left.expressions, right.expressions, strict=False)
        pairs = [self.caster.pair(self.bind(a, scope), self.bind(b, scope), operator) for a, b in sides]
        left_row, right_row = (", ".join(pair[side].sql for pair in pairs) for side in (0, 1))
        return Bound(f"(({left_row}) {operator} ({right_row}))", BOOL)

    def _quantified(self, left_node: exp.Expr, operator: str, quantifier: str, node: exp.Expr, scope: Scope) -> Bound:
        every = quantifier == "ALL"
        inner = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
        while isinstance(inner, exp.Paren):
            inner = inner.this
        left = self.bind(left_node, scope)
        if isinstance(inner, exp.Query):
            return self._in_query(left, operator, quantifier, inner, scope)
        array = self.bind(inner, scope)
        if array.oid == UNKNOWN:
            element = self.caster.typed(left).oid if left.oid == UNKNOWN else left.oid
            array = self.caster.cast(array, type_of(element).array or type_of(TEXT).array)
        element = type_of(array.oid).element
        if not element:
            raise Refusal("42809", "op ANY/ALL (array) requires array on right side")
        left, item = self.caster.pair(left, Bound("e", element), operator)
        compared = f"list_transform({array.sql}, lambda e: {left.sql} {operator} {item.sql})"
        found = f"list_bool_{'and' if every else 'or'}({compared})"
        return Bound(f"coalesce({found}, {'TRUE' if every else 'FALSE'} AND {array.sql} IS NOT NULL)", BOOL)

    def _in_query(self, left: Bound, operator: str, word: str, query_node: exp.Expr, scope: Scope) -> Bound:
        query = self.query(query_node, scope.child(), None if left.oid == UNKNOWN else [left.oid])
        if len(query.columns) != 1:
            raise Refusal("42601", "subquery has too many columns")
        left, _ = self.caster.pair(left, Bound("c", query.columns[0].oid), operator)
        return Bound(f"({left.sql} {operator} {word} ({query.sql}))", BOOL)

    def bind_in(self, node: exp.Expr, scope: Scope) -> Bound:
        """IN with a list or a query."""
        query = node.args.get("query")
        if query is not None:
            inner = query.this if isinstance(query, exp.Subquery) else query
            if isinstance(node.this, exp.Tuple):
                return self._row_in_query(node.this, inner, scope)
            return self._in_query(self.bind(node.this, scope), "=", "ANY", inner, scope)
        left = self.bind(node.this, scope)
        items = [self.bind(item, scope) for item in node.expressions]
        if isinstance(node.this, exp.Tuple):
            raise unsupported(node)
        common = unify([left.oid, *(item.oid for item in items)])
        if common is None:
            self.caster.pair(left, next(item for item in items if item.oid != UNKNOWN), "=")
        oid = common if common is not None else TEXT
        left, *items = (bound if bound.oid != UNKNOWN else self.caster.cast(bound, oid) for bound in (left, *items))
        return Bound(f"({left.sql} IN ({', '.join(item.sql for item in items)}))", BOOL)

    def _row_in_query(self, left: exp.Expr, query_node: exp.Expr, scope: Scope) -> Bound:
        bounds = [self.typed(item, scope) for item in left.expressions]
        query = self.query(query_node, scope.child(), [bound.oid for bound in bounds])
        return Bound(f"(({', '.join(bound.sql for bound in bounds)}) IN ({query.sql}))", BOOL)

    def bind_between(self, node: exp.Expr, scope: Scope) -> Bound:
        """BETWEEN."""
        nodes = (node.this, node.args["low"], node.args["high"])
        (value, low, high), _ = self.caster.alike([self.bind(item, scope) for item in nodes], "BETWEEN")
        return Bound(f"({value.sql} BETWEEN {low.sql} AND {high.sql})", BOOL)

    def bind_like(self, node: exp.Expr, scope: Scope) -> Bound:
        """LIKE and ILIKE."""
        word = "ILIKE" if isinstance(node, exp.ILike) else "LIKE"
        return self._matched(node.this, node.expression, word, bool(node.args.get("negate")), scope)

    def bind_escape(self, node: exp.Expr, scope: Scope) -> Bound:
        """LIKE with ESCAPE."""
        like, escape = node.this, node.expression
        if not isinstance(like, exp.Like | exp.ILike) or not isinstance(escape, exp.Literal):
            raise unsupported(node)
        word = "ILIKE" if isinstance(like, exp.ILike) else "LIKE"
        negated = bool(like.args.get("negate"))
        return self._matched(like.this, like.expression, word, negated, scope, escape.name)

    def _matched(
        self, left: exp.Expr, right: exp.Expr, word: str, negated: bool, scope: Scope, escape: str = "\\"
    ) -> Bound:
        if isinstance(right, exp.Any | exp.All):
            raise unsupported(right)
        value, pattern = (self.caster.cast(self.bind(side, scope), TEXT) for side in (left, right))
        after = f" ESCAPE {quote(escape)}" if escape else ""
        return Bound(f"({value.sql} {'NOT ' if negated else ''}{word} {pattern.sql}{after})", BOOL)

    def bind_regex(self, node: exp.Expr, scope: Scope) -> Bound:
        """A regular expression match."""
        options = "i" if isinstance(node, exp.RegexpILike) else ""
        return self._regex_match(node.this, node.expression, options, False, scope)

    def _regex_match(self, left: exp.Expr, right: exp.Expr, options: str, negated: bool, scope: Scope) -> Bound:
        value, pattern = (self.caster.cast(self.bind(side, scope), TEXT) for side in (left, right))
        matched = f"regexp_matches({value.sql}, {pattern.sql}, 's{options}')"
        return Bound(f"(NOT {matched})" if negated else matched, BOOL)

    def bind_operator(self, node: exp.Expr, scope: Scope) -> Bound:
        """OPERATOR(schema.name)."""
        operator = str(node.args["operator"]).rsplit(".", 1)[-1] if "." in str(node.args["operator"]) else ""
        operator = operator or str(node.args["operator"])
        if operator in _REGEX:
            options, negated = _REGEX[operator]
            return self._regex_match(node.this, node.expression, options, negated, scope)
        if operator in _LIKE:
            word, negated = _LIKE[operator]
            return self._matched(node.this, node.expression, word, negated, scope)
        if operator in _OPERATOR_NODES:
            return self.bind(_OPERATOR_NODES[operator](this=node.this, expression=node.expression), scope)
        raise unsupported(node)


def _quantifier(node: exp.Expr) -> str:
    """ANY or ALL, however the parser took it, else nothing."""
    if isinstance(node, exp.Any | exp.All):
        return type(node).__name__.upper()
    called = node.name.upper() if isinstance(node, exp.Anonymous) and len(node.expressions) == 1 else ""
    return {"ANY": "ANY", "SOME": "ANY", "ALL": "ALL"}.get(called, "")
