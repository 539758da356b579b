from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from enclave import tables
from pgproxy import cli, scram
from pgproxy.cli import demo, demo_data, main
from pgproxy.cli.demo import Room
from policies import document

SMALL = 300


@pytest.fixture(autouse=True)
def few_people(monkeypatch: pytest.MonkeyPatch) -> None:
    made = demo_data.make
    monkeypatch.setattr(demo_data, "make", lambda seed: made(seed, SMALL))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "demo")


def times(room: Room) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in room.folder.rglob("*") if path.is_file()}


def test_the_first_run_makes_what_serve_needs(room: Room) -> None:
    assert demo.prepare(room, 1)
    policy = document.parse(room.policy.read_text(), "policy.toml").policy
    found = tables.find(room.data, policy)
    assert {name: tables.read(name, path, policy.tables[name]).num_rows > 0 for name, path in found.items()} == {
        "members": True,
        "encounters": True,
    }
    assert room.state.is_dir()


def test_a_second_run_touches_nothing(room: Room) -> None:
    demo.prepare(room, 1)
    before = times(room)
    assert not demo.prepare(room, 1)
    assert times(room) == before


def test_another_seed_makes_other_people_and_leaves_the_state(room: Room) -> None:
    demo.prepare(room, 1)
    (room.state / "ledger").write_text("kept")
    before = pq.read_table(room.data / "members.parquet")
    assert demo.prepare(room, 2)
    assert not pq.read_table(room.data / "members.parquet").equals(before)
    assert (room.state / "ledger").read_text() == "kept"


def test_a_new_generator_makes_the_data_anew(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.prepare(room, 1)
    monkeypatch.setattr(demo_data, "GENERATOR_VERSION", demo_data.GENERATOR_VERSION + 1)
    assert demo.prepare(room, 1)
    assert not demo.prepare(room, 1)


def test_a_missing_file_is_made_again_with_the_same_content(room: Room) -> None:
    demo.prepare(room, 1)
    path = room.data / "encounters.parquet"
    before = path.read_bytes()
    path.unlink()
    assert demo.prepare(room, 1)
    assert path.read_bytes() == before


def test_an_edited_policy_stays_and_a_lost_one_comes_back(room: Room) -> None:
    demo.prepare(room, 1)
    room.policy.write_text("# mine\n" + demo.policy_text())
    assert not demo.prepare(room, 1)
    assert room.policy.read_text().startswith("# mine\n")
    room.policy.unlink()
    demo.prepare(room, 1)
    assert room.policy.read_text() == demo.policy_text()


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"seed": 1}'])
def test_a_damaged_stamp_counts_as_none(room: Room, stamp: str) -> None:
    demo.prepare(room, 1)
    room.stamp.write_text(stamp)
    assert demo.prepare(room, 1)
    assert json.loads(room.stamp.read_text()) == {"generator": demo_data.GENERATOR_VERSION, "seed": 1}


def test_an_interrupted_run_is_done_over(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.prepare(room, 1)

    def full(table: pa.Table, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            demo.prepare(room, 2)
    assert demo.prepare(room, 2)


def test_the_policy_is_good_and_nothing_in_it_is_a_weak_choice() -> None:
    found = document.parse(demo.policy_text(), "policy.toml")
    assert list(found.warnings) == []


def test_the_policy_has_the_tables_of_the_hospital_example_and_one_analyst() -> None:
    ours = document.parse(demo.policy_text(), "policy.toml").policy
    example = document.parse(demo.EXAMPLE.read_text(), "hospital.toml").policy
    assert ours.tables == example.tables
    assert list(ours.analysts) == [demo.ANALYST]
    assert ours.visible_tables(demo.ANALYST) == demo_data.TABLES


def test_the_printed_password_opens_the_room() -> None:
    policy = document.parse(demo.policy_text(), "policy.toml").policy
    verifier = policy.analysts[demo.ANALYST].verifier
    assert verifier is not None
    scram.parse_verifier(verifier)
    assert scram.make_verifier(demo.PASSWORD, demo._SALT) == verifier


def test_the_guide_has_the_psql_line_the_password_and_three_queries() -> None:
    text = demo.guide("127.0.0.1", 5433)
    assert 'psql "host=127.0.0.1 port=5433 user=ana dbname=cleanroom"' in text
    assert "Password: demo" in text
    assert text.count("SELECT") - 2 == len(demo.QUERIES) == 3
    assert all(line in text for query in demo.QUERIES for line in query.splitlines())


class FakeServe(types.ModuleType):
    """In the place of pgproxy.cli.serve: is given what the real one is, is ready at once, ends with a code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__("pgproxy.cli.serve")
        self.code = code
        self.called: list[tuple[Any, ...]] = []

    def run(self, *arguments: Any, ready: Any) -> int:
        self.called.append(arguments)
        ready(arguments[3], arguments[4])
        return self.code


def invoke(monkeypatch: pytest.MonkeyPatch, serve: FakeServe, *arguments: str) -> Result:
    monkeypatch.setitem(sys.modules, "pgproxy.cli.serve", serve)
    monkeypatch.setattr(cli, "serve", serve, raising=False)
    return CliRunner().invoke(main, ["demo", *arguments])


def test_the_command_serves_the_folder_and_prints_the_guide(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = FakeServe()
    result = invoke(monkeypatch, serve, "--dir", str(room.folder), "--port", "5999")
    assert result.exit_code == 0, result.output
    assert serve.called == [(room.policy, room.data, room.state, "127.0.0.1", 5999, None, None)]
    assert demo.guide("127.0.0.1", 5999) in result.stdout
    assert "people" not in result.stdout


def test_the_command_ends_with_the_servers_code(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(monkeypatch, FakeServe(1), "--dir", str(room.folder)).exit_code == 1


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    serve = FakeServe()
    result = invoke(monkeypatch, serve, "--dir", str(tmp_path / "file" / "demo"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert not serve.called


@pytest.mark.parametrize(
    "arguments", [["--port", "-1"], ["--port", "70000"], ["--seed", "x"], ["--seed", "-1"], ["x"]]
)
def test_a_wrong_call_is_a_usage_error(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(monkeypatch, FakeServe(), *arguments).exit_code == 2


def test_help_shows_how_to_call_it() -> None:
    result = CliRunner().invoke(main, ["demo", "--help"])
    assert result.exit_code == 0
    assert "cleanroom demo --dir" in result.stdout


@contextmanager
def opened(room: Room) -> Iterator[tuple[str, int]]:
    """A demo room in processes of its own: what it printed, and its port."""
    command = [sys.executable, "-c", "from pgproxy.cli import main; main()"]
    command += ["demo", "--dir", str(room.folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            port = int(line.rpartition(":")[2])
            printed = line + "".join(process.stdout.readline() for _ in demo.guide("127.0.0.1", port).splitlines())
            yield printed, port
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


def ask(port: int) -> tuple[list[list[Any]], list[str]]:
    """Answers and notices to the printed queries."""
    notices: list[str] = []
    conninfo = f"host=127.0.0.1 port={port} user=ana password=demo dbname=cleanroom"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        return [connection.execute(query.encode()).fetchall() for query in demo.QUERIES], notices


@pytest.mark.system
def test_the_printed_queries_are_answered_and_free_the_second_time(room: Room) -> None:
    with opened(room) as (printed, port):
        assert printed.startswith("listening on 127.0.0.1:")
        assert demo.guide("127.0.0.1", port) in printed
        answers, notices = ask(port)
    assert [len(rows) for rows in answers] == [10, 5, 10]
    assert all("charged epsilon 0.10" in notice for notice in notices)
    assert len(notices) == len(demo.QUERIES)
    before = times(room)
    with opened(room) as (_, port):
        again, notices = ask(port)
    assert again == answers
    assert all("charged epsilon 0 (released before)" in notice for notice in notices)
    assert {name: at for name, at in times(room).items() if room.state not in Path(name).parents} == {
        name: at for name, at in before.items() if room.state not in Path(name).parents
    }
