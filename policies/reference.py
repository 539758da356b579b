"""reference: the model -> docs/policy.md. Run `python -m policies.reference` after changing a field or a rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from policies import checks, weak
from policies.fields import Says
from policies.model import (
    Analyst,
    Answers,
    Budget,
    Column,
    Owner,
    Policy,
    Role,
    Room,
    Rules,
    Synthetic,
    Table,
    Test,
    Unit,
    UnitRef,
)

PAGE: Final = Path(__file__).parent.parent / "docs" / "policy.md"

SECTIONS: Final[tuple[tuple[str, type[Rules]], ...]] = (
    ("[room]", Room),
    ("[owners.NAME]", Owner),
    ("[units.NAME]", Unit),
    ("[tables.NAME]", Table),
    ("unit = { ... }", UnitRef),
    ("[tables.NAME.columns]", Column),
    ("[budgets.UNIT]", Budget),
    ("[roles.NAME]", Role),
    ("[analysts.NAME]", Analyst),
    ("[answers]", Answers),
    ("[synthetic]", Synthetic),
    ("[test]", Test),
)

_INTRODUCTION: Final = """# The policy

*Made by `python -m policies.reference` from policies/model.py; change that instead.*

A policy is what the owners of a room agree on: whose data, whom privacy protects, who may ask and how much. People
write it as [TOML](https://toml.io/en/v1.0.0). `cleanroom policy check FILE` names every mistake with its line and
warns of weak choices. An unknown field is an error, because a rule that is not understood is not enforced.

Numbers that matter for privacy are exact: `"0.1"` and `0.1` are both one tenth. The owners sign the SHA-256 of the
policy's canonical form, in which comments of the TOML and defaults left out make no difference, and the order of
tables and columns does.

Start from `policies/examples/hospital.toml` or `bank.toml`; `everything.toml` uses every field.
"""
_PLAIN: Final = {str: "text", bool: "true or false", int: "whole number", Rules: "table"}


def page() -> str:
    """Write the whole page."""
    parts = [_INTRODUCTION]
    parts += [_section(heading, model) for heading, model in SECTIONS]
    parts.append("## What is checked\n\n" + _bullets(checks.CHECKS))
    parts.append("## What is warned of\n\n" + _bullets(weak.CHECKS))
    return "\n".join(parts)


def described() -> frozenset[type[Rules]]:
    """Name the models on the page, which must be all that a policy is made of."""
    return frozenset(model for _, model in SECTIONS) | {Policy}


def _section(heading: str, model: type[Rules]) -> str:
    lines = [f"## `{heading}`", "", _one_line(inspect.getdoc(model) or ""), ""]
    lines += ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        cells = (f"`{name}`", _words(info), _default(info), _one_line(info.description or ""))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _words(info: FieldInfo) -> str:
    said = [item.words for item in info.metadata if isinstance(item, Says)]
    return said[0] if said else _type_words(info.annotation)


def _type_words(annotation: Any) -> str:
    said = [item.words for item in getattr(annotation, "__metadata__", ()) if isinstance(item, Says)]
    if said:
        return said[0]
    arguments = [argument for argument in get_args(annotation) if argument not in (type(None), Ellipsis)]
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f'`"{argument}"`' for argument in arguments)
    if origin is tuple:
        return ("two" if len(get_args(annotation)) == len(arguments) else "list") + f": {_type_words(arguments[0])}"
    if origin is dict:
        return f"{_type_words(arguments[1])}, by name"
    if arguments:
        return _type_words(arguments[0])
    return next((words for base, words in _PLAIN.items() if issubclass(annotation, base)), "")


def _default(info: FieldInfo) -> str:
    match info.default:
        case _ if info.default is PydanticUndefined:
            return "demanded"
        case None | "" | () | {}:
            return ""
        case bool():
            return f"`{str(info.default).lower()}`"
        case _:
            return f'`"{info.default}"`'


def _bullets(functions: Iterable[Callable[..., Iterator[Any]]]) -> str:
    return "".join(f"- {_one_line(inspect.getdoc(function) or '')}\n" for function in functions)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
