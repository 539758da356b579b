from __future__ import annotations

import types
from typing import Any, get_args

from policies import reference
from policies.model import Policy, Rules


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run python -m policies.reference"


def models_under(kind: Any) -> set[type[Rules]]:
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, Rules):
        return {kind}.union(*(models_under(info.annotation) for info in kind.model_fields.values()))
    return set().union(*map(models_under, get_args(kind)))


def test_the_page_has_every_model_and_says_what_every_field_means() -> None:
    assert reference.described() == models_under(Policy)
    for model in reference.described() - {Policy}:
        assert all(info.description for info in model.model_fields.values()), model


def test_every_row_of_the_page_says_what_may_be_written() -> None:
    rows = [line.split(" | ") for line in reference.page().splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(model.model_fields) for model in reference.described() - {Policy})
    assert all(row[1].strip() for row in rows)
