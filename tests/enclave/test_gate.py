"""The gate: what is charged, in which order things happen, and who gets which numbers.

The ledger and the release store are real, in memory; the two workers are doubles that do as they are told.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest

from enclave.answer import Answer, Noised, NoisyCoordinate, Notice, Parameter, Question, ResultColumn
from enclave.gate import Gate, Needed, Prepared, accounts
from enclave.ledger import Ledger, Reservation, Scope
from enclave.releases import Releases
from enclave.worker import DeadlineExceeded, WorkerLost
from policies import document
from policies.sqltype import TEXT
from rewriter.accountant import Cost, capacity
from rewriter.cost import Price
from rewriter.plan import Call, Column, Constant, Filter, Measure, PublicGroups, Release, Scan, encode, fingerprint
from rewriter.refusal import InternalError, Refusal

POLICY = """
[room]
name = "gated"
version = 1
environment = "development"
[units.member]
[units.account]
[tables.members]
unit = {{ name = "member", column = "id" }}
columns = {{ id = {{ type = "bigint" }} }}
[tables.accounts]
unit = {{ name = "account", column = "id" }}
columns = {{ id = {{ type = "bigint" }} }}
[budgets.member]
epsilon = "{room}"
delta = "1e-6"
accountant = "{accountant}"
[budgets.account]
epsilon = "1"
delta = "1e-6"
accountant = "pure"
[roles.researcher]
tables = ["members", "accounts"]
epsilon = "1"
query_epsilon = "0.1"
{most}
[roles.auditor]
tables = ["members"]
epsilon = "1"
query_epsilon = "0.2"
[analysts.ana]
role = "researcher"
certificate = "sha256:{zeros}"
[analysts.ben]
role = "researcher"
certificate = "sha256:{ones}"
[analysts.eve]
role = "auditor"
certificate = "sha256:{twos}"
{test}
"""


def a_policy(room: str = "2", accountant: str = "pure", most: str = "", test: str = "") -> Any:
    hashes = {"zeros": "0" * 64, "ones": "1" * 64, "twos": "2" * 64}
    text = POLICY.format(room=room, accountant=accountant, most=most, test=test, **hashes)
    return document.read(text)


@dataclass
class Public:
    """Reads a question as words: releases to buy ("account.x" is about accounts), "budget" for the view."""

    events: list[str]
    prices: list[Mapping[str, Price]] = field(default_factory=list)
    views: list[Mapping[str, Any]] = field(default_factory=list)
    margins: Sequence[tuple[str, float]] = ()
    lost: int = 0

    async def prepare(self, question: Question, prices: Mapping[str, Price]) -> Prepared:
        self.prices.append(prices)
        if self.lost:
            self.lost -= 1
            raise WorkerLost("public")
        if question.text == "refuse":
            raise Refusal("42703", "column secretive does not exist")
        if question.text == "catalogue":
            return Prepared(_answer([7]))
        words = question.text.split()
        needed = [_needed(word) for word in words if word != "budget"]
        return Prepared(None, tuple(needed), ("budget",) if "budget" in words else ())

    async def finish(
        self, question: Question, releases: Sequence[Noised], views: Mapping[str, Any]
    ) -> tuple[Answer, Sequence[tuple[str, float]]]:
        self.events.append("finish")
        self.views.append(views)
        return _answer([release.coordinates[0].values[0] for release in releases]), self.margins


def _needed(word: str) -> Needed:
    """A plan that names a word in its filter, so that each word is another release."""
    unit = "account" if word.startswith("account") else "member"
    source = Filter(Scan(f"{unit}s", "t0"), (Call("=", (Column("t0", "id"), Constant(TEXT, word))),))
    plan = Release(unit, source, (), PublicGroups((), ()), (Measure("count", None),))
    return Needed(encode(plan), fingerprint(plan), unit, (f"{unit}s",))


def _answer(values: list[int]) -> Answer:
    return Answer((ResultColumn("n", 20),), pa.table({"c0": pa.array(values, pa.int64())}), f"SELECT {len(values)}")


@dataclass
class Clear:
    """Gives each run the next number; fails or waits when told to."""

    events: list[str]
    runs: list[tuple[str, Price]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    hold: asyncio.Event | None = None
    begun: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def release(self, plan: Any, price: Price) -> Noised:
        self.events.append("run")
        self.runs.append((json.dumps(plan), price))
        self.begun.put_nowait(None)
        number = 1000 + len(self.runs)
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        coordinate = NoisyCoordinate((number,), Fraction(1), "laplace", 10.0, Fraction(1))
        return Noised((), 1, (coordinate,))


@dataclass
class Log:
    events: list[str]
    leaves: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> int:
        self.events.append("log " + json.loads(leaf)["kind"])
        self.leaves.append(leaf)
        return len(self.leaves) - 1


class SpyLedger(Ledger):
    def __init__(self, policy: Any, events: list[str]) -> None:
        super().__init__(":memory:", accounts(policy))
        self.events = events

    def reserve_all(self, items: Sequence[Reservation], analyst: str, *, epsilon: Fraction) -> Any:
        self.events.append("reserve")
        return super().reserve_all(items, analyst, epsilon=epsilon)


class SpyReleases(Releases):
    def __init__(self, events: list[str]) -> None:
        super().__init__(":memory:")
        self.events = events

    def store(self, *args: Any) -> None:
        super().store(*args)
        self.events.append("store")


class Room:
    """A gate with its spies."""

    def __init__(self, policy: Any = None) -> None:
        self.policy = policy or a_policy()
        self.events: list[str] = []
        self.ledger, self.releases = SpyLedger(self.policy, self.events), SpyReleases(self.events)
        self.log, self.public, self.clear = Log(self.events), Public(self.events), Clear(self.events)
        self.gate = Gate(
            self.policy,
            self.ledger,
            self.log,  # type: ignore[arg-type]
            self.releases,
            self.public,
            self.clear,
            epoch="e",
            clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )

    async def ask(self, text: str, analyst: str = "ana", epsilon: str | None = None) -> list[int]:
        return (await self.answer(text, analyst, epsilon)).table.column(0).to_pylist()

    async def answer(self, text: str, analyst: str = "ana", epsilon: str | None = None) -> Answer:
        return await self.gate.answer(Question(text, analyst, epsilon=epsilon))

    async def notice(self, text: str, analyst: str = "ana", epsilon: str | None = None) -> str:
        (notice,) = (await self.answer(text, analyst, epsilon)).notices
        return notice.message

    def spent(self, analyst: str | None = None, unit: str = "member") -> Fraction:
        scope = Scope("room", "gated") if analyst is None else Scope("analyst", analyst)
        return self.ledger.spent(scope, unit).amount


# order


async def test_a_question_is_reserved_logged_run_stored_and_finished_in_that_order() -> None:
    room = Room()
    assert await room.ask("a") == [1001]
    assert room.events == ["reserve", "log question", "run", "store", "finish", "log answer"]


async def test_every_release_of_a_question_is_charged_before_the_first_one_runs() -> None:
    room = Room()
    assert await room.ask("a b") == [1001, 1002]
    assert room.events == ["reserve", "log question", "run", "store", "run", "store", "finish", "log answer"]


async def test_what_needs_no_release_is_neither_charged_nor_logged() -> None:
    room = Room()
    assert await room.ask("catalogue") == [7]
    assert await room.ask("budget") == []
    assert room.events == ["finish"]
    assert room.spent() == 0


# failures


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (DeadlineExceeded("clear"), "57014"),
        (Refusal("0A000", "no such plan"), "0A000"),
        (RuntimeError("a bug"), "a bug"),
    ],
)
async def test_a_failed_run_keeps_the_charge_and_the_retry_is_free(failure: Exception, seen: str) -> None:
    room = Room()
    room.clear.failures = [failure]
    with pytest.raises((Refusal, RuntimeError)) as raised:
        await room.ask("a")
    assert getattr(raised.value, "sqlstate", str(raised.value)) == seen
    assert room.spent() == room.spent("ana") == Fraction(1, 10)
    assert "store" not in room.events
    assert await room.ask("a") == [1002]
    assert room.spent() == room.spent("ana") == Fraction(1, 10)


async def test_a_run_whose_engine_died_is_repeated_once_and_then_an_internal_error() -> None:
    room = Room()
    room.clear.failures = [WorkerLost("clear")]
    assert await room.ask("a") == [1002]
    room.clear.failures = [WorkerLost("clear"), WorkerLost("clear")]
    with pytest.raises(InternalError):
        await room.ask("b")
    assert room.spent() == Fraction(2, 10)
    assert await room.ask("b") == [1005]
    assert room.spent() == Fraction(2, 10)


async def test_reading_a_question_is_repeated_once_if_its_worker_died() -> None:
    room = Room()
    room.public.lost = 1
    assert await room.ask("a") == [1001]
    room.public.lost = 2
    with pytest.raises(InternalError):
        await room.ask("a")


async def test_nothing_leaves_if_the_release_cannot_be_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(room.releases, "store", fail)
    with pytest.raises(OSError, match="disk full"):
        await room.ask("a")
    assert room.spent() == Fraction(1, 10)
    assert "finish" not in room.events


# who pays


async def test_one_analyst_pays_once_and_gets_the_same_numbers() -> None:
    room = Room()
    assert [await room.ask("a") for _ in range(3)] == [[1001]] * 3
    assert room.spent() == room.spent("ana") == Fraction(1, 10)
    assert len(room.clear.runs) == 1


async def test_a_second_analyst_pays_in_full_for_the_same_numbers_and_the_room_once() -> None:
    room = Room()
    assert await room.ask("a", "ana") == await room.ask("a", "ben") == [1001]
    assert room.spent() == Fraction(1, 10)
    assert room.spent("ana") == room.spent("ben") == Fraction(1, 10)


async def test_two_analysts_who_ask_at_once_share_one_run() -> None:
    room = Room()
    room.clear.hold = asyncio.Event()
    asking = [asyncio.create_task(room.ask("a", analyst)) for analyst in ("ana", "ben", "ana")]
    await room.clear.begun.get()
    room.clear.hold.set()
    assert await asyncio.gather(*asking) == [[1001]] * 3
    assert len(room.clear.runs) == 1
    assert [room.spent(), room.spent("ana"), room.spent("ben")] == [Fraction(1, 10)] * 3


async def test_one_of_two_who_leaves_does_not_end_the_run_of_the_other() -> None:
    room = Room()
    room.clear.hold = asyncio.Event()
    leaving, staying = (asyncio.create_task(room.ask("a", analyst)) for analyst in ("ana", "ben"))
    await room.clear.begun.get()
    leaving.cancel()
    await asyncio.sleep(0)
    room.clear.hold.set()
    assert await staying == [1001]
    assert leaving.cancelled()


async def test_who_asks_while_an_unwanted_run_is_being_stopped_starts_a_new_one() -> None:
    room = Room()
    room.clear.hold = asyncio.Event()
    leaving = asyncio.create_task(room.ask("a"))
    await room.clear.begun.get()
    leaving.cancel()
    coming = asyncio.create_task(room.ask("a"))
    await room.clear.begun.get()
    room.clear.hold.set()
    assert await coming == [1002]
    assert leaving.cancelled()
    assert room.spent() == Fraction(1, 10)


async def test_a_release_used_twice_in_a_question_is_run_and_charged_once() -> None:
    room = Room()
    assert await room.ask("a a") == [1001, 1001]
    assert room.spent() == Fraction(1, 20)


# which price


async def test_a_cheaper_question_gets_the_dearer_release_that_was_paid() -> None:
    room = Room()
    assert await room.ask("a", epsilon="0.4") == [1001]
    assert await room.ask("a", epsilon="0.1") == [1001]
    assert room.spent("ana") == Fraction(4, 10)


async def test_a_dearer_question_never_gets_the_cheaper_release() -> None:
    room = Room()
    assert await room.ask("a", epsilon="0.1") == [1001]
    assert await room.ask("a", epsilon="0.4") == [1002]
    assert room.spent("ana") == Fraction(5, 10)


async def test_a_dearer_release_that_only_another_has_paid_is_not_substituted() -> None:
    room = Room()
    assert await room.ask("a", "ana", "0.4") == [1001]
    assert await room.ask("a", "ben", "0.1") == [1002]
    assert room.spent("ben") == Fraction(1, 10)
    assert room.spent() == Fraction(5, 10)


@pytest.mark.parametrize(("accountant", "whole"), [("pure", Fraction(1, 10)), ("zcdp", Fraction(1, 200))])
async def test_the_releases_of_a_question_share_its_price_exactly(accountant: str, whole: Fraction) -> None:
    room = Room(a_policy(accountant=accountant))
    await room.ask("a b c")
    prices = [price for _, price in room.clear.runs]
    assert [price.amount for price in prices] == [whole / 3] * 3
    assert {price.accountant for price in prices} == {accountant}
    assert room.spent() == room.spent("ana") == whole


async def test_the_thresholds_of_a_question_get_delta_in_proportion_to_its_charge() -> None:
    room = Room(a_policy(room="2", accountant="pure"))
    await room.ask("a", epsilon="0.5")
    await room.ask("b c", epsilon="0.5")
    budget = Fraction(1, 10**6)
    assert [price.delta_keys for _, price in room.clear.runs] == [budget / 4, budget / 8, budget / 8]


async def test_a_release_bought_in_part_of_a_question_is_bought_again_at_the_full_price() -> None:
    room = Room()
    assert await room.ask("a b") == [1001, 1002]
    assert await room.ask("a") == [1003]
    assert room.spent() == Fraction(2, 10)
    assert await room.ask("a b") == [1003, 1002]
    assert room.spent() == Fraction(2, 10)


async def test_reading_sees_the_price_of_the_whole_question_by_unit() -> None:
    room = Room(a_policy(accountant="zcdp"))
    await room.ask("catalogue", epsilon="0.3")
    (prices,) = room.public.prices
    assert {unit: (p.accountant, p.amount) for unit, p in prices.items()} == {
        "member": ("zcdp", Fraction(9, 200)),
        "account": ("pure", Fraction(3, 10)),
    }


async def test_units_are_charged_to_their_own_budgets() -> None:
    room = Room()
    await room.ask("a account.x", epsilon="0.4")
    assert room.spent() == room.spent("ana") == Fraction(2, 10)
    assert room.spent(unit="account") == room.spent("ana", "account") == Fraction(2, 10)


# limits


async def test_a_question_that_does_not_fit_charges_nothing_and_runs_nothing() -> None:
    room = Room()
    await room.ask("account.x", epsilon="0.8")
    room.events.clear()
    with pytest.raises(Refusal) as raised:
        await room.ask("a account.y", epsilon="0.6")
    assert raised.value.sqlstate == "53400"
    assert room.events == ["reserve", "log refusal"]
    assert room.spent() == 0
    assert room.spent(unit="account") == Fraction(8, 10)


async def test_the_room_refuses_when_shares_together_exceed_it() -> None:
    room = Room(a_policy(room="1.5"))
    await room.ask("a", "ana", "1")
    with pytest.raises(Refusal) as raised:
        await room.ask("b", "ben", "0.6")
    assert (raised.value.sqlstate, "common" in raised.value.message) == ("53400", True)
    assert room.spent("ben") == 0
    assert await room.ask("a", "ben", "1") == [1001]  # the room has paid for that


@pytest.mark.parametrize("epsilon", ["1.01", "3", "1000", "1000000"])
@pytest.mark.parametrize("accountant", ["pure", "zcdp"])
async def test_more_than_any_budget_holds_is_a_refusal_with_a_price_that_fits(epsilon: str, accountant: str) -> None:
    room = Room(a_policy(accountant=accountant))
    with pytest.raises(Refusal) as raised:
        await room.ask("a", epsilon=epsilon)
    assert raised.value.sqlstate == "53400"
    if float(epsilon) < 10_000:
        assert "SET dp.epsilon" in (raised.value.hint or "")
    assert await room.ask("catalogue", epsilon=epsilon) == [7]


@pytest.mark.parametrize(
    ("epsilon", "sqlstate"),
    [
        ("0", "22023"),
        ("-0.1", "22023"),
        ("", "22023"),
        ("much", "22023"),
        ("NaN", "22023"),
        ("sNaN", "22023"),
        ("Infinity", "22023"),
        ("1e-7", "22023"),
        ("1e-999999999999", "22023"),
        ("1e999999999999", "22023"),
        ("1000001", "22023"),
        ("0.51", "53400"),
    ],
)
async def test_an_epsilon_that_cannot_be_is_refused(epsilon: str, sqlstate: str) -> None:
    room = Room(a_policy(most='query_epsilon_max = "0.5"'))
    with pytest.raises(Refusal) as raised:
        await room.ask("a", epsilon=epsilon)
    assert raised.value.sqlstate == sqlstate
    assert room.spent() == 0


@pytest.mark.parametrize("epsilon", ["0.5", "5e-1", ".5", "0.50000", "1e-6"])
async def test_an_epsilon_that_can_be_is_charged_exactly(epsilon: str) -> None:
    room = Room(a_policy(most='query_epsilon_max = "0.5"'))
    await room.ask("a", epsilon=epsilon)
    assert room.spent() == Fraction(epsilon)


async def test_a_question_without_an_epsilon_costs_what_its_role_says() -> None:
    room = Room()
    await room.ask("a", "ana")
    await room.ask("b", "eve")
    assert [room.spent("ana"), room.spent("eve")] == [Fraction(1, 10), Fraction(2, 10)]


async def test_a_release_of_a_table_that_the_analyst_may_not_see_is_never_bought() -> None:
    room = Room()
    await room.ask("account.x", "ana")
    room.events.clear()
    for text in ("account.x", "a account.x"):
        with pytest.raises(Refusal) as raised:
            await room.ask(text, "eve")
        assert (raised.value.sqlstate, raised.value.message) == ("42501", "permission denied for table accounts")
    assert room.events == ["log refusal"] * 2


@pytest.mark.parametrize(
    "lie", [{"key": "0" * 64}, {"unit": "account"}, {"plan": encode(Scan("members", "t0"))}, {"plan": ["Release"]}]
)
async def test_a_worker_that_says_other_things_of_a_plan_than_stand_in_it_buys_nothing(
    lie: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room()

    async def prepare(*_: object) -> Prepared:
        return Prepared(None, (replace(_needed("a"), **lie),))

    monkeypatch.setattr(room.public, "prepare", prepare)
    with pytest.raises((InternalError, ValueError)):
        await room.ask("a")
    assert room.events == []
    assert room.spent() == room.spent(unit="account") == 0


async def test_a_worker_that_hides_a_table_of_its_plan_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()

    async def prepare(*_: object) -> Prepared:
        return Prepared(None, (replace(_needed("account.x"), tables=("members",)),))

    monkeypatch.setattr(room.public, "prepare", prepare)
    with pytest.raises(Refusal, match="permission denied for table accounts"):
        await room.ask("a", "eve")


async def test_a_statistical_test_may_have_every_answer_afresh() -> None:
    test = '[test]\nreuse_answers = false\nepsilon = "unlimited"'
    policy = a_policy(test=test)
    policy = policy.model_copy(
        update={"budgets": {k: b.model_copy(update={"epsilon": None}) for k, b in policy.budgets.items()}}
    )
    room = Room(policy)
    assert [await room.ask("a", epsilon="900") for _ in range(3)] == [[1001], [1002], [1003]]
    assert await room.notice("a") == "dp: charged epsilon 0.10"


# what the analyst reads


async def test_the_notice_of_a_charge_is_worded_as_designed() -> None:
    room = Room(a_policy(room="8", accountant="zcdp"))
    room.public.margins = (("count", 20.6), ("avg", 0.0451))
    assert await room.notice("a") == (
        "dp: charged epsilon 0.10 (alone: 0.45 at delta 5e-7), 3 more like it in your share; "
        "count +-21, avg +-0.046 (95 %)"
    )
    assert await room.notice("a") == (
        "dp: charged epsilon 0 (released before), 3 more at 0.10 in your share; count +-21, avg +-0.046 (95 %)"
    )


async def test_the_notice_of_a_pure_charge_is_its_epsilon() -> None:
    room = Room()
    assert await room.notice("a") == "dp: charged epsilon 0.10, 9 more like it in your share"
    assert await room.notice("a") == "dp: charged epsilon 0 (released before), 9 more at 0.10 in your share"
    assert await room.notice("a b") == "dp: charged epsilon 0.05, 8 more like it in your share"


async def test_the_notice_counts_the_share_that_ends_first() -> None:
    room = Room()
    await room.ask("account.x", epsilon="0.6")
    assert await room.notice("a account.y", epsilon="0.2") == (
        "dp: charged epsilon 0.10, 1 more like it in your share"
    )


@pytest.mark.parametrize(
    ("half", "shown"),
    [
        (0.0, "0"),
        (0.0123, "0.013"),
        (0.5, "0.50"),
        (10.2, "11"),
        (29957.3, "29958"),
        (4e-7, "0.00000040"),
        (3e17, "300000000000000000"),
    ],
)
async def test_half_widths_are_rounded_up_to_two_digits(half: float, shown: str) -> None:
    room = Room()
    room.public.margins = (("sum", half),)
    assert (await room.notice("a")).endswith(f"; sum +-{shown} (95 %)")


@pytest.mark.parametrize(
    ("epsilon", "shown"), [("0.25", "0.25"), ("0.05", "0.05"), ("0.002", "0.002"), ("1", "1.00")]
)
async def test_a_small_charge_is_not_shown_as_nothing(epsilon: str, shown: str) -> None:
    assert (await Room().notice("a", epsilon=epsilon)).startswith(f"dp: charged epsilon {shown}, ")


async def test_the_budget_view_shows_an_analyst_their_own_share_alone() -> None:
    room = Room()
    await room.ask("a", "ben", "0.5")
    await room.ask("b", "ana", "0.25")
    await room.ask("budget", "ana", "1e-6")
    assert room.public.views[-1] == {
        "budget": [
            {
                "unit": "account",
                "scope": "analyst",
                "name": "ana",
                "epsilon": 1.0,
                "delta": 1e-6,
                "spent": 0.0,
                "questions_left": 1_000_000,
            },
            {
                "unit": "member",
                "scope": "analyst",
                "name": "ana",
                "epsilon": 1.0,
                "delta": 1e-6,
                "spent": 0.25,
                "questions_left": 750_000,
            },
        ]
    }


async def test_the_budget_view_counts_no_further_than_its_integer_column() -> None:
    room = Room(a_policy(accountant="zcdp"))
    await room.ask("budget", epsilon="1e-6")
    assert room.public.views[-1]["budget"][1]["questions_left"] == 2**31 - 1


async def test_a_question_with_a_release_and_the_view_sees_its_own_charge() -> None:
    room = Room()
    await room.ask("budget a")
    assert room.public.views[-1]["budget"][1]["spent"] == pytest.approx(0.1)


async def test_notices_of_the_public_worker_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    finish = room.public.finish

    async def noticed(*args: Any) -> Any:
        answer, margins = await finish(*args)
        return Answer(answer.columns, answer.table, answer.tag, (Notice("hello"),)), margins

    monkeypatch.setattr(room.public, "finish", noticed)
    first, second = (await room.answer("a")).notices
    assert (first.message, second.message[:11]) == ("hello", "dp: charged")


# the log


async def test_the_log_holds_no_text_no_literal_and_no_number_of_an_answer() -> None:
    room = Room()
    texts = ["a", "secret_name", "a secret_name"]
    for text in texts:
        await room.gate.answer(Question(text, "ana", (Parameter(25, "O'Neil of Zanzibar"),)))
    with pytest.raises(Refusal):
        await room.ask("refuse")
    log = re.sub(rb"[0-9a-f]{64}", b"", b"\n".join(room.log.leaves))  # a digest may hold any four digits
    for word in (b"secret", b"Neil", b"Zanzibar", b"1001", b"1002", b"refuse", b"column", b"Scan"):
        assert word not in log


async def test_the_log_says_who_was_charged_what_and_that_a_repetition_was_free() -> None:
    room = Room()
    await room.ask("a b")
    await room.ask("a b")
    await room.ask("a b", "ben")
    questions = [json.loads(leaf) for leaf in room.log.leaves if b'"question":' in leaf]
    half = {"amount": "1/20", "unit": "member"}
    assert [(leaf["analyst"], leaf["charges"]) for leaf in questions] == [
        ("ana", [half, half]),
        ("ana", []),
        ("ben", [half, half]),
    ]


async def test_an_answer_points_at_its_question_even_when_others_came_between() -> None:
    room = Room()
    room.clear.hold = asyncio.Event()
    asking = [asyncio.create_task(room.ask(text)) for text in ("a", "b")]
    for _ in asking:
        await room.clear.begun.get()
    room.clear.hold.set()
    await asyncio.gather(*asking)
    leaves = [json.loads(leaf) for leaf in room.log.leaves]
    assert [leaf["kind"] for leaf in leaves] == ["question", "question", "answer", "answer"]
    assert {leaf["to"] for leaf in leaves[2:]} == {0, 1}


async def test_the_same_question_is_committed_to_under_another_salt_each_time() -> None:
    room = Room()
    await room.ask("a")
    await room.ask("a")
    committed = [json.loads(leaf).get("question") for leaf in room.log.leaves if b'"charges"' in leaf]
    assert len(set(committed)) == 2


async def test_a_refusal_is_logged_with_its_sqlstate_alone() -> None:
    room = Room()
    with pytest.raises(Refusal):
        await room.ask("refuse")
    (leaf,) = map(json.loads, room.log.leaves)
    assert (leaf["kind"], leaf["sqlstate"], leaf["analyst"]) == ("refusal", "42703", "ana")
    assert set(leaf) == {"analyst", "at", "kind", "question", "sqlstate", "v"}


# the policy's budgets


def test_a_room_and_each_analyst_have_an_account_for_every_unit() -> None:
    found = accounts(a_policy(room="2", accountant="zcdp"))
    assert {(a.scope.kind, a.scope.name, a.unit) for a in found} == {
        (kind, name, unit)
        for unit in ("member", "account")
        for kind, name in (("room", "gated"), ("analyst", "ana"), ("analyst", "ben"), ("analyst", "eve"))
    }
    sizes = {(a.scope.kind, a.unit): a.capacity for a in found}
    assert sizes["room", "member"] == capacity("zcdp", Fraction(2), Fraction(1, 10**6))
    assert sizes["analyst", "member"] == capacity("zcdp", Fraction(1), Fraction(1, 10**6))
    assert sizes["analyst", "account"] == Cost(Fraction(1))
