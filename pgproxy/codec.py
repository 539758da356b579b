"""codec: bytes <-> Postgres messages. One table for each direction, a length limit for each type.

Decoding is strict: a body is used up to its last byte, and counts fit what is there. What is wrong with a
body is a Refusal with Postgres' words; what is wrong with the framing around it is for frames.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pgproxy import messages as m
from pgproxy import sqlstate
from rewriter.refusal import Refusal

SQL_BYTES_MAX: Final = 256 * 1024
"""SQL text of one message: the cost of reading it grows with it, and no tool types that much."""
SMALL_BYTES_MAX: Final = 10_000
"""Messages of names and flags, and all before authentication (PQ_SMALL_MESSAGE_LIMIT in libpq.h)."""
PARSE_BYTES_MAX: Final = SQL_BYTES_MAX + SMALL_BYTES_MAX
"""A Parse has a name and parameter types beside its text."""
BIND_BYTES_MAX: Final = 1024 * 1024
"""All values of one Bind. Values are compared and hashed, never stored: a megabyte is generous."""
NAME_BYTES_MAX: Final = 1024
"""Names of statements and portals; Postgres cuts at 63, drivers stay below 100."""
STARTUP_PARAMETERS_MAX: Final = 100
"""Start-up parameters; drivers send fewer than ten."""

PROTOCOL_3_0: Final = 3 << 16
CANCEL_CODE: Final = 80877102
SSL_CODE: Final = 80877103
GSSENC_CODE: Final = 80877104

_FIELD: Final = struct.Struct("!IhIhih")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Codec:
    """How one frontend message is read.

    Attributes:
        message: what it becomes.
        bytes_max: longest body, in bytes.
        decode: body -> message; raises Refusal.
        skippable: True where a longer body is skipped with an error, False where it ends the connection.
    """

    message: type[m.Frontend]
    bytes_max: int
    decode: Callable[[bytes], m.Frontend]
    skippable: bool = False


def decode_startup(body: bytes) -> m.Startup:
    """Read a packet without a type byte: SSLRequest, GSSENCRequest, CancelRequest or StartupMessage.

    Raises:
        Refusal: 08P01, the layout is wrong.
    """
    reader = _Reader(body)
    code = reader.uint32()
    if code == CANCEL_CODE:
        process_id = reader.int32()
        return m.CancelRequest(process_id, reader.rest())
    if code == SSL_CODE:
        return reader.end(m.SSLRequest())
    if code == GSSENC_CODE:
        return reader.end(m.GSSENCRequest())
    if code >> 16 != PROTOCOL_3_0 >> 16:
        # What follows is laid out by rules we do not know.
        return m.StartupMessage(code, ())
    return m.StartupMessage(code, tuple(_startup_parameters(reader)))


def decode_sasl_initial(body: bytes) -> tuple[str, bytes]:
    """Read SASLInitialResponse: the mechanism and the client's first message (b"" where absent).

    Raises:
        Refusal: 08P01, the layout is wrong.
    """
    reader = _Reader(body)
    mechanism = reader.text()
    length = reader.int32()
    return reader.end((mechanism, b"" if length == -1 else reader.take(length)))


def encode(message: m.Backend) -> bytes:
    """Turn a backend message into a frame: type byte, Int32 length that counts itself, body."""
    if isinstance(message, m.Bare):
        return message.type_byte + b"\x00\x00\x00\x04"
    type_byte, encoder = BACKEND[type(message)]
    body: bytes = encoder(message)
    return type_byte + struct.pack("!I", len(body) + 4) + body


class _Reader:
    """Takes a body apart from front to back."""

    __slots__ = ("_body", "_offset")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._offset = 0

    def take(self, count: int) -> bytes:
        stop = self._offset + count
        if count < 0 or stop > len(self._body):
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "insufficient data left in message")
        taken = self._body[self._offset : stop]
        self._offset = stop
        return taken

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def counted(self, size: int, signed: bool = True) -> tuple[int, ...]:
        """An Int16 count, and that many integers of `size` bytes."""
        taken = self.take(self.uint16() * size)
        return tuple(int.from_bytes(taken[i : i + size], "big", signed=signed) for i in range(0, len(taken), size))

    def value(self) -> bytes | None:
        """An Int32 length, -1 for NULL, and that many bytes."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def text(self) -> str:
        stop = self._body.find(b"\x00", self._offset)
        if stop < 0:
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid string in message")
        raw = self._body[self._offset : stop]
        self._offset = stop + 1
        return utf8(raw)

    def name(self) -> str:
        name = self.text()
        if len(name) > NAME_BYTES_MAX:
            raise Refusal(sqlstate.PROGRAM_LIMIT_EXCEEDED, "name of statement or portal too long")
        return name

    def kind(self) -> str:
        byte = self.take(1)
        if byte not in (b"S", b"P"):
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid message subtype")
        return byte.decode("ascii")

    def rest(self) -> bytes:
        taken = self._body[self._offset :]
        self._offset = len(self._body)
        return taken

    def at_end(self) -> bool:
        return self._offset == len(self._body)

    def end(self, result: T) -> T:
        """The message, once nothing is left over."""
        if not self.at_end():
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid message format")
        return result


def utf8(raw: bytes) -> str:
    """Decode text from a client.

    Raises:
        Refusal: 22021 in Postgres' words; it names the first bad byte.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_utf8(raw[error.start]) from None


def bad_utf8(byte: int) -> Refusal:
    """The refusal for a byte that UTF-8, or Postgres (NUL), does not allow there."""
    words = f'invalid byte sequence for encoding "UTF8": 0x{byte:02x}'
    return Refusal(sqlstate.CHARACTER_NOT_IN_REPERTOIRE, words)


def _startup_parameters(reader: _Reader) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    while name := reader.text():
        if len(found) == STARTUP_PARAMETERS_MAX:
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "too many start-up parameters")
        found.append((name, reader.text()))
    return reader.end(found)


def _query(body: bytes) -> m.Query:
    reader = _Reader(body)
    return reader.end(m.Query(reader.text()))


def _parse(body: bytes) -> m.Parse:
    reader = _Reader(body)
    return reader.end(m.Parse(reader.name(), reader.text(), reader.counted(4, signed=False)))


def _bind(body: bytes) -> m.Bind:
    reader = _Reader(body)
    portal, statement, formats = reader.name(), reader.name(), reader.counted(2)
    values = tuple(reader.value() for _ in range(reader.uint16()))
    return reader.end(m.Bind(portal, statement, formats, values, reader.counted(2)))


def _describe(body: bytes) -> m.Describe:
    reader = _Reader(body)
    return reader.end(m.Describe(reader.kind(), reader.name()))


def _close(body: bytes) -> m.Close:
    reader = _Reader(body)
    return reader.end(m.Close(reader.kind(), reader.name()))


def _execute(body: bytes) -> m.Execute:
    reader = _Reader(body)
    # Postgres docs, Execute: zero denotes "no limit"; exec_execute_message treats negative numbers alike.
    return reader.end(m.Execute(reader.name(), max(0, reader.int32())))


def _empty(message: m.Frontend) -> Codec:
    return Codec(type(message), 0, lambda _: message)


FRONTEND: Final[dict[int, Codec]] = {
    ord("Q"): Codec(m.Query, SQL_BYTES_MAX + 1, _query, skippable=True),
    ord("P"): Codec(m.Parse, PARSE_BYTES_MAX, _parse, skippable=True),
    ord("B"): Codec(m.Bind, BIND_BYTES_MAX, _bind, skippable=True),
    ord("D"): Codec(m.Describe, SMALL_BYTES_MAX, _describe),
    ord("E"): Codec(m.Execute, SMALL_BYTES_MAX, _execute),
    ord("C"): Codec(m.Close, SMALL_BYTES_MAX, _close),
    ord("H"): _empty(m.Flush()),
    ord("S"): _empty(m.Sync()),
    ord("X"): _empty(m.Terminate()),
    ord("p"): Codec(m.PasswordMessage, SMALL_BYTES_MAX, m.PasswordMessage),
    ord("F"): Codec(m.FunctionCall, SMALL_BYTES_MAX, lambda _: m.FunctionCall(), skippable=True),
    ord("d"): Codec(m.CopyFrontend, 0, lambda _: m.CopyFrontend(), skippable=True),
    ord("c"): _empty(m.CopyFrontend()),
    ord("f"): Codec(m.CopyFrontend, SMALL_BYTES_MAX, lambda _: m.CopyFrontend()),
}
"""Every typed message a client may send."""


def _text(text: str) -> bytes:
    # A NUL would end the field early and let the rest pass for fields of its own.
    return text.replace("\x00", "").encode("utf-8", "replace") + b"\x00"


def _fields(message: m.ErrorResponse | m.NoticeResponse) -> bytes:
    return b"".join(letter.encode("ascii") + _text(value) for letter, value in message.fields) + b"\x00"


def _row_description(message: m.RowDescription) -> bytes:
    # Table OID and column number are 0: no field is a plain column of a table.
    fields = (
        _text(f.name) + _FIELD.pack(0, 0, f.type_oid, f.type_bytes, f.typmod, f.format_code) for f in message.fields
    )
    return struct.pack("!H", len(message.fields)) + b"".join(fields)


def _negotiate(message: m.NegotiateProtocolVersion) -> bytes:
    # The page says "newest minor version"; Postgres sends, and libpq 18 expects, major << 16 | minor.
    options = b"".join(map(_text, message.unknown_options))
    return struct.pack("!II", message.version, len(message.unknown_options)) + options


def _parameter_description(message: m.ParameterDescription) -> bytes:
    return struct.pack(f"!H{len(message.type_oids)}I", len(message.type_oids), *message.type_oids)


BACKEND: Final[dict[type[m.Backend], tuple[bytes, Callable[[Any], bytes]]]] = {
    m.Authentication: (b"R", lambda message: struct.pack("!I", message.code) + message.data),
    m.NegotiateProtocolVersion: (b"v", _negotiate),
    m.BackendKeyData: (b"K", lambda message: struct.pack("!i", message.process_id) + message.secret_key),
    m.ParameterStatus: (b"S", lambda message: _text(message.name) + _text(message.value)),
    m.ReadyForQuery: (b"Z", lambda message: message.status.encode("ascii")),
    m.RowDescription: (b"T", _row_description),
    m.ParameterDescription: (b"t", _parameter_description),
    m.CommandComplete: (b"C", lambda message: _text(message.tag)),
    m.ErrorResponse: (b"E", _fields),
    m.NoticeResponse: (b"N", _fields),
}
"""Every message we send but DataRow, which values.py builds by column, and those without a body."""
