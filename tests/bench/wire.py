"""wire: a served room in processes of its own: start-up, CPU of all of them per question, memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from pgproxy.cli import demo
from tests.bench.measure import cpu_of, descendants, peak_of

_STOP_S: Final = 20
_NAMES: Final = {"enclave": "keeper", "enclave.public": "public", "enclave.clear": "clear"}


@dataclass(frozen=True, slots=True)
class Case:
    """Questions asked one after another on one connection; enough of them for the 10 ms ticks of proc(5)."""

    name: str
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One case: what one question took, in CPU seconds by process and in wall-clock seconds."""

    name: str
    count: int
    cpu_s: dict[str, float]
    wall_s: float


_JOIN, _TABLE, _ = demo.QUERIES
CASES: Final = (
    Case("SELECT 1", ("SELECT 1",) * 2000),
    Case("released answer, 5 rows", (_TABLE,) * 300),
    Case("released answer, join of 10 rows", (_JOIN,) * 300),
    Case("fresh count", tuple(f"SELECT count(*) FROM encounters WHERE num_medications > {n}" for n in range(10, 40))),
)
"""Asked in this order of a fresh room; the fresh ones fit the demo's budget."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured: of starting (the first on a folder, and the next), of asking, and memory by process."""

    starts: tuple[tuple[float, float], ...]
    asked: tuple[Asked, ...]
    peaks: tuple[tuple[str, int], ...]


def measure() -> Report:
    """Open a room over the demo's data, twice, and ask."""
    with tempfile.TemporaryDirectory() as folder:
        room = demo.Room(Path(folder))
        demo.prepare(room, demo.SEED)
        with _served(room) as first:
            pass
        with _served(room) as room_process:
            asked = tuple(_asked(room_process, case) for case in CASES)
            peaks = tuple((_name(pid), peak_of(pid)) for pid in descendants(room_process.pid))
        starts = tuple((process.wall_s, process.cpu_s) for process in (first, room_process))
        return Report(starts, asked, peaks)


@dataclass(frozen=True, slots=True)
class _Process:
    """A room that listens, and what starting it took."""

    pid: int
    port: int
    wall_s: float
    cpu_s: float


@contextmanager
def _served(room: demo.Room) -> Iterator[_Process]:
    command = [sys.executable, "-c", "from pgproxy.cli import main; main()"]
    command += ["serve", str(room.policy), "--data", str(room.data), "--state", str(room.state), "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        wall = time.perf_counter() - began
        if not line:
            raise RuntimeError(f"cleanroom serve ended with {process.wait()} before it listened")
        port = int(line.rpartition(":")[2])
        try:
            yield _Process(process.pid, port, wall, cpu_of(descendants(process.pid)))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_STOP_S)


def _asked(room: _Process, case: Case) -> Asked:
    conninfo = f"host={demo.HOST} port={room.port} user={demo.ANALYST} password={demo.PASSWORD} dbname=cleanroom"
    # Never prepared: each question then is one Query message and its answer, as psql sends it.
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(case.questions[0]).fetchall()
        count, before, began = len(case.questions), _cpu_by_process(room.pid), time.perf_counter()
        for question in case.questions:
            connection.execute(question).fetchall()
        wall, after = time.perf_counter() - began, _cpu_by_process(room.pid)
    return Asked(case.name, count, {name: (after[name] - before[name]) / count for name in after}, wall / count)


def _cpu_by_process(pid: int) -> dict[str, float]:
    """CPU seconds so far; workers of one kind together."""
    found: dict[str, float] = {}
    for child in descendants(pid):
        found[_name(child)] = found.get(_name(child), 0.0) + cpu_of([child])
    return found


def _name(pid: int) -> str:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return next((name for module, name in _NAMES.items() if module in arguments), "front")
