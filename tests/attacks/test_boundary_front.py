"""A client that logs in and then makes the front hold more and more: until it ends, it ends for everybody."""

from __future__ import annotations

import asyncio
from typing import Any

import pyarrow as pa
import pytest

from enclave.answer import Answer, Question, ResultColumn
from pgproxy import portal, scram
from pgproxy.connection import WRITE_BYTES_HIGH, Connection
from pgproxy.login import Rules
from tests.pgproxy.wire import (
    KEY,
    SYNC,
    VERIFIER,
    bind,
    client_final,
    describe,
    errors,
    execute,
    frame,
    frames,
    parse,
    query,
    ready,
    startup,
)


class Deaf:
    """A transport whose client sends and never reads; told like asyncio's when to stop reading."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.reading, self.deaf, self.held, self.sent = True, False, 0, b""

    def set_write_buffer_limits(self, _high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self.deaf:
            self.sent += data
            return
        self.held += len(data)
        if self.held > WRITE_BYTES_HIGH:
            self.connection.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self.sent = self.sent, b""
        return taken


class Host:
    """The least that a connection needs of its server."""

    def __init__(self) -> None:
        verifiers = scram.Verifiers({"ana": scram.parse_verifier(VERIFIER)}, b"s" * 32)
        self.rules = Rules(verifiers, "cleanroom", tls=False, plaintext=True)
        self.ssl_context = None
        self.authentication_timeout_s = 60.0

    async def answer(self, _question: Question) -> Answer:
        raise AssertionError("nothing is asked here")

    def opened(self, _connection: Connection) -> bool:
        return True

    def closed(self, _connection: Connection) -> None:
        pass

    def cancel(self, _process_id: int, _secret_key: bytes) -> None:
        pass


def logged_in() -> tuple[Connection, Deaf]:
    connection = Connection(Host(), KEY)  # type: ignore[arg-type]
    transport: Any = Deaf(connection)
    connection.connection_made(transport)
    connection.data_received(startup())
    transport.take()
    bare = b"n=,r=clientnonce"
    connection.data_received(frame("p", b"SCRAM-SHA-256\0" + len(b"n,," + bare).to_bytes(4, "big") + b"n,," + bare))
    (_, reply), *_ = frames(transport.take())
    connection.data_received(frame("p", client_final("demo", bare, reply[4:])))
    assert transport.take().endswith(frame("Z", b"I"))
    return connection, transport


@pytest.mark.parametrize("message", [SYNC, query("'"), query("'" + "x" * 1_000), frame("F"), execute("none") + SYNC])
async def test_a_client_that_asks_and_never_reads_is_no_longer_listened_to(message: bytes) -> None:
    connection, transport = logged_in()
    transport.deaf = True
    flood = message * (200_000 // len(message))
    for _ in range(100):
        if not transport.reading:
            break
        connection.data_received(flood)
    assert not transport.reading
    assert connection._session is not None
    assert connection._session._frames.buffered_bytes <= len(flood)
    transport.deaf = False
    connection.resume_writing()
    await asyncio.sleep(0)
    assert transport.reading
    assert connection._session._frames.buffered_bytes == 0


def wide(question: Question) -> Answer:
    """Answers with as many parameters or columns as the text says, or with a megabyte."""
    _, word, number = question.text.split()
    count = int(number)
    columns = tuple(ResultColumn(f"c{n}", 20) for n in range(count if word == "columns" else 1))
    rows = 0 if question.describe else count if word == "rows" else 0
    table = pa.table({column.name: pa.array([1] * rows, pa.int64()) for column in columns})
    types = (1700,) * count if word == "parameters" else ()
    return Answer(columns, table, f"SELECT {rows}", parameter_types=types)


@pytest.mark.parametrize("text", ["select parameters 65000", "select columns 1600"])
def test_prepared_statements_are_counted_with_what_they_describe(text: str) -> None:
    peer = ready(wide)
    sent = [peer.send(parse(text, f"s{number}") + SYNC) for number in range(100)]
    refused = [error for data in sent for error in errors(data)]
    assert refused
    assert {error["C"] for error in refused} == {"54000"}


def test_open_portals_hold_a_bounded_amount_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal, "RESULT_BYTES_MAX", 100_000)
    peer = ready(wide)
    peer.send(query("BEGIN") + parse("select rows 5000", "s"))
    sent = [peer.send(bind((), f"p{n}", "s") + execute(f"p{n}", 1)) for n in range(4)]
    assert [bool(errors(data)) for data in sent] == [False, False, True, False]
    assert errors(sent[2])[0]["C"] == "54000"
    peer.send(SYNC + query("ROLLBACK"))
    assert not errors(peer.send(query("select rows 5000")))


def test_names_of_savepoints_are_cut_as_postgres_cuts_them() -> None:
    peer = ready()
    peer.send(query("BEGIN"))
    name = "a" * 100_000
    assert not errors(peer.send(query(f"SAVEPOINT {name}")))
    backend = peer.session._login.backend
    assert backend is not None
    assert [len(kept) for kept, _ in backend._transaction._savepoints] == [63]
    assert not errors(peer.send(query(f"RELEASE {name}")))


def test_a_description_that_does_not_fit_the_protocol_is_refused() -> None:
    peer = ready(wide)
    answer = peer.send(parse("select columns 70000", "s") + describe("S", "s") + SYNC)
    assert [error["C"] for error in errors(answer)] == ["54000"]
