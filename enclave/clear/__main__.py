"""The clear engine's process: `python -I -m enclave.clear FD`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from enclave import codec
from enclave.clear import vault
from enclave.clear.duckdb_engine import Engine
from enclave.clear.noise import OpenDP
from enclave.service import Request, serve
from enclave.tables import LoadError
from policies.seal import from_canonical
from rewriter.plan import Release, decode
from rewriter.refusal import Refusal

THREADS = 4
"""Releases at a time; each uses the engine's own threads, more would only wait for memory."""


class _Worker:
    """The engine behind the socket."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def start(self, request: Request) -> Any:
        """Params: policy (canonical text), files by table, secret (hex). Back: the tables' reports, for owners."""
        policy = from_canonical(request.params["policy"].encode())
        secret = bytes.fromhex(request.params["secret"])
        files = {name: Path(path) for name, path in request.params["files"].items()}
        reports: list[vault.TableReport] = []
        connection = vault.connect(memory_limit=vault.memory_limit())
        try:
            vault.load(connection, policy, vault.file_reader(files, policy), secret, reports.append)
            vault.lock(connection)
            vault.prove_locked(connection)
            vault.prove_no_spill()
        except LoadError as error:
            raise Refusal("58030", str(error)) from None
        self._engine = Engine(connection, policy, secret, OpenDP())
        return [dataclasses.asdict(report) for report in reports]

    def release(self, request: Request) -> Any:
        """Params: plan, price. Back: the noised release."""
        assert self._engine is not None
        plan = decode(request.params["plan"])
        if not isinstance(plan, Release):
            raise ValueError("not a release")
        price = codec.price_from_json(request.params["price"])
        return self._engine.release(plan, price, request.on_cancel).to_json()


if __name__ == "__main__":
    worker = _Worker()
    serve(int(sys.argv[1]), {"start": worker.start, "release": worker.release}, threads=THREADS)
