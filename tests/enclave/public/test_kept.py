"""Results kept by the size of what they were made from."""

from __future__ import annotations

import pytest

from enclave.public.kept import Kept


class Made:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __call__(self, *arguments: object) -> tuple[object, ...]:
        self.calls.append(arguments)
        if "bad" in arguments:
            raise ValueError("no")
        return arguments


def test_a_result_is_made_once() -> None:
    made = Made()
    kept = Kept(made)
    assert kept("a", (1, "x")) is kept("a", (1, "x"))
    assert kept("a", (2, "x")) == ("a", (2, "x"))
    assert len(made.calls) == 2


def test_the_oldest_go_when_texts_are_too_long_together() -> None:
    made = Made()
    kept = Kept(made, chars_max=300)
    for text in ("a" * 100, "b" * 100, "a" * 100, "c" * 100, "a" * 100, "b" * 100):
        kept(text)
    assert [call[0][0] for call in made.calls if isinstance(call[0], str)] == ["a", "b", "c", "b"]


def test_what_is_too_long_by_itself_is_not_kept() -> None:
    made = Made()
    kept = Kept(made, chars_max=100)
    assert kept("a" * 200) == kept("a" * 200)
    assert len(made.calls) == 2
    assert not kept._results
    assert kept._chars == 0


def test_short_texts_are_bounded_in_number() -> None:
    kept = Kept(Made(), chars_max=3_200)
    for number in range(1_000):
        kept(number)
    assert len(kept._results) == 100


def test_a_failure_is_not_kept() -> None:
    made = Made()
    kept = Kept(made)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            kept("bad")
    assert len(made.calls) == 2
    assert kept._chars == 0
