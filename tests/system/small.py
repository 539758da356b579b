"""small: a room of 400 people that is made in a moment, for tests that look at behaviour rather than numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pgproxy.scram import make_verifier

PEOPLE = 400
VISITS = 3
DIGITS = 1000
HIDDEN = "Zanzibar"
"""A city that one person lives in; it must appear nowhere."""
CITIES = ("Bern", "Basel", "Chur", "Thun")
GROUPS = ("a", "b", "c")
KINDS = ("acute", "planned")
VERIFIER = make_verifier("demo", b"system-tests-salt", 4096)

TABLES = f"""
[units.person]
[tables.people]
unit = {{ name = "person", column = "person_id" }}
rows_per_unit = 1
key = ["person_id"]
[tables.people.columns]
person_id = {{ type = "bigint", not_null = true }}
grp = {{ type = "text", values = {list(GROUPS)}, not_null = true }}
age = {{ type = "integer", bounds = [0, 100], not_null = true }}
city = {{ type = "text" }}
[tables.visits]
unit = {{ name = "person", column = "person_id" }}
rows_per_unit = {VISITS}
key = ["visit_id"]
[tables.visits.columns]
visit_id = {{ type = "bigint", not_null = true }}
person_id = {{ type = "bigint", not_null = true }}
kind = {{ type = "text", values = {list(KINDS)}, not_null = true }}
cost = {{ type = "integer", bounds = [0, 1000], not_null = true }}
[tables.digits]
public = true
key = ["digit"]
[tables.digits.columns]
digit = {{ type = "integer", not_null = true }}
"""
ROOM = """
[room]
name = "small"
version = 1
environment = "development"
"""


def analyst(name: str, role: str) -> str:
    """An analyst's entry; everyone's password is "demo"."""
    return f'[analysts.{name}]\nrole = "{role}"\nverifier = "{VERIFIER}"\n'


def role(name: str, tables: tuple[str, ...], epsilon: str, query_epsilon: str = "0.1", most: str = "1") -> str:
    """A role's entry."""
    return (
        f"[roles.{name}]\ntables = {list(tables)}\nepsilon = {epsilon!r}\n"
        f"query_epsilon = {query_epsilon!r}\nquery_epsilon_max = {most!r}\n"
    )


EPSILON = "20"
SHARE = "8"
"""Of ana and ben; pia's holds few questions, eva may read no visits."""
POLICY = (
    ROOM
    + TABLES
    + f'[budgets.person]\nepsilon = "{EPSILON}"\ndelta = "1e-6"\n'
    + role("full", ("people", "visits", "digits"), SHARE)
    + role("poor", ("people",), "0.5", most="0.5")
    + role("narrow", ("people",), "1")
    + analyst("ana", "full")
    + analyst("ben", "full")
    + analyst("pia", "poor")
    + analyst("eva", "narrow")
)


def people(count: int = PEOPLE) -> list[dict[str, Any]]:
    """Persons 0, 1, ...; the first is the only one of their city."""
    return [
        {
            "person_id": n,
            "grp": GROUPS[n % 3],
            "age": n * 7 % 101,
            "city": HIDDEN if n == 0 else CITIES[n % 4],
        }
        for n in range(count)
    ]


def visits(count: int = PEOPLE) -> list[dict[str, Any]]:
    """As many visits of each person as the policy lets count; those of the first cost most."""
    return [
        {
            "visit_id": VISITS * n + k,
            "person_id": n,
            "kind": KINDS[(n + k) % 2],
            "cost": 1000 if n == 0 else (n * 13 + k * 101) % 1001,
        }
        for n in range(count)
        for k in range(VISITS)
    ]


def write(folder: Path, people: list[dict[str, Any]], visits: list[dict[str, Any]]) -> Path:
    """The data folder: one owner gives CSV, the other Parquet."""
    folder.mkdir()
    pacsv.write_csv(pa.Table.from_pylist(people), folder / "people.csv")
    pq.write_table(pa.Table.from_pylist(visits), folder / "visits.parquet")
    pacsv.write_csv(pa.table({"digit": pa.array(range(DIGITS), pa.int32())}), folder / "digits.csv")
    return folder
