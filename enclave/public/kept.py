"""kept: a function of texts -> the same function, which remembers the last results while they are small together.

A parsed statement takes some 170 times its text (measured). Counting statements alone, as functools.lru_cache does,
lets an analyst fill the machine with two thousand long ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

CHARS_MAX: Final = 1_000_000
"""Of all arguments kept: some 170 MB of trees, and twice that where plans are kept too."""

R = TypeVar("R")


class Kept(Generic[R]):
    """A function whose last results are kept; what it raises is not."""

    def __init__(self, function: Callable[..., R], chars_max: int = CHARS_MAX) -> None:
        """Take a function of hashable arguments; `chars_max` bounds the texts in them, all results together."""
        self._function = function
        self._chars_max = chars_max
        self._results: OrderedDict[tuple[Hashable, ...], R] = OrderedDict()
        self._chars = 0

    def __call__(self, *arguments: Hashable) -> R:
        """The function's result, made now or before."""
        if arguments in self._results:
            self._results.move_to_end(arguments)
            return self._results[arguments]
        result = self._results[arguments] = self._function(*arguments)
        self._chars += _chars(arguments)
        while self._chars > self._chars_max:
            oldest, _ = self._results.popitem(last=False)
            self._chars -= _chars(oldest)
        return result


def _chars(value: object) -> int:
    """About how much text is in a value; short ones count too."""
    if isinstance(value, tuple):
        return 32 + sum(map(_chars, value))
    return len(value) if isinstance(value, str) else 0
