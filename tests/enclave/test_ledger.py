"""The ledger: sums stay within capacities, nothing is refunded, an acknowledged charge is never lost."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from enclave.database import Head, StateDamaged, StateLocked
from enclave.ledger import ITEMS_MAX, Account, BudgetRow, Charged, Ledger, Reservation, Scope
from rewriter.accountant import NOTHING, Cost, capacity, charge
from rewriter.refusal import Refusal

DELTA = Fraction(1, 10**6)
TENTH = Fraction(1, 10)
ROOM = Scope("room", "readmissions")
ANA, BEN = Scope("analyst", "ana"), Scope("analyst", "ben")


def account(scope: Scope, whole: Fraction | int | None, unit: str = "member") -> Account:
    epsilon = None if whole is None else Fraction(whole)
    return Account(scope, unit, "pure", capacity("pure", epsilon, DELTA), epsilon, DELTA)


def pure(room: Fraction | int = 10, share: Fraction | int = 6) -> list[Account]:
    return [account(ROOM, room), account(ANA, share), account(BEN, share)]


def cost(amount: Fraction | int) -> Cost:
    return Cost(Fraction(amount))


def pay(ledger: Ledger, release_id: str, amount: Fraction | int, analyst: str = "ana") -> Charged:
    return ledger.reserve(release_id, "member", cost(amount), analyst, epsilon=Fraction(amount))


def test_the_room_pays_a_release_once_and_each_analyst_pays_it_in_full() -> None:
    ledger = Ledger(":memory:", pure())
    assert pay(ledger, "r", 2) == Charged(room=True, analyst=True)
    assert pay(ledger, "r", 2, "ben") == Charged(room=False, analyst=True)
    assert pay(ledger, "r", 2) == Charged(room=False, analyst=False)
    assert [ledger.spent(scope, "member") for scope in (ROOM, ANA, BEN)] == [cost(2)] * 3


def test_paid_is_said_of_one_analyst_and_one_release() -> None:
    ledger = Ledger(":memory:", pure())
    pay(ledger, "r", 2)
    assert ledger.paid("r", "ana")
    assert not ledger.paid("r", "ben")
    assert not ledger.paid("s", "ana")
    assert not ledger.paid("r", "")  # the name under which the room itself pays


def test_an_analyst_named_like_the_room_is_not_the_room() -> None:
    ledger = Ledger(":memory:", [account(ROOM, 10), account(Scope("analyst", "readmissions"), 10)])
    pay(ledger, "r", 1, "readmissions")
    assert ledger.spent(ROOM, "member") == ledger.spent(Scope("analyst", "readmissions"), "member") == cost(1)


@pytest.mark.parametrize(("room", "share"), [(3, 6), (10, 3)])
def test_both_must_fit_or_neither_is_charged(room: int, share: int) -> None:
    ledger = Ledger(":memory:", pure(room, share))
    pay(ledger, "r", 2)
    with pytest.raises(Refusal):
        pay(ledger, "s", 2)
    assert ledger.spent(ROOM, "member") == ledger.spent(ANA, "member") == cost(2)
    assert not ledger.paid("s", "ana")


def test_a_budget_can_be_spent_to_the_last_grain() -> None:
    third = Fraction(1, 3)
    ledger = Ledger(":memory:", pure(1, 1))
    for name in "abc":
        pay(ledger, name, third)
    assert ledger.remaining(ROOM, "member") == NOTHING
    with pytest.raises(Refusal):
        pay(ledger, "d", Fraction(1, 10**18))


def test_several_releases_of_a_question_are_paid_together_or_not_at_all() -> None:
    ledger = Ledger(":memory:", pure(10, 3))
    pay(ledger, "old", 1)
    items = [Reservation(name, "member", cost(1)) for name in ("old", "new", "new")]
    assert ledger.reserve_all(items, "ana", epsilon=TENTH) == (
        Charged(room=False, analyst=False),
        Charged(room=True, analyst=True),
        Charged(room=False, analyst=False),
    )
    with pytest.raises(Refusal):
        ledger.reserve_all([Reservation(name, "member", cost(1)) for name in "ab"], "ana", epsilon=TENTH)
    assert ledger.spent(ANA, "member") == cost(2)


def test_units_have_budgets_of_their_own_and_a_question_needs_all_of_them() -> None:
    ledger = Ledger(":memory:", [*pure(), account(ROOM, 1, "nurse"), account(ANA, 1, "nurse")])
    both = [Reservation("m", "member", cost(2)), Reservation("n", "nurse", cost(2))]
    with pytest.raises(Refusal, match='your share of the "nurse" budget'):
        ledger.reserve_all(both, "ana", epsilon=Fraction(2))
    assert ledger.spent(ROOM, "member") == ledger.spent(ROOM, "nurse") == NOTHING


def test_a_refusal_says_which_budget_and_what_would_still_fit() -> None:
    ledger = Ledger(":memory:", pure(10, 3))
    pay(ledger, "r", Fraction(28, 10))
    with pytest.raises(Refusal) as caught:
        pay(ledger, "s", Fraction(1, 2))
    assert caught.value.sqlstate == "53400"
    assert caught.value.message == 'your share of the "member" budget cannot hold this question'
    assert caught.value.hint == "1 more like it would fit at epsilon 0.2: SET dp.epsilon = '0.2'"


def test_a_hint_under_zcdp_scales_with_the_square_and_is_true() -> None:
    share = Account(ANA, "member", "zcdp", capacity("zcdp", Fraction(3), DELTA), Fraction(3), DELTA)
    room = Account(ROOM, "member", "zcdp", capacity("zcdp", Fraction(8), DELTA), Fraction(8), DELTA)
    ledger = Ledger(":memory:", [room, share])

    def ask(name: str, epsilon: Fraction) -> None:
        ledger.reserve(name, "member", charge("zcdp", epsilon), "ana", epsilon=epsilon)

    for number in range(35):
        ask(str(number), TENTH)
    with pytest.raises(Refusal) as caught:
        ask("35", TENTH)
    assert caught.value.hint == "3 more like it would fit at epsilon 0.02: SET dp.epsilon = '0.02'"
    for number in range(3):
        ask(f"small {number}", Fraction(2, 100))
    with pytest.raises(Refusal):
        ask("small 3", Fraction(2, 100))


def test_an_exhausted_common_budget_is_named_and_no_price_is_proposed() -> None:
    ledger = Ledger(":memory:", pure(2, 6))
    pay(ledger, "r", 2, "ben")
    with pytest.raises(Refusal, match='the common "member" budget') as caught:
        pay(ledger, "s", 1)
    assert caught.value.hint == "nothing smaller fits either; answers that you have paid for stay free"
    assert pay(ledger, "r", 2) == Charged(room=False, analyst=True)


def test_the_words_of_a_refusal_do_not_depend_on_the_release() -> None:
    ledger = Ledger(":memory:", pure(1, 1))
    words = set()
    for name in ("r", "secret literal"):
        with pytest.raises(Refusal) as caught:
            pay(ledger, name, 2)
        words.add((caught.value.message, caught.value.hint, caught.value.detail))
    assert len(words) == 1


def test_an_analyst_without_a_share_is_refused_and_a_unit_without_a_budget_is_a_bug() -> None:
    ledger = Ledger(":memory:", pure())
    with pytest.raises(Refusal) as caught:
        pay(ledger, "r", 1, "eve")
    assert caught.value.sqlstate == "42501"
    with pytest.raises(ValueError, match="no budget"):
        ledger.reserve("r", "nurse", cost(1), "ana", epsilon=TENTH)
    assert ledger.spent(ROOM, "member") == NOTHING


def test_a_release_id_stands_for_one_price_and_one_unit() -> None:
    ledger = Ledger(":memory:", [*pure(), account(ROOM, 1, "nurse"), account(BEN, 1, "nurse")])
    pay(ledger, "r", 1)
    with pytest.raises(ValueError, match="another price"):
        pay(ledger, "r", 2, "ben")
    with pytest.raises(ValueError, match="another unit"):
        ledger.reserve("r", "nurse", cost(1), "ben", epsilon=TENTH)
    with pytest.raises(ValueError, match="more than nothing"):
        pay(ledger, "s", 0)
    with pytest.raises(ValueError, match=str(ITEMS_MAX)):
        ledger.reserve_all([Reservation("t", "member", cost(1))] * (ITEMS_MAX + 1), "ana", epsilon=TENTH)


def test_an_unwieldy_price_is_rounded_up_never_down() -> None:
    ledger = Ledger(":memory:", pure())
    amount = Fraction(1, 3**200) + Fraction(1, 7)
    pay(ledger, "r", amount)
    assert amount <= ledger.spent(ANA, "member").amount <= amount + Fraction(1, 10**36)
    assert pay(ledger, "r", amount) == Charged(room=False, analyst=False)


def test_an_unlimited_room_keeps_count_and_never_refuses() -> None:
    ledger = Ledger(":memory:", [account(ROOM, None), account(ANA, None)])
    pay(ledger, "r", 10**6)
    assert ledger.spent(ROOM, "member") == cost(10**6)
    assert ledger.remaining(ROOM, "member") is None
    assert ledger.rows("ana", TENTH) == (BudgetRow("member", "analyst", "ana", None, DELTA, 0.0, None),)


def test_an_analyst_sees_their_own_shares_alone() -> None:
    ledger = Ledger(":memory:", [*pure(), account(ROOM, 4, "nurse"), account(ANA, 2, "nurse")])
    pay(ledger, "r", 3)
    pay(ledger, "s", 4, "ben")
    assert ledger.rows("ana", TENTH) == (
        BudgetRow("member", "analyst", "ana", Fraction(6), DELTA, 0.5, 30),
        BudgetRow("nurse", "analyst", "ana", Fraction(2), DELTA, 0.0, 20),
    )
    assert ledger.rows("eve", TENTH) == ()


def test_charges_outlive_the_object_and_the_policy(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", pure()) as ledger:
        pay(ledger, "r", 2)
    renamed = Scope("room", "second version")
    with Ledger(tmp_path / "ledger", [account(renamed, 3), account(ANA, 1)]) as ledger:
        assert ledger.spent(renamed, "member") == ledger.spent(ANA, "member") == cost(2)
        assert ledger.remaining(ANA, "member") == NOTHING
        assert pay(ledger, "r", 2) == Charged(room=False, analyst=False)
        with pytest.raises(Refusal):
            pay(ledger, "s", 1)


def test_another_accountant_for_a_charged_unit_is_refused_at_open(tmp_path: Path) -> None:
    zcdp = [replace(one, accountant="zcdp") for one in pure()]
    Ledger(tmp_path / "ledger", pure()).close()
    with Ledger(tmp_path / "ledger", zcdp) as ledger:  # nothing was charged yet
        pay(ledger, "r", 1)
    with pytest.raises(ValueError, match="charged under accountant 'zcdp', not 'pure'"):
        Ledger(tmp_path / "ledger", pure())
    Ledger(tmp_path / "ledger", zcdp).close()


def test_a_ledger_that_does_not_run_through_a_remembered_head_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", pure()) as ledger:
        assert ledger.head().size == 0
        pay(ledger, "r", 1)
        past = ledger.head()
        assert past.size == 2
    with Ledger(tmp_path / "ledger", pure(), past=past) as ledger:
        assert ledger.head() == past
    with pytest.raises(StateDamaged, match="rolled back"):
        Ledger(tmp_path / "ledger", pure(), past=Head(3, past.hash))


@pytest.mark.parametrize(
    ("accounts", "what"),
    [
        ([account(ROOM, 1), account(Scope("room", "other"), 1)], "two accounts"),
        ([account(ROOM, 1), replace(account(ANA, 1), accountant="zcdp")], "two accountants"),
        ([account(ANA, 1)], "no common budget"),
    ],
)
def test_contradictory_accounts_are_refused(accounts: list[Account], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Ledger(":memory:", accounts)


def test_the_file_is_private_and_a_second_keeper_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger", pure()):
        assert stat.S_IMODE((tmp_path / "ledger").stat().st_mode) == 0o600
        with pytest.raises(StateLocked, match=r"ledger .* in use by another keeper"):
            Ledger(tmp_path / "ledger", pure())


class LedgerMachine(RuleBasedStateMachine):
    """Any order of questions by any analyst, with reopening in between, against a model of two dictionaries."""

    analysts = st.sampled_from(("ana", "ben"))
    # The price is part of the id, as in the product.
    releases = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from((Fraction(1, 3), Fraction(2), TENTH)))

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "ledger"
        self.bought: dict[str, dict[str, Fraction]] = {"": {}, "ana": {}, "ben": {}}

    @initialize(room=st.sampled_from((3, 7)), share=st.sampled_from((2, 5)))
    def open(self, room: int, share: int) -> None:
        self.accounts = pure(room, share)
        self.limits = {"": room, "ana": share, "ben": share}
        self.ledger = Ledger(self.path, self.accounts)

    @rule(wanted=st.lists(releases, min_size=1, max_size=4), analyst=analysts)
    def ask(self, wanted: list[tuple[str, Fraction]], analyst: str) -> None:
        items = [Reservation(f"{name} {price}", "member", Cost(price)) for name, price in wanted]
        after = {who: dict(self.bought[who]) for who in ("", analyst)}
        for item in items:
            for bought in after.values():
                bought[item.release_id] = item.cost.amount
        fits = all(sum(bought.values()) <= self.limits[who] for who, bought in after.items())
        grown = any(after[who] != self.bought[who] for who in after)
        try:
            self.ledger.reserve_all(items, analyst, epsilon=Fraction(1))
        except Refusal:
            assert not fits
            assert grown, "what has been paid is free"
        else:
            assert fits or not grown
            self.bought.update(after)

    @precondition(lambda self: sum(map(len, self.bought.values())) > 0)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        analyst = data.draw(st.sampled_from([who for who in ("ana", "ben") if self.bought[who]]))
        release_id, price = data.draw(st.sampled_from(sorted(self.bought[analyst].items())))
        assert pay(self.ledger, release_id, price, analyst) == Charged(room=False, analyst=False)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.path, self.accounts)

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for scope, who in ((ROOM, ""), (ANA, "ana"), (BEN, "ben")):
            spent = self.ledger.spent(scope, "member").amount
            assert spent == sum(self.bought[who].values())
            assert spent <= self.limits[who]

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
        self.directory.cleanup()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)

CHILD = """
import sys
from fractions import Fraction
from pathlib import Path
from enclave.ledger import *
from rewriter.accountant import Cost
room, ana = (Account(Scope(kind, "ana"), "m", "pure", None, None, Fraction(0)) for kind in ("room", "analyst"))
ledger = Ledger(Path(sys.argv[1]), [room, ana])
number = int(sys.argv[2])
while True:
    pair = [Reservation(f"{number}{half}", "m", Cost(Fraction(1, 3))) for half in "ab"]
    ledger.reserve_all(pair, "ana", epsilon=Fraction(1))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def test_a_killed_keeper_never_loses_an_acknowledged_charge_nor_half_of_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    accounts = [Account(Scope(kind, "ana"), "m", "pure", None, None, DELTA) for kind in ("room", "analyst")]
    first = 0
    for delay_s in (0.0, 0.003, 0.011, 0.03):
        command = [sys.executable, "-c", CHILD, str(path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == f"{first}\n"
            time.sleep(delay_s)
            os.kill(child.pid, signal.SIGKILL)
            acknowledged = [first, *(int(line) for line in child.stdout if line.endswith("\n"))]
        with Ledger(path, accounts) as ledger:
            assert all(ledger.paid(f"{number}{half}", "ana") for number in acknowledged for half in "ab")
            spent = ledger.spent(ANA, "m").amount
            assert spent == ledger.spent(ROOM, "m").amount
            # At most the one reservation in flight is there besides, and whole.
            assert spent * 3 / 2 - (acknowledged[-1] + 1) in (0, 1)
            first = int(spent * 3 / 2)


@settings(max_examples=30, deadline=None)
@given(st.permutations([("ana", n) for n in range(6)] + [("ben", n) for n in range(3, 9)]))
def test_the_order_of_concurrent_questions_decides_who_is_refused_but_never_the_sum(
    order: list[tuple[str, int]],
) -> None:
    ledger = Ledger(":memory:", pure(5, 4))
    refused = 0
    for analyst, number in order:
        try:
            pay(ledger, str(number), 1, analyst)
        except Refusal:
            refused += 1
    assert ledger.spent(ROOM, "member") <= cost(5)
    assert max(ledger.spent(ANA, "member"), ledger.spent(BEN, "member")) <= cost(4)
    total = ledger.spent(ANA, "member") + ledger.spent(BEN, "member")
    assert total.amount + refused == len(order)
    ledger.close()
