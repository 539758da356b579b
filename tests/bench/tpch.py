"""tpch: tpchgen-cli -> Parquet files of the columns that tpch.toml names, kept between runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import duckdb

from policies import document
from policies.model import Policy

POLICY: Final = Path(__file__).with_name("tpch.toml")
CACHE: Final = Path(__file__).parents[2] / ".cache" / "tpch"
_RENAMED: Final = {("orders", "orderkey"): "o_orderkey", ("lineitem", "orderkey"): "l_orderkey"}


def policy() -> Policy:
    """The room that is measured."""
    return document.parse(POLICY.read_text(encoding="utf-8"), POLICY.name).policy


def files(scale: str) -> dict[str, Path]:
    """The Parquet file of each table at a scale factor, made if it is not there yet."""
    folder = CACHE / f"sf{scale}"
    tables = policy().tables
    found = {name: folder / f"{name}.parquet" for name in tables}
    if not all(path.exists() for path in found.values()):
        _generate(folder, scale, list(tables))
    return found


def load_exact(connection: duckdb.DuckDBPyConnection, found: dict[str, Path]) -> None:
    """The same tables with natural types, as an ordinary DuckDB user has them."""
    for name, path in found.items():
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet('{path}')").fetchall()


def _generate(folder: Path, scale: str, tables: list[str]) -> None:
    raw = folder.with_name(folder.name + ".raw")
    tool = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    chosen = ["-s", scale, "-T", ",".join(tables), "-o", str(raw)]
    subprocess.run([tool, "parquet", *chosen], check=True, stdout=subprocess.DEVNULL)
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:") as connection:
        for name, table in policy().tables.items():
            columns = ", ".join(f"{_RENAMED.get((name, column), column)} AS {column}" for column in table.columns)
            part = folder / f"{name}.part"
            source = f"SELECT {columns} FROM read_parquet('{raw / name}.parquet')"
            connection.execute(f"COPY ({source}) TO '{part}' (FORMAT parquet)").fetchall()
            os.replace(part, folder / f"{name}.parquet")
    shutil.rmtree(raw)
