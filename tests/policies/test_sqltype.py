from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.sqltype import BIGINT, DOUBLE, SqlType, parse


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("bigint", BIGINT),
        (" INT8 ", BIGINT),
        ("float8", DOUBLE),
        ("numeric(12,2)", SqlType("numeric", 12, 2)),
        ("decimal( 12 )", SqlType("numeric", 12, 0)),
        ("character varying(5)", SqlType("varchar", 5)),
        ("char", SqlType("char")),
        ("timestamp with time zone", SqlType("timestamptz")),
    ],
)
def test_postgres_names_and_aliases_are_read(text: str, kind: SqlType) -> None:
    assert parse(text) == kind
    assert parse(str(kind)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "json",
        "numeric",
        "numeric(31,0)",
        "numeric(0)",
        "numeric(2,3)",
        "text(3)",
        "varchar(0)",
        "varchar(1,2)",
        "é",
    ],
)
def test_other_types_and_modifiers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"type|needs|precision|scale|modifiers"):
        parse(text)


@given(st.text(max_size=20))
def test_any_text_is_a_type_or_a_value_error(text: str) -> None:
    try:
        kind = parse(text)
    except ValueError:
        return
    assert parse(str(kind)) == kind
    assert kind.is_numeric or kind.is_text or kind.is_temporal or kind.name == "boolean"
