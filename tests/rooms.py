"""rooms: fresh rooms in one process: a new gate, ledger and release store over data that are loaded once.

A room asks through the keeper's own adapters (`boot.PublicPool`, `boot.ClearWorker`) and the workers' own handlers;
what lies between them here is JSON text instead of a socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from enclave import tables
from enclave.answer import Answer, Noised, Parameter, Question
from enclave.boot import ClearWorker, PublicPool
from enclave.clear import __main__ as clear_main
from enclave.clear import noise, vault
from enclave.clear.contribution import GRID
from enclave.clear.duckdb_engine import Engine
from enclave.clear.noise import Noisy, OpenDP, Sampler
from enclave.gate import Gate, accounts
from enclave.ledger import Ledger, Scope
from enclave.public import __main__ as public_main
from enclave.public.desk import Desk
from enclave.public.postprocess import load_public
from enclave.releases import Releases
from enclave.service import Request
from enclave.worker import Reply
from policies import document
from rewriter.cost import Noise

SECRET = b"\3" * 32
PRODUCT = OpenDP()


@dataclass(frozen=True, slots=True)
class Fixed:
    """Test noise: the same at every call, told as having the real one's scale.

    Attributes:
        measures: added to the noisy sums, in grid steps, times 1, 2, 3, 1, 2, 3...
        others: added to counts of units: those of a threshold and of histograms that find a bound.
    """

    measures: int = 0
    others: int = 0

    def add(self, kind: Noise, values: Sequence[int], sensitivity: int, amount: Fraction) -> Noisy:
        assert amount > 0
        if sensitivity == GRID:
            moved = tuple(value + self.measures * (1 + place % 3) for place, value in enumerate(values))
        else:
            moved = tuple(value + self.others for value in values)
        return Noisy(moved, kind, noise._scale(kind, sensitivity, amount))


class Leaves:
    """A log in memory."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []

    def append(self, leaf: bytes) -> int:
        self.leaves.append(leaf)
        return len(self.leaves) - 1


class Inline:
    """A worker whose handlers run here; parameters and replies pass through JSON text as they do on the socket."""

    def __init__(self, handlers: Mapping[str, Callable[[Request], Any]]) -> None:
        self._handlers = handlers
        self.calls: list[str] = []

    async def call(self, method: str, params: Any, *, deadline_s: float) -> Reply:
        assert deadline_s > 0
        self.calls.append(method)
        await asyncio.sleep(0)  # others may ask meanwhile
        result = self._handlers[method](Request(method, json.loads(json.dumps(params))))
        value, buffers = result if isinstance(result, tuple) else (result, ())
        return Reply(json.loads(json.dumps(value)), tuple(bytes(buffer) for buffer in buffers))


class Data:
    """A policy and its tables, loaded into a vault and a desk that all rooms share."""

    def __init__(self, policy: str, read: Mapping[str, pa.Table] | Path, *, secret: bytes = SECRET) -> None:
        """Take a policy's text and its tables, or the folder of their files."""
        self.policy = document.read(policy)
        raw = self._reader(read)
        self.connection = vault.connect(threads=1)
        vault.load(self.connection, self.policy, raw, secret)
        vault.lock(self.connection)
        self._secret = secret
        self._desk = public_main._Worker()
        self._desk._desk = Desk(self.policy, load_public(self.policy, raw))

    def room(self, sampler: Sampler = PRODUCT) -> Room:
        """Open a fresh room: nothing asked, nothing spent."""
        engine = clear_main._Worker()
        engine._engine = Engine(self.connection, self.policy, self._secret, sampler)
        public = Inline({"prepare": self._desk.prepare, "finish": self._desk.finish})
        return Room(self, public, Inline({"release": engine.release}))

    def _reader(self, read: Mapping[str, pa.Table] | Path) -> Callable[[str], pa.Table]:
        if isinstance(read, Path):
            return vault.file_reader(tables.find(read, self.policy), self.policy)
        return lambda name: read[name]


class Room:
    """One fresh room."""

    def __init__(self, data: Data, public: Inline, clear: Inline) -> None:
        """Take the workers; see `Data.room`."""
        self.policy = data.policy
        self.public, self.clear = public, clear
        self.ledger = Ledger(":memory:", accounts(data.policy))
        self.releases = Releases(":memory:")
        self.log = Leaves()
        self.gate = Gate(
            data.policy,
            self.ledger,
            self.log,  # type: ignore[arg-type]
            self.releases,
            PublicPool([public]),  # type: ignore[list-item]
            ClearWorker(clear),  # type: ignore[arg-type]
            epoch="test",
            clock=lambda: datetime.now(UTC),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self.releases.close()

    def ask(self, sql: str, analyst: str = "ana", epsilon: str | None = None, **others: Any) -> Answer:
        """Answer one question; `others` are fields of `Question`."""
        return asyncio.run(self.answer(sql, analyst, epsilon, **others))

    async def answer(self, sql: str, analyst: str = "ana", epsilon: str | None = None, **others: Any) -> Answer:
        """Answer one question on a running loop."""
        return await self.gate.answer(Question(sql, analyst, epsilon=epsilon, **others))

    def rows(self, sql: str, analyst: str = "ana", epsilon: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of an answer."""
        return rows(self.ask(sql, analyst, epsilon))

    def spent(self, unit: str, analyst: str | None = None) -> Fraction:
        """What the common budget, or an analyst's share, has been charged."""
        scope = Scope("room", "") if analyst is None else Scope("analyst", analyst)
        return self.ledger.spent(scope, unit).amount

    def stored(self) -> list[Noised]:
        """All releases made, in order."""
        payloads = self.releases._db.execute("SELECT payload FROM releases ORDER BY position")
        return [Noised.from_json(json.loads(payload)) for (payload,) in payloads]


def rows(answer: Answer) -> list[tuple[Any, ...]]:
    """The rows of an answer."""
    if answer.table.num_columns == 0:
        return [()] * answer.table.num_rows
    return list(zip(*(column.to_pylist() for column in answer.table.columns), strict=True))


def parameters(*values: tuple[int, str | None]) -> tuple[Parameter, ...]:
    """Bound parameters from (type OID, text) pairs."""
    return tuple(Parameter(oid, value) for oid, value in values)


def certificate(name: str) -> str:
    """Some certificate's hash, so that an analyst can exist."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()
