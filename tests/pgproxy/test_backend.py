from __future__ import annotations

import struct

import pytest
from wire import (
    SYNC,
    bind,
    close,
    describe,
    errors,
    execute,
    fields,
    frames,
    integers,
    kinds,
    parse,
    query,
    ready,
    rows,
)

from enclave.answer import Answer, Parameter, Question, ResultColumn
from pgproxy import portal


def status(out: bytes) -> str:
    kind, body = frames(out)[-1]
    assert kind == "Z"
    return body.decode()


def tags(out: bytes) -> list[str]:
    return [body[:-1].decode() for kind, body in frames(out) if kind == "C"]


def codes(out: bytes) -> list[str]:
    return [error["C"] for error in errors(out)]


def statuses(out: bytes) -> dict[str, str]:
    pairs = (body.decode().split("\x00")[:2] for kind, body in frames(out) if kind == "S")
    return {name: value for name, value in pairs}


def test_an_empty_query_has_an_answer_of_its_own() -> None:
    for text in ("", "  ;; ", "-- nothing"):
        assert kinds(ready().send(query(text))) == "IZ"
    assert kinds(ready().send(parse("") + bind() + describe("P") + execute() + SYNC)) == "12nIZ"


def test_nothing_runs_when_any_statement_of_a_query_has_a_wrong_syntax() -> None:
    peer = ready()
    assert codes(peer.send(query("select 1; selec 2"))) == ["42601"]
    assert peer.questions == []


def test_describe_asks_for_the_shape_and_runs_nothing() -> None:
    peer = ready()
    out = peer.send(parse("select $1", "s", (20,)) + describe("S", "s") + SYNC)
    assert kinds(out) == "1tTZ"
    assert frames(out)[1][1] == struct.pack("!HI", 1, 20)
    assert [(question.describe, question.parameter_types) for question in peer.questions] == [(True, (20,))]


def test_a_statement_is_described_once_however_often_it_runs() -> None:
    peer = ready()
    peer.send(parse("select 1", "s") + SYNC)
    for _ in range(3):
        assert kinds(peer.send(bind(name="s") + describe("P") + execute() + SYNC)) == "2TDCZ"
    assert [question.describe for question in peer.questions] == [True, False, False, False]


def test_parameters_reach_the_question_in_text_form() -> None:
    peer = ready()
    values = (b"\x00\x00\x00\x00\x00\x00\x00\x07", b"x", None)
    peer.send(parse("select $1 $2 $3", types=(20,)) + bind(values, formats=(1, 0, 0)) + execute() + SYNC)
    assert peer.questions[-1].parameters == (Parameter(20, "7"), Parameter(25, "x"), Parameter(25, None))


def test_results_come_in_the_format_asked_for() -> None:
    peer = ready()
    out = peer.send(parse("select 1") + bind(results=(1,)) + describe("P") + execute() + SYNC)
    assert rows(out) == [[bytes(8)]]
    assert frames(out)[2][1].endswith(b"\x00\x01")


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        (execute("nope"), "34000", 'portal "nope" does not exist'),
        (describe("P", "nope"), "34000", 'portal "nope" does not exist'),
        (describe("S", "nope"), "26000", 'prepared statement "nope" does not exist'),
        (bind(), "26000", "unnamed prepared statement does not exist"),
        (parse("select 1; select 2"), "42601", "cannot insert multiple commands into a prepared statement"),
        (
            parse("select 1") + bind((b"1",)),
            "08P01",
            'bind message supplies 1 parameters, but prepared statement "" requires 0',
        ),
        (
            parse("select $1") + bind((b"1",), formats=(0, 0)),
            "08P01",
            "bind message has 2 parameter formats but 1 parameters",
        ),
        (
            parse("select 1") + bind(results=(0, 0)),
            "08P01",
            "bind message has 2 result formats but query has 1 columns",
        ),
        (parse("select 1") + bind(results=(2,)), "22023", "unsupported format code: 2"),
        (parse("select 1", "s") * 2, "42P05", 'prepared statement "s" already exists'),
        (parse("select 1") + bind(portal="p") * 2, "42P03", 'cursor "p" already exists'),
        (parse("begin") + bind() + execute() * 2, "55000", 'portal "" cannot be run'),
    ],
)
def test_wrong_uses_of_the_extended_protocol(messages: bytes, code: str, words: str) -> None:
    peer = ready()
    (error,) = errors(peer.send(messages + SYNC))
    assert (error["C"], error["M"]) == (code, words)


def test_a_row_limit_suspends_the_portal_and_execute_goes_on() -> None:
    peer = ready()
    out = peer.send(parse("select rows 5") + bind() + execute(rows_max=2) * 3 + SYNC)
    assert kinds(out) == "12DDsDDsDCZ"
    assert tags(out) == ["SELECT 1"]
    assert len(peer.questions) == 2


def test_a_portal_read_to_its_end_gives_no_more_rows() -> None:
    out = ready().send(parse("select rows 2") + bind() + execute(rows_max=2) + execute() * 2 + SYNC)
    assert kinds(out) == "12DDsCCZ"
    assert tags(out) == ["SELECT 0", "SELECT 0"]


def test_portals_end_with_their_transaction() -> None:
    peer = ready()
    assert codes(peer.send(parse("select 1") + bind(portal="p") + SYNC + execute("p") + SYNC)) == ["34000"]
    peer.send(query("begin"))
    assert codes(peer.send(parse("select 1") + bind(portal="p") + SYNC + execute("p") + SYNC)) == []
    peer.send(query("commit"))
    assert codes(peer.send(execute("p") + SYNC)) == ["34000"]


def test_close_frees_a_name_and_does_not_mind_an_unknown_one() -> None:
    peer = ready()
    out = peer.send(parse("select 1", "s") + close("S", "s") * 2 + parse("select 1", "s") + close("P") + SYNC)
    assert kinds(out) == "1331" + "3Z"


def test_a_query_drops_the_unnamed_statement() -> None:
    peer = ready()
    peer.send(parse("select 1") + SYNC)
    peer.send(query("select 1"))
    assert codes(peer.send(bind() + SYNC)) == ["26000"]


def test_a_result_of_another_shape_than_described_is_refused() -> None:
    def changing(question: Question) -> Answer:
        answer = integers(1)
        other = Answer((ResultColumn("n", 23),), answer.table, answer.tag)
        return answer if question.describe else other

    out = ready(changing).send(parse("select 1") + bind() + execute() + SYNC)
    assert errors(out)[0]["M"] == "cached plan must not change result type"


def test_statements_and_portals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal, "STATEMENTS_MAX", 3)
    monkeypatch.setattr(portal, "PORTALS_MAX", 2)
    peer = ready()
    assert codes(peer.send(b"".join(parse("select 1", f"s{n}") for n in range(4)) + SYNC)) == ["54000"]
    assert codes(peer.send(b"".join(bind((), f"p{n}", "s0") for n in range(3)) + SYNC)) == ["54000"]


def test_session_commands_work_in_the_extended_protocol() -> None:
    peer = ready()
    out = peer.send(parse("show timezone", "s") + bind(name="s") + describe("S", "s") + execute() + SYNC)
    assert kinds(out) == "12tTDCZ"
    assert rows(out) == [[b"UTC"]]
    out = peer.send(parse("begin") + bind() + describe("P") + execute() + SYNC)
    assert (kinds(out), status(out)) == ("12nCZ", "T")


def test_a_transaction_from_begin_to_commit() -> None:
    peer = ready()
    out = peer.send(query("begin"))
    assert (tags(out), status(out)) == (["BEGIN"], "T")
    assert status(peer.send(query("select 1"))) == "T"
    out = peer.send(query("end"))
    assert (tags(out), status(out)) == (["COMMIT"], "I")


def test_a_failed_transaction_refuses_all_but_its_end() -> None:
    peer = ready()
    assert status(peer.send(query("begin; select refuse"))) == "E"
    for text in ("select 1", "show timezone", "set timezone = 'UTC'", "savepoint a", "begin", "insert into t"):
        (error,) = errors(peer.send(query(text)))
        assert error["C"] == "25P02"
    assert codes(peer.send(parse("select 1") + SYNC)) == ["25P02"]
    assert kinds(peer.send(parse("rollback") + bind() + execute() + SYNC)) == "12CZ"
    assert status(peer.send(SYNC)) == "I"


def test_commit_of_a_failed_transaction_is_a_rollback() -> None:
    peer = ready()
    peer.send(query("begin; select refuse"))
    out = peer.send(query("commit"))
    assert (tags(out), status(out)) == (["ROLLBACK"], "I")


def test_savepoints_bring_a_failed_transaction_back() -> None:
    peer = ready()
    peer.send(query("begin; set application_name = 'a'; savepoint s; set application_name = 'b'"))
    out = peer.send(query("select refuse"))
    assert (status(out), statuses(out)) == ("E", {"application_name": "a"})
    out = peer.send(query("rollback to s; show application_name; release s"))
    assert (tags(out), status(out)) == (["ROLLBACK", "SHOW", "RELEASE"], "T")
    assert rows(out) == [[b"a"]]
    assert codes(peer.send(query("release s"))) == ["3B001"]


def test_transaction_commands_outside_a_block_warn_or_fail() -> None:
    peer = ready()
    for text in ("commit", "rollback"):
        out = peer.send(query(text))
        assert kinds(out) == "NCZ"
        assert fields(frames(out)[0][1])["M"] == "there is no transaction in progress"
    for text in ("savepoint a", "release a", "rollback to a", "commit and chain"):
        assert codes(peer.send(query(text))) == ["25P01"]
    out = peer.send(query("begin; begin"))
    assert fields(frames(out)[1][1])["C"] == "25001"


def test_and_chain_begins_again_with_the_same_modes() -> None:
    peer = ready()
    peer.send(query("begin isolation level serializable"))
    out = peer.send(query("commit and chain; show transaction_isolation"))
    assert (rows(out), status(out)) == ([[b"serializable"]], "T")


def test_settings_of_a_transaction_go_back_with_it() -> None:
    peer = ready()
    assert statuses(peer.send(query("begin; set application_name = 'x'"))) == {"application_name": "x"}
    assert statuses(peer.send(query("rollback"))) == {"application_name": ""}
    peer.send(query("set application_name = 'y'; select refuse"))
    assert rows(peer.send(query("show application_name"))) == [[b""]]
    peer.send(query("begin; set local dp.epsilon = 0.5; commit"))
    assert rows(peer.send(query("show dp.epsilon"))) == [[b""]]


def test_a_pipeline_that_fails_takes_its_settings_back() -> None:
    peer = ready()
    change = parse("set application_name = 'x'") + bind() + execute()
    peer.send(change + parse("select refuse") + SYNC)
    assert rows(peer.send(query("show application_name"))) == [[b""]]
    assert statuses(peer.send(change + SYNC)) == {"application_name": "x"}


def test_set_local_outside_a_block_warns_and_does_nothing() -> None:
    peer = ready()
    out = peer.send(query("set local application_name = 'x'"))
    assert fields(frames(out)[0][1])["M"] == "SET LOCAL can only be used in transaction blocks"
    assert statuses(out) == {}


def test_session_characteristics_set_the_default() -> None:
    peer = ready()
    peer.send(query("set session characteristics as transaction isolation level repeatable read"))
    assert rows(peer.send(query("show transaction isolation level"))) == [[b"repeatable read"]]
    peer.send(query("begin; set transaction isolation level serializable"))
    assert rows(peer.send(query("show transaction isolation level; commit"))) == [[b"serializable"]]
    assert rows(peer.send(query("show transaction isolation level"))) == [[b"repeatable read"]]


def test_discard_all_forgets_everything_but_not_inside_a_block() -> None:
    peer = ready()
    peer.send(query("set application_name = 'x'") + parse("select 1", "s") + SYNC)
    out = peer.send(query("discard all"))
    assert (tags(out), statuses(out)) == (["DISCARD ALL"], {"application_name": ""})
    assert codes(peer.send(bind(name="s") + SYNC)) == ["26000"]
    assert codes(peer.send(query("begin; discard all"))) == ["25001"]


def test_deallocate_and_close_know_names() -> None:
    peer = ready()
    peer.send(parse("select 1", "s") + SYNC)
    assert tags(peer.send(query("deallocate s"))) == ["DEALLOCATE"]
    assert errors(peer.send(query("deallocate s")))[0]["M"] == 'prepared statement "s" does not exist'
    assert errors(peer.send(query("close c")))[0]["M"] == 'cursor "c" does not exist'
    assert tags(peer.send(query("close all; deallocate all"))) == ["CLOSE CURSOR ALL", "DEALLOCATE ALL"]


def test_what_asyncpg_and_pgadmin_send_by_habit_is_accepted() -> None:
    peer = ready()
    text = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;"
    assert tags(peer.send(query(text))) == ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"]
    text = "SET DateStyle=ISO; SET client_min_messages=notice; SET client_encoding='utf-8';"
    assert tags(peer.send(query(text))) == ["SET"] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("insert into t values (1)", "cannot execute INSERT in a read-only transaction"),
        ("CREATE TEMP TABLE t (a int)", "cannot execute CREATE TABLE in a read-only transaction"),
        ("drop materialized view v", "cannot execute DROP MATERIALIZED VIEW in a read-only transaction"),
        ("copy t from stdin", "cannot execute COPY FROM in a read-only transaction"),
    ],
)
def test_what_writes_is_refused_by_name(text: str, words: str) -> None:
    peer = ready()
    (error,) = errors(peer.send(query(text)))
    assert (error["C"], error["M"]) == ("25006", words)
    assert errors(peer.send(parse(text) + bind() + execute() + SYNC))[0]["C"] == "25006"
    assert peer.questions == []


@pytest.mark.parametrize("text", ["declare c cursor for select 1", "fetch 1 from c", "copy t to stdout"])
def test_what_is_not_built_is_refused_with_a_hint(text: str) -> None:
    (error,) = errors(ready().send(query(text)))
    assert error["C"] == "0A000"
    assert error["H"]


def test_show_all_lists_every_setting() -> None:
    out = ready().send(query("show all"))
    table = {row[0]: row[1] for row in rows(out)}
    assert table[b"server_version"] == b"15.18"
    assert table[b"session_authorization"] == b"ana"
