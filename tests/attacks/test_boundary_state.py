"""A state folder that lacks one of its files: whatever is gone must not be made afresh, least of all the ledger."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from enclave.boot import boot
from enclave.gate import accounts
from enclave.ledger import Ledger
from enclave.log import Log, start_leaf
from enclave.releases import Releases
from policies import document
from policies.seal import canonical
from rewriter.accountant import Cost
from rewriter.refusal import Refusal

POLICY = """
[room]
name = "attacked"
version = 1
environment = "development"
[units.person]
[tables.people]
unit = { name = "person", column = "person_id" }
rows_per_unit = 1
[tables.people.columns]
person_id = { type = "bigint", not_null = true }
[budgets.person]
epsilon = "4"
delta = "1e-6"
[roles.plain]
tables = ["people"]
epsilon = "3"
query_epsilon = "0.1"
[analysts.ana]
role = "plain"
certificate = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
"""
FILES = ("log", "ledger.sqlite", "releases.sqlite", "vault.key")


def used_room(folder: Path) -> tuple[bytes, Path, Path]:
    """Policy, data and state of a room that has started and charged once."""
    policy = document.read(POLICY)
    data, state = folder / "data", folder / "state"
    data.mkdir()
    state.mkdir()
    (data / "people.csv").write_text("person_id\n1\n2\n")
    (state / "vault.key").write_bytes(b"\1" * 32)
    at = datetime(2027, 1, 1, tzinfo=UTC)
    with Log(state / "log") as log, Ledger(state / "ledger.sqlite", accounts(policy)) as ledger:
        Releases(state / "releases.sqlite").close()
        log.append(
            start_leaf(
                at=at,
                boot_id="1",
                environment="development",
                policy_sha256="0",
                policy_version=1,
                spent={"person": "0"},
            )
        )
        ledger.reserve("r", "person", Cost(Fraction(1, 200)), "ana", epsilon=Fraction(1, 10))
    return canonical(policy), data, state


@pytest.mark.parametrize("name", FILES)
async def test_a_room_that_lacks_a_file_is_not_opened(tmp_path: Path, name: str) -> None:
    policy, data, state = used_room(tmp_path)
    (state / name).unlink()
    with pytest.raises(Refusal) as caught:
        await boot(policy, data, state)
    assert caught.value.sqlstate == "58030"
    assert name in caught.value.message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, 40])
async def test_a_room_with_a_file_cut_short_is_not_opened(tmp_path: Path, name: str, keep: int) -> None:
    policy, data, state = used_room(tmp_path)
    whole = (state / name).read_bytes()
    (state / name).write_bytes(whole[: len(whole) * keep // 100])
    with pytest.raises(Refusal) as caught:
        await boot(policy, data, state)
    assert caught.value.sqlstate == "58030"


@pytest.mark.parametrize(("name", "other"), [("log", "ledger.sqlite"), ("ledger.sqlite", "releases.sqlite")])
async def test_one_state_file_is_not_taken_for_another(tmp_path: Path, name: str, other: str) -> None:
    policy, data, state = used_room(tmp_path)
    shutil.copy(state / other, state / name)
    with pytest.raises(Refusal) as caught:
        await boot(policy, data, state)
    assert caught.value.sqlstate == "58030"
