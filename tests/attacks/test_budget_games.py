"""Attempts to run more than was paid for, to see what another has paid, or to be told a smaller charge.

Every run of the clear engine is held against the ledger at the moment it begins: what is about to run must be paid by
the room and by whoever asks, and no release may cost less than the noise in it is drawn for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave.answer import Answer, Noised, Question
from enclave.gate import Needed, Prepared
from rewriter import plan
from rewriter.cost import Price
from rewriter.parse import parse
from rewriter.refusal import InternalError, Refusal
from rewriter.rewrite import rewrite
from tests.rooms import Data, Room, certificate, rows

POLICY = f"""
[room]
name = "attacked"
version = 1
environment = "development"
[units.person]
[units.shop]
[tables.people]
unit = {{ name = "person", column = "person_id" }}
rows_per_unit = 1
[tables.people.columns]
person_id = {{ type = "bigint", not_null = true }}
grp = {{ type = "text", values = ["a", "b"], not_null = true }}
[tables.salaries]
unit = {{ name = "person", column = "person_id" }}
rows_per_unit = 1
[tables.salaries.columns]
person_id = {{ type = "bigint", not_null = true }}
[tables.shops]
unit = {{ name = "shop", column = "shop_id" }}
rows_per_unit = 1
[tables.shops.columns]
shop_id = {{ type = "bigint", not_null = true }}
[tables.rates]
public = true
[tables.rates.columns]
rate = {{ type = "integer", not_null = true }}
[budgets.person]
epsilon = "4"
delta = "1e-6"
[budgets.shop]
epsilon = "100"
delta = "1e-6"
[roles.plain]
tables = ["people", "shops"]
epsilon = "3"
query_epsilon = "0.1"
[roles.all]
tables = ["people", "salaries", "shops", "rates"]
epsilon = "3"
query_epsilon = "0.1"
[analysts.ana]
role = "plain"
certificate = "{certificate("ana")}"
[analysts.ben]
role = "plain"
certificate = "{certificate("ben")}"
[analysts.boss]
role = "all"
certificate = "{certificate("boss")}"
"""
TABLES = {
    "people": pa.table({"person_id": list(range(60)), "grp": ["a", "b"] * 30}),
    "salaries": pa.table({"person_id": list(range(60))}),
    "shops": pa.table({"shop_id": list(range(30))}),
    "rates": pa.table({"rate": list(range(5))}),
}
COUNT = "SELECT count(*) FROM people"


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(POLICY, TABLES)


@pytest.fixture
def room(data: Data) -> Room:
    return data.room()


def runs(room: Room) -> list[Fraction]:
    """Amounts of the runs to come; each is held against what has been charged before it."""
    found: list[Fraction] = []
    release = room.gate._clear.release

    async def held(plan_: Any, price: Price) -> Noised:
        found.append(price.amount)
        total = sum((room.spent(unit) for unit in ("person", "shop")), Fraction(0))
        assert total >= sum(found, Fraction(0))
        return await release(plan_, price)

    room.gate._clear.release = held  # type: ignore[method-assign]
    return found


def logged(room: Room) -> Fraction:
    """What the log says was charged."""
    leaves = [json.loads(leaf) for leaf in room.log.leaves]
    amounts = [Fraction(c["amount"]) for leaf in leaves if leaf["kind"] == "question" for c in leaf["charges"]]
    return sum(amounts, Fraction(0))


def outcome(room: Room, epsilon: str) -> str:
    """The SQLSTATE of a question at a price, "" if it is answered."""
    try:
        room.ask(COUNT, epsilon=epsilon)
    except Refusal as refusal:
        return refusal.sqlstate
    return ""


@pytest.mark.parametrize(
    "sql",
    [
        f"{COUNT} UNION ALL {COUNT}",
        f"{COUNT} UNION {COUNT} UNION ALL SELECT count(*) FROM shops",
        f"WITH x AS ({COUNT}), y AS ({COUNT}) SELECT * FROM x, y",
        f"WITH x AS ({COUNT}) SELECT * FROM x UNION ALL SELECT * FROM x",
        "SELECT grp, count(*) FROM people GROUP BY grp UNION ALL SELECT grp, count(*) FROM people GROUP BY 1",
        f"SELECT * FROM ({COUNT}) a, (SELECT count(1) FROM people p) b, (SELECT count(*) FROM shops) c",
    ],
)
def test_what_is_asked_twice_in_a_question_is_charged_logged_and_told_as_it_ran(room: Room, sql: str) -> None:
    made = runs(room)
    answer = room.ask(sql, epsilon="0.3")
    spent = room.spent("person") + room.spent("shop")
    assert spent == sum(made, Fraction(0)) == logged(room)
    assert spent == room.spent("person", "ana") + room.spent("shop", "ana")
    told = float(answer.notices[-1].message.split()[3])
    most = max(room.spent("person"), room.spent("shop"))
    assert told == pytest.approx(float(2 * most) ** 0.5, abs=0.006)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.from_regex(r"[-+]?[0-9_ ]{0,20}\.?[0-9]{0,40}([eE][-+]?[0-9]{1,12})?", fullmatch=True),
        st.sampled_from(
            ["NaN", "sNaN", "-NaN", "Infinity", "-inf", "", " ", "0", "-0", "1e-1000000000", "1/2", "\u0660.\u0661"]
        ),
        st.text(max_size=6),
    )
)
def test_whatever_is_typed_as_epsilon_is_refused_or_charged_exactly(data: Data, epsilon: str) -> None:
    with data.room() as room:
        made = runs(room)
        refused = outcome(room, epsilon)
        if refused:
            assert refused in ("22023", "53400")
            assert not made
            assert room.spent("person") == 0
            return
        value = Fraction(epsilon.strip().replace("_", ""))
        assert 0 < value <= 3
        assert made == [value * value / 2]
        assert room.spent("person") >= made[0]
        assert room.spent("person", "ana") == room.spent("person")


def test_no_order_of_asking_shows_an_analyst_numbers_they_have_not_paid(room: Room) -> None:
    seen: dict[str, set[tuple[Any, ...]]] = {"ana": set(), "ben": set()}
    for analyst, epsilon in [("ana", "0.5"), ("ben", "0.1"), ("ana", "0.1"), ("ben", "0.2"), ("ben", "0.1")]:
        seen[analyst].update(room.rows(COUNT, analyst, epsilon))
    assert room.spent("person", "ana") == Fraction(1, 8)
    assert room.spent("person", "ben") == Fraction(1, 200) + Fraction(1, 50)
    assert room.spent("person") == Fraction(1, 8) + Fraction(1, 200) + Fraction(1, 50)
    assert len(room.stored()) == 3


async def test_cancelling_a_run_again_and_again_is_paid_once_and_shows_one_result(room: Room) -> None:
    begun = asyncio.Event()
    release = room.gate._clear.release

    async def slow(plan_: Any, price: Price) -> Noised:
        begun.set()
        await asyncio.sleep(0.005)
        return await release(plan_, price)

    room.gate._clear.release = slow  # type: ignore[method-assign]
    for _ in range(5):
        task = asyncio.create_task(room.answer(COUNT))
        await begun.wait()
        begun.clear()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    answers = await asyncio.gather(*(room.answer(COUNT, analyst) for analyst in ("ana", "ben", "ana", "ben")))
    assert len({str(rows(answer)) for answer in answers}) == 1
    assert len(room.stored()) == 1
    assert room.spent("person") == room.spent("person", "ana") == room.spent("person", "ben") == Fraction(1, 200)


async def test_questions_at_once_cannot_spend_more_than_there_is(room: Room) -> None:
    made = runs(room)
    texts = [f"SELECT count(*) FROM people WHERE grp = '{number}'" for number in range(20)]
    asked = [room.answer(text, epsilon="0.2") for text in texts]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome.sqlstate for outcome in outcomes if isinstance(outcome, Refusal)]
    assert refused == ["53400"] * len(refused)
    assert 0 < len(refused) < 20
    assert len(made) == 20 - len(refused)
    assert room.spent("person") == sum(made, Fraction(0)) == logged(room)


def test_describing_explaining_and_failing_are_free(room: Room) -> None:
    room.ask(COUNT, describe=True)
    room.ask(f"EXPLAIN {COUNT}")
    for sql in ("EXPLAIN SELECT count(*) FROM salaries", "SELECT count(*) FROM salaries", "SELECT * FROM people"):
        for describe in (False, True):
            with pytest.raises(Refusal):
                room.ask(sql, describe=describe)
    assert room.spent("person") == 0
    assert not room.stored()


class Hostile:
    """A public worker that asks for what it likes, whatever the analyst wrote."""

    def __init__(self, *needed: Needed) -> None:
        self.needed = needed
        self.got: list[Noised] = []

    async def prepare(self, _question: Question, _prices: Mapping[str, Price]) -> Prepared:
        return Prepared(None, self.needed, ("budget", "no such view", "../log"))

    async def finish(
        self, _question: Question, releases: Sequence[Noised], views: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> tuple[Answer, Sequence[tuple[str, float]]]:
        self.got += releases
        assert all(row["name"] == "ana" for view in views.values() for row in view)
        return Answer((), pa.table({}), "SELECT 0"), []


def release(data: Data, sql: str) -> plan.Release:
    desk = data._desk._desk
    assert desk is not None
    return rewrite(parse(sql).tree, data.policy, "boss", desk._facts).releases[0].release


def needed(made: plan.Release, **claims: Any) -> Needed:
    fields = {"key": plan.fingerprint(made), "unit": made.unit, "tables": ("people",)} | claims
    return Needed(plan.encode(made), fields["key"], fields["unit"], fields["tables"])


def forgeries(data: Data) -> list[Needed]:
    count = release(data, COUNT)
    other = release(data, "SELECT count(*) FROM people WHERE grp = 'a'")
    salaries = release(data, "SELECT count(*) FROM salaries")
    joined = release(data, "SELECT count(*) FROM people p JOIN salaries s ON s.person_id = p.person_id")
    rates = release(data, "SELECT count(*) FROM people p JOIN rates r ON r.rate = p.person_id")
    axis = plan.PublicRows(plan.Scan("rates", "t9"), ("rate",), False)
    grouped = plan.Release("person", count.source, (plan.Column("t9", "rate"),), plan.PublicGroups((axis,), ()), ())
    return [
        needed(count, unit="shop"),
        needed(count, unit="nobody"),
        needed(count, key=plan.fingerprint(other)),
        needed(count, key=""),
        needed(salaries),
        needed(joined),
        needed(rates),
        needed(grouped),
        needed(plan.Release("shop", count.source, count.keys, count.groups, count.measures)),
        needed(plan.Release("person", plan.Scan("rates", "t0"), count.keys, count.groups, count.measures)),
        needed(plan.Release("person", plan.Scan("nosuch", "t0"), count.keys, count.groups, count.measures)),
        Needed(plan.encode(count.source), plan.fingerprint(count.source), "person", ()),
        Needed(None, "", "person", ()),
        Needed({"a": float("nan")}, "", "person", ()),
        Needed([["Release"] * 300], "", "person", ()),
    ]


@pytest.mark.parametrize("number", range(15))
def test_a_worker_taken_over_gets_nothing_that_its_analyst_could_not_have(data: Data, number: int) -> None:
    room, worker = data.room(), Hostile(forgeries(data)[number])
    room.gate._public = worker
    with pytest.raises((Refusal, InternalError, ValueError, KeyError)):
        room.ask(COUNT)
    assert not worker.got
    assert room.spent("shop") == 0
    assert room.spent("person") in (0, Fraction(1, 200))  # a plan that only the clear engine can refuse was paid


def test_a_worker_taken_over_pays_in_full_for_what_it_may_have(data: Data) -> None:
    count = needed(release(data, COUNT))
    room, worker = data.room(), Hostile(count, count, count)
    room.gate._public = worker
    made = runs(room)
    room.ask("SELECT 1")
    assert room.spent("person") == room.spent("person", "ana") == sum(made, Fraction(0))
    assert len(made) == len(room.stored()) == 1
