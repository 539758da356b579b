from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import (
    GSSENC_REQUEST,
    SSL_REQUEST,
    bind,
    close,
    cstring,
    describe,
    execute,
    frame,
    parse,
    query,
    startup,
)

from pgproxy import codec
from pgproxy import messages as m
from rewriter.refusal import Refusal

FRONTEND = [
    (query("select 'ż'"), m.Query("select 'ż'")),
    (parse("select $1", "s", (23, 2**32 - 1)), m.Parse("s", "select $1", (23, 2**32 - 1))),
    (
        bind((b"1", None, b""), "p", "s", (0, 1, 1), (1,)),
        m.Bind("p", "s", (0, 1, 1), (b"1", None, b""), (1,)),
    ),
    (describe("S", "s"), m.Describe("S", "s")),
    (execute("p", 5), m.Execute("p", 5)),
    (execute("p", -5), m.Execute("p", 0)),
    (close("P", "p"), m.Close("P", "p")),
    (frame("S"), m.Sync()),
    (frame("H"), m.Flush()),
    (frame("X"), m.Terminate()),
    (frame("p", b"xyz"), m.PasswordMessage(b"xyz")),
    (frame("F", b"xyz"), m.FunctionCall()),
    (frame("d", b"xyz"), m.CopyFrontend()),
]
BACKEND = [
    (m.Authentication(0), b"R\x00\x00\x00\x08\x00\x00\x00\x00"),
    (m.BackendKeyData(1, b"abcd"), b"K\x00\x00\x00\x0c\x00\x00\x00\x01abcd"),
    (m.ParameterStatus("a", "b"), b"S\x00\x00\x00\x08a\x00b\x00"),
    (m.ReadyForQuery("I"), b"Z\x00\x00\x00\x05I"),
    (m.ParameterDescription((23,)), b"t\x00\x00\x00\x0a\x00\x01\x00\x00\x00\x17"),
    (m.CommandComplete("SELECT 1"), b"C\x00\x00\x00\x0dSELECT 1\x00"),
    (m.PARSE_COMPLETE, b"1\x00\x00\x00\x04"),
    (m.ErrorResponse((("S", "ERROR"), ("M", "no"))), b"E\x00\x00\x00\x10SERROR\x00Mno\x00\x00"),
    (
        m.RowDescription((m.FieldDescription("n", 20, 8, -1, 1),)),
        b"T\x00\x00\x00\x1a\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x14\x00\x08\xff\xff\xff\xff\x00\x01",
    ),
    (m.NegotiateProtocolVersion(3 << 16, ("x",)), b"v\x00\x00\x00\x0e\x00\x03\x00\x00\x00\x00\x00\x01x\x00"),
]


@pytest.mark.parametrize(("data", "message"), FRONTEND)
def test_frontend_messages_are_read(data: bytes, message: m.Frontend) -> None:
    found = codec.FRONTEND[data[0]]
    assert found.decode(data[5:]) == message
    assert found.message is type(message)


@pytest.mark.parametrize(("data", "message"), FRONTEND[:7])
def test_no_part_of_a_message_may_be_missing_or_left_over(data: bytes, message: m.Frontend) -> None:
    decode = codec.FRONTEND[data[0]].decode
    body = data[5:]
    for cut in range(len(body)):
        with pytest.raises(Refusal) as raised:
            decode(body[:cut])
        assert raised.value.sqlstate in ("08P01", "22021")
    with pytest.raises(Refusal):
        decode(body + b"x")


@pytest.mark.parametrize(("message", "data"), BACKEND)
def test_backend_messages_are_written(message: m.Backend, data: bytes) -> None:
    assert codec.encode(message) == data


def test_a_nul_cannot_smuggle_a_field_into_an_error() -> None:
    assert codec.encode(m.ErrorResponse((("M", "a\x00Cfake"),))).count(b"\x00") == 3 + 2


@given(st.sampled_from(sorted(codec.FRONTEND)), st.binary(max_size=200))
def test_any_body_is_read_or_refused(kind: int, body: bytes) -> None:
    with suppress(Refusal):
        assert isinstance(codec.FRONTEND[kind].decode(body), codec.FRONTEND[kind].message)


@given(st.binary(max_size=200))
def test_any_start_up_packet_is_read_or_refused(body: bytes) -> None:
    with suppress(Refusal):
        codec.decode_startup(body)


def test_start_up_packets_are_read() -> None:
    assert codec.decode_startup(SSL_REQUEST[4:]) == m.SSLRequest()
    assert codec.decode_startup(GSSENC_REQUEST[4:]) == m.GSSENCRequest()
    assert codec.decode_startup(struct.pack("!Ii", 80877102, 5) + b"key!") == m.CancelRequest(5, b"key!")
    pairs = (("user", "ana"), ("database", "cleanroom"))
    assert codec.decode_startup(startup()[4:]) == m.StartupMessage(3 << 16, pairs)


def test_names_of_statements_are_bounded() -> None:
    with pytest.raises(Refusal, match="too long"):
        codec.FRONTEND[ord("D")].decode(b"S" + cstring("x" * 1025))
