"""served: a room behind `cleanroom serve`, in processes of its own: start, ask, look at, stop, kill.

Orders (a dict, see room_process.py) give it shorter deadlines or workers that misbehave; without any, what runs is
the command itself.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

START_S = 120.0
STOP_S = 30.0
PATIENCE_S = 60.0
"""For what must happen sooner or later: only a test that fails waits that long."""
PASSWORD = "demo"
COMMAND = (sys.executable, "-I", "-c", "from pgproxy.cli import main; main()")
LAUNCHER = Path(__file__).with_name("room_process.py")
ROLES = ("keeper", "public", "clear")

Connection = psycopg.Connection[TupleRow]
Rows = list[tuple[Any, ...]]


class Served:
    """One folder with policy, data and state, and the server over them while there is one."""

    def __init__(self, folder: Path, policy: str, data: Path) -> None:
        self.policy, self.data, self.state = folder / "policy.toml", data, folder / "state"
        self.stderr = folder / "stderr"
        self.policy.write_text(policy)
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self._family: list[int] = []

    def start(self, orders: Mapping[str, Any] | None = None, host: str = "127.0.0.1") -> None:
        """Start the server and wait until it listens."""
        command = COMMAND if orders is None else (sys.executable, "-I", str(LAUNCHER), "front", json.dumps(orders))
        arguments = ("serve", self.policy, "--data", self.data, "--state", self.state, "--host", host, "--port", "0")
        with self.stderr.open("a") as stderr:
            self.process = subprocess.Popen(
                (*command, *map(str, arguments)), stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(f"listening on {host}:"), self.stderr.read_text()
        self.port = int(line.rpartition(":")[2])

    def stop(self) -> int:
        """End the server as an operator does; gives its exit code, when none of its processes is left."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send the server, and nobody else, a signal."""
        assert self.process is not None
        self._family = descendants(self.process.pid)
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end of the server and of its workers; gives its exit code."""
        process, self.process = self.process, None
        assert process is not None
        code = process.wait(STOP_S)
        assert process.stdout is not None
        process.stdout.close()
        wait_until(lambda: not any(is_alive(pid) for pid in self._family))
        return code

    def close(self) -> None:
        """Leave nothing running, whatever the test did."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.ended()

    def pids(self, role: str) -> list[int]:
        """The processes of one kind, by what stands on their command lines."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if role_of(pid) == role]

    def dsn(self, user: str = "ana", **others: str) -> str:
        """How to connect; the password of everyone is the same."""
        parts = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "user": user,
            "password": PASSWORD,
            "dbname": "cleanroom",
        }
        return " ".join(f"{name}={value}" for name, value in {**parts, **others}.items())

    @contextmanager
    def connected(self, user: str = "ana", **others: str) -> Iterator[Session]:
        """A session of psycopg's, with the notices it got."""
        with psycopg.connect(self.dsn(user, **others), autocommit=True, connect_timeout=20) as connection:
            yield Session(connection)

    def charges(self) -> list[tuple[str, str, str]]:
        """Kind and name of the payer and amount of every charge in the ledger of a stopped server."""
        connection = sqlite3.connect(f"file:{self.state / 'ledger.sqlite'}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT kind, name, amount FROM charges ORDER BY position").fetchall()
        finally:
            connection.close()


class Session:
    """A connection and what it was told beside its answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.notices: list[str] = []
        connection.add_notice_handler(lambda notice: self.notices.append(notice.message_primary or ""))

    def ask(self, sql: str, parameters: tuple[Any, ...] | None = None, **options: Any) -> Rows:
        """The rows of an answer."""
        return self.connection.execute(sql.encode(), parameters, **options).fetchall()

    def run(self, sql: str) -> None:
        """Run a command without rows."""
        self.connection.execute(sql.encode())

    def noticed(self) -> str:
        """The one notice since the last look."""
        (notice,) = self.notices
        self.notices.clear()
        return notice

    def spent(self) -> float:
        """The fraction of the analyst's own share that is spent."""
        ((spent,),) = self.ask("SELECT spent FROM dp.budget")
        return float(spent)

    def refused(self, sql: str) -> psycopg.errors.Diagnostic:
        """What a question is refused with; the session must live on."""
        try:
            self.connection.execute(sql.encode())
        except psycopg.Error as error:
            assert self.ask("SELECT 1") == [(1,)]
            return error.diag
        raise AssertionError(f"answered: {sql[:200]}")


@contextmanager
def closing(served: Served) -> Iterator[Served]:
    """Leave no process behind."""
    try:
        yield served
    finally:
        served.close()


def descendants(pid: int) -> list[int]:
    """A process and all its children, and theirs."""
    found = [pid]
    for parent in found:
        try:
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return found


def role_of(pid: int) -> str:
    """Front, keeper, public or clear."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    if "-m" in arguments:
        return arguments[arguments.index("-m") + 1].replace("enclave.", "").replace("enclave", "keeper")
    return next((role for role in ROLES if role in arguments), "front")


def is_alive(pid: int) -> bool:
    """True unless the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what must come true."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
