"""The public worker's process: `python -I -m enclave.public FD`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from enclave import codec, tables
from enclave.answer import Noised
from enclave.public.desk import Desk, view_table
from enclave.public.postprocess import load_public
from enclave.service import Request, serve
from policies.seal import from_canonical
from rewriter.plan import encode, fingerprint, scans
from rewriter.released import ReleasedTable


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
        return None

    def prepare(self, request: Request) -> Any:
        """Params: question, prices by unit. Buffers back: the answer, if there is one already."""
        assert self._desk is not None
        question = codec.question_from_json(request.params["question"])
        prices = {unit: codec.price_from_json(price) for unit, price in request.params["prices"].items()}
        prepared = self._desk.prepare(question, prices)
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
    handlers = {"start": worker.start, "prepare": worker.prepare, "finish": worker.finish}
    serve(int(sys.argv[1]), handlers, threads=1)
