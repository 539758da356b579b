"""connection: one socket, its session, and the task of the question it runs."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

from enclave.answer import Answer, Question
from pgproxy import scram, sqlstate
from pgproxy.events import Ask, Authenticated, Cancel, Close, Event, Fault, StartTls
from pgproxy.login import Key, Login, Rules
from pgproxy.session import CHUNK_BYTES, Session, State
from pgproxy.tls import Tls
from rewriter.refusal import InternalError, Refusal

WRITE_BYTES_HIGH: Final = 256 * 1024
"""Bytes the transport may hold before the session stops making more."""
LINGER_S: Final = 5.0
"""How long a client may take to read the last bytes before its connection is cut."""


class Host(Protocol):
    """What a connection needs of its server."""

    answer: Callable[[Question], Awaitable[Answer]]
    rules: Rules
    ssl_context: ssl.SSLContext | None
    authentication_timeout_s: float

    def opened(self, connection: Connection) -> bool:
        """Count a connection; False if there are too many."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""

    def cancel(self, process_id: int, secret_key: bytes) -> None:
        """Interrupt the connection with this key."""


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_host",
        "_loop",
        "_paused",
        "_pumping",
        "_reading",
        "_reason",
        "_session",
        "_task",
        "_timer",
        "_tls",
        "_transport",
        "key",
    )

    def __init__(self, host: Host, key: Key) -> None:
        """Wait for the socket."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._tls: Tls | None = None
        self._task: asyncio.Task[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reason: Refusal | None = None  # why the running task was cancelled
        self._paused = False
        self._pumping = False
        self._reading = True
        self.key = key

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        # A cast, since uvloop's transports have its methods and not its class.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(WRITE_BYTES_HIGH)
        full = not self._host.opened(self)
        nonce = secrets.token_bytes(scram.NONCE_BYTES)
        self._session = Session(Login(self._host.rules, self.key, nonce, full=full))
        self._timer = self._loop.call_later(self._host.authentication_timeout_s, transport.abort)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client is gone: nobody waits for what it asked."""
        self._stop_timer()
        self._transport = None
        if self._task is not None:
            self._task.cancel()
        self._host.closed(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._session is None or self._transport is None:
            return
        if self._tls is None:
            self._session.receive(data)
        elif not self._decrypt(self._tls, data):
            return
        self._pump()

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client has read."""
        self._paused = False
        self._pump()

    # What the server asks.

    def interrupt(self, refusal: Refusal) -> None:
        """Stop what is running, if anything is, with these words."""
        if self._task is not None:
            self._reason = refusal
            self._task.cancel()
        elif self._session is not None:
            self._session.interrupt(refusal)

    def stop(self) -> None:
        """Hang up once what is running has been answered."""
        if self._session is None:
            return
        if self._session.state is State.TLS:
            self.abort()  # in the middle of a handshake nothing can be said
        self._session.stop()
        self._pump()

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    # Inside.

    def _decrypt(self, tls: Tls, data: bytes) -> bool:
        """Feed the session through TLS; False if the connection is over."""
        assert self._session is not None
        assert self._transport is not None
        try:
            clear = tls.receive(data)
        except ssl.SSLError:
            self._transport.write(tls.to_send())
            self._close()
            return False
        self._transport.write(tls.to_send())
        if tls.established and self._session.state is State.TLS:
            self._session.tls_started()
        self._session.receive(clear)
        if tls.ended:
            self._close()
        return not tls.ended

    def _pump(self) -> None:
        """Carry out what the session wants, until it waits or the client must read first."""
        if self._pumping or self._session is None:
            return
        self._pumping = True
        try:
            self._run(self._session)
        finally:
            self._pumping = False

    def _run(self, session: Session) -> None:
        while self._transport is not None and not self._paused:
            item = session.next()
            if item is None:
                break
            if isinstance(item, bytes):
                self._write(item)
                if session.busy and len(item) >= CHUNK_BYTES:
                    # Others have a turn between the pieces of a large result.
                    self._loop.call_soon(self._pump)
                    break
            else:
                self._carry_out(item)
        self._regulate(session)

    def _regulate(self, session: Session) -> None:
        # While the client does not read, messages are not carried out: what it sends would pile up.
        wanted = session.wants_input and not self._paused
        if self._transport is None or self._transport.is_closing() or wanted is self._reading:
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data if self._tls is None else self._tls.encrypt(data))

    def _carry_out(self, event: Event) -> None:
        match event:
            case Ask():
                self._ask(event)
            case StartTls():
                assert self._host.ssl_context is not None
                self._tls = Tls(self._host.ssl_context)
            case Cancel(process_id, secret_key):
                self._host.cancel(process_id, secret_key)
            case Authenticated():
                self._stop_timer()
            case Fault(error):
                self._failed(report(error))
            case Close():
                self._close()

    def _ask(self, ask: Ask) -> None:
        self._reason = None
        self._task = self._loop.create_task(_awaited(self._host.answer(ask.question)))
        self._task.add_done_callback(self._done)
        if ask.timeout_ms:
            self._timer = self._loop.call_later(ask.timeout_ms / 1000, self.interrupt, _timed_out())

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._stop_timer()
        self._task = None
        if self._session is None or self._transport is None:
            if not task.cancelled():
                task.exception()  # nobody is left to be told
            return
        if task.cancelled():
            self._failed(self._reason or canceled())
        elif (error := task.exception()) is None:
            self._session.answered(task.result())
        elif isinstance(error, Refusal | InternalError):
            self._failed(error)
        else:
            self._failed(report(error))
        self._pump()

    def _failed(self, error: Refusal | InternalError) -> None:
        assert self._session is not None
        self._session.failed(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._stop_timer()
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is not None and self._tls.established:
            self._transport.write(self._tls.close())
        self._transport.close()
        self._loop.call_later(LINGER_S, self._transport.abort)


async def _awaited(answer: Awaitable[Answer]) -> Answer:
    return await answer


def canceled() -> Refusal:
    """Postgres' words for a CancelRequest."""
    return Refusal(sqlstate.QUERY_CANCELED, "canceling statement due to user request")


def _timed_out() -> Refusal:
    return Refusal(sqlstate.QUERY_CANCELED, "canceling statement due to statement timeout")


def report(error: BaseException) -> InternalError:
    """Write where a bug struck to stderr, and give what the client may know: its number.

    The exception's own words stay unwritten: engines echo values in theirs.
    """
    fault = InternalError(secrets.token_hex(8))
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    sys.stderr.write(f"{fault}: {type(error).__name__}\n{frames}")
    return fault
