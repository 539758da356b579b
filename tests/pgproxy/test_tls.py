"""The handshake with real clients is in test_server.py."""

from __future__ import annotations

import ssl

import pytest

from pgproxy.tls import Tls, check_context


def test_what_is_not_tls_is_an_error() -> None:
    tls = Tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with pytest.raises(ssl.SSLError):
        tls.receive(b"\x00\x00\x00\x08\x04\xd2\x16\x2f" * 4)
    assert not tls.established


def test_a_client_hello_in_pieces_is_waited_for() -> None:
    tls = Tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert tls.receive(b"\x16\x03") == b""
    assert tls.to_send() == b""
    assert not tls.established


def test_a_context_for_old_protocols_is_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.raises(ValueError, match=r"TLSv1_2"):
        check_context(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    check_context(context)
    assert context.options & ssl.OP_NO_RENEGOTIATION
