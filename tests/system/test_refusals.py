"""Bad input over the wire: the right SQLSTATE, a sentence that helps, nothing of the data; the session goes on."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psycopg
import pytest
import small
from served import COMMAND, PASSWORD, START_S, Served
from small import HIDDEN

Diagnostic = psycopg.errors.Diagnostic
MEGABYTE = 1024 * 1024


def words(diagnostic: Diagnostic) -> str:
    """All that an error says."""
    parts = (diagnostic.message_primary, diagnostic.message_detail, diagnostic.message_hint)
    return " ".join(part for part in parts if part)


def tells_nothing(text: str) -> None:
    """No value of the data is in a text."""
    for value in (HIDDEN, *small.CITIES):
        assert value.lower() not in text.lower()


NOT_ANSWERED = [
    (
        "SELECT nope FROM people",
        "42703",
        'column "nope" does not exist',
        "Columns here: person_id, grp, age, city",
        8,
    ),
    ("SELECT count(*) FROM people p WHERE p.nope = 1", "42703", "column p.nope does not exist", "", 39),
    ("SELECT count(*) FROM nope", "42P01", 'relation "nope" does not exist', "Tables here: ", 22),
    ("SELECT * FROM people", "0A000", "a query that returns rows cannot be answered", "SELECT count(*)", None),
    ("SELECT city FROM people LIMIT 1", "0A000", "a query that returns rows cannot", "GROUP BY a column", None),
    ("SELECT person_id, count(*) FROM people GROUP BY 1", "0A000", "a group for each person", "COUNT(DISTINCT", None),
    ("SELECT count(*) FROM people p, people q", "0A000", "a join that does not match", "equates the person", None),
    ("SELECT count(*) FROM people WHERE random() < 0.5", "0A000", "not supported over protected rows", "Use", 35),
    ("SELECT string_agg(city, ',') FROM people", "0A000", "not supported over protected rows", "Use COUNT", 25),
    ("SELEC 1", "42601", 'syntax error at or near "SELEC"', "", 1),
    ("SELECT count(*) FRM people", "42601", "syntax error at or near", "", 21),
    ("SELECT count(* FROM people", "42601", "syntax error at or near", "", 16),
    ("SELECT 'open", "42601", "unterminated quoted string", "", 8),
    ("SELECT count(*) FROM", "42601", "syntax error at end of input", "", 21),
    ("SELECT lpad('a', 2000000000, 'b')", "42883", "does not exist", "", None),
    ("SELECT * FROM read_csv('/etc/passwd')", "42883", "function read_csv(unknown) does not exist", "", None),
    ("SELECT * FROM '/etc/passwd'", "42P01", "does not exist", "Tables here: ", 15),
    ("COPY people TO STDOUT", "0A000", "COPY is not supported", "Ask with SELECT", None),
    ("EXPLAIN ANALYZE SELECT count(*) FROM people", "0A000", "EXPLAIN ANALYZE would run", "Use EXPLAIN", None),
]


@pytest.mark.parametrize(
    ("sql", "sqlstate", "message", "hint", "position"), NOT_ANSWERED, ids=[case[0] for case in NOT_ANSWERED]
)
def test_a_question_that_cannot_be_answered_is_refused_by_name(
    server: Served, sql: str, sqlstate: str, message: str, hint: str, position: int | None
) -> None:
    with server.connected() as session:
        refused = session.refused(sql)
    assert refused.sqlstate == sqlstate
    assert message in (refused.message_primary or "")
    assert hint in (refused.message_hint or "")
    assert refused.statement_position == (None if position is None else str(position))
    tells_nothing(words(refused))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO people VALUES (1, 'a', 1, 'Rome')",
        "UPDATE people SET age = 1",
        "DELETE FROM people",
        "TRUNCATE people",
        "DROP TABLE people",
        "CREATE TABLE t (a int)",
        "CREATE TABLE t AS SELECT count(*) FROM people",
        "ALTER TABLE people ADD COLUMN x int",
        "GRANT SELECT ON people TO eva",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT count(*) INTO t FROM people",
        "WITH d AS (DELETE FROM people RETURNING *) SELECT count(*) FROM d",
    ],
)
def test_nothing_can_be_written(server: Served, sql: str) -> None:
    with server.connected() as session:
        refused = session.refused(sql)
    assert refused.sqlstate in ("25006", "0A000", "42601"), words(refused)
    tells_nothing(words(refused))


def test_a_failed_cast_of_a_hidden_value_names_no_value(server: Served) -> None:
    with server.connected() as session:
        try:
            session.ask("SELECT count(*) FROM people WHERE CAST(city AS integer) > 1")
        except psycopg.Error as error:
            tells_nothing(words(error.diag))
        assert session.ask("SELECT 1") == [(1,)]
    tells_nothing(server.stderr.read_text())


async def fatal(served: Served, user: str, password: str, database: str) -> tuple[str, str]:
    """SQLSTATE and words of the error that ends a start-up."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        await asyncpg.connect(host="127.0.0.1", port=served.port, user=user, password=password, database=database)
    return caught.value.sqlstate or "", caught.value.message


async def test_a_wrong_password_and_an_unknown_user_hear_the_same_words(server: Served) -> None:
    wrong = await fatal(server, "ana", "wrong", "cleanroom")
    unknown = await fatal(server, "nobody", "wrong", "cleanroom")
    assert wrong == ("28P01", 'password authentication failed for user "ana"')
    assert unknown == ("28P01", 'password authentication failed for user "nobody"')


async def test_another_database_does_not_exist(server: Served) -> None:
    found = await fatal(server, "ana", PASSWORD, "postgres")
    assert found == ("3D000", 'database "postgres" does not exist')


@pytest.mark.parametrize("text", ["SELECT '" + "x" * MEGABYTE + "'", "SELECT " + "1+" * (MEGABYTE // 2) + "1"])
@pytest.mark.parametrize("parameters", [None, ()], ids=["simple", "extended"])
def test_a_query_of_a_megabyte_is_refused_and_the_connection_lives(
    server: Served, text: str, parameters: tuple[()] | None
) -> None:
    with server.connected() as session:
        with pytest.raises(psycopg.errors.ProgramLimitExceeded) as caught:
            session.ask(text, parameters)
        assert caught.value.sqlstate == "54000"
        assert "256 kB" in (caught.value.diag.message_hint or "")
        assert session.ask("SELECT 1") == [(1,)]


@pytest.mark.parametrize("value", ["abc", "0", "-1", "NaN", "Infinity", "", "1e-400", "9" * 400])
def test_a_bad_epsilon_is_refused_when_it_is_set(server: Served, value: str) -> None:
    with server.connected() as session:
        refused = session.refused(f"SET dp.epsilon = '{value}'")
        assert refused.sqlstate == "22023"
        assert "dp.epsilon" in (refused.message_primary or "")
        session.ask("SELECT count(*) FROM people")


def test_an_epsilon_above_the_maximum_is_refused_with_the_maximum(server: Served) -> None:
    with server.connected() as session:
        session.run("SET dp.epsilon = 1.5")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded) as caught:
            session.ask("SELECT count(*) FROM people")
        assert caught.value.diag.message_hint == "SET dp.epsilon to at most 1."
        session.run("SET dp.epsilon = 1")
        assert len(session.ask("SELECT count(*) FROM people")) == 1


def test_an_exhausted_share_is_refused_with_what_still_fits_and_what_was_paid_stays_free(server: Served) -> None:
    with server.connected("pia") as session:
        session.run("SET dp.epsilon = 0.2")
        answers = []
        refused = None
        for age in range(20):
            try:
                answers.append(session.ask(f"SELECT count(*) FROM people WHERE age > {age}"))
            except psycopg.Error as error:
                refused = error.diag
                break
        assert refused is not None
        assert (refused.sqlstate, refused.message_primary) == (
            "53400",
            'your share of the "person" budget cannot hold this question',
        )
        assert "SET dp.epsilon" in (refused.message_hint or "") or "stay free" in (refused.message_hint or "")
        for age, rows in enumerate(answers):
            assert session.ask(f"SELECT count(*) FROM people WHERE age > {age}") == rows
        assert session.spent() <= 1


def test_a_table_of_another_role_is_refused_and_not_described(server: Served) -> None:
    with server.connected("eva") as session:
        refused = session.refused("SELECT count(*) FROM visits")
        assert (refused.sqlstate, refused.message_primary) == ("42501", "permission denied for table visits")
        assert session.refused("SELECT count(*) FROM people JOIN visits USING (person_id)").sqlstate == "42501"
        assert session.refused("EXPLAIN SELECT count(*) FROM visits").sqlstate == "42501"
        names = session.ask("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        assert names == [("people",)]


def test_after_an_error_in_a_transaction_only_its_end_is_accepted(server: Served) -> None:
    with server.connected() as session:
        session.run("BEGIN")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.ask("SELECT nope FROM people")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            session.ask("SELECT 1")
        session.run("ROLLBACK")
        assert session.ask("SELECT 1") == [(1,)]


def test_plain_text_from_afar_is_refused_and_tls_is_not(
    open_room: Callable[[str, Path], Served], small_data: Path
) -> None:
    room = open_room(small.POLICY, small_data)
    room.start(host="0.0.0.0")
    with (
        pytest.raises(psycopg.OperationalError, match=r"FATAL:  .*(TLS|SSL|encrypt)"),
        room.connected(sslmode="disable"),
    ):
        pass
    with socket.create_connection(("127.0.0.1", room.port)) as wire:
        body = b"\0\3\0\0user\0ana\0database\0cleanroom\0\0"
        wire.sendall((len(body) + 4).to_bytes(4, "big") + body)
        assert b"\0C28000\0" in wire.recv(4096)
    with room.connected(sslmode="require") as session:
        assert session.ask("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 64, b"\xff" * 64, b"\x16\x03\x01\0\xa5"]
)
def test_what_is_not_postgres_is_hung_up_on_and_harms_nobody(server: Served, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(sent)
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(4096):
            pass
    with server.connected() as session:
        assert session.ask("SELECT 1") == [(1,)]


def serve(policy: Path, data: Path, state: Path) -> tuple[int, str]:
    """Exit code and words of a server that should not start."""
    arguments = ("serve", policy, "--data", data, "--state", state, "--port", "0")
    found = subprocess.run(
        (*COMMAND, *map(str, arguments)), capture_output=True, text=True, timeout=START_S, check=False
    )
    assert found.stdout == ""
    tells_nothing(found.stderr)
    return found.returncode, found.stderr


@pytest.mark.parametrize(
    ("old", "new", "field", "sentence"),
    [
        (
            "rows_per_unit = 1\n",
            "rows_per_unit = 1\nrows_per_person = 1\n",
            "tables.people.rows_per_person",
            "unknown",
        ),
        ('name = "small"', 'name = "small"\nnoise = false', "room.noise", "unknown"),
        ("bounds = [0, 100]", "bounds = [100, 0]", "tables.people.columns.age", ""),
        ('environment = "development"', 'environment = "production"', "", "production"),
    ],
)
def test_a_policy_with_a_mistake_does_not_open_a_room(
    tmp_path: Path, small_data: Path, old: str, new: str, field: str, sentence: str
) -> None:
    policy = tmp_path / "policy.toml"
    assert small.POLICY.count(old) >= 1
    policy.write_text(small.POLICY.replace(old, new, 1))
    code, text = serve(policy, small_data, tmp_path / "state")
    assert code == 1
    assert field in text
    assert sentence in text


def test_the_line_of_an_unknown_field_is_named(tmp_path: Path, small_data: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(small.POLICY.replace('name = "small"', 'name = "small"\nnoise = false', 1))
    line = policy.read_text().splitlines().index("noise = false") + 1
    code, text = serve(policy, small_data, tmp_path / "state")
    assert code == 1
    assert f"{policy}:{line}: room.noise: " in text


def test_data_that_break_a_declared_key_do_not_open_a_room_and_the_value_stays_unsaid(tmp_path: Path) -> None:
    twice = [*small.people(), {**small.people()[0]}]
    data = small.write(tmp_path / "data", twice, small.visits())
    policy = tmp_path / "policy.toml"
    policy.write_text(small.POLICY)
    code, text = serve(policy, data, tmp_path / "state")
    assert code == 1
    assert "people" in text
    assert "key" in text
