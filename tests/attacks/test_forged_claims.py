"""A broken public worker lies about its plan: whom it is about, and which tables it reads.

The gate charges the unit and checks the tables that the worker names beside the plan. If nobody compares them with
the plan itself, people are counted on the budget of another kind of unit, and tables are read that the analyst may
not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from attack_room import SECRET, NoNoise

from enclave.answer import Answer, Noised, Question, ResultColumn
from enclave.clear import vault
from enclave.clear.duckdb_engine import Engine
from enclave.gate import Gate, Needed, Prepared, accounts
from enclave.ledger import Ledger
from enclave.releases import Releases
from policies import document
from policies.model import Policy
from rewriter.cost import Price
from rewriter.plan import Measure, PublicGroups, Release, Scan, decode, encode, fingerprint
from rewriter.refusal import InternalError, Refusal

POLICY = """
[room]
name = "deceived"
version = 1
environment = "development"
[units.person]
[units.account]
[tables.people]
unit = {{ name = "person", column = "id" }}
columns = {{ id = {{ type = "bigint" }} }}
[tables.patients]
unit = {{ name = "person", column = "id" }}
columns = {{ id = {{ type = "bigint" }} }}
[tables.accounts]
unit = {{ name = "account", column = "id" }}
columns = {{ id = {{ type = "bigint" }} }}
[budgets.person]
epsilon = "1"
delta = "1e-6"
[budgets.account]
epsilon = "100"
delta = "1e-6"
[roles.curious]
tables = ["people", "accounts"]
epsilon = "1"
query_epsilon = "0.1"
[analysts.eve]
role = "curious"
certificate = "sha256:{zeros}"
"""


def about(table: str, unit: str = "person") -> Release:
    return Release(unit, Scan(table, "t"), (), PublicGroups((), ()), (Measure("count", None),))


class Liar:
    """A public worker in an attacker's hand."""

    def __init__(self, needed: Needed) -> None:
        self._needed = needed

    async def prepare(self, question: Question, prices: Mapping[str, Price]) -> Prepared:
        return Prepared(None, (self._needed,))

    async def finish(self, question: Question, releases: Sequence[Noised], views: Mapping[str, Any]) -> Any:
        counts = [release.coordinates[0].values[0] for release in releases]
        return Answer((ResultColumn("n", 20),), pa.table({"n": pa.array(counts)}), "SELECT 1"), ()


class Clear:
    """The clear engine as its process runs it: whatever the gate sends along must be all it needs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def release(self, plan: Any, price: Price, *claims: Any, **named: Any) -> Noised:
        found = decode(plan)
        assert isinstance(found, Release)
        return self._engine.release(found, price)


class Leaves:
    """A log that keeps nothing."""

    def append(self, leaf: bytes) -> int:
        return 0


def gate(policy: Policy, needed: Needed) -> tuple[Gate, Ledger]:
    connection = vault.connect(threads=1)
    vault.load(connection, policy, lambda name: pa.table({"id": pa.array(["1", "2"])}), SECRET)
    clear = Clear(Engine(connection, policy, SECRET, NoNoise()))
    ledger = Ledger(":memory:", accounts(policy))
    made = Gate(
        policy,
        ledger,
        Leaves(),  # type: ignore[arg-type]
        Releases(":memory:"),
        Liar(needed),
        clear,
        epoch="e",
        clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
    )
    return made, ledger


LIES = {
    "another kind of unit": (about("people"), "account", ("people",)),
    "another table": (about("patients"), "person", ("people",)),
    "no table at all": (about("patients"), "person", ()),
    "another unit and table": (about("patients"), "account", ("accounts",)),
}


@pytest.mark.parametrize(("plan", "unit", "tables"), LIES.values(), ids=LIES.keys())
async def test_what_is_said_of_a_plan_is_compared_with_the_plan(
    plan: Release, unit: str, tables: tuple[str, ...]
) -> None:
    policy = document.read(POLICY.format(zeros="0" * 64))
    made, _ = gate(policy, Needed(encode(plan), fingerprint(plan), unit, tables))
    with pytest.raises((Refusal, InternalError)):
        await made.answer(Question("SELECT count(*) FROM people", "eve"))


async def test_a_plan_under_its_own_name_is_answered() -> None:
    plan, policy = about("people"), document.read(POLICY.format(zeros="0" * 64))
    made, _ = gate(policy, Needed(encode(plan), fingerprint(plan), "person", ("people",)))
    assert (await made.answer(Question("SELECT count(*) FROM people", "eve"))).table.num_rows == 1
