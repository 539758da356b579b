"""What runs too long is killed or refused, others are answered meanwhile, and the room goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from served import Rows, Served, Session, wait_until

SOON = {"deadlines": {"READ_DEADLINE_S": 1.0, "FINISH_DEADLINE_S": 1.0, "RELEASE_DEADLINE_S": 1.0}, "grace_s": 0.5}
"""Deadlines for tests whose question cannot be read, run or finished in time."""
MEANWHILE_S = 3.0
A_THOUSAND = "a" * 1000
QUESTION = "SELECT grp, count(*) FROM people GROUP BY grp ORDER BY grp"
RELEASED = f"({QUESTION}) t"


def swelling(seed: str) -> str:
    """A text of 10^12 letters: one call of the engine, which looks at nothing else until it is out of memory."""
    for _ in range(4):
        seed = f"replace({seed}, 'a', '{A_THOUSAND}')"
    return f"length({seed})"


@contextmanager
def asking(served: Served, question: str) -> Iterator[Future[Rows]]:
    """A question under way in a session of its own."""

    def ask() -> Rows:
        with served.connected("ben") as session:
            return session.ask(question)

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask)


def is_prompt(session: Session) -> None:
    """A question that needs no data is answered at once."""
    began = time.monotonic()
    assert session.ask("SELECT 1") == [(1,)]
    assert time.monotonic() - began < MEANWHILE_S


def answers_meanwhile(served: Served, busy: Future[Rows]) -> None:
    """Another session is answered while a question runs."""
    with served.connected() as session:
        for _ in range(5):
            is_prompt(session)
            assert not busy.done()


def answers_until(served: Served, busy: Future[Rows]) -> None:
    """Another session is answered as long as a question runs."""
    with served.connected() as session:
        while not busy.done():
            is_prompt(session)
            time.sleep(0.1)


def refused_with(busy: Future[Rows]) -> str:
    """The SQLSTATE a question came to."""
    error = busy.exception(60)
    assert isinstance(error, psycopg.Error), error
    return error.sqlstate or ""


def is_replaced(served: Served, before: list[int]) -> None:
    """One public worker is another than before, the other is the same."""
    wait_until(lambda: len(set(served.pids("public")) - set(before)) == 1)
    wait_until(lambda: len(served.pids("public")) == 2)


def test_a_hostile_parse_is_killed_at_the_deadline(small_room: Served) -> None:
    """Time quadratic in the subscripts, a minute and a half for these: what the limit on tokens is for."""
    small_room.start({**SOON, "limits": {"SUBSCRIPTS_MAX": 10**9}})
    before = small_room.pids("public")
    with asking(small_room, "SELECT a" + "[1]" * 4_000) as busy:
        answers_meanwhile(small_room, busy)
        assert refused_with(busy) == "57014"
    is_replaced(small_room, before)
    with small_room.connected() as session:
        assert len(session.ask(QUESTION)) == 3


def test_a_query_that_the_engine_cannot_interrupt_is_killed_at_the_products_own_deadline(server: Served) -> None:
    before = server.pids("public")
    with asking(server, f"SELECT {swelling(repr('a'))}") as busy:
        answers_meanwhile(server, busy)
        assert refused_with(busy) == "57014"
    is_replaced(server, before)
    with server.connected() as session:
        assert len(session.ask(QUESTION)) == 3


FINISHES_NEVER = {
    "a call of the engine": f"SELECT c, {swelling('grp')} FROM {RELEASED.replace('count(*)', 'count(*) AS c')}",
    "an exploding join": f"SELECT count(*) FROM {RELEASED}, digits a, digits b, digits c, digits d "
    "WHERE a.digit + b.digit * c.digit % 7 = d.digit",
    "an exploding sort": "SELECT max(x) FROM (SELECT a.digit * b.digit % 977 AS x "
    f"FROM {RELEASED}, digits a, digits b, digits c ORDER BY c.digit % 13, 1 DESC LIMIT 100000) s",
}


@pytest.mark.parametrize("question", FINISHES_NEVER.values(), ids=FINISHES_NEVER)
def test_post_processing_without_end_is_stopped_and_what_was_released_stays_paid(
    small_room: Served, question: str
) -> None:
    small_room.start(SOON)
    with asking(small_room, question) as busy:
        answers_meanwhile(small_room, busy)
        assert refused_with(busy) in ("57014", "53200")
    with small_room.connected("ben") as session:
        spent = session.spent()
        assert spent > 0
        assert len(session.ask(QUESTION)) == 3
        assert "charged epsilon 0 (released before)" in session.noticed()
        assert session.spent() == spent


def test_a_release_without_end_is_killed_charged_once_and_free_the_next_time(
    small_room: Served, tmp_path: Path
) -> None:
    small_room.start({**SOON, "hold": str(tmp_path)})
    hold = tmp_path / "hold-clear"
    hold.touch()
    (before,) = small_room.pids("clear")
    with asking(small_room, QUESTION) as busy:
        wait_until((tmp_path / "at-clear").exists)
        answers_meanwhile(small_room, busy)
        assert refused_with(busy) == "57014"
    hold.unlink()
    with small_room.connected("ben") as session:
        assert len(session.ask(QUESTION)) == 3
        assert "charged epsilon 0 (released before)" in session.noticed()
    assert small_room.pids("clear") != [before]
    assert small_room.stop() == 0
    assert [payer for payer, _, _ in small_room.charges()] == ["room", "analyst"]


@pytest.mark.parametrize("how", ["CancelRequest", "statement_timeout"])
def test_a_question_that_is_cancelled_stays_charged_and_is_free_the_next_time(
    small_room: Served, tmp_path: Path, how: str
) -> None:
    small_room.start({"hold": str(tmp_path)})
    hold = tmp_path / "hold-clear"
    hold.touch()
    with small_room.connected() as session:
        if how == "statement_timeout":
            session.run("SET statement_timeout = 500")
        else:
            threading.Timer(0.5, session.connection.cancel_safe).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.ask(QUESTION)
        session.run("SET statement_timeout = 0")
        assert session.ask("SELECT 1") == [(1,)]
        hold.unlink()
        assert len(session.ask(QUESTION)) == 3
        assert "charged epsilon 0 (released before)" in session.noticed()
    assert small_room.stop() == 0
    assert [payer for payer, _, _ in small_room.charges()] == ["room", "analyst"]


HOSTILE: dict[str, str] = {
    "parentheses": "SELECT " + "(" * 60_000 + "1" + ")" * 60_000,
    "CASEs": "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
    "ANDs": "SELECT count(*) FROM people WHERE " + " AND ".join(["age = 1"] * 15_000),
    "ORs and ANDs": "SELECT count(*) FROM people WHERE " + " OR age = 1 AND ".join(["age = 2"] * 8_000),
    "UNIONs": " UNION ".join(["SELECT 1"] * 8_000),
    "subqueries": "SELECT * FROM (" * 5_000 + "SELECT 1" + ") t" * 5_000,
    "CTEs": "WITH "
    + ", ".join([f"c{n} AS (SELECT * FROM c{n - 1} a, c{n - 1} b)" for n in range(1, 3_000)])
    + " SELECT 1",
    "operators": "SELECT " + "1 + " * 30_000 + "1",
    "signs": "SELECT " + "- " * 60_000 + "1",
    "NOTs": "SELECT " + "NOT " * 30_000 + "true",
    "subscripts": "SELECT a" + "[1]" * 30_000,
    "casts": "SELECT 1" + "::int" * 30_000,
    "columns": "SELECT " + ", ".join(["digit"] * 20_000) + " FROM digits",
    "columns of a release": "SELECT " + ", ".join(["count(*)"] * 10_000) + " FROM people",
    "an IN list": f"SELECT count(*) FROM people WHERE age IN ({', '.join(map(str, range(25_000)))})",
    "joins": "SELECT count(*) FROM people" + " JOIN people USING (person_id)" * 5_000,
    "quotes": "SELECT '" + "''" * 120_000,
    "comments": "SELECT " + "/*" * 120_000,
    "dollars": "SELECT " + "$a$" * 60_001,
    "an identifier": 'SELECT "' + "x" * 250_000 + '" FROM people',
    "a number": "SELECT " + "9" * 250_000,
    "EXPLAIN": "EXPLAIN " * 30_000 + "SELECT 1",
    "patterns": "SELECT count(*) FROM people WHERE city LIKE '" + "%a" * 100_000 + "'",
}


OUTCOMES = ("42601", "42883", "42703", "42712", "42P01", "0A000", "53200", "54000", "54001", "54011", "57014")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_refused_or_killed_and_nobody_else_waits(server: Served, text: str) -> None:
    assert len(text) < 256 * 1024
    with asking(server, text) as busy:
        answers_until(server, busy)
    error = busy.exception()
    if isinstance(error, psycopg.Error):
        assert error.sqlstate in OUTCOMES
        assert error.diag.message_primary
    else:
        assert len(busy.result()) == 1


def test_a_large_result_does_not_make_others_wait(server: Served) -> None:
    with asking(server, f"SELECT {', '.join(['digit'] * 1_600)} FROM digits") as busy:
        answers_until(server, busy)
    assert len(busy.result()) == 1000
