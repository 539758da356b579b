"""The public worker's process: `python -I -m enclave.public FD`."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import duckdb

from enclave import codec, tables
from enclave.answer import Noised
from enclave.public.desk import Desk, view_table
from enclave.public.postprocess import load_public
from enclave.service import Request, serve, tell
from policies.seal import from_canonical
from rewriter.plan import encode, fingerprint, scans
from rewriter.released import ReleasedTable

MEMORY_BYTES: Final = 3 * 2**30
"""What analysts' text may take beside the public tables. The engine's own limit counts neither its results nor what a
function builds: `replace(replace(..` with ten letters each makes 10^10 in ten steps."""


class _Worker:
    """The desk behind the socket."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def start(self, request: Request) -> Any:
        """Params: policy (canonical text), files (public tables by name)."""
        policy = from_canonical(request.params["policy"].encode())
        files = {name: Path(path) for name, path in request.params["files"].items()}
        read = lambda name: tables.read(name, files[name], policy.tables[name])  # noqa: E731
        self._desk = Desk(policy, load_public(policy, read))
        limit_memory(MEMORY_BYTES)
        return None

    def prepare(self, request: Request) -> Any:
        """Params: question, prices by unit. Buffers back: the answer, if there is one already."""
        assert self._desk is not None
        question = codec.question_from_json(request.params["question"])
        prices = {unit: codec.price_from_json(price) for unit, price in request.params["prices"].items()}
        prepared = self._desk.prepare(question, prices, request.on_cancel)
        if prepared.answer is not None:
            header, buffers = codec.answer_to_frame(prepared.answer)
            return {"answer": header}, buffers
        return {"releases": [_release(shape) for shape in prepared.releases], "views": list(prepared.views)}

    def finish(self, request: Request) -> Any:
        """Params: question, releases (noised), views. Back: the answer and its margins."""
        assert self._desk is not None
        question = codec.question_from_json(request.params["question"])
        releases = [Noised.from_json(value) for value in request.params["releases"]]
        views = {name: view_table(name, rows) for name, rows in request.params["views"].items()}
        answer, margins = self._desk.finish(question, releases, views, request.on_cancel)
        header, buffers = codec.answer_to_frame(answer)
        return {"answer": header, "margins": [list(margin) for margin in margins]}, buffers


def limit_memory(more_bytes: int) -> None:
    """Let this process take so much more memory than it has now; then allocating fails instead of the machine."""
    if sys.platform != "linux":
        return
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (used + more_bytes, used + more_bytes))


def _ending(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """A handler that ends the process when the engine breaks: it would refuse every later query of anyone."""

    def handle(request: Request) -> Any:
        try:
            return handler(request)
        except (duckdb.FatalException, duckdb.InternalException) as error:
            tell(f"the engine broke ({type(error).__name__})")
            os._exit(1)

    return handle


def _release(shape: ReleasedTable) -> Any:
    release = shape.release
    return {
        "plan": encode(release),
        "key": fingerprint(release),
        "unit": release.unit,
        "tables": sorted({scan.table for scan in scans(release.source)}),
    }


if __name__ == "__main__":
    worker = _Worker()
    handlers = {"start": worker.start, "prepare": _ending(worker.prepare), "finish": _ending(worker.finish)}
    serve(int(sys.argv[1]), handlers, threads=1)
