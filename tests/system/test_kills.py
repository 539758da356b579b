"""SIGKILL of any process between reserve and answer: the charge stays, once, and the answer is then free."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from held import CHARGED_ONCE, Held, is_charged_once
from served import Served, wait_until


def is_back(served: Served) -> bool:
    """Whether the room answers."""
    try:
        with served.connected() as session:
            return session.spent() >= 0
    except psycopg.Error:
        return False


@pytest.mark.parametrize("step", ["clear", "public"])
def test_the_death_of_a_worker_costs_nobody_an_answer(small_room: Served, tmp_path: Path, step: str) -> None:
    held = Held(small_room, tmp_path / "hold")
    with held.asked(step) as busy:
        os.kill(held.waiting(step), signal.SIGKILL)
        held.let_go()
        rows = busy.result(60)
    assert is_charged_once(small_room) == rows


@pytest.mark.parametrize("step", ["clear", "public"])
def test_the_death_of_the_keeper_keeps_the_charge_and_every_connection(
    small_room: Served, tmp_path: Path, step: str
) -> None:
    held = Held(small_room, tmp_path / "hold")
    with held.asked(step) as busy, small_room.connected("ben") as bystander:
        assert bystander.ask("SELECT 1") == [(1,)]
        workers = [*small_room.pids("public"), *small_room.pids("clear")]
        (keeper,) = small_room.pids("keeper")
        os.kill(keeper, signal.SIGKILL)
        held.let_go()
        error = busy.exception(60)
        assert isinstance(error, psycopg.errors.CannotConnectNow)
        assert error.sqlstate == "57P03"
        wait_until(lambda: is_back(small_room))
        assert not set(workers) & {*small_room.pids("public"), *small_room.pids("clear")}
        assert bystander.ask("SELECT 1") == [(1,)]
    is_charged_once(small_room)


@pytest.mark.parametrize("step", ["clear", "public"])
def test_the_death_of_the_front_takes_all_processes_along_and_the_next_start_has_the_same_balance(
    small_room: Served, tmp_path: Path, step: str
) -> None:
    held = Held(small_room, tmp_path / "hold")
    with held.asked(step) as busy:
        small_room.signal(signal.SIGKILL)
        assert small_room.ended() == -signal.SIGKILL
        assert isinstance(busy.exception(60), psycopg.OperationalError)
    assert small_room.charges() == CHARGED_ONCE
    small_room.start()
    is_charged_once(small_room)


@pytest.mark.parametrize("role", ["clear", "public"])
def test_a_worker_that_dies_when_idle_is_replaced(server: Served, role: str) -> None:
    before = server.pids(role)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(server.pids(role)) - set(before)) == len(before))
    with server.connected() as session:
        assert len(session.ask(f"SELECT grp, count(*) FROM people WHERE age > {len(role)} GROUP BY grp")) == 3
