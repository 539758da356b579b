"""lines: TOML text -> the line on which each key stands, because tomllib keeps none."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.problem import Path

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_REST_OF_LINE: Final = re.compile(r"[^\n]*")
# TOML 1.0, String: a multi-line string may end in one or two quotes of its own before the closing three.
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
# Everything else: numbers, booleans, and dates, whose two halves a space may part.
_BARE: Final = re.compile(r"[^,\]}#\n]+")
_KEY: Final = re.compile(r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_-]+|[ \t]*\.[ \t]*)+""")


@dataclass(frozen=True, slots=True)
class Lines:
    """The line of every key, table header and list item of one text, counted from 1."""

    at: Mapping[Path, int] = field(default_factory=dict)

    def of(self, path: Path) -> int:
        """Give the line of a field, or of the nearest thing around it that stands in the text, or 0."""
        around = (path[:length] for length in range(len(path), -1, -1))
        return next((self.at[place] for place in around if place in self.at), 0)


def index(text: str) -> Lines:
    """Find the line of every key path.

    Args:
        text: TOML that tomllib has accepted; nothing is verified again.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return Lines(scanner.at)


class _Scanner:
    """One pass over the text. `pos` is the offset of the next character, `at` what was found so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.at: dict[Path, int] = {(): 1}
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lists: dict[Path, int] = {}

    def document(self) -> None:
        prefix: Path = ()
        self._match(_BLANK)
        while self.pos < len(self.text):
            if self.text[self.pos] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._match(_REST_OF_LINE)
            self._match(_BLANK)

    def _header(self) -> Path:
        repeated = self.text.startswith("[[", self.pos)
        line = self._line()
        self.pos += 2 if repeated else 1
        self._match(_SPACE)
        path = self._inside_lists(self._key(), repeated)
        self._note(path, line)
        return path

    def _inside_lists(self, keys: tuple[str, ...], repeated: bool) -> Path:
        """TOML 1.0, Array of Tables: `[a.b]` after `[[a]]` speaks of the last element of `a`."""
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if repeated and position == len(keys) - 1:
                self._lists[path] = self._lists.get(path, -1) + 1
            if path in self._lists:
                path = (*path, self._lists[path])
        return path

    def _pair(self, prefix: Path) -> None:
        line = self._line()
        path = (*prefix, *self._key())
        self._note(path, line)
        self._match(_SPACE)
        self.pos += 1  # the equals sign
        self._match(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        match self.text[self.pos : self.pos + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._match(_STRING)
            case _:
                self._match(_BARE)

    def _array(self, path: Path) -> None:
        position = 0
        while self._another("]"):
            self._note((*path, position), self._line())
            self._value((*path, position))
            position += 1

    def _inline_table(self, path: Path) -> None:
        while self._another("}"):
            self._pair(path)

    def _another(self, end: str) -> bool:
        """Step over the bracket or comma before an item; False when the list ends here instead."""
        self._match(_BLANK)
        if self.text[self.pos : self.pos + 1] not in (end, ""):
            self.pos += 1
            self._match(_BLANK)
        if self.text[self.pos : self.pos + 1] not in (end, ""):
            return True
        self.pos += 1
        return False

    def _key(self) -> tuple[str, ...]:
        text = self._match(_KEY)
        parts: list[str] = []
        level: object = tomllib.loads(f"{text} = 0")  # tomllib knows the escapes of quoted keys
        while isinstance(level, dict):
            ((key, level),) = level.items()
            parts.append(key)
        return tuple(parts)

    def _note(self, path: Path, line: int) -> None:
        for length in range(1, len(path)):
            self.at.setdefault(path[:length], line)
        # A header may come after its own children ([a.b] then [a]): the header is the better place.
        self.at[path] = line

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.pos)
        if match is None:
            raise ValueError("the text is not TOML")
        self.pos = match.end()
        return match[0]

    def _line(self) -> int:
        return bisect_left(self._newlines, self.pos) + 1
