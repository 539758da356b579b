"""SIGTERM: what runs finishes, everyone is told 57P01, exit 0; what does not finish is cut and stays charged."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psycopg
import pytest
import small
from held import CHARGED_ONCE, QUESTION, Held, is_charged_once, is_free
from served import Served, Session


def told(session: Session) -> str:
    """What a session hears at its end; libpq gives an error that comes between questions as a notice."""
    try:
        while session.ask("SELECT 1"):
            time.sleep(0.01)
    except psycopg.Error as error:
        return " ".join((*session.notices, str(error)))
    raise AssertionError("no row")


def test_a_running_question_is_answered_before_the_server_ends(small_room: Served, tmp_path: Path) -> None:
    held = Held(small_room, tmp_path / "hold")
    with held.asked("clear") as busy, small_room.connected("ben") as idle:
        assert idle.ask("SELECT 1") == [(1,)]
        small_room.signal(signal.SIGTERM)
        assert "terminating connection due to administrator command" in told(idle)
        with pytest.raises(psycopg.OperationalError), small_room.connected("ben"):
            pass
        assert not busy.done()
        held.let_go()
        rows = busy.result(60)
    assert small_room.ended() == 0
    small_room.start()
    assert is_charged_once(small_room) == rows


def test_a_question_that_does_not_finish_in_time_is_told_and_stays_charged(
    small_room: Served, tmp_path: Path
) -> None:
    held = Held(small_room, tmp_path / "hold", stop_s=1.0)
    with held.asked("clear") as busy:
        began = time.monotonic()
        small_room.signal(signal.SIGTERM)
        error = busy.exception(60)
        assert isinstance(error, psycopg.errors.AdminShutdown)
        assert small_room.ended() == 0
        assert time.monotonic() - began < 20
    small_room.start()
    is_charged_once(small_room)


def test_ctrl_c_ends_an_idle_room_at_once(small_room: Served) -> None:
    small_room.start()
    with small_room.connected() as session:
        rows = session.ask(QUESTION)
        small_room.signal(signal.SIGINT)
        assert small_room.ended() == 0
    assert small_room.charges() == CHARGED_ONCE
    small_room.start()
    with small_room.connected() as session:
        assert is_free(session) == rows


FAILING = (
    "SELECT count(*) FROM people WHERE CAST(city AS integer) = 1",
    "SELECT count(*) FROM people WHERE CAST(city AS date) > DATE '2020-01-01'",
    "SELECT avg(1 / (age - 7)) FROM people",
    "SELECT CAST(city AS integer) FROM (SELECT city, count(*) FROM people GROUP BY city) t",
    "SELECT CAST(grp AS integer) FROM (SELECT grp, count(*) FROM people GROUP BY grp) t",
    "SELECT sum(cost * 9223372036854775807) FROM visits",
)


def test_what_fails_because_of_values_names_none_to_the_analyst_nor_to_the_operator(small_room: Served) -> None:
    small_room.start()
    told = []
    with small_room.connected() as session:
        for sql in FAILING:
            try:
                session.ask(sql)
            except psycopg.Error as error:
                told.append((error.sqlstate, str(error)))
    assert small_room.stop() == 0
    assert "XX000" not in [sqlstate for sqlstate, _ in told]
    text = small_room.stderr.read_text() + "".join(words for _, words in told)
    assert not [value for value in (small.HIDDEN, *small.CITIES) if value in text]
