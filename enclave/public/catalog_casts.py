"""catalog_casts: a bound expression and a Postgres type -> the expression cast to it.

No cast fails because of a row: what cannot be converted is NULL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from enclave.public.catalog_scope import Bound, Environment
from enclave.public.catalog_types import (
    BOOL,
    BPCHAR,
    CHAR,
    NAME,
    NAME_BYTES_MAX,
    NUMERIC,
    REG_TYPES,
    REGCLASS,
    REGNAMESPACE,
    REGPROC,
    REGROLE,
    REGTYPE,
    TEXT,
    UNKNOWN,
    VARCHAR,
    comparable,
    literal,
    type_of,
    unify,
)
from rewriter.refusal import Refusal

REG_KINDS: Final = {
    REGCLASS: "class",
    REGTYPE: "type",
    REGNAMESPACE: "namespace",
    REGROLE: "role",
    REGPROC: "proc",
    2202: "proc",
}
_FLOATING: Final = (700, 701)


@dataclass(slots=True)
class Caster:
    """Casts, and remembers which type each untyped parameter turned out to have."""

    environment: Environment
    parameter_types: dict[int, int] = field(default_factory=dict)

    def coerce(self, bound: Bound, oid: int) -> Bound:
        """Cast implicitly: a literal takes the type, anything else must be of its kind."""
        return bound if bound.oid == oid else self.cast(bound, oid)

    def typed(self, bound: Bound) -> Bound:
        """Make a literal that nothing has typed text."""
        return self.cast(bound, TEXT) if bound.oid == UNKNOWN else bound

    def alike(self, bounds: list[Bound], construct: str) -> tuple[list[Bound], int]:
        """Cast the branches of a construct to their common type.

        Raises:
            Refusal: 42804 where they have none.
        """
        oid = unify([bound.oid for bound in bounds])
        if oid is None:
            known = [bound.oid for bound in bounds if bound.oid != UNKNOWN]
            other = next(other for other in known if not comparable(other, known[0]))
            names = f"{type_of(known[0]).sql_name} and {type_of(other).sql_name}"
            raise Refusal("42804", f"{construct} types {names} cannot be matched")
        return [self.coerce(bound, oid) for bound in bounds], oid

    def pair(self, left: Bound, right: Bound, operator: str) -> tuple[Bound, Bound]:
        """Give both sides of an operator types that compare.

        Raises:
            Refusal: 42883 where there are none.
        """
        if left.oid == UNKNOWN and right.oid == UNKNOWN:
            return self.typed(left), self.typed(right)
        if left.oid == UNKNOWN:
            return self.cast(left, right.oid), right
        if right.oid == UNKNOWN:
            return left, self.cast(right, left.oid)
        if not comparable(left.oid, right.oid):
            names = f"{type_of(left.oid).sql_name} {operator} {type_of(right.oid).sql_name}"
            hint = "No operator matches the given name and argument types. You might need to add explicit type casts."
            raise Refusal("42883", f"operator does not exist: {names}", hint=hint)
        return left, right

    def cast(self, bound: Bound, oid: int, typmod: int = -1) -> Bound:
        """Cast to a type, explicitly."""
        if bound.oid == UNKNOWN:
            return self._literal(bound, oid, typmod)
        if bound.oid == oid and typmod == -1:
            return bound
        return Bound(self._converted(bound, oid, typmod), oid, typmod=typmod)

    def _literal(self, bound: Bound, oid: int, typmod: int) -> Bound:
        if bound.parameter:
            self.parameter_types.setdefault(bound.parameter, oid)
        if bound.literal is None:
            return Bound(f"CAST(NULL AS {type_of(oid).duck})", oid, typmod=typmod)
        text = bound.literal[: typmod - 4] if oid in (VARCHAR, BPCHAR) and typmod >= 4 else bound.literal
        return Bound(literal(text, oid, self.environment.resolve), oid, typmod=typmod)

    def _converted(self, bound: Bound, oid: int, typmod: int) -> str:
        source, target = type_of(bound.oid), type_of(oid)
        if source.element and target.element:
            return self._elementwise(bound, source.element, target.element)
        if bound.oid in REG_TYPES and target.duck == "VARCHAR":
            return f"own_reg(getvariable('own_{REG_KINDS.get(bound.oid, 'none')}'), {bound.sql})"
        if oid in REG_TYPES and source.duck == "VARCHAR":
            return f"own_find('{REG_KINDS.get(oid, 'none')}', {bound.sql})"
        if target.duck == "VARCHAR":
            return self._to_text(bound, oid, typmod)
        if oid == NUMERIC and bound.oid not in _FLOATING and source.duck.startswith("DECIMAL"):
            return bound.sql
        return bound.sql if source.duck == target.duck else f"TRY_CAST({bound.sql} AS {target.duck})"

    def _to_text(self, bound: Bound, oid: int, typmod: int) -> str:
        source = type_of(bound.oid)
        if source.element:
            return f"own_array_out({self._elementwise(bound, source.element, TEXT)})"
        sql = bound.sql if source.duck == "VARCHAR" else f"CAST({bound.sql} AS VARCHAR)"
        if bound.oid == BOOL:
            sql = f"CASE WHEN {bound.sql} THEN 'true' WHEN NOT {bound.sql} THEN 'false' END"
        if oid == CHAR:
            return f"left({sql}, 1)"
        if oid == NAME and bound.oid != NAME:
            return f"left({sql}, {NAME_BYTES_MAX})"
        return f"left({sql}, {typmod - 4})" if oid in (VARCHAR, BPCHAR) and typmod >= 4 else sql

    def _elementwise(self, bound: Bound, source: int, target: int) -> str:
        element = Bound("e", source)
        converted = self.cast(element, target).sql
        return bound.sql if converted == "e" else f"list_transform({bound.sql}, lambda e: {converted})"
