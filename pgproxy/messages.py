"""messages: Postgres messages as values; codec.py turns them into bytes and back.

Names and layouts follow the Postgres documentation, chapter "Frontend/Backend Protocol", "Message Formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Start-up: these have no type byte.


@dataclass(frozen=True, slots=True)
class SSLRequest:
    """May we speak TLS?"""


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    """May we speak GSSAPI encryption?"""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Stop what the session with this key is running."""

    process_id: int
    secret_key: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Protocol version (major << 16 | minor) and parameters, in the order sent."""

    version: int
    parameters: tuple[tuple[str, str], ...]


# Frontend.


@dataclass(frozen=True, slots=True)
class PasswordMessage:
    """SASLInitialResponse or SASLResponse: which of them, the state of the session tells."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """Simple query: any number of statements."""

    text: str


@dataclass(frozen=True, slots=True)
class Parse:
    """Prepare `text` under `name` ("": unnamed)."""

    name: str
    text: str
    parameter_types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """Give a prepared statement its values; formats are 0 (text) or 1 (binary): none, one or all."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask for the shape of a statement (kind "S") or of a portal ("P")."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a portal; `rows_max` 0 is all of them."""

    portal: str
    rows_max: int


@dataclass(frozen=True, slots=True)
class Close:
    """Forget a statement ("S") or a portal ("P")."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Send what there is."""


@dataclass(frozen=True, slots=True)
class Sync:
    """End of a batch of extended-query messages."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Good-bye."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The legacy fast-path call; refused, so its body is not read."""


@dataclass(frozen=True, slots=True)
class CopyFrontend:
    """CopyData, CopyDone or CopyFail outside COPY: dropped unread."""


Startup = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage
Frontend = (
    PasswordMessage
    | Query
    | Parse
    | Bind
    | Describe
    | Execute
    | Close
    | Flush
    | Sync
    | Terminate
    | FunctionCall
    | CopyFrontend
)


# Backend.


@dataclass(frozen=True, slots=True)
class Authentication:
    """AuthenticationOk (0), AuthenticationSASL (10), SASLContinue (11), SASLFinal (12)."""

    code: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """The newest version we speak, and the `_pq_.` options we do not know."""

    version: int
    unknown_options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    """What a CancelRequest must repeat."""

    process_id: int
    secret_key: bytes


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """A setting that clients want to follow."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """I: idle, T: in a transaction, E: in a failed one."""

    status: str


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One field of RowDescription; without table and column number, which are always 0 here."""

    name: str
    type_oid: int
    type_bytes: int
    typmod: int
    format_code: int


@dataclass(frozen=True, slots=True)
class RowDescription:
    """The columns that follow."""

    fields: tuple[FieldDescription, ...]


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """The type of each `$n`."""

    type_oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CommandComplete:
    """The tag of a finished statement."""

    tag: str


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """Fields by their letters; see "Error and Notice Message Fields"."""

    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NoticeResponse:
    """As ErrorResponse, and nothing failed."""

    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Bare:
    """A message without a body."""

    type_byte: bytes


PARSE_COMPLETE: Final = Bare(b"1")
BIND_COMPLETE: Final = Bare(b"2")
CLOSE_COMPLETE: Final = Bare(b"3")
NO_DATA: Final = Bare(b"n")
PORTAL_SUSPENDED: Final = Bare(b"s")
EMPTY_QUERY_RESPONSE: Final = Bare(b"I")

Backend = (
    Authentication
    | NegotiateProtocolVersion
    | BackendKeyData
    | ParameterStatus
    | ReadyForQuery
    | RowDescription
    | ParameterDescription
    | CommandComplete
    | ErrorResponse
    | NoticeResponse
    | Bare
)
