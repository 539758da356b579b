import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.public.catalog_names import column_name
from enclave.public.catalog_parse import mend, parse


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("SELECT $1::oid[]", "SELECT $1::pg_catalog.oid[]"),
        ("SELECT a::oid[], '::oid[]'", "SELECT a::pg_catalog.oid[], '::oid[]'"),
        ("SELECT a::pg_catalog.oid[]", "SELECT a::pg_catalog.oid[]"),
        ("SELECT 1 AS select, 2 AS update", 'SELECT 1 AS "select", 2 AS "update"'),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
    ],
)
def test_two_forms_of_drivers_are_mended(text: str, mended: str) -> None:
    assert mend(text) == mended


@given(st.text())
def test_mending_never_fails(text: str) -> None:
    mend(text + " as x[]")


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("c.relname", "relname"),
        ("c.relname::text", "relname"),
        ("1::bigint", "int8"),
        ("1::int4[]", "int4"),
        ("a + 1", "?column?"),
        ("pg_catalog.format_type(1, 2)", "format_type"),
        ("CASE WHEN a THEN 1 END", "case"),
        ("CASE WHEN a THEN 1 ELSE b.c END", "c"),
        ("(SELECT x FROM t)", "x"),
        ("EXISTS (SELECT 1)", "exists"),
        ("(information_schema._pg_expandarray(a)).n", "n"),
        ("count(*)", "count"),
        ("row_number() OVER ()", "row_number"),
        ("$1", "?column?"),
        ('a AS "B"', "B"),
        ("a AS B", "b"),
    ],
)
def test_columns_are_named_as_postgres_names_them(item: str, name: str) -> None:
    assert column_name(parse(f"SELECT {item}").expressions[0]) == name
