"""seal: policy <-> canonical JSON, whose SHA-256 is what the owners sign and the evidence carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import rfc8785

from policies import document, sqltype
from policies.lines import Lines
from policies.model import Column, Policy, Rules, Table
from policies.problem import PolicyError
from policies.sqltype import SqlType

FORMAT: Final = "cleanroom-policy-v1"
"""Says what is signed; another layout gets another name."""
CANONICAL_BYTES_MAX: Final = 8 * 2**20
"""Twice what a policy's text may have: names and quotes take more room here."""


class SealError(ValueError):
    """Bytes that are not the canonical form of a valid policy."""


def canonical(policy: Policy) -> bytes:
    """Write a policy as canonical JSON (RFC 8785), defaults filled in.

    Every number but small counts, and every date, is a string, because JSON numbers are doubles. Tables and
    columns are lists, because their order is what `SELECT *` and the catalogue show, and RFC 8785 sorts the keys
    of objects.

    Ensures: policies that are enforced alike give equal bytes, others different ones.
    """
    plain = {"format": FORMAT, **_encode_fields(complete(policy))}
    return rfc8785.dumps(plain)


def digest(policy: Policy) -> str:
    """Give the SHA-256 of the canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(policy)).hexdigest()


def from_canonical(content: bytes) -> Policy:
    """Read a sealed policy and check all its rules again.

    Ensures: `canonical(from_canonical(content)) == content`.

    Raises:
        SealError: the bytes are not canonical, have a key twice, or are not a valid policy.
    """
    if len(content) > CANONICAL_BYTES_MAX:
        raise SealError(f"a sealed policy has at most {CANONICAL_BYTES_MAX} bytes")
    try:
        plain = json.loads(content, object_pairs_hook=_without_duplicates)
        policy = document.validate(_decode(plain), Lines(), "sealed policy")
        again = canonical(policy)
    except SealError:
        raise
    except PolicyError as error:
        raise SealError(
            f"the sealed policy is not valid: {error.problems[0].field} {error.problems[0].message}"
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, InvalidOperation, RecursionError):
        raise SealError("the sealed policy is not what this version writes") from None
    if again != content:
        raise SealError("the sealed policy is not in canonical form")
    return policy


def complete(policy: Policy) -> Policy:
    """Write out what a policy leaves to defaults, so that a later default cannot change what was signed.

    `query_epsilon_max` stays open: it is whatever the share can hold.
    """
    tables = {
        name: table
        if table.public
        else table.model_copy(
            update={"rows_per_unit": table.rows_per_unit_max, "groups_per_unit": table.groups_per_unit_max}
        )
        for name, table in policy.tables.items()
    }
    order = {name: position for position, name in enumerate(tables)}
    roles = {
        name: role.model_copy(update={"tables": tuple(sorted(role.tables, key=lambda table: order[table]))})
        for name, role in policy.roles.items()
    }
    return policy.model_copy(update={"tables": tables, "roles": roles})


def plain_number(value: Decimal) -> str:
    """Spell a finite number in one way, exactly: no exponent, no needless zeros, no minus zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _encode_fields(rules: Rules) -> dict[str, Any]:
    return {name: _encode(getattr(rules, name), rules, name) for name in type(rules).model_fields}


def _encode(value: object, parent: Rules, name: str) -> Any:
    match value:
        case dict() if isinstance(parent, Policy | Table) and name in ("tables", "columns"):
            return [{"name": key, **_encode_fields(item)} for key, item in value.items()]
        case dict():
            return {key: _encode(item, parent, name) for key, item in value.items()}
        case Rules():
            return _encode_fields(value)
        case tuple():
            return [_encode(item, parent, name) for item in value]
        case bool() | None | str():
            return value
        case int():
            return str(value) if isinstance(parent, Column) else value
        case Decimal():
            return plain_number(value)
        case date():
            return value.isoformat()
        case SqlType():
            return str(value)
        case _:
            raise TypeError("a policy holds no such value")


def _decode(plain: Any) -> dict[str, Any]:
    """Undo `_encode` as far as the reader of TOML needs; the comparison of bytes judges the rest."""
    raw = {key: value for key, value in _as_toml(plain).items() if key != "format"}
    raw["tables"] = _by_name(raw["tables"])
    for table in raw["tables"].values():
        table["columns"] = {key: _column(column) for key, column in _by_name(table["columns"]).items()}
    if "expires" in raw["room"]:
        raw["room"]["expires"] = date.fromisoformat(raw["room"]["expires"])
    return raw


def _column(column: dict[str, Any]) -> dict[str, Any]:
    kind = sqltype.parse(column["type"])
    return column | {
        field: tuple(_typed(kind, item) for item in column[field])
        for field in ("values", "bounds")
        if field in column
    }


def _typed(kind: SqlType, text: str) -> object:
    if kind.is_integer:
        return int(text)
    if kind.is_numeric:
        return Decimal(text)
    if kind.name == "date":
        return date.fromisoformat(text)
    return datetime.fromisoformat(text) if kind.is_temporal else text


def _by_name(items: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn a list of named things back into a mapping.

    Raises:
        SealError: two have one name.
    """
    pairs = [(item["name"], {key: value for key, value in item.items() if key != "name"}) for item in items]
    return _without_duplicates(pairs)


def _as_toml(value: Any) -> Any:
    """TOML has no null, and the models take tuples."""
    match value:
        case Mapping():
            return {key: _as_toml(item) for key, item in value.items() if item is not None}
        case list():
            return tuple(_as_toml(item) for item in value)
        case _:
            return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python's json keeps the last of two equal keys: two readers could see two policies in one text."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SealError("the sealed policy has a key twice")
    return found
