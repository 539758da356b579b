"""session: one connection without I/O: bytes in, bytes and events out.

    startup --SSLRequest--> tls --handshake--> startup --StartupMessage--> sasl_initial --> sasl_final --> ready
    ready --Parse, Bind, ...--> extended --Sync--> ready
    extended --error--> skipping --Sync--> ready

The shell feeds `receive` and then calls `next` until it gives None, carrying out each event before the next call.
There is no clock, no socket and no randomness here: time limits are the shell's, nonces and keys are passed in.
Everything that decides which message may come when is in TRANSITIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from enclave.answer import Answer
from pgproxy import messages as m
from pgproxy import sqlstate
from pgproxy.codec import FRONTEND, decode_startup, encode
from pgproxy.events import Ask, Close, Event, Fault, StartTls, Work, error_response
from pgproxy.frames import Frame, FrameReader
from pgproxy.login import Login
from rewriter.refusal import InternalError, Refusal

CHUNK_BYTES: Final = 64 * 1024
"""Output collected before it is handed over."""
BACKLOG_BYTES_MAX: Final = 64 * 1024
"""Input held while a question runs; beyond it the shell stops reading and the client's kernel waits."""


class State(Enum):
    """Which messages may come next."""

    STARTUP = auto()
    TLS = auto()
    SASL_INITIAL = auto()
    SASL_FINAL = auto()
    READY = auto()
    EXTENDED = auto()  # after the first message of an extended-query batch
    SKIPPING = auto()  # Postgres docs, Extended Query: after an error, discard until Sync
    CLOSED = auto()


class Signal(Enum):
    """What moves a session besides messages."""

    TLS_OFFERED = auto()
    TLS_STARTED = auto()
    ERROR = auto()


_EXTENDED: Final = (m.Parse, m.Bind, m.Describe, m.Execute, m.Close, m.Flush)
_Triggers = dict[type[m.Startup | m.Frontend] | Signal, State]
_IN_SESSION: Final[_Triggers] = {
    **dict.fromkeys(_EXTENDED, State.EXTENDED),
    m.Query: State.READY,
    m.FunctionCall: State.READY,
    m.Sync: State.READY,
    m.Terminate: State.CLOSED,
}
TRANSITIONS: Final[dict[State, _Triggers]] = {
    State.STARTUP: {
        m.SSLRequest: State.STARTUP,
        m.GSSENCRequest: State.STARTUP,
        m.CancelRequest: State.CLOSED,
        m.StartupMessage: State.SASL_INITIAL,
        Signal.TLS_OFFERED: State.TLS,
        Signal.ERROR: State.CLOSED,
    },
    State.TLS: {Signal.TLS_STARTED: State.STARTUP, Signal.ERROR: State.CLOSED},
    State.SASL_INITIAL: {m.PasswordMessage: State.SASL_FINAL, Signal.ERROR: State.CLOSED},
    State.SASL_FINAL: {m.PasswordMessage: State.READY, Signal.ERROR: State.CLOSED},
    State.READY: {**_IN_SESSION, m.CopyFrontend: State.READY, Signal.ERROR: State.READY},
    State.EXTENDED: {**_IN_SESSION, m.CopyFrontend: State.EXTENDED, Signal.ERROR: State.SKIPPING},
    State.SKIPPING: {
        **dict.fromkeys((*_EXTENDED, m.Query, m.FunctionCall, m.CopyFrontend), State.SKIPPING),
        m.Sync: State.READY,
        m.Terminate: State.CLOSED,
        Signal.ERROR: State.SKIPPING,
    },
    State.CLOSED: {},
}
"""{state: {message or signal: next}}; a message that has no entry is a protocol violation."""


class Session:
    """A connection, from its first byte to its last."""

    __slots__ = (
        "_event",
        "_frames",
        "_interrupt",
        "_login",
        "_out",
        "_out_bytes",
        "_state",
        "_stopping",
        "_waiting",
        "_work",
    )

    def __init__(self, login: Login) -> None:
        """Begin; `login` has the rules, the key and the nonce of this connection."""
        self._login = login
        self._frames = FrameReader()
        self._state = State.STARTUP
        self._work: Work | None = None
        self._waiting = False  # for the shell: `tls_started`, `answered` or `failed`
        self._event: Event | None = None
        self._interrupt: Refusal | None = None
        self._stopping = False
        self._out: list[bytes] = []
        self._out_bytes = 0

    @property
    def state(self) -> State:
        """Which messages may come next."""
        return self._state

    @property
    def wants_input(self) -> bool:
        """False when enough is held for as long as the session is busy."""
        busy = self._waiting or self._work is not None
        return not busy or self._frames.buffered_bytes < BACKLOG_BYTES_MAX

    @property
    def busy(self) -> bool:
        """True while a message is being handled."""
        return self._waiting or self._work is not None

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, in any pieces (without TLS around them)."""
        if self._state is not State.CLOSED:
            self._frames.feed(data)

    def next(self) -> bytes | Event | None:
        """What to do next: bytes to send, an event to carry out, or None to wait."""
        while True:
            if self._out_bytes >= CHUNK_BYTES or (self._event is not None and self._out):
                return self._take()
            if self._event is not None:
                event, self._event = self._event, None
                return event
            if self._waiting or not (self._work or self._begin()):
                return self._take() if self._out else None
            if self._work is not None:
                self._advance(self._work)

    def tls_started(self) -> None:
        """The handshake is complete: what follows came encrypted."""
        assert self._state is State.TLS
        self._state = TRANSITIONS[self._state][Signal.TLS_STARTED]
        self._login.encrypted = True
        self._waiting = False

    def answered(self, answer: Answer) -> None:
        """Go on with the Answer to the last Ask."""
        self._waiting = False
        if self._work is not None:
            work = self._work
            self._resume(lambda: work.send(answer))

    def failed(self, error: Refusal | InternalError) -> None:
        """Go on after an Ask that was not answered, or after a Fault."""
        self._waiting = False
        if self._work is None:
            self._fail(error)
        else:
            work = self._work
            self._resume(lambda: work.throw(error))

    def interrupt(self, refusal: Refusal) -> None:
        """Stop sending the result that is being sent; without one, nothing happens."""
        if self._work is not None and not self._waiting:
            self._interrupt = refusal

    def stop(self) -> None:
        """Hang up with 57P01 as soon as what is running has been answered."""
        self._stopping = True

    def _begin(self) -> bool:
        """Start on the next message; False if there is none."""
        if self._state is State.CLOSED:
            return False
        try:
            frame = None if self._stops_now() else self._next_frame()
            if frame is None and self._stopping:
                raise _shutdown()
            if frame is None:
                return False
        except Refusal as refusal:
            self._hang_up(refusal)
            return True
        try:
            self._work = self._dispatch(frame)
        except Refusal as refusal:
            self._fail(refusal)
        return True

    def _stops_now(self) -> bool:
        return self._stopping and self._state is not State.EXTENDED

    def _next_frame(self) -> Frame | None:
        if self._state is State.STARTUP:
            return self._frames.next_startup()
        return self._frames.next_typed(trusted=self._login.backend is not None)

    def _dispatch(self, frame: Frame) -> Work | None:
        """Decode a frame, move to the next state, and give what handles the message."""
        if frame.type_byte is None:
            assert frame.body is not None
            message = decode_startup(frame.body)
            return self._login.handle(message) if self._move(type(message)) else None
        kind = FRONTEND[frame.type_byte].message
        if not self._move(kind):
            return None
        if kind is m.Terminate:
            self._event = Close()
        # Postgres docs, Message Flow, COPY: what is still sent after a failed COPY is accepted and ignored.
        if kind in (m.Terminate, m.CopyFrontend) or self._state is State.SKIPPING:
            return None
        if frame.body is None:
            raise _too_long(kind)
        decoded = FRONTEND[frame.type_byte].decode(frame.body)
        if isinstance(decoded, m.PasswordMessage):
            return self._login.handle(decoded)
        assert self._login.backend is not None
        return self._login.backend.handle(decoded)

    def _move(self, trigger: type[m.Startup | m.Frontend]) -> bool:
        """Follow the table; a message that must not come now ends the connection."""
        following = TRANSITIONS[self._state].get(trigger)
        if following is None:
            words = f"unexpected message {trigger.__name__}"
            self._hang_up(Refusal(sqlstate.PROTOCOL_VIOLATION, words))
            return False
        self._state = following
        return True

    def _advance(self, work: Work) -> None:
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            self._resume(lambda: work.throw(interrupt))
        else:
            self._resume(lambda: next(work))

    def _resume(self, step: Callable[[], bytes | Event]) -> None:
        """Let the handler of a message take a step, whatever comes of it."""
        try:
            item = step()
        except StopIteration:
            self._work = None
        except (Refusal, InternalError) as error:
            self._work = None
            self._fail(error)
        except Exception as error:
            self._work = None
            self._wait_for(Fault(error))
        else:
            self._carry_out(item)

    def _carry_out(self, item: bytes | Event) -> None:
        if isinstance(item, bytes):
            self._put(item)
        elif isinstance(item, StartTls):
            self._start_tls(item)
        elif isinstance(item, Ask):
            self._wait_for(item)
        else:
            self._event = item

    def _start_tls(self, event: StartTls) -> None:
        # CVE-2021-23222: bytes behind SSLRequest came in clear, perhaps from someone in between, and would be
        # read as if they had come encrypted. There is no answer that could be trusted: hang up.
        if self._frames.buffered_bytes:
            self._state, self._work = State.CLOSED, None
            self._event = Close()
            return
        self._state = TRANSITIONS[self._state][Signal.TLS_OFFERED]
        self._put(b"S")
        self._wait_for(event)

    def _wait_for(self, event: Event) -> None:
        self._event = event
        self._waiting = True

    def _fail(self, error: Refusal | InternalError) -> None:
        """A message failed: before the log-in is complete that is the end, later an ErrorResponse."""
        backend = self._login.backend
        if backend is None:
            self._hang_up(error)
            return
        self._put(encode(error_response(error)))
        backend.fail()
        self._state = TRANSITIONS[self._state][Signal.ERROR]
        if self._state is State.READY:
            self._put(backend.ready())

    def _hang_up(self, error: Refusal | InternalError) -> None:
        self._put(encode(error_response(error, "FATAL")))
        self._state, self._work = State.CLOSED, None
        self._event = Close()

    def _put(self, data: bytes) -> None:
        if data:
            self._out.append(data)
            self._out_bytes += len(data)

    def _take(self) -> bytes:
        taken = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        return taken


def _shutdown() -> Refusal:
    words = "terminating connection due to administrator command"
    return Refusal(sqlstate.ADMIN_SHUTDOWN, words)


def _too_long(kind: type[m.Frontend]) -> Refusal:
    if kind in (m.Query, m.Parse):
        return Refusal(
            sqlstate.PROGRAM_LIMIT_EXCEEDED,
            "statement too long",
            hint="A statement may have up to 256 kB. Put long lists of values into parameters or a WHERE range.",
        )
    return Refusal(sqlstate.PROGRAM_LIMIT_EXCEEDED, f"message {kind.__name__} too long")
