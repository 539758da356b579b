"""problem: what is wrong with a policy, where it stands and how it is said."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

Path = tuple[str | int, ...]
"""Keys from the top of a policy down to one field; list items by their index, from 0."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake before its line is known.

    Attributes:
        path: the field to change.
        message: a sentence without a full stop: what is wrong and, where that helps, what would be right.
        reads: other fields the verdict rests on. Where one of them is itself malformed, nothing can be said.
    """

    path: Path
    message: str
    reads: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake at a line, counted from 1; 0 where the policy did not come from a text."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.line}: {self.field}: {self.message}" if self.field else f"{self.line}: {self.message}"


class PolicyError(ValueError):
    """A text that is not a policy.

    Attributes:
        problems: every mistake found, by line.
        filename: what the text is called in messages.
    """

    def __init__(self, problems: Iterable[Problem], filename: str = "policy") -> None:
        """Keep the mistakes apart; the exception's own text has one line for each."""
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.field)))
        self.filename = filename
        super().__init__("\n".join(f"{filename}:{problem}" for problem in self.problems))


def dotted(path: Path) -> str:
    """Spell a path as TOML would, with list items in brackets: `tables.visits.key[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else f'"{part}"')
    return text
