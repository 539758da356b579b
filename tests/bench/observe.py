"""observe: what an engine does while it works: CPU by step of a release, and the most memory it held."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb

from enclave.clear import duckdb_engine, noise, partials

REST: Final = "rest"
"""The step that is none of the others: above all, giving temporary tables back."""
_STEPS: Final = {
    "load": "partials",
    "set_groups": "groups",
    "supporters": "groups",
    "centre_histogram": "centre",
    "norm_histogram": "norms",
    "totals": "clip+sum",
}
"""Methods of Partials, and what the report calls the step."""
_POLL_S: Final = 0.002


def steps(release: Callable[[], object]) -> dict[str, float]:
    """Run one release: CPU seconds by step."""
    start = time.process_time()
    with _timed_steps() as found:
        release()
    return {**found, REST: time.process_time() - start - sum(found.values())}


def memory(connection: duckdb.DuckDBPyConnection, work: Callable[[], object]) -> int:
    """Do some work on a connection: the most bytes that its engine held beyond its tables.

    The engine's own account, as resident memory does not tell: what a query frees stays with the allocator, and the
    next one grows into it. Looked at every few milliseconds, so short peaks are missed.
    """
    watching, done = connection.cursor(), threading.Event()
    before, peak = _held(watching), 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(_POLL_S):
            peak = max(peak, _held(watching))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
        watching.close()
    return max(0, peak - before)


def _held(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory()").fetchall()[0]
    return int(row[0])


@contextmanager
def _timed_steps() -> Iterator[dict[str, float]]:
    found: dict[str, float] = defaultdict(float)

    class Timed(partials.Partials):
        pass

    for method, step in _STEPS.items():
        setattr(Timed, method, _timed(getattr(partials.Partials, method), found, step))
    adding = noise.OpenDP.add
    duckdb_engine.Partials = Timed  # type: ignore[attr-defined]
    noise.OpenDP.add = _timed(adding, found, "noise")  # type: ignore[method-assign]
    try:
        yield found
    finally:
        duckdb_engine.Partials = partials.Partials  # type: ignore[attr-defined]
        noise.OpenDP.add = adding  # type: ignore[method-assign]


def _timed(method: Callable[..., Any], found: dict[str, float], step: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        start = time.process_time()
        try:
            return method(*arguments)
        finally:
            found[step] += time.process_time() - start

    return run
