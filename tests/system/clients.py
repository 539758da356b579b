"""clients: a question put by another client than psycopg."""

from __future__ import annotations

import os
import shutil
import subprocess
from decimal import Decimal

import asyncpg
import pytest
from served import PASSWORD, Rows, Served


async def fetched(served: Served, sql: str, *values: object, epsilon: str = "0.1") -> Rows:
    """An answer in binary, by the extended protocol."""
    connection = await asyncpg.connect(
        host="127.0.0.1", port=served.port, user="ana", password=PASSWORD, database="cleanroom"
    )
    try:
        await connection.execute(f"SET dp.epsilon = {epsilon}")
        return [tuple(row) for row in await connection.fetch(sql, *values)]
    finally:
        await connection.close()


def psql(
    served: Served, *commands: str, options: tuple[str, ...] = ("--csv", "--tuples-only"), code: int = 0
) -> tuple[str, str]:
    """What psql prints on stdout and stderr."""
    program = shutil.which("psql")
    if program is None:
        pytest.skip("psql is not installed")
    words = [word for command in commands for word in ("-c", command)]
    found = subprocess.run(
        (program, "-X", *options, served.dsn().replace(f" password={PASSWORD}", ""), *words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PGPASSWORD": PASSWORD, "PAGER": ""},
    )
    assert found.returncode == code, found.stderr
    return found.stdout, found.stderr


def plain(rows: Rows) -> Rows:
    """Numbers as psql's text gives them."""
    return [tuple(value if isinstance(value, str) else Decimal(str(value)) for value in row) for row in rows]
