"""login: from the first byte to ReadyForQuery (Postgres docs, "Message Flow", Start-up)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pgproxy import messages as m
from pgproxy import scram, sqlstate
from pgproxy.backend import Backend
from pgproxy.codec import PROTOCOL_3_0, decode_sasl_initial, encode
from pgproxy.events import Authenticated, Cancel, Close, StartTls, Work
from pgproxy.settings import Settings
from rewriter.refusal import Refusal

_OK: Final = 0
_SASL: Final = 10
_SASL_CONTINUE: Final = 11
_SASL_FINAL: Final = 12


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may enter, and how.

    Attributes:
        verifiers: of every analyst.
        database: the one database there is.
        tls: TLS is offered.
        plaintext: connections without TLS may log in; for development on one machine.
    """

    verifiers: scram.Verifiers
    database: str
    tls: bool
    plaintext: bool


@dataclass(frozen=True, slots=True)
class Key:
    """What a CancelRequest must repeat: a number for each connection, and randomness that nobody else has."""

    process_id: int
    secret_key: bytes = field(repr=False)


class Login:
    """The state of one log-in; `backend` is there once it is complete."""

    __slots__ = ("_asked", "_exchange", "_full", "_key", "_nonce", "_parameters", "_rules", "backend", "encrypted")

    def __init__(self, rules: Rules, key: Key, nonce: bytes, *, full: bool) -> None:
        """Begin; `nonce` is scram.NONCE_BYTES of randomness, `full` refuses for want of room."""
        self._rules = rules
        self._key = key
        self._nonce = nonce
        self._full = full
        self._asked: set[type[m.Startup]] = set()
        self._parameters: dict[str, str] = {}
        self._exchange: scram.Exchange | None = None
        self.encrypted = False
        self.backend: Backend | None = None

    def handle(self, message: m.Startup | m.PasswordMessage) -> Work:
        """The replies to one message."""
        match message:
            case m.SSLRequest():
                return self._encryption(message)
            case m.GSSENCRequest():
                return self._encryption(message)
            case m.CancelRequest():
                return self._cancel(message)
            case m.StartupMessage():
                return self._startup(message)
            case m.PasswordMessage():
                return self._sasl_initial(message) if self._exchange is None else self._sasl_final(message)

    def _encryption(self, message: m.SSLRequest | m.GSSENCRequest) -> Work:
        # ProcessStartupPacket() lets each be asked once, and none once it is granted.
        if self.encrypted or type(message) in self._asked:
            raise _violation("encryption was asked for twice")
        self._asked.add(type(message))
        if isinstance(message, m.SSLRequest) and self._rules.tls:
            yield StartTls()
        else:
            yield b"N"

    def _cancel(self, message: m.CancelRequest) -> Work:
        yield Cancel(message.process_id, message.secret_key)
        yield Close()

    def _startup(self, message: m.StartupMessage) -> Work:
        if message.version >> 16 != PROTOCOL_3_0 >> 16:
            asked = f"{message.version >> 16}.{message.version & 0xFFFF}"
            words = f"unsupported frontend protocol {asked}: server supports 3.0 to 3.0"
            raise Refusal(sqlstate.FEATURE_NOT_SUPPORTED, words)
        # Postgres docs, NegotiateProtocolVersion: names with _pq_. are protocol extensions.
        extensions = tuple(name for name, _ in message.parameters if name.startswith("_pq_."))
        if message.version > PROTOCOL_3_0 or extensions:
            yield encode(m.NegotiateProtocolVersion(PROTOCOL_3_0, extensions))
        self._parameters = {k: v for k, v in message.parameters if not k.startswith("_pq_.")}
        self._check_entrance()
        yield encode(m.Authentication(_SASL, f"{scram.MECHANISM}\0\0".encode()))

    def _check_entrance(self) -> None:
        if not self._user:
            words = "no PostgreSQL user name specified in startup packet"
            raise Refusal(sqlstate.INVALID_AUTHORIZATION_SPECIFICATION, words)
        if not (self.encrypted or self._rules.plaintext):
            raise Refusal(
                sqlstate.INVALID_AUTHORIZATION_SPECIFICATION,
                "connection requires TLS",
                hint="Connect with sslmode=verify-full, or at least sslmode=require.",
            )
        if self._parameters.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            raise Refusal(sqlstate.FEATURE_NOT_SUPPORTED, "replication connections are not supported")
        if self._full:
            raise Refusal(sqlstate.TOO_MANY_CONNECTIONS, "sorry, too many clients already")

    def _sasl_initial(self, message: m.PasswordMessage) -> Work:
        mechanism, client_first = decode_sasl_initial(message.body)
        if mechanism != scram.MECHANISM:
            raise _violation("client selected an invalid SASL authentication mechanism")
        verifier = self._rules.verifiers.of(self._user)
        self._exchange = scram.start(client_first, verifier, self._nonce)
        yield encode(m.Authentication(_SASL_CONTINUE, self._exchange.server_first))

    def _sasl_final(self, message: m.PasswordMessage) -> Work:
        assert self._exchange is not None
        server_final = scram.finish(self._exchange, message.body)
        if server_final is None:
            words = f'password authentication failed for user "{self._user}"'
            raise Refusal(sqlstate.INVALID_PASSWORD, words)
        # Only those who are let in learn which database there is, and how settings are checked.
        yield encode(m.Authentication(_SASL_FINAL, server_final)) + encode(m.Authentication(_OK))
        database = self._parameters.get("database") or self._user
        if database != self._rules.database:
            raise Refusal(sqlstate.INVALID_CATALOG_NAME, f'database "{database}" does not exist')
        backend = Backend(self._user, self._settings())
        yield Authenticated(self._user)
        key = encode(m.BackendKeyData(self._key.process_id, self._key.secret_key))
        self.backend = backend
        yield backend.report() + key + backend.ready()

    def _settings(self) -> Settings:
        settings = Settings(self._user)
        own = {"user", "database", "replication", "options"}
        given = [*_options(self._parameters.get("options", ""))]
        given += [(name, value) for name, value in self._parameters.items() if name not in own]
        for name, value in given:
            settings.start(name, value)
        return settings

    @property
    def _user(self) -> str:
        return self._parameters.get("user", "")


def _options(text: str) -> list[tuple[str, str]]:
    """The settings in start-up parameter `options`: `-c name=value` and `--name=value`; a backslash escapes."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    found: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = words.pop(0)
        elif word.startswith(("--", "-c")):
            word = word[2:]
        else:
            message = f"invalid command-line argument for server process: {word[:100]}"
            raise Refusal(sqlstate.SYNTAX_ERROR, message)
        name, equals, value = word.partition("=")
        if not equals:
            raise Refusal(sqlstate.SYNTAX_ERROR, f"-c {name[:100]} requires a value")
        found.append((name.replace("-", "_"), value))
    return found


def _violation(words: str) -> Refusal:
    return Refusal(sqlstate.PROTOCOL_VIOLATION, words)
