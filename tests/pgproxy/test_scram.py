from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import NONCE, SALT, client_final

from pgproxy import scram
from rewriter.refusal import Refusal

# What PostgreSQL 15 stored for CREATE ROLE ... PASSWORD, and so on for the others.
BARE = b"n=,r=clientnonce"


def log_in(password: str, verifier: scram.Verifier) -> bytes | None:
    exchange = scram.start(b"n,," + BARE, verifier, NONCE)
    return scram.finish(exchange, client_final(password, BARE, exchange.server_first))


def test_the_example_of_rfc_7677_is_reproduced() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = scram.parse_verifier(scram.make_verifier("pencil", salt))
    bare = b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    first = b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    exchange = scram.Exchange(verifier, b"n,,", nonce, bare, first)
    final = b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert scram.finish(exchange, final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@given(st.text(min_size=1, max_size=20))
def test_the_right_password_is_let_in_and_another_is_not(password: str) -> None:
    verifier = scram.parse_verifier(scram.make_verifier(password, SALT, 2))
    exchange = scram.start(b"n,," + BARE, verifier, NONCE)
    normal = scram._normal(password)
    assert scram.finish(exchange, client_final(normal, BARE, exchange.server_first)) is not None
    assert scram.finish(exchange, client_final(normal + "x", BARE, exchange.server_first)) is None


@pytest.mark.parametrize(
    ("password", "normal"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 section 3
        ("user", "user"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),  # prohibited: as it is
        ("\u0627\u0031", "\u0627\u0031"),  # bidi: as it is
        ("a\u00a0b", "a b"),
        ("\u00ad", "\u00ad"),  # nothing would be left
    ],
)
def test_passwords_are_normalised_as_postgres_does(password: str, normal: str) -> None:
    assert scram._normal(password) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5abc",
        "SCRAM-SHA-256$4096:c2FsdA==$a:b",
        "SCRAM-SHA-256$0:" + scram.make_verifier("x", SALT).split(":", 1)[1],
        "SCRAM-SHA-256$99999999:" + scram.make_verifier("x", SALT).split(":", 1)[1],
        "SCRAM-SHA-256$4096:!!$" + scram.make_verifier("x", SALT).split("$")[2],
        "SCRAM-SHA-256$4096:c2FsdA==$c2FsdA==:c2FsdA==",
    ],
)
def test_verifiers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"verifier|base64"):
        scram.parse_verifier(text)


def test_the_keys_do_not_show_in_a_repr() -> None:
    shown = repr(scram.parse_verifier(scram.make_verifier("demo", SALT)))
    assert "stored_key" not in shown


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=ana",
        b"x,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
        b"n,a=bob,n=,r=abc",
        b"n,,m=ext,n=,r=abc",
        b"n,,n=,r=",
        b"n,,n=,r=a b",
    ],
)
def test_malformed_first_messages_are_refused(first: bytes) -> None:
    with pytest.raises(Refusal):
        scram.start(first, scram.parse_verifier(scram.make_verifier("demo", SALT, 1)), NONCE)


def test_malformed_final_messages_are_refused() -> None:
    verifier = scram.parse_verifier(scram.make_verifier("demo", SALT, 1))
    exchange = scram.start(b"y,," + BARE, verifier, NONCE)
    good = client_final("demo", BARE, exchange.server_first, b"y,,")
    assert scram.finish(exchange, good) is not None
    for bad in (
        b"",
        good[:-1],
        good + b",x=1",
        good.replace(b"c=eSws", b"c=biws"),
        good.replace(b"r=client", b"r=clienT"),
        good[: good.index(b",p=")] + b",p=AAAA",
    ):
        with pytest.raises(Refusal) as raised:
            scram.finish(exchange, bad)
        assert raised.value.sqlstate == "08P01"


def test_mock_verifiers_are_stable_and_differ_by_name_and_secret() -> None:
    one = scram.mock_verifier("bob", b"k" * 32, 4096)
    assert one == scram.mock_verifier("bob", b"k" * 32, 4096)
    assert one.salt != scram.mock_verifier("eve", b"k" * 32, 4096).salt
    assert one.salt != scram.mock_verifier("bob", b"l" * 32, 4096).salt
    assert len(one.salt) == len(SALT)
    assert log_in("demo", one) is None
