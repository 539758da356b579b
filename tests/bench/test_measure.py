from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench import measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measured through proc(5)")

_BLOCK = 64 * 1024 * 1024


def test_memory_that_is_given_back_is_in_the_peak_alone() -> None:
    kept: list[bytes] = []
    passing = measure.cost(lambda: len(b"x" * _BLOCK))
    staying = measure.cost(lambda: kept.append(b"x" * _BLOCK))
    assert passing.peak_bytes > 0.9 * _BLOCK > passing.kept_bytes
    assert staying.kept_bytes > 0.9 * _BLOCK


def test_time_is_the_median_of_the_runs() -> None:
    runs: list[int] = []
    found = measure.cost(lambda: runs.append(1), runs=3)
    assert len(runs) == 3
    assert 0 <= found.cpu_s < 1
    assert 0 <= found.wall_s < 60


def test_a_child_is_found_and_its_cpu_counted() -> None:
    busy = "import time\nwhile time.process_time() < 0.1: pass\nprint('ready', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in measure.descendants(os.getpid())
        assert measure.cpu_of([child.pid]) >= 0.05
        assert measure.peak_of(child.pid) > 0
        child.communicate(b"\n")
