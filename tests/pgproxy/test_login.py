from __future__ import annotations

import struct

import pytest
from wire import (
    GSSENC_REQUEST,
    KEY,
    SALT,
    SSL_REQUEST,
    Frames,
    Peer,
    cstring,
    errors,
    frame,
    frames,
    kinds,
    query,
    ready,
    rows,
    startup,
)

from pgproxy import scram
from pgproxy.events import Authenticated, Cancel, Close, StartTls
from pgproxy.session import State

REPORTED = {  # what PostgreSQL 15 sends, in the order of its GUC table or not
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
}


def only_error(out: bytes) -> dict[str, str]:
    (error,) = errors(out)
    return error


def statuses(found: Frames) -> dict[str, str]:
    return {name: value for name, value in (b.decode().split("\x00")[:2] for k, b in found if k == "S")}


def test_a_log_in_ends_with_parameters_key_and_ready() -> None:
    peer = Peer()
    out = frames(peer.log_in())
    assert [kind for kind, _ in out] == [*"RR", *"S" * 13, *"KZ"]
    assert statuses(out).keys() == REPORTED
    assert statuses(out)["session_authorization"] == "ana"
    assert out[-2] == ("K", struct.pack("!i", KEY.process_id) + KEY.secret_key)
    assert out[-1] == ("Z", b"I")
    assert peer.events == [Authenticated("ana")]


def test_start_up_parameters_are_settings() -> None:
    peer = ready(
        client_encoding="'utf-8'",
        TimeZone="Etc/UTC",
        DateStyle="ISO",
        extra_float_digits="2",
        application_name="it",
        options=r"-c statement_timeout=5s --dp.epsilon=0.5 -csearch_path=a\ b",
    )
    for name, value in (
        ("application_name", b"it"),
        ("statement_timeout", b"5s"),
        ("dp.epsilon", b"0.5"),
        ("search_path", b"a b"),
        ("client_encoding", b"UTF8"),
    ):
        assert rows(peer.send(query(f"show {name}"))) == [[value]]
    peer.send(query("set application_name = 'other'; reset application_name"))
    assert rows(peer.send(query("show application_name"))) == [[b"it"]]


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ({"database": "other"}, "3D000", 'database "other" does not exist'),
        ({"database": ""}, "3D000", 'database "ana" does not exist'),
        ({"nonsense": "1"}, "42704", 'unrecognized configuration parameter "nonsense"'),
        ({"client_encoding": "LATIN1"}, "22023", 'invalid value for parameter "client_encoding": "LATIN1"'),
        ({"options": "-x"}, "42601", "invalid command-line argument for server process: -x"),
        ({"options": "-c a.b"}, "42601", "-c a.b requires a value"),
    ],
)
def test_mistakes_are_told_after_the_password(parameters: dict[str, str], code: str, words: str) -> None:
    peer = Peer()
    assert kinds(peer.send(startup(**parameters))) == "R"
    error = only_error(peer.authenticate())
    assert (error["S"], error["C"], error["M"]) == ("FATAL", code, words)
    assert isinstance(peer.events[-1], Close)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [({"user": ""}, "28000"), ({"replication": "true"}, "0A000"), ({"replication": "database"}, "0A000")],
)
def test_some_are_told_before_it(parameters: dict[str, str], code: str) -> None:
    assert only_error(Peer().send(startup(**parameters)))["C"] == code


def test_a_client_without_tls_is_sent_away() -> None:
    peer = Peer(tls=True, plaintext=False)
    error = only_error(peer.send(startup()))
    assert (error["S"], error["C"]) == ("FATAL", "28000")
    assert "sslmode" in error["H"]


def test_tls_is_granted_and_the_log_in_goes_on_inside() -> None:
    peer = Peer(tls=True, plaintext=False)
    assert peer.send(SSL_REQUEST) == b"S"
    assert isinstance(peer.events[-1], StartTls)
    assert peer.log_in().endswith(frame("Z", b"I"))


def test_encryption_that_is_not_offered_is_declined() -> None:
    peer = Peer()
    assert peer.send(SSL_REQUEST) == b"N"
    assert peer.send(GSSENC_REQUEST) == b"N"
    assert peer.log_in().endswith(frame("Z", b"I"))


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST])
def test_encryption_is_asked_for_once(request_: bytes) -> None:
    peer = Peer()
    peer.send(request_)
    assert only_error(peer.send(request_))["C"] == "08P01"


def test_no_encryption_inside_encryption() -> None:
    peer = Peer(tls=True)
    peer.send(SSL_REQUEST)
    assert only_error(peer.send(GSSENC_REQUEST))["C"] == "08P01"


def test_bytes_behind_an_ssl_request_end_the_connection_without_an_answer() -> None:
    peer = Peer(tls=True)
    assert peer.send(SSL_REQUEST + startup()) == b""
    assert isinstance(peer.events[-1], Close)
    assert peer.session.state is State.CLOSED
    assert peer.send(startup()) == b""


def test_a_cancel_request_is_passed_on_and_not_answered() -> None:
    peer = Peer(tls=True, plaintext=False)
    assert peer.send(struct.pack("!IIi", 16, 80877102, 9) + b"abcd") == b""
    assert peer.events == [Cancel(9, b"abcd"), Close()]


def test_newer_minor_versions_and_unknown_options_are_negotiated_down() -> None:
    peer = Peer()
    out = frames(peer.send(startup((3 << 16) | 2, **{"_pq_.fancy": "on"})))
    assert out[0] == ("v", struct.pack("!II", 3 << 16, 1) + cstring("_pq_.fancy"))
    assert peer.authenticate().endswith(frame("Z", b"I"))


@pytest.mark.parametrize("version", [2 << 16, 4 << 16])
def test_other_major_versions_are_refused(version: int) -> None:
    error = only_error(Peer().send(startup(version)))
    assert (error["C"], error["S"]) == ("0A000", "FATAL")
    assert error["M"].startswith("unsupported frontend protocol")


@pytest.mark.parametrize(
    "attack",
    [
        struct.pack("!I", 7),
        struct.pack("!I", 10_001),
        struct.pack("!I", 0xFFFFFFFF),
        struct.pack("!II", 10, 80877103) + b"xx",
        struct.pack("!II", 12, 3 << 16) + b"user",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!II", 8 + 1000, 3 << 16) + cstring("a.b") * 250,
    ],
)
def test_malformed_packets_end_the_connection(attack: bytes) -> None:
    peer = Peer()
    assert only_error(peer.send(attack))["S"] == "FATAL"
    assert peer.session.state is State.CLOSED


def test_nothing_large_is_held_before_the_log_in() -> None:
    peer = Peer()
    peer.send(startup())
    error = only_error(peer.send(b"Q" + struct.pack("!I", 200_000)))
    assert (error["S"], error["M"]) == ("FATAL", "invalid message length")


def test_a_query_before_the_password_ends_the_connection() -> None:
    peer = Peer()
    peer.send(startup())
    assert only_error(peer.send(query("select 1")))["C"] == "08P01"


@pytest.mark.parametrize(
    "body",
    [
        cstring("PLAIN") + struct.pack("!i", 0),
        cstring("SCRAM-SHA-256") + struct.pack("!i", 3) + b"n,,",
        cstring("SCRAM-SHA-256") + struct.pack("!i", -1),
        cstring("SCRAM-SHA-256") + struct.pack("!i", 99),
        cstring("SCRAM-SHA-256"),
        b"password",
    ],
)
def test_malformed_sasl_ends_the_connection(body: bytes) -> None:
    peer = Peer()
    peer.send(startup())
    error = only_error(peer.send(frame("p", body)))
    assert (error["S"], error["C"]) == ("FATAL", "08P01")


def test_a_wrong_password_and_an_unknown_user_look_alike() -> None:
    def attempt(user: str) -> tuple[list[Frames], dict[str, str]]:
        peer = Peer()
        first = frames(peer.send(startup(user=user)))
        initial = b"n,,n=,r=abc"
        body = cstring("SCRAM-SHA-256") + struct.pack("!i", len(initial)) + initial
        second = frames(peer.send(frame("p", body)))
        return [first, second], only_error(Peer().log_in("wrong", user=user))

    known, known_error = attempt("ana")
    absent, absent_error = attempt("bob")
    again, _ = attempt("bob")
    assert known[0] == absent[0]
    assert again == absent  # the salt of a name does not change
    parts = [dict(p.split(b"=", 1) for p in reply[1][0][1][4:].split(b",")) for reply in (known, absent)]
    assert parts[0].keys() == parts[1].keys() == {b"r", b"s", b"i"}
    assert parts[0][b"i"] == parts[1][b"i"]
    assert len(parts[0][b"s"]) == len(parts[1][b"s"])
    assert known_error["M"] == 'password authentication failed for user "ana"'
    assert absent_error == {**known_error, "M": 'password authentication failed for user "bob"'}
    assert known_error["C"] == "28P01"


def test_unknown_users_mimic_the_shape_of_the_known() -> None:
    users = {"ana": scram.make_verifier("demo", SALT + SALT[:8], 5000)}
    peer = Peer(users=users)
    peer.send(startup(user="bob"))
    initial = b"n,,n=,r=abc"
    body = cstring("SCRAM-SHA-256") + struct.pack("!i", len(initial)) + initial
    assert b",i=5000" in peer.send(frame("p", body))


def test_a_full_server_says_so() -> None:
    error = only_error(Peer(full=True).send(startup()))
    assert (error["C"], error["M"]) == ("53300", "sorry, too many clients already")


def test_a_full_server_still_takes_a_cancel_request() -> None:
    peer = Peer(full=True)
    peer.send(struct.pack("!IIi", 16, 80877102, 9) + b"abcd")
    assert peer.events[0] == Cancel(9, b"abcd")
