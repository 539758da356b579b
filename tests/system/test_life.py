"""What a charge and an answer outlive: another session, another analyst, a restart."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import small
from served import Rows, Served, Session

from rewriter.accountant import capacity, charge

EPSILON = Fraction(1)
DELTA = Fraction(1, 10**6)
NUMBER = r"\d+(?:\.\d+)?"
MARGINS = rf"count \+-{NUMBER}, avg \+-{NUMBER} \(95 %\)"
FIRST = re.compile(
    rf"dp: charged epsilon 1\.00 \(alone: {NUMBER} at delta 5e-7\), (\d+) more like it in your share; {MARGINS}"
)
AGAIN = re.compile(rf"dp: charged epsilon 0 \(released before\), (\d+) more at 1\.00 in your share; {MARGINS}")
SMALL = "SELECT grp, count(*), avg(age) FROM people GROUP BY grp ORDER BY grp"
HOSPITAL = "SELECT diag_1, count(*), avg(time_in_hospital) FROM encounters GROUP BY diag_1 ORDER BY 2 DESC, 1"


@pytest.fixture(params=["small", "hospital"])
def case(request: pytest.FixtureRequest, open_room: Callable[[str, Path], Served]) -> tuple[Served, str, str]:
    """A room, a question and the share of ana and of ben."""
    if request.param == "small":
        return open_room(small.POLICY, request.getfixturevalue("small_data")), SMALL, small.SHARE
    room = open_room(request.getfixturevalue("hospital_policy"), request.getfixturevalue("hospital_data"))
    return room, HOSPITAL, "60"


def ask(session: Session, question: str, form: re.Pattern[str], left: int) -> Rows:
    """An answer whose notice has the form and the number of questions left."""
    session.run("SET dp.epsilon = 1")
    rows = session.ask(question)
    notice = session.noticed()
    found = form.fullmatch(notice)
    assert found is not None, notice
    assert int(found[1]) == left
    return rows


def test_an_answer_is_charged_once_to_the_room_once_to_each_analyst_and_outlives_a_restart(
    case: tuple[Served, str, str],
) -> None:
    room, question, share = case
    price, size = charge("zcdp", EPSILON).amount, capacity("zcdp", Fraction(share), DELTA).amount
    one, left = pytest.approx(float(price / size)), size // price - 1
    room.start()
    with room.connected() as ana, room.connected("ben") as ben:
        rows = ask(ana, question, FIRST, left)
        assert len(rows) >= 3
        assert ask(ana, question, AGAIN, left) == rows
        assert ben.spent() == 0
        assert ask(ben, question, FIRST, left) == rows
        assert ask(ben, question, AGAIN, left) == rows
    assert room.stop() == 0
    room.start()
    for user in ("ana", "ben"):
        with room.connected(user) as session:
            assert session.spent() == one
            assert ask(session, question, AGAIN, left) == rows
            assert session.spent() == one
    assert room.stop() == 0
    assert room.charges() == [
        (*payer, str(price)) for payer in (("room", ""), ("analyst", "ana"), ("analyst", "ben"))
    ]


def test_a_cheaper_question_gets_the_better_answer_that_was_paid_for(server: Served) -> None:
    with server.connected() as session:
        session.run("SET dp.epsilon = 0.5")
        rows = session.ask("SELECT count(*) FROM people WHERE age < 50")
        session.run("SET dp.epsilon = 0.1")
        session.notices.clear()
        assert session.ask("SELECT count(*) FROM people WHERE age < 50") == rows
        assert "charged epsilon 0 (released before)" in session.noticed()


def test_another_writing_of_a_question_is_the_same_question(server: Served) -> None:
    with server.connected() as session:
        rows = session.ask("SELECT grp, count(*) FROM people WHERE age BETWEEN 20 AND 40 GROUP BY 1 ORDER BY 1")
        before = session.spent()
        other = (
            "select P.grp as g, count(*) as c from public.people as p where p.age between 20 and 40 group by p.grp"
        )
        assert session.ask(f"SELECT g, c FROM ({other}) t ORDER BY g") == rows
        assert session.spent() == before


def test_two_who_ask_at_once_get_one_release(small_room: Served) -> None:
    small_room.start()
    with small_room.connected() as ana, small_room.connected("ben") as ben:
        ana.connection.pgconn.send_query(SMALL.encode())
        theirs = ben.ask(SMALL)
        first = ana.connection.pgconn.get_result()
        assert first is not None
        assert first.ntuples == len(theirs)
        while ana.connection.pgconn.get_result() is not None:
            pass
        assert ana.ask(SMALL) == theirs
    assert small_room.stop() == 0
    assert sorted(kind for kind, _, _ in small_room.charges()) == ["analyst", "analyst", "room"]


def test_a_room_that_was_stopped_has_no_process_left_and_lets_another_open_its_state(small_room: Served) -> None:
    for _ in range(2):
        small_room.start()
        assert len(small_room.pids("public")) == 2
        assert len(small_room.pids("keeper")) == len(small_room.pids("clear")) == 1
        assert small_room.stop() == 0


def test_two_servers_cannot_have_the_same_state(small_room: Served, open_room: Callable[[str, Path], Served]) -> None:
    small_room.start()
    second = open_room(small.POLICY, small_room.data)
    second.state = small_room.state
    with pytest.raises(AssertionError, match="in use"):
        second.start()
    with small_room.connected() as session:
        assert len(session.ask(SMALL)) == 3
