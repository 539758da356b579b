"""rows: a loaded vault for the policy of `room`, with every value that its domains must hold."""

from __future__ import annotations

import itertools
from typing import Any

import duckdb
import pyarrow as pa
from room import POLICY

from enclave.clear.vault import connect, load, lock
from enclave.tables import PublicTables

_MOMENTS = (
    "2023-12-30 00:00:00",
    "2023-12-31 23:59:59.999999",
    "2024-01-01",
    "2024-01-07 12:34:56",
    "2024-02-02 12:00:00",
    None,
)
_DAYS = ("2023-12-30", "2023-12-31", "2024-01-01", "2024-01-07", "2024-01-08", "1999-01-01", None)
_MEMBERS: dict[str, tuple[str | None, ...]] = {
    "sex": ("f", "m", "m"),
    "age": ("0", "3", "9", "99", None),
    "born": _DAYS,
    "smokes": ("true", "false", None),
    "height": ("0.3", "1.7", "9", None),
    "weight": ("-1e300", "70", None, "0.001"),
    "nation": ("1", "2", "3", "9", None),
    "city": ("Bonn", "bonn", "", None, "2024-01-01", "Ulm"),
}
_VISITS: dict[str, tuple[str | None, ...]] = {
    "ward": ("1", "2", "3", "4", None),
    "minutes": ("0", "7", "240", "999"),
    "at": _MOMENTS,
    "cost": ("0.01", "-5.50", None, "100"),
    "code": ("A1", "B2", None),
    "note": ("x", "", None, "2024-01-01", "7"),
}
_PUBLIC: dict[str, list[tuple[str | None, ...]]] = {
    "nations": [
        ("1", "Asia", "10", "1"),
        ("2", "Europe", "20", "2.5"),
        ("3", None, "20", None),
        ("4", "Africa", None, "1"),
    ],
    "regions": [("10", "east"), ("20", "west")],
    "pairs": [(str(a), str(b), f"{a}{b}") for a in (1, 2, 3) for b in (1, 2)],
    "log": [("line",)],
}


def _cycled(values: dict[str, tuple[str | None, ...]], count: int) -> list[list[str | None]]:
    """Rows in which the values of a column come again and again, each column at its own pace."""
    return [[v[(n + n // (place + 2)) % len(v)] for place, v in enumerate(values.values())] for n in range(count)]


def raw(people: int = 60) -> dict[str, list[list[Any]]]:
    """Rows of every table as texts."""
    members = [[str(n), *row] for n, row in enumerate(_cycled(_MEMBERS, people))]
    visits = [[str(n), str(n % (people + 5)), *row] for n, row in enumerate(_cycled(_VISITS, 4 * people))]
    bills = [[str(n), str(n % (5 * people)), str(n)] for n in range(3 * people)]
    items = [[str(n % (4 * people)), "5"] for n in range(people)]
    return {
        "members": members,
        "visits": visits,
        "bills": bills,
        "items": items,
        "shifts": [[str(n % 7), str(n), "0.5"] for n in range(people)],
        **{name: [list(row) for row in rows] for name, rows in _PUBLIC.items()},
    }


def vault(given: dict[str, list[list[Any]]] | None = None) -> duckdb.DuckDBPyConnection:
    """A locked engine that holds the rows."""
    rows = raw() if given is None else given
    connection = connect(threads=1)

    def read(name: str) -> pa.Table:
        columns = list(POLICY.tables[name].columns)
        cells = itertools.zip_longest(*rows[name]) if rows[name] else [()] * len(columns)
        return pa.table({c: pa.array(list(v), pa.string()) for c, v in zip(columns, cells, strict=True)})

    load(connection, POLICY, read, b"s" * 32)
    lock(connection)
    return connection


def facts(connection: duckdb.DuckDBPyConnection) -> PublicTables:
    """Sizes of the public tables of a vault."""
    return PublicTables(lambda sql: int(connection.execute(sql).fetchall()[0][0]))
