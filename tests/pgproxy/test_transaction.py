"""The rest is in test_backend.py, where commands drive it."""

from __future__ import annotations

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pgproxy import transaction
from pgproxy.settings import Settings
from pgproxy.transaction import Status, Transaction
from rewriter.refusal import Refusal


class Model(RuleBasedStateMachine):
    """Settings after any sequence of commands are what a list of saved values says."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings("ana")
        self.transaction = Transaction(self.settings)
        self.value, self.before, self.saved = 0, 0, list[int]()

    def enter(self) -> None:
        if self.transaction.status is Status.IDLE:
            self.before = self.value
        self.transaction.enter()

    @precondition(lambda self: self.transaction.status is not Status.FAILED)
    @rule()
    def change(self) -> None:
        self.enter()
        self.value += 1
        self.settings.set("application_name", (str(self.value),))

    @precondition(lambda self: self.transaction.status is not Status.FAILED)
    @rule()
    def begin(self) -> None:
        self.enter()
        self.transaction.begin(())

    @rule()
    def commit(self) -> None:
        self.enter()
        if not self.transaction.commit(chain=False):
            self.value = self.before
        self.saved.clear()

    @rule()
    def rollback(self) -> None:
        self.enter()
        self.transaction.rollback(chain=False)
        self.value = self.before
        self.saved.clear()

    @precondition(lambda self: self.transaction.status is Status.BLOCK)
    @rule()
    def save(self) -> None:
        self.transaction.savepoint("s")
        self.saved.append(self.value)

    @precondition(lambda self: self.transaction.in_block and self.saved)
    @rule()
    def go_back(self) -> None:
        self.transaction.rollback_to("s")
        self.value = self.saved[-1]

    @rule()
    def fail(self) -> None:
        if self.transaction.status is Status.BLOCK:
            self.value = self.saved[-1] if self.saved else self.before
        elif self.transaction.status is Status.IMPLICIT:
            self.value = self.before
        self.transaction.fail()

    @rule()
    def sync(self) -> None:
        self.transaction.leave()

    @invariant()
    def settings_are_those_of_the_model(self) -> None:
        assert (self.settings.get("application_name") or "0") == str(self.value)


TestModel = Model.TestCase


def test_savepoints_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "SAVEPOINTS_MAX", 1)
    found = Transaction(Settings("ana"))
    found.enter()
    found.begin(())
    found.savepoint("a")
    with pytest.raises(Refusal) as raised:
        found.savepoint("b")
    assert raised.value.sqlstate == "54000"
