"""A public worker that an attacker has taken over answers with frames of its own making.

The keeper reads them: an Arrow string whose offsets end beyond its buffer made it copy its own memory, which holds
the vault's secret, into an answer.
"""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

import pyarrow as pa
import pytest

from enclave import codec
from enclave.answer import Answer, Notice, ResultColumn
from enclave.frames import FrameError, header
from enclave.worker import WorkerError, _outcome

GOOD = Answer(
    (ResultColumn("c", 25),),
    pa.table({"c0": pa.array(["aaaaaaaa", "bbbbbbbb"])}),
    "SELECT 2",
    (Notice("dp: x"),),
    (23,),
)
NAN, INFINITY = float("nan"), float("inf")


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_what_was_written_is_read() -> None:
    written, buffers = codec.answer_to_frame(GOOD)
    assert codec.answer_from_frame(json.loads(json.dumps(written)), buffers) == GOOD


@pytest.mark.parametrize("offsets", [(0, 8, 8 + (1 << 16)), (0, 1 << 20, 16), (0, -8, 16), (-64, 8, 16), (16, 8, 0)])
def test_offsets_beyond_a_buffer_are_refused(offsets: tuple[int, ...]) -> None:
    written, (buffer,) = codec.answer_to_frame(GOOD)
    forged = buffer.replace(struct.pack("<3i", 0, 8, 16), struct.pack("<3i", *offsets))
    assert forged != buffer
    with pytest.raises(ValueError, match="not an answer"):
        codec.answer_from_frame(written, [forged])


def test_text_that_is_no_text_is_refused() -> None:
    written, (buffer,) = codec.answer_to_frame(GOOD)
    with pytest.raises(ValueError, match="not an answer"):
        codec.answer_from_frame(written, [buffer.replace(b"aaaaaaaa", b"\xff" * 8)])


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([["a"], ["b"]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"a", b"b"]),
        pa.array([None, None]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
    ],
)
def test_a_column_of_another_kind_is_refused(column: pa.Array[Any]) -> None:
    written, _ = codec.answer_to_frame(GOOD)
    with pytest.raises(ValueError, match="not an answer"):
        codec.answer_from_frame(written, [stream(pa.table({"c0": column}))])


@pytest.mark.parametrize("buffers", [[], [b""], [b"x"], [b"\0" * 4096], [b"\xff" * 4096]])
def test_what_is_no_stream_is_refused(buffers: list[bytes]) -> None:
    written, _ = codec.answer_to_frame(GOOD)
    with pytest.raises(ValueError, match="not an answer"):
        codec.answer_from_frame(written, buffers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("columns", []),
        ("columns", [["c", 25, -1], ["d", 25, -1]]),
        ("columns", [["c", 25]]),
        ("columns", [["c", 2**40, -1]]),
        ("columns", [["c", NAN, -1]]),
        ("columns", [[["c"], 25, -1]]),
        ("columns", [["c", True, -1]]),
        ("columns", None),
        ("tag", 3),
        ("notices", [["x", "FATAL", "00000"]]),
        ("notices", [["x", ["NOTICE"], "00000"]]),
        ("notices", {"a": 1}),
        ("parameter_types", [INFINITY]),
        ("parameter_types", "ab"),
    ],
)
def test_a_header_of_another_form_is_refused(name: str, value: Any) -> None:
    written, buffers = codec.answer_to_frame(GOOD)
    forged = copy.deepcopy(written)
    forged[name] = value
    with pytest.raises(ValueError, match="not an answer"):
        codec.answer_from_frame(forged, buffers)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"buffers": [-1]}', b'{"buffers": [true]}', b"[" * 100_000])
def test_a_frames_header_is_an_object_that_lists_its_buffers(text: bytes) -> None:
    with pytest.raises(FrameError):
        header(text)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"failed": 1},
        {"refusal": {}},
        {"refusal": {"sqlstate": "4200", "message": "x", "hint": None, "position": None, "detail": None}},
        {"refusal": {"sqlstate": "42000", "message": 3, "hint": None, "position": None, "detail": None}},
    ],
)
def test_a_reply_of_no_known_form_ends_its_worker(reply: dict[str, Any]) -> None:
    with pytest.raises(WorkerError):
        _outcome(reply, (), "id")
