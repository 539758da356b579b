from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import (
    FLUSH,
    SYNC,
    TERMINATE,
    Peer,
    bind,
    close,
    cstring,
    describe,
    errors,
    execute,
    fields,
    frame,
    frames,
    integers,
    kinds,
    parse,
    query,
    ready,
    rows,
    startup,
)

from enclave.answer import Answer, Notice, Question
from pgproxy.events import Ask, Close, Fault
from pgproxy.session import TRANSITIONS, Signal, State
from rewriter.refusal import Refusal

CONVERSATION = [
    query("select 1; set application_name = 'x'; show application_name; begin"),
    parse("select $1", "s", (23,)),
    bind((b"\x00\x00\x00\x05",), "p", "s", (1,), (1,)),
    describe("S", "s"),
    describe("P", "p"),
    execute("p"),
    close("P", "p"),
    FLUSH,
    SYNC,
    parse("select refuse"),
    bind(),
    SYNC,
    query("select 1"),
    query("rollback;"),
    query(""),
]


def test_every_state_but_the_last_can_fail() -> None:
    for state, row in TRANSITIONS.items():
        assert (Signal.ERROR in row) is (state is not State.CLOSED)


def test_a_query_is_answered_with_its_rows() -> None:
    peer = ready()
    out = peer.send(query("select rows 3"))
    assert kinds(out) == "TDDDCZ"
    assert rows(out) == [[b"0"], [b"1"], [b"2"]]
    assert frames(out)[-2:] == [("C", b"SELECT 3\x00"), ("Z", b"I")]


def test_byte_by_byte_gives_the_same_as_at_once() -> None:
    data = b"".join(CONVERSATION)
    whole = ready().send(data)
    peer = ready()
    assert b"".join(peer.send(data[i : i + 1]) for i in range(len(data))) == whole


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(b"".join(CONVERSATION))), max_size=12))
def test_any_split_gives_the_same_as_at_once(cuts: list[int]) -> None:
    data = b"".join(CONVERSATION)
    whole = ready().send(data)
    peer = ready()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:stop] for start, stop in pairwise(edges)]
    assert b"".join(map(peer.send, pieces)) == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(CONVERSATION), st.binary(max_size=30)), max_size=8))
def test_whatever_arrives_is_answered_or_ends_the_connection(pieces: list[bytes]) -> None:
    peer = ready()
    for piece in pieces:
        frames(peer.send(piece))
    assert not any(isinstance(event, Fault) for event in peer.events)


def test_a_pipeline_is_answered_in_order() -> None:
    out = ready().send(parse("select 1") + bind() + describe("P") + execute() + SYNC + query("select 2"))
    assert kinds(out) == "12TDCZTDCZ"


def test_after_an_error_everything_is_ignored_until_sync() -> None:
    peer = ready()
    out = peer.send(parse("select refuse") + bind() + execute() + query("select 1") + FLUSH)
    assert kinds(out) == "E"
    assert peer.session.state is State.SKIPPING
    assert kinds(peer.send(SYNC + query("select 1"))) == "ZTDCZ"


def test_an_error_in_a_query_ends_that_query_alone() -> None:
    peer = ready()
    assert kinds(peer.send(query("select 1; select refuse; select 2"))) == "TDCEZ"
    assert kinds(peer.send(query("select 1"))) == "TDCZ"


def test_a_refusal_arrives_with_all_its_fields_and_its_place_in_the_whole_text() -> None:
    (error,) = errors(ready().send(query("select 1;  select refuse")))
    assert error == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "42703",
        "M": 'column "x" does not exist',
        "D": "Really.",
        "H": "There is y.",
        "P": "19",
    }


def test_an_internal_error_says_its_number_and_nothing_else() -> None:
    (error,) = errors(ready().send(query("select bug")))
    assert error == {"S": "ERROR", "V": "ERROR", "C": "XX000", "M": "internal error f00d"}


def test_a_bug_of_ours_becomes_an_internal_error_and_the_session_goes_on() -> None:
    def wrong(question: Question) -> Answer:
        return Answer((), integers(1).table, "SELECT 1")

    peer = ready(wrong)
    (error,) = errors(peer.send(query("select 1")))
    assert error["M"] == "internal error cafe"
    assert [event for event in peer.events if isinstance(event, Fault)]
    assert kinds(peer.send(query("show all")))[-1] == "Z"


def test_a_question_carries_the_session_settings() -> None:
    peer = ready()
    peer.send(query("set dp.epsilon = 0.25; set dp.mode = synthetic; set statement_timeout = '2s'; select 1"))
    (ask,) = [event for event in peer.events if isinstance(event, Ask)]
    assert ask.timeout_ms == 2000
    assert ask.question == Question("select 1", "ana", (), "0.25", "synthetic")


def test_notices_come_before_the_result_and_are_filtered() -> None:
    notices = (Notice("dp: charged"), Notice("careful", "WARNING"))
    peer = ready(lambda question: integers(1, notices=notices))
    out = peer.send(query("select 1"))
    assert kinds(out) == "NNTDCZ"
    assert fields(frames(out)[0][1]) == {"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "dp: charged"}
    peer.send(query("set client_min_messages = warning"))
    assert kinds(peer.send(query("select 1"))) == "NTDCZ"
    peer.send(query("set client_min_messages = error"))
    assert kinds(peer.send(query("select 1"))) == "TDCZ"


def test_input_is_held_back_while_a_question_runs() -> None:
    peer = ready()
    peer.hold = True
    peer.send(query("select 1") + query("select 2" + " " * 100_000))
    assert peer.session.busy
    assert not peer.session.wants_input
    peer.hold = False
    peer.session.answered(integers(1))
    assert kinds(peer.pump()) == "TDCZTDCZ"
    assert peer.session.wants_input


def test_a_large_result_is_made_piece_by_piece_and_can_be_interrupted() -> None:
    peer = ready()
    peer.session.receive(query("select rows 200000"))
    seen = 0
    while not isinstance(item := peer.session.next(), Ask):
        assert item is not None
    peer.session.answered(integers(*range(200_000)))
    while isinstance(item := peer.session.next(), bytes):
        seen += 1
        assert len(item) < 1_000_000
        if seen == 3:
            peer.session.interrupt(Refusal("57014", "canceling statement due to user request"))
            break
    out = peer.pump()
    assert kinds(out)[-2:] == "EZ"
    assert errors(out)[0]["C"] == "57014"
    assert len(rows(out)) < 100_000


def test_an_interrupt_between_statements_does_nothing() -> None:
    peer = ready()
    peer.session.interrupt(Refusal("57014", "canceling statement due to user request"))
    assert kinds(peer.send(query("select 1"))) == "TDCZ"


def test_a_statement_of_a_megabyte_is_refused_and_not_held() -> None:
    peer = ready()
    data = query("select '" + "x" * 1_000_000 + "'")
    out = b""
    for start in range(0, len(data), 50_000):
        out += peer.send(data[start : start + 50_000])
        assert peer.session._frames.buffered_bytes <= 50_000
    (error,) = errors(out)
    assert (error["C"], error["M"]) == ("54000", "statement too long")
    assert "256 kB" in error["H"]
    assert kinds(out) == "EZ"
    assert kinds(peer.send(query("select 1"))) == "TDCZ"


def test_a_parse_of_a_megabyte_is_refused_until_sync() -> None:
    peer = ready()
    out = peer.send(parse("x" * 1_000_000) + bind() + execute() + SYNC + query("select 1"))
    assert kinds(out) == "EZTDCZ"
    assert errors(out)[0]["C"] == "54000"


def test_the_longest_statement_is_accepted() -> None:
    text = "select 1" + " " * (256 * 1024 - 8)
    assert kinds(ready().send(query(text))) == "TDCZ"


@pytest.mark.parametrize(
    "attack",
    [
        b"Q\x00\x00\x00\x03",
        b"Q\xff\xff\xff\xff",
        b"Q\x7f\xff\xff\xff",
        b"S\x00\x00\x00\x05x",
        b"D\x00\x00\xff\xff",
        b"!\x00\x00\x00\x04",
        b"\x16\x03\x01\x02\x00\x01",
        frame("p", b"again"),
        b"E\x00\x01\x00\x00",
    ],
)
def test_impossible_frames_end_the_connection(attack: bytes) -> None:
    peer = ready()
    (error,) = errors(peer.send(attack + query("select 1")))
    assert (error["S"], error["C"]) == ("FATAL", "08P01")
    assert isinstance(peer.events[-1], Close)
    assert peer.session.state is State.CLOSED
    assert peer.send(query("select 1")) == b""


@pytest.mark.parametrize(
    "body",
    [
        frame("Q", b"select 1"),
        frame("Q", b"select 1\x00\x00"),
        frame("P", b"\x00select 1\x00\x00"),
        frame("P", b"\x00select 1\x00\x00\x01"),
        frame("B", b"\x00\x00\x00\x00\xff\xff"),
        frame("B", b"\x00\x00\x00\x00\x00\x01\x7f\xff\xff\xff\x00\x00"),
        frame("B", b"\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"),
        frame("D", b"Xname\x00"),
        frame("D", b""),
        frame("E", b"\x00\x00"),
    ],
)
def test_a_malformed_body_is_an_error_and_the_session_goes_on(body: bytes) -> None:
    peer = ready()
    out = peer.send(body + SYNC)
    assert errors(out)[0]["C"] == "08P01"
    assert out.endswith(frame("Z", b"I"))
    assert kinds(peer.send(query("select 1"))) == "TDCZ"


def test_text_that_is_not_utf8_is_refused() -> None:
    (error,) = errors(ready().send(frame("Q", b"select '\xff'\x00")))
    assert error["M"] == 'invalid byte sequence for encoding "UTF8": 0xff'
    assert error["C"] == "22021"


def test_copy_messages_outside_copy_are_dropped() -> None:
    peer = ready()
    out = peer.send(frame("d", b"x" * 1000) + frame("c") + frame("f", cstring("no")) + query("select 1"))
    assert kinds(out) == "TDCZ"


def test_a_function_call_is_refused() -> None:
    assert kinds(ready().send(frame("F", b"\x00" * 10))) == "EZ"


def test_terminate_ends_the_session_without_a_word() -> None:
    peer = ready()
    assert peer.send(TERMINATE) == b""
    assert isinstance(peer.events[-1], Close)


def test_stop_ends_an_idle_session_at_once() -> None:
    peer = ready()
    peer.session.stop()
    (error,) = errors(peer.pump())
    assert (error["S"], error["C"]) == ("FATAL", "57P01")
    assert error["M"] == "terminating connection due to administrator command"
    assert isinstance(peer.events[-1], Close)


def test_stop_lets_a_running_question_finish() -> None:
    peer = ready()
    peer.hold = True
    peer.send(parse("select 1") + bind() + execute() + SYNC)
    peer.hold = False
    peer.session.stop()
    assert peer.pump() == b""
    peer.session.answered(peer.answer(Question("select 1", "ana", describe=True)))
    assert kinds(peer.pump()) == "12DCZE"


def test_stop_before_the_log_in_ends_it() -> None:
    peer = Peer()
    peer.send(startup())
    peer.session.stop()
    assert errors(peer.pump())[0]["C"] == "57P01"
