"""events: what a session asks of the shell around it, and how it words failures."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from enclave.answer import Answer, Notice, Question
from pgproxy import sqlstate
from pgproxy.messages import ErrorResponse, NoticeResponse
from rewriter.refusal import InternalError, Refusal


@dataclass(frozen=True, slots=True)
class StartTls:
    """Begin the TLS handshake; `tls_started` goes on."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Interrupt the session with this key, if there is one; the connection that asked gets no answer."""

    process_id: int
    secret_key: bytes


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The log-in is complete: its time limit is over."""

    user: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Put a question to the room; `answered` or `failed` goes on. `timeout_ms` 0 is without end."""

    question: Question
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A bug of ours: log it without its words, then go on with `failed(InternalError(id))`."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Close:
    """Send what there is and hang up."""


Event = StartTls | Cancel | Authenticated | Ask | Fault | Close

Work = Generator[bytes | Event, Answer | None, None]
"""The handling of one message: yields bytes and events, and is sent the Answer to each Ask."""


def error_response(error: Refusal | InternalError, severity: Literal["ERROR", "FATAL"] = "ERROR") -> ErrorResponse:
    """An ErrorResponse with the fields that Postgres sends and psql, Superset and Metabase read."""
    if isinstance(error, InternalError):
        error = Refusal(sqlstate.INTERNAL_ERROR, str(error))
    fields = [("S", severity), ("V", severity), ("C", error.sqlstate), ("M", error.message)]
    if error.detail is not None:
        fields.append(("D", error.detail))
    if error.hint is not None:
        fields.append(("H", error.hint))
    if error.position is not None:
        fields.append(("P", str(error.position)))
    return ErrorResponse(tuple(fields))


def notice_response(notice: Notice) -> NoticeResponse:
    """A NoticeResponse, as it stands."""
    severity = notice.severity
    return NoticeResponse((("S", severity), ("V", severity), ("C", notice.sqlstate), ("M", notice.message)))
