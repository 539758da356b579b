from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pgproxy.scram import make_verifier
from policies import document
from policies.document import load, parse
from policies.model import Column, Policy, Rules

EXAMPLES = Path(document.__file__).parent / "examples"
DATA = Path(document.__file__).parent.parent.parent / "shared" / "data"
ROOMS = ("hospital", "bank")
ARROW = {"bigint": pa.int64(), "integer": pa.int32(), "text": pa.string(), "date": pa.date32()}

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")


def table_of(room: str, name: str) -> pa.Table:
    return pq.read_table(DATA / room / f"{name}.parquet")


def tables() -> list[tuple[str, str]]:
    return [(room, name) for room in ROOMS for name in load(EXAMPLES / f"{room}.toml").tables]


@pytest.mark.parametrize("room", [*ROOMS, "everything"])
def test_the_examples_are_good_without_a_warning(room: str) -> None:
    assert parse((EXAMPLES / f"{room}.toml").read_text(encoding="utf-8")).warnings == ()


@pytest.mark.parametrize("room", [*ROOMS, "everything"])
def test_anas_password_is_demo(room: str) -> None:
    verifier = load(EXAMPLES / f"{room}.toml").analysts["ana"].verifier
    assert verifier == make_verifier("demo", b"cleanroom-ana-01")


def used(value: Any, path: str = "") -> set[str]:
    """The fields that were written down, without the names that people choose."""
    match value:
        case Rules():
            kind = type(value).__name__
            given = {f"{kind}.{name}" for name in value.model_fields_set}
            return given.union(*(used(getattr(value, name)) for name in value.model_fields_set))
        case dict():
            return set().union(*map(used, value.values()))
        case _:
            return set()


def fields(kind: type[Rules] = Policy) -> set[str]:
    kinds = [kind, *Rules.__subclasses__()]
    return {f"{each.__name__}.{name}" for each in kinds for name in each.model_fields}


def test_everything_uses_every_field_and_type() -> None:
    policy = load(EXAMPLES / "everything.toml")
    assert used(policy) == fields()
    types = {column.type.name for table in policy.tables.values() for column in table.columns.values()}
    assert types == {
        "boolean", "smallint", "integer", "bigint", "numeric", "real", "double precision",
        "text", "varchar", "char", "date", "timestamp", "timestamptz",
    }  # fmt: skip


@needs_data
@pytest.mark.parametrize(("room", "name"), tables())
def test_the_policy_names_the_columns_of_the_file_with_their_types(room: str, name: str) -> None:
    declared = load(EXAMPLES / f"{room}.toml").tables[name].columns
    schema = table_of(room, name).schema
    assert list(declared) == schema.names
    for column in schema:
        kind = declared[column.name].type
        assert column.type == ARROW.get(kind.name, pa.decimal128(kind.precision or 1, kind.scale or 0)), column.name


@needs_data
@pytest.mark.parametrize("room", ROOMS)
def test_the_policy_has_a_table_for_each_file(room: str) -> None:
    assert set(load(EXAMPLES / f"{room}.toml").tables) == {file.stem for file in (DATA / room).glob("*.parquet")}


@needs_data
@pytest.mark.parametrize(("room", "name"), tables())
def test_keys_are_unique_and_what_is_not_null_is_not(room: str, name: str) -> None:
    declared = load(EXAMPLES / f"{room}.toml").tables[name]
    data = table_of(room, name)
    (key,) = declared.key
    assert pc.count_distinct(data[key]).as_py() == data.num_rows
    for column, rules in declared.columns.items():
        assert not rules.not_null or data[column].null_count == 0, column


@needs_data
@pytest.mark.parametrize(("room", "name"), tables())
def test_declared_values_and_bounds_cover_nearly_all_data(room: str, name: str) -> None:
    data = table_of(room, name)
    for column, rules in load(EXAMPLES / f"{room}.toml").tables[name].columns.items():
        outside = outside_domain(data[column], rules)
        assert outside <= data.num_rows // 1000, column


def outside_domain(data: pa.ChunkedArray[Any], rules: Column) -> int:
    found = [value for value in data.to_pylist() if value is not None]
    if rules.values is not None:
        return sum(value not in rules.values for value in found)
    if rules.bounds is not None:
        low, high = rules.bounds
        return sum(not low <= value <= high for value in found)
    return 0


@needs_data
def test_rows_per_unit_hold_nearly_everyone() -> None:
    disposition = table_of("bank", "disposition").to_pydict()
    account_of = dict(zip(disposition["disp_id"], disposition["account_id"], strict=True))
    cards = Counter(account_of[key] for key in table_of("bank", "card")["disp_id"].to_pylist())
    assert max(cards.values()) <= load(EXAMPLES / "bank.toml").tables["card"].rows_per_unit_max
    for room, name in tables():
        declared = load(EXAMPLES / f"{room}.toml").tables[name]
        if declared.unit is not None and declared.unit.column is not None:
            rows = Counter(table_of(room, name)[declared.unit.column].to_pylist())
            above = sum(count > declared.rows_per_unit_max for count in rows.values())
            assert above <= len(rows) // 1000, name
