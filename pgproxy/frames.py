"""frames: a stream of bytes -> frames, whatever the pieces it arrives in.

A frame is an optional type byte, an Int32 length that counts itself, and a body (Postgres docs, "Protocol
Overview"). Lengths are judged before a body is waited for, and a body that is too long is dropped as it
arrives: what a client makes us hold is bounded by the limit of the type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pgproxy import codec, sqlstate
from rewriter.refusal import Refusal

FRAME_BYTES_MAX: Final = 0x3FFFFFFF
"""PQ_LARGE_MESSAGE_LIMIT, MaxAllocSize - 1: Postgres hangs up on longer frames, skippable or not."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `type_byte` is None before the session has started; `body` is None if it was too long."""

    type_byte: int | None
    body: bytes | None


class FrameReader:
    """Cuts what is fed to it into frames."""

    __slots__ = ("_buffer", "_skip_bytes")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes held and not yet read as a frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
        self._buffer += data

    def next_startup(self) -> Frame | None:
        """The next frame without a type byte, or None if it has not arrived.

        Raises:
            Refusal: 08P01, the length is below 8 or above what is allowed before authentication.
        """
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if not 8 <= length <= codec.SMALL_BYTES_MAX:
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid length of startup packet")
        body = self._cut(4, length)
        return None if body is None else Frame(None, body)

    def next_typed(self, *, trusted: bool = True) -> Frame | None:
        """The next frame with a type byte, or None if it has not arrived.

        Args:
            trusted: the client has logged in; before that every message is small.

        Raises:
            Refusal: 08P01, the type is unknown or the length impossible; nothing more can be read.
        """
        if len(self._buffer) < 5:
            return None
        type_byte = self._buffer[0]
        found = codec.FRONTEND.get(type_byte)
        if found is None:
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, f"invalid frontend message type {type_byte}")
        length = int.from_bytes(self._buffer[1:5], "big")
        bytes_max = found.bytes_max if trusted else min(found.bytes_max, codec.SMALL_BYTES_MAX)
        if trusted and found.skippable and length > bytes_max + 4 and length <= FRAME_BYTES_MAX:
            self._skip(length + 1)
            return Frame(type_byte, None)
        if not 4 <= length <= bytes_max + 4:
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid message length")
        body = self._cut(5, length + 1)
        return None if body is None else Frame(type_byte, body)

    def _cut(self, start: int, stop: int) -> bytes | None:
        if len(self._buffer) < stop:
            return None
        body = bytes(self._buffer[start:stop])
        del self._buffer[:stop]
        return body

    def _skip(self, count: int) -> None:
        skipped = min(count, len(self._buffer))
        del self._buffer[:skipped]
        self._skip_bytes = count - skipped
