"""Names, limits and ends of portals are tested where messages drive them, in test_backend.py."""

from __future__ import annotations

import pytest

from pgproxy import portal
from pgproxy.commands import Read
from pgproxy.portal import Prepared, Store
from pgproxy.statements import split
from rewriter.refusal import Refusal


def prepared(text: str) -> Prepared:
    return Prepared(split(text)[0], Read())


def test_the_text_of_all_statements_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal, "STATEMENT_CHARS_MAX", 20)
    store = Store()
    store.add_statement("a", prepared("select 1"))
    store.add_statement("b", prepared("select 2"))
    with pytest.raises(Refusal) as raised:
        store.add_statement("c", prepared("select 3"))
    assert (raised.value.sqlstate, raised.value.hint) == ("54000", "DEALLOCATE those that are not needed.")


def test_the_unnamed_statement_may_be_taken_again() -> None:
    store = Store()
    store.add_statement("", prepared("select 1"))
    store.add_statement("", prepared("select 2"))
    found = store.statement("").statement
    assert found is not None
    assert found.text == "select 2"
