"""measure: a piece of work -> CPU seconds, of this process or of a tree of others, and the peak of its memory."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """What some work took.

    Attributes:
        cpu_s: user and system, all threads.
        wall_s: by the clock.
        peak_bytes: how far resident memory rose above what it was before.
        kept_bytes: by how much it is more afterwards.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    kept_bytes: int


def cost(work: Callable[[], object], runs: int = 1) -> Cost:
    """Do the work some times over: medians of time, the largest growth of memory."""
    found = [_once(work) for _ in range(runs)]
    return Cost(
        statistics.median(one.cpu_s for one in found),
        statistics.median(one.wall_s for one in found),
        max(one.peak_bytes for one in found),
        max(one.kept_bytes for one in found),
    )


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds of other processes so far, in clock ticks; children that were waited for count."""
    total = 0
    for pid in pids:
        # proc(5): utime, stime, cutime, cstime are fields 14 to 17, counted after the name in parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def peak_of(pid: int) -> int:
    """The largest resident memory a process ever had, in bytes."""
    return _status(pid, "VmHWM")


def descendants(pid: int) -> list[int]:
    """A process and all its children, and theirs."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _once(work: Callable[[], object]) -> Cost:
    before = _resident()
    _forget_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu, wall, max(0, peak_of(os.getpid()) - before), max(0, _resident() - before))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _forget_peak() -> None:
    # proc(5), clear_refs: 5 sets the peak to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)
