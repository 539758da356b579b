"""boot: a policy, a data folder and a state folder -> a gate with its workers running. The keeper's start and end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import rfc8785

from enclave import codec, tables
from enclave.answer import Answer, Noised, Question
from enclave.database import StateError
from enclave.gate import Gate, Needed, Prepared, accounts
from enclave.ledger import Ledger
from enclave.log import Log, LogError, start_leaf
from enclave.releases import Releases
from enclave.tables import LoadError
from enclave.worker import Call, Worker
from policies.model import Policy
from policies.seal import canonical, digest, from_canonical
from rewriter.cost import Price
from rewriter.refusal import Refusal

READ_DEADLINE_S: Final = 5.0
"""For reading a question: honest ones take milliseconds, and a hostile one must not hold a worker."""
RELEASE_DEADLINE_S: Final = 60.0
FINISH_DEADLINE_S: Final = 20.0
PUBLIC_WORKERS: Final = 2
"""While one is stuck in a hostile text, the other answers."""
CLEAR_CONCURRENT: Final = 4
SECRET_BYTES: Final = 32


@dataclass(slots=True)
class Room:
    """A running room: its gate, and what must be closed with it."""

    gate: Gate
    stack: AsyncExitStack

    async def close(self) -> None:
        """Stop the workers and close the state."""
        await self.stack.aclose()


async def boot(policy_bytes: bytes, data: Path, state: Path) -> Room:
    """Open a room.

    Args:
        policy_bytes: canonical policy.
        data: folder with a file for each table.
        state: folder of ledger, log, releases and secret; made if there is none.

    Raises:
        Refusal: 58030, data or state cannot be used; the sentence is for the operator.
    """
    policy = from_canonical(policy_bytes)
    stack = AsyncExitStack()
    try:
        return await _boot(policy, data, state, stack)
    except (LoadError, StateError, LogError, ValueError) as error:
        await stack.aclose()
        raise Refusal("58030", str(error)) from None
    except BaseException:
        await stack.aclose()
        raise


async def _boot(policy: Policy, data: Path, state: Path, stack: AsyncExitStack) -> Room:
    os.makedirs(state, mode=0o700, exist_ok=True)  # before anything else is awaited
    files = tables.find(data, policy)
    log = stack.enter_context(Log(state / "log"))
    _refuse_missing(state, log)
    ledger = stack.enter_context(Ledger(state / "ledger.sqlite", accounts(policy)))
    if ledger.head().size and not log.head().size:
        raise StateError(f"the log {state / 'log'} is missing or empty, while the ledger holds charges; restore it")
    releases = stack.enter_context(Releases(state / "releases.sqlite"))
    secret = _secret(state / "vault.key")
    public = [_public_worker(policy, files, number) for number in range(PUBLIC_WORKERS)]
    clear = _clear_worker(policy, files, secret)
    for worker in (*public, clear):
        stack.push_async_callback(worker.stop)
    reports, *_ = await asyncio.gather(clear.start(), *(worker.start() for worker in public))
    _write_reports(state, reports.value)
    log.append(_started(policy, ledger))
    gate = Gate(
        policy,
        ledger,
        log,
        releases,
        PublicPool(public),
        ClearWorker(clear),
        epoch=epoch(policy, await asyncio.to_thread(tables.epoch, files)),
        clock=lambda: datetime.now(UTC),
    )
    return Room(gate, stack)


def epoch(policy: Policy, files_sha256: str) -> str:
    """What answers are kept under: the data and what the policy says of tables, not who may ask."""
    agreed = json.loads(canonical(policy))["tables"]
    return sha256(rfc8785.dumps(agreed) + files_sha256.encode()).hexdigest()


class PublicPool:
    """Public workers, each with one question at a time; implements `gate.Public`."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        """Take started workers."""
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        for worker in workers:
            self._free.put_nowait(worker)

    async def prepare(self, question: Question, prices: Mapping[str, Price]) -> Prepared:
        """Read a question."""
        params = {
            "question": codec.question_to_json(question),
            "prices": {unit: codec.price_to_json(price) for unit, price in prices.items()},
        }
        value, buffers = await self._call("prepare", params, READ_DEADLINE_S)
        if "answer" in value:
            return Prepared(codec.answer_from_frame(value["answer"], buffers))
        needed = tuple(Needed(r["plan"], r["key"], r["unit"], tuple(r["tables"])) for r in value["releases"])
        return Prepared(None, needed, tuple(value["views"]))

    async def finish(
        self, question: Question, releases: Sequence[Noised], views: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> tuple[Answer, Sequence[tuple[str, float]]]:
        """Finish an answer."""
        params = {
            "question": codec.question_to_json(question),
            "releases": [noised.to_json() for noised in releases],
            "views": views,
        }
        value, buffers = await self._call("finish", params, FINISH_DEADLINE_S)
        return codec.answer_from_frame(value["answer"], buffers), [(m[0], m[1]) for m in value["margins"]]

    async def _call(self, method: str, params: Any, deadline_s: float) -> tuple[Any, Sequence[bytes]]:
        worker = await self._free.get()
        try:
            reply = await worker.call(method, params, deadline_s=deadline_s)
        finally:
            self._free.put_nowait(worker)
        return reply.value, reply.buffers


class ClearWorker:
    """The clear engine; implements `gate.Clear`."""

    def __init__(self, worker: Worker) -> None:
        """Take a started worker."""
        self._worker = worker

    async def release(self, plan: Any, price: Price) -> Noised:
        """Run one plan at its price."""
        params = {"plan": plan, "price": codec.price_to_json(price)}
        reply = await self._worker.call("release", params, deadline_s=RELEASE_DEADLINE_S)
        return Noised.from_json(reply.value)


def _public_worker(policy: Policy, files: Mapping[str, Path], number: int) -> Worker:
    public = {name: str(files[name]) for name, table in policy.tables.items() if table.public}
    params = {"policy": canonical(policy).decode(), "files": public}
    return Worker("enclave.public", name=f"public {number}", first=lambda: Call("start", params))


def _clear_worker(policy: Policy, files: Mapping[str, Path], secret: bytes) -> Worker:
    paths = {name: str(path) for name, path in files.items()}
    params = {"policy": canonical(policy).decode(), "files": paths, "secret": secret.hex()}
    return Worker("enclave.clear", name="clear", first=lambda: Call("start", params), concurrent=CLEAR_CONCURRENT)


def _refuse_missing(state: Path, log: Log) -> None:
    """Refuse a room that has run but lacks a file.

    Without its ledger it would sell its budget again; without its releases, or with another secret, every question
    that was paid would be run afresh and free, with other noise over the same data.
    """
    for name in ("ledger.sqlite", "releases.sqlite", "vault.key"):
        if log.head().size and not (state / name).exists():
            raise StateError(f"{state / name} is missing, while the log tells of earlier starts; restore it")


def _secret(path: Path) -> bytes:
    """The key of every choice of rows or groups. Kept, so that a restart chooses the same ones."""
    if not path.exists():
        partial = path.with_suffix(".new")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise LoadError(f"{path} is damaged: it must hold {SECRET_BYTES} bytes")
    return secret


def _write_reports(state: Path, reports: list[dict[str, Any]]) -> None:
    """One file per owner: what loading dropped tells of rows, so it is for that owner alone."""
    owners = {report["owner"] for report in reports}
    for owner in owners:
        own = [report for report in reports if report["owner"] == owner]
        path = state / f"loaded-{owner or 'unowned'}.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(own, file, indent=1)


def _started(policy: Policy, ledger: Ledger) -> bytes:
    spent = {a.unit: str(ledger.spent(a.scope, a.unit).amount) for a in accounts(policy) if a.scope.kind == "room"}
    return start_leaf(
        at=datetime.now(UTC),
        boot_id=secrets.token_hex(16),
        environment=policy.room.environment,
        policy_sha256=digest(policy),
        policy_version=policy.room.version,
        spent=spent,
    )
