"""What each parameter may be is tested through test_settings.py; here the table itself."""

from __future__ import annotations

from pgproxy.guc import OF_TRANSACTION, TABLE


def test_every_default_is_a_value_that_may_be_set() -> None:
    for setting in TABLE.values():
        if setting.check is not None and setting.name != "dp.epsilon":
            assert setting.check(setting.name, setting.default) == setting.default


def test_thirteen_settings_are_reported_as_by_postgresql_15() -> None:
    assert len([setting for setting in TABLE.values() if setting.reported]) == 13


def test_every_mode_of_a_transaction_has_a_session_default() -> None:
    assert all(f"default_{name}" in TABLE for name in OF_TRANSACTION)
