from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.guc import TABLE
from pgproxy.settings import CUSTOM_MAX, Settings
from rewriter.refusal import Refusal


def changed(name: str, *values: str) -> str:
    settings = Settings("ana")
    settings.set(name, values)
    return settings.get(name)


@pytest.mark.parametrize(
    ("name", "values", "kept"),
    [
        ("statement_timeout", ("61s",), "61s"),
        ("statement_timeout", ("60000",), "1min"),
        ("statement_timeout", ("1.5s",), "1500ms"),
        ("statement_timeout", ("0",), "0"),
        ("client_encoding", ("'utf-8'",), "UTF8"),
        ("CLIENT_ENCODING", ("unicode",), "UTF8"),
        ("datestyle", ("ISO", "DMY"), "ISO, DMY"),
        ("DateStyle", ("ISO, YMD",), "ISO, YMD"),
        ("datestyle", ("iso",), "ISO, MDY"),
        ("search_path", ("a", "B c", "$user"), 'a, "B c", "$user"'),
        ("jit", ("of",), "off"),
        ("jit", ("t",), "on"),
        ("extra_float_digits", ("3",), "3"),
        ("dp.epsilon", ("0.10",), "0.10"),
        ("dp.epsilon", ("1e-2",), "1e-2"),
        ("dp.mode", ("Synthetic",), "synthetic"),
        ("myapp.user", ("x",), "x"),
        ("timezone", ("Europe/Paris",), "Europe/Paris"),
        ("transaction_read_only", ("off",), "on"),
        ("role", ("none",), "none"),
    ],
)
def test_values_are_kept_as_postgres_shows_them(name: str, values: tuple[str, ...], kept: str) -> None:
    assert changed(name, *values) == kept


@pytest.mark.parametrize(
    ("name", "values", "code", "words"),
    [
        ("foo", ("1",), "42704", 'unrecognized configuration parameter "foo"'),
        ("dp.epsilon", ("0",), "22023", 'invalid value for parameter "dp.epsilon": "0"'),
        ("dp.epsilon", ("-1",), "22023", 'invalid value for parameter "dp.epsilon": "-1"'),
        ("dp.epsilon", ("nan",), "22023", 'invalid value for parameter "dp.epsilon": "nan"'),
        ("dp.epsilon", ("1e999999",), "22023", 'invalid value for parameter "dp.epsilon": "1e999999"'),
        ("dp.mode", ("off",), "22023", 'invalid value for parameter "dp.mode": "off"'),
        ("dp.noise", ("0",), "42602", 'invalid configuration parameter name "dp.noise"'),
        ("a.1", ("0",), "42602", 'invalid configuration parameter name "a.1"'),
        ("statement_timeout", ("xx",), "22023", 'invalid value for parameter "statement_timeout": "xx"'),
        (
            "statement_timeout",
            ("-1",),
            "22023",
            '-1 ms is outside the valid range for parameter "statement_timeout" (0 .. 2147483647)',
        ),
        (
            "extra_float_digits",
            ("9",),
            "22023",
            '9 is outside the valid range for parameter "extra_float_digits" (-15 .. 3)',
        ),
        ("client_encoding", ("latin1",), "22023", 'invalid value for parameter "client_encoding": "latin1"'),
        ("datestyle", ("German",), "22023", 'invalid value for parameter "DateStyle": "German"'),
        ("jit", ("maybe",), "22023", 'parameter "jit" requires a Boolean value'),
        ("server_version", ("9",), "55P02", 'parameter "server_version" cannot be changed'),
        ("session_authorization", ("root",), "42501", "permission denied to set session_authorization"),
        ("application_name", ("a", "b"), "22023", "SET application_name takes only one argument"),
        ("application_name", ("a" * 5000,), "22023", 'value for parameter "application_name" is too long'),
        (
            "standard_conforming_strings",
            ("off",),
            "22023",
            'invalid value for parameter "standard_conforming_strings": "off"',
        ),
    ],
)
def test_what_is_not_a_value_is_refused_in_postgres_words(
    name: str, values: tuple[str, ...], code: str, words: str
) -> None:
    with pytest.raises(Refusal) as raised:
        changed(name, *values)
    assert (raised.value.sqlstate, raised.value.message) == (code, words)


@given(st.sampled_from(sorted(TABLE)), st.text(max_size=30))
def test_any_value_is_kept_or_refused(name: str, value: str) -> None:
    try:
        kept = changed(name, value)
    except Refusal:
        return
    if TABLE[name].separator is None:
        assert changed(name, kept) == kept


def test_reset_goes_back_to_the_start_up_message() -> None:
    settings = Settings("ana")
    settings.start("application_name", "psql")
    settings.set("application_name", ("x",))
    settings.reset("application_name")
    assert settings.get("application_name") == "psql"
    settings.set("application_name", ("x",))
    settings.set("my.own", ("y",))
    settings.reset(None)
    assert settings.get("application_name") == "psql"
    with pytest.raises(Refusal, match="unrecognized"):
        settings.get("my.own")


def test_what_cannot_be_changed_cannot_be_reset() -> None:
    with pytest.raises(Refusal, match="cannot be changed"):
        Settings("ana").reset("server_version")


def test_local_values_hide_session_values_until_the_end() -> None:
    settings = Settings("ana")
    settings.set("dp.epsilon", ("1",))
    settings.set("dp.epsilon", ("2",), local=True)
    assert settings.epsilon == "2"
    settings.end_local()
    assert settings.epsilon == "1"
    settings.set("dp.epsilon", ("2",), local=True)
    settings.set("dp.epsilon", ("3",))
    assert settings.epsilon == "3"


def test_custom_parameters_are_bounded() -> None:
    settings = Settings("ana")
    for number in range(CUSTOM_MAX):
        settings.set(f"my.x{number}", ("1",))
    settings.set("my.x1", ("2",))
    with pytest.raises(Refusal) as raised:
        settings.set("my.more", ("1",))
    assert raised.value.sqlstate == "54000"


def test_what_a_question_needs_has_its_own_form() -> None:
    settings = Settings("ana")
    assert (settings.epsilon, settings.mode, settings.statement_timeout_ms) == (None, "private", 0)
    settings.set("statement_timeout", ("2min",))
    assert settings.statement_timeout_ms == 120_000


def test_session_authorization_shows_the_user() -> None:
    settings = Settings("ana")
    settings.set("session_authorization", None)
    assert settings.get("session_authorization") == "ana"
    assert settings.reported()["session_authorization"] == "ana"
