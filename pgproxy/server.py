"""server: sockets for sessions: accepts, counts, cancels and shuts down. connection.py is one of them.

    socket -> [tls] -> session.receive      session.next -> bytes -> [tls] -> socket
                                                         -> Ask -> a task that awaits `answer`

A connection is an asyncio.Protocol and, while a question runs, a task. Nothing is made for a client that does not
read: a session gives its next bytes only when the transport wants some.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from enclave.answer import DATABASE, Answer, Question
from pgproxy import scram, sqlstate
from pgproxy.connection import Connection
from pgproxy.login import Key, Rules
from pgproxy.tls import check_context
from rewriter.refusal import Refusal

CONNECTIONS_MAX: Final = 500
"""Sessions at a time: an idle one holds 5 KB, with TLS 23 KB (measured)."""
CONNECTIONS_SPARE: Final = 50
"""Beyond CONNECTIONS_MAX: enough of a session to say 53300, or to carry a CancelRequest."""
AUTHENTICATION_TIMEOUT_S: Final = 60.0
"""From accept to log-in (authentication_timeout of Postgres)."""
BACKLOG: Final = 128
"""Connections the kernel holds until they are accepted."""
MOCK_SECRET_BYTES: Final = 32
"""Key of the salts that unknown users are shown."""


class Server:
    """The Postgres face of a room."""

    def __init__(
        self,
        answer: Callable[[Question], Awaitable[Answer]],
        verifiers: Mapping[str, str],
        *,
        database: str = DATABASE,
        ssl_context: ssl.SSLContext | None = None,
        plaintext: bool = False,
        mock_secret: bytes | None = None,
        connections_max: int = CONNECTIONS_MAX,
        authentication_timeout_s: float = AUTHENTICATION_TIMEOUT_S,
    ) -> None:
        """Prepare to serve.

        Args:
            answer: puts a question to the room; raises Refusal or InternalError.
            verifiers: SCRAM verifier of each analyst, as Postgres stores it.
            database: the one database name there is.
            ssl_context: server-side, TLS 1.2 or later; None offers no TLS.
            plaintext: let clients in without TLS.
            mock_secret: 32 bytes that outlive a restart, so that the salts of unknown names do too; drawn if None.
            connections_max: sessions at a time.
            authentication_timeout_s: seconds from accept to log-in.

        Raises:
            ValueError: a verifier or the context is not acceptable, or nobody could ever connect.
        """
        if ssl_context is None and not plaintext:
            raise ValueError("without a TLS context, plaintext=True is the only way in")
        if ssl_context is not None:
            check_context(ssl_context)
        known = {user: scram.parse_verifier(text) for user, text in verifiers.items()}
        secret = secrets.token_bytes(MOCK_SECRET_BYTES) if mock_secret is None else mock_secret
        self.answer = answer
        self.ssl_context = ssl_context
        self.authentication_timeout_s = authentication_timeout_s
        self.rules = Rules(scram.Verifiers(known, secret), database, ssl_context is not None, plaintext)
        self._connections_max = connections_max
        self._connections: dict[int, Connection] = {}
        self._last_process_id = 0
        self._listener: asyncio.Server | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which differs from the one given if that was 0.

        Raises:
            OSError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connection, host, port, backlog=BACKLOG)
        address: tuple[str, int] = self._listener.sockets[0].getsockname()
        return address[1]

    async def shutdown(self, grace_s: float = 10.0) -> None:
        """Stop accepting, let running questions finish for `grace_s` seconds, tell every client, and hang up."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections.values()):
            connection.stop()
        try:
            async with asyncio.timeout(grace_s):
                await self._all_closed()
        except TimeoutError:
            await self._cut()

    async def _cut(self) -> None:
        # Questions still running are cancelled: their sessions then say 57P01 and close.
        for connection in list(self._connections.values()):
            connection.interrupt(_shutdown())
        try:
            async with asyncio.timeout(1.0):
                await self._all_closed()
        except TimeoutError:
            for connection in list(self._connections.values()):
                connection.abort()

    async def _all_closed(self) -> None:
        while self._connections:
            self._empty.clear()
            await self._empty.wait()

    # What connections ask (connection.Host).

    def opened(self, connection: Connection) -> bool:
        """Count a connection; False if there are too many to let it log in."""
        count = len(self._connections)
        self._connections[connection.key.process_id] = connection
        if count >= self._connections_max + CONNECTIONS_SPARE:
            connection.abort()
        return count < self._connections_max

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection.key.process_id, None)
        if not self._connections:
            self._empty.set()

    def cancel(self, process_id: int, secret_key: bytes) -> None:
        """Interrupt the connection with this key; whether there was one, nobody is told."""
        found = self._connections.get(process_id)
        # Compared in constant time: a key could otherwise be guessed byte by byte.
        if found is not None and hmac.compare_digest(found.key.secret_key, secret_key):
            words = "canceling statement due to user request"
            found.interrupt(Refusal(sqlstate.QUERY_CANCELED, words))

    def _connection(self) -> Connection:
        self._last_process_id = self._last_process_id % (2**31 - 1) + 1
        while self._last_process_id in self._connections:
            self._last_process_id += 1
        return Connection(self, Key(self._last_process_id, secrets.token_bytes(4)))


def _shutdown() -> Refusal:
    words = "terminating connection due to administrator command"
    return Refusal(sqlstate.ADMIN_SHUTDOWN, words)
