from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import frame, query

from pgproxy.frames import Frame, FrameReader
from rewriter.refusal import Refusal


def read(reader: FrameReader) -> list[Frame]:
    found = []
    while (next_frame := reader.next_typed()) is not None:
        found.append(next_frame)
    return found


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(1, 20))
def test_frames_are_the_same_in_whatever_pieces(texts: list[bytes], size: int) -> None:
    data = b"".join(frame("Q", text) for text in texts)
    reader, found = FrameReader(), []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        found += read(reader)
    assert found == [Frame(ord("Q"), text) for text in texts]
    assert reader.buffered_bytes == 0


def test_a_body_that_is_too_long_is_dropped_as_it_arrives() -> None:
    reader = FrameReader()
    reader.feed(b"Q" + struct.pack("!I", 10_000_004))
    assert read(reader) == [Frame(ord("Q"), None)]
    for _ in range(1000):
        reader.feed(b"x" * 10_000)
        assert reader.buffered_bytes == 0
    reader.feed(query("a"))
    assert read(reader) == [Frame(ord("Q"), b"a\x00")]


@pytest.mark.parametrize("head", [b"Q\x00\x00\x00\x00", b"Q\x40\x00\x00\x00", b"S\x00\x00\x00\x08", b"?abcd"])
def test_a_length_is_judged_before_the_body_arrives(head: bytes) -> None:
    reader = FrameReader()
    reader.feed(head)
    with pytest.raises(Refusal):
        reader.next_typed()


def test_strangers_may_send_small_messages_only() -> None:
    reader = FrameReader()
    reader.feed(b"Q" + struct.pack("!I", 10_005))
    with pytest.raises(Refusal, match="invalid message length"):
        reader.next_typed(trusted=False)


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 2**32 - 1])
def test_start_up_packets_have_a_sensible_length(length: int) -> None:
    reader = FrameReader()
    reader.feed(struct.pack("!I", length))
    with pytest.raises(Refusal):
        reader.next_startup()
