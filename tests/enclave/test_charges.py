"""Charges: what was written is found again or the file is refused; nothing takes a charge back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.charges import Charge, Charges
from enclave.database import Head, StateDamaged, StateError
from rewriter.accountant import NOTHING, Cost

ROOM, ANA = ("room", ""), ("analyst", "ana")


def charge(release_id: str, payer: tuple[str, str] = ANA, amount: Fraction | int = 1) -> Charge:
    return Charge(release_id, payer, "member", "pure", Cost(Fraction(amount)))


def written(path: Path, *charges: Charge) -> Head:
    store = Charges(path)
    for one in charges:
        store.add([one])
    head = store.head()
    store.close()
    return head


def test_a_charge_is_found_by_release_and_payer() -> None:
    store = Charges(":memory:")
    store.add([charge("r", ROOM), charge("r"), charge("s")])
    assert store.find("r", ROOM) == charge("r", ROOM)
    assert store.find("s", ROOM) is None
    assert store.spent(ANA, "member") == Cost(Fraction(2))
    assert store.spent(ANA, "nurse") == NOTHING
    assert store.accountant("member") == "pure"
    assert store.accountant("nurse") is None
    store.close()


def test_an_empty_addition_changes_nothing() -> None:
    store = Charges(":memory:")
    before = store.head()
    store.add([])
    assert store.head() == before
    store.close()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(), st.fractions(0, 5, max_denominator=50)), unique_by=lambda pair: pair[0]))
def test_balances_are_recomputed_exactly_at_every_opening(pairs: Sequence[tuple[str, Fraction]]) -> None:
    store = Charges(":memory:")
    genesis = store.head()
    store.add([charge(release_id, amount=amount) for release_id, amount in pairs])
    expected, head = store.spent(ANA, "member"), store.head()
    assert expected == Cost(sum((amount for _, amount in pairs), Fraction(0)))
    store._spent, store._head = {}, genesis
    store._replay(head)
    assert (store.spent(ANA, "member"), store.head()) == (expected, head)
    store.close()


def test_one_by_one_or_together_the_chain_is_the_same(tmp_path: Path) -> None:
    apart = written(tmp_path / "apart", charge("r"), charge("s"))
    store = Charges(tmp_path / "together")
    store.add([charge("r"), charge("s")])
    assert store.head() == apart
    store.close()


def test_a_failed_addition_is_undone_whole_and_is_for_good(tmp_path: Path) -> None:
    store = Charges(tmp_path / "ledger")
    store.add([charge("r")])
    with pytest.raises(StateError, match="SQLITE_CONSTRAINT_UNIQUE"):
        store.add([charge("s"), charge("r")])
    with pytest.raises(StateError, match="opened again"):
        store.add([charge("t")])
    store.close()
    store = Charges(tmp_path / "ledger")
    assert store.find("s", ANA) is None
    assert store.spent(ANA, "member") == Cost(Fraction(1))
    store.close()


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    store = Charges(tmp_path / "ledger")
    store.add([charge("r")])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StateError, match="SQLITE_FULL"):
        store.add([charge("x" * 100_000)])
    store.close()
    store = Charges(tmp_path / "ledger")
    assert store.head().size == 1
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE charges SET amount = '1/4' WHERE position = 1",
        "UPDATE charges SET name = 'ben' WHERE position = 2",
        "UPDATE charges SET unit = 'nurse' WHERE position = 3",
        "UPDATE charges SET accountant = 'zcdp' WHERE position = 3",
        "UPDATE charges SET chain = x'00' WHERE position = 1",
        "DELETE FROM charges WHERE position = 1",
        "UPDATE charges SET position = 9 WHERE position = 4",
        "UPDATE charges SET release_id = CAST(x'ff' AS TEXT) WHERE position = 1",
    ],
)
def test_an_altered_charge_is_found_at_open(tmp_path: Path, change: str) -> None:
    written(tmp_path / "ledger", charge("r", ROOM), charge("r"), charge("s", ROOM), charge("s"))
    connection = sqlite3.connect(tmp_path / "ledger")
    connection.executescript(f"DROP TRIGGER no_change; DROP TRIGGER no_removal; {change};")
    connection.close()
    with pytest.raises(StateDamaged, match="damaged"):
        Charges(tmp_path / "ledger")


@pytest.mark.parametrize("statement", ["UPDATE charges SET amount = '0/1'", "DELETE FROM charges"])
def test_the_file_itself_refuses_refunds(tmp_path: Path, statement: str) -> None:
    written(tmp_path / "ledger", charge("r"))
    connection = sqlite3.connect(tmp_path / "ledger")
    with pytest.raises(sqlite3.IntegrityError, match="no refunds"):
        connection.execute(statement)
    connection.close()


def test_any_flipped_byte_is_found_or_harmless(tmp_path: Path) -> None:
    head = written(tmp_path / "ledger", charge("r", ROOM), charge("r"))
    content = (tmp_path / "ledger").read_bytes()
    used = [index for index in range(len(content)) if content[index]]
    for index in used[::7]:
        altered = bytearray(content)
        altered[index] ^= 0x21
        (tmp_path / "ledger").write_bytes(altered)
        try:
            store = Charges(tmp_path / "ledger")
        except StateError:
            pass
        else:
            assert store.head() == head
            assert store.spent(ROOM, "member") == store.spent(ANA, "member") == Cost(Fraction(1))
            store.close()
        for companion in tmp_path.glob("ledger-*"):
            os.unlink(companion)


def test_a_remembered_head_tells_a_file_that_was_rolled_back(tmp_path: Path) -> None:
    empty = written(tmp_path / "ledger")
    early = written(tmp_path / "ledger", charge("r"))
    copy = (tmp_path / "ledger").read_bytes()
    late = written(tmp_path / "ledger", charge("s"))
    for past in (empty, early, late):
        Charges(tmp_path / "ledger", past=past).close()
    (tmp_path / "ledger").write_bytes(copy)
    Charges(tmp_path / "ledger", past=early).close()
    with pytest.raises(StateDamaged, match="rolled back"):
        Charges(tmp_path / "ledger", past=late)


def test_a_lost_write_ahead_log_is_told_by_a_remembered_head(tmp_path: Path) -> None:
    store = Charges(tmp_path / "ledger")
    store.add([charge("r")])
    past = store.head()
    crashed = tmp_path / "crashed"
    crashed.write_bytes((tmp_path / "ledger").read_bytes())  # as if the -wal beside it had been removed
    store.close()
    with pytest.raises(StateDamaged):
        Charges(crashed, past=past)
