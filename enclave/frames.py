"""frames: a header and buffers <-> bytes on the socket pair between keeper and child.

A frame, either way: the length of a header (4 bytes, big-endian), the header (a JSON object), and the buffers whose
lengths the header lists under "buffers". Never pickle: a broken child may send what it likes, so the keeper believes
nothing but this form.

    keeper -> child   {"call": n, "method": m, "params": JSON, "error_id": id}      {"cancel": n}
    child -> keeper   {"call": n, "value": JSON}   {"call": n, "refusal": {...}}    {"call": n, "failed": true}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

HEADER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Values and plans are far smaller; a million noisy integers of a release still fit."""

BUFFER_BYTES_MAX: Final = 1024 * 1024 * 1024
"""All buffers of one frame together: what the keeper is ready to hold for one reply."""

BUFFERS_MAX: Final = 4096
"""Buffers of one frame: one a table or column is plenty, and each costs an object."""

LENGTH_BYTES: Final = 4

JSON: TypeAlias = Any
"""What json.dumps takes without NaN and infinities. A tree type would make each caller cast at every step."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class WorkerError(Exception):
    """A call did not come to an answer for reasons that are not in the question."""


class FrameError(WorkerError):
    """A frame is over a limit or malformed. The message names the limit and nothing of the content."""


def frame(fields: dict[str, JSON], buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """Write a frame, as the pieces to send. Raises FrameError over a limit, ValueError for what is no JSON."""
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    lengths = _checked([len(view) for view in views])
    text = json.dumps({**fields, "buffers": lengths}, allow_nan=False, separators=(",", ":")).encode()
    return [_checked_length(len(text)).to_bytes(LENGTH_BYTES, "big") + text, *views]


def length(prefix: Buffer) -> int:
    """Read a header's length from the frame's first LENGTH_BYTES bytes."""
    return _checked_length(int.from_bytes(prefix, "big"))


def _checked_length(size: int) -> int:
    if size > HEADER_BYTES_MAX:
        raise FrameError(f"a header is longer than {HEADER_BYTES_MAX} bytes")
    return size


def header(text: bytes | bytearray) -> tuple[dict[str, JSON], list[int]]:
    """Read a header and the lengths of the buffers that follow it."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or not isinstance(lengths := fields.get("buffers"), list):
        raise FrameError("a header is not a JSON object that lists its buffers")
    return fields, _checked(lengths)


def _checked(lengths: list[int]) -> list[int]:
    if not all(type(size) is int and size >= 0 for size in lengths):
        raise FrameError("the length of a buffer is not a number")
    if len(lengths) > BUFFERS_MAX or sum(lengths) > BUFFER_BYTES_MAX:
        raise FrameError(f"there are more than {BUFFERS_MAX} buffers or {BUFFER_BYTES_MAX} bytes of them")
    return lengths
