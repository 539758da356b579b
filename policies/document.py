"""document: the TOML that people write -> a policy, or every mistake with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from policies import checks, lines, weak
from policies.lines import Lines
from policies.model import Policy
from policies.problem import Finding, Path, PolicyError, Problem, dotted

__all__ = ["Document", "PolicyError", "Problem", "load", "parse", "read", "validate", "warnings"]

TEXT_BYTES_MAX: Final = 4 * 2**20
"""A policy is read by people; this is a bound on the work, not a wish."""
DEPTH_MAX: Final = 16
"""Twice what a policy needs; dotted keys nest without any bracket, so tomllib does not stop them."""
_MENDINGS_MAX: Final = 8
"""Each round gives a field a stand-in or removes it; a policy is at most six levels deep."""
_LINE: Final = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)
_WORDS: Final = {
    "missing": "is missing",
    "string_type": "must be a text in quotes",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "too_short": "has too few items",
    "too_long": "has too many items",
}
# What a malformed field becomes, if it is demanded, so that the rest can still be checked. What is said because of
# these is dropped again.
_STAND_INS: Final[Mapping[str, object]] = {
    "room": {"name": "room", "version": 1, "environment": "development"},
    "name": "name",
    "version": 1,
    "environment": "development",
    "columns": {},
    "type": "text",
    "delta": Decimal("1e-6"),
    "tables": (),
    "epsilon": Decimal(1),
    "query_epsilon": Decimal(1),
    "role": "role",
}


@dataclass(frozen=True, slots=True)
class Document:
    """A policy together with the lines it came from."""

    policy: Policy
    lines: Lines

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Weak choices, with their lines."""
        return warnings(self.policy, self.lines)


def read(text: str, filename: str = "policy") -> Policy:
    """Read a policy.

    Args:
        text: TOML 1.0.
        filename: what messages call it.

    Raises:
        PolicyError: with every mistake, not the first alone.
    """
    return parse(text, filename).policy


def load(path: str | FilePath) -> Policy:
    """Read a policy from a file.

    Raises:
        OSError: it cannot be read.
        PolicyError: as `read`.
    """
    return parse(decode(FilePath(path).read_bytes(), str(path)), str(path)).policy


def parse(text: str, filename: str = "policy") -> Document:
    """Read a policy and keep its lines.

    Raises:
        PolicyError: as `read`.
    """
    try:
        if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
            raise PolicyError([Problem(1, "", f"a policy has at most {TEXT_BYTES_MAX} bytes")], filename)
        raw = _with_tuples(tomllib.loads(text, parse_float=_exact))
        where = lines.index(text)
    except PolicyError:
        raise
    except RecursionError:
        raise PolicyError([Problem(1, "", "lists or tables are nested too deeply")], filename) from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError([_syntax(str(error), text)], filename) from None
    except ValueError:
        raise PolicyError([_too_long(text)], filename) from None
    return Document(validate(raw, where, filename), where)


def decode(content: bytes, filename: str = "policy") -> str:
    """Read bytes as UTF-8, which TOML is.

    Raises:
        PolicyError: they are not.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError([Problem(line, "", "is not UTF-8")], filename) from None


def validate(raw: dict[str, Any], where: Lines, filename: str = "policy") -> Policy:
    """Make a policy of parsed TOML: tables as dict, lists as tuple, numbers exact, dates as dates.

    What is malformed is reported and set aside, then the rest is checked against itself, so that one typing
    error does not hide the other mistakes.

    Raises:
        PolicyError: with every mistake.
    """
    try:
        policy = Policy.model_validate(raw)
        findings = list(checks.contradictions(policy))
    except ValidationError as error:
        findings = [_finding(details) for details in error.errors(include_url=False)]
        findings += _among_the_rest(raw)
    if findings:
        raise PolicyError(_problems(findings, where), filename)
    return policy


def warnings(policy: Policy, where: Lines | None = None) -> tuple[Problem, ...]:
    """Name choices that are allowed and unwise; `where` gives them lines, which are 0 without it."""
    found = _problems(weak.choices(policy), where or Lines())
    return tuple(sorted(found, key=lambda problem: (problem.line, problem.field)))


def _exact(text: str) -> Decimal:
    """Decimal of a TOML float; NaN, which no field accepts, where the exponent is absurd."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _syntax(message: str, text: str) -> Problem:
    match = _LINE.fullmatch(message)
    assert match is not None
    line = int(match[2]) if match[2] else text.count("\n") + 1
    return Problem(line, "", f"is not TOML: {match[1]}")


def _too_long(text: str) -> Problem:
    """Python reads integers of at most 4300 digits, and tomllib lets its error through."""
    before = re.split(r"[0-9_]{4300}", text, maxsplit=1)[0]
    return Problem(before.count("\n") + 1, "", "a number has too many digits")


def _with_tuples(value: Any, depth: int = 0) -> Any:
    """Make lists tuples, which is what strict frozen models take."""
    if depth > DEPTH_MAX:
        raise RecursionError
    match value:
        case list():
            return tuple(_with_tuples(item, depth + 1) for item in value)
        case dict():
            return {key: _with_tuples(item, depth + 1) for key, item in value.items()}
        case _:
            return value


def _finding(details: ErrorDetails) -> Finding:
    path = _path(details)
    kind, context = details["type"], details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return Finding(path, "is unknown" + _suggestion(path))
        case "literal_error":
            return Finding(path, f"must be {context['expected']}")
        case "value_error":
            return Finding(path, str(context["error"]))
        case _:
            return Finding(path, _WORDS.get(kind, details["msg"]))


def _path(details: ErrorDetails) -> Path:
    return tuple(part for part in details["loc"] if part != "[key]")


def _suggestion(path: Path) -> str:
    fields = _fields_at(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), fields, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are {', '.join(fields)}" if fields else ""


def _fields_at(path: Path) -> list[str]:
    """Name the fields of the model at a path, by walking the annotations: dict[str, X] takes any key to X."""
    model: type[BaseModel] | None = Policy
    steps = iter(path)
    for step in steps:
        info = model.model_fields.get(str(step)) if model is not None else None
        if info is None:
            return []
        model = _model_in(info.annotation)
        if "dict" in str(info.annotation):
            next(steps, None)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)


def _among_the_rest(raw: dict[str, Any]) -> Iterator[Finding]:
    """Check what is left after setting the malformed fields aside, and drop verdicts that rest on those."""
    broken: set[Path] = set()
    for _ in range(_MENDINGS_MAX):
        try:
            policy = Policy.model_validate(raw)
        except ValidationError as error:
            for path in {_whole_list(_path(details)) for details in error.errors(include_url=False)}:
                # A stand-in that did not help was in the wrong place: an analyst may be called "role".
                stand_in = None if path in broken else _STAND_INS.get(str(path[-1]))
                raw = _mended(raw, path, stand_in)
                broken.add(path)
        else:
            yield from (finding for finding in checks.contradictions(policy) if not _rests_on(finding, broken))
            return


def _whole_list(path: Path) -> Path:
    """Cut a path before its first position: without one item the others would change theirs."""
    return next((path[:depth] for depth, part in enumerate(path) if isinstance(part, int)), path)


def _mended(raw: dict[str, Any], path: Path, stand_in: object) -> dict[str, Any]:
    """Replace one field, or remove it if there is nothing to stand in; `raw` itself stays as it is."""
    key, *rest = map(str, path)
    if rest:
        below = raw.get(key)
        return {**raw, key: _mended(below, tuple(rest), stand_in)} if isinstance(below, dict) else raw
    kept = {name: value for name, value in raw.items() if name != key}
    return kept if stand_in is None else {**kept, key: stand_in}


def _rests_on(finding: Finding, broken: set[Path]) -> bool:
    paths = (finding.path, *finding.reads)
    return any(path[:length] in broken for path in paths for length in range(1, len(path) + 1))


def _problems(findings: Iterable[Finding], where: Lines) -> list[Problem]:
    return [Problem(where.of(finding.path), dotted(finding.path), finding.message) for finding in findings]
