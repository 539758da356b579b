"""guc: the table of run-time parameters, what each may be set to, and the words for what it may not.

The names, defaults and wordings are those of PostgreSQL 15's pg_settings; a parameter that changes nothing here is
kept because some driver or tool sets it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from pgproxy import sqlstate
from rewriter.refusal import Refusal

SERVER_VERSION: Final = "15.18"
"""The Postgres whose behaviour we follow; drivers choose catalogue queries by it."""
_EPSILON: Final = re.compile(r"(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,2})?")
_TIME_MS: Final[dict[str, Decimal | int]] = {
    "us": Decimal("0.001"),
    "ms": 1,
    "s": 1_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_TIMEOUT_MAX_MS: Final = 2**31 - 1
LEVELS: Final = ("debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error")
"""client_min_messages, from the most to the fewest messages."""

Check = Callable[[str, str], str]
"""(name, value as given) -> value as kept; raises Refusal 22023."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter of the table below.

    Attributes:
        check: None for what no client may change.
        reported: sent as ParameterStatus, at the start and after each change (GUC_REPORT).
        separator: takes a list, kept as one text.
    """

    name: str
    default: str
    check: Check | None = None
    reported: bool = False
    separator: Literal["idents", "words"] | None = None
    description: str = ""


def unknown(name: str) -> Refusal:
    """Postgres' words for a parameter that does not exist."""
    return Refusal(sqlstate.UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name[:200]}"')


def unchangeable(name: str) -> Refusal:
    """Postgres' words for a parameter that no client may set."""
    if name in ("session_authorization", "role"):
        return Refusal(sqlstate.INSUFFICIENT_PRIVILEGE, f"permission denied to set {name}")
    return Refusal(sqlstate.CANT_CHANGE_RUNTIME_PARAM, f'parameter "{name}" cannot be changed')


def _invalid(name: str, value: str, hint: str | None = None) -> Refusal:
    words = f'invalid value for parameter "{name}": "{value[:200]}"'
    return Refusal(sqlstate.INVALID_PARAMETER_VALUE, words, hint=hint)


def _any(_name: str, value: str) -> str:
    return value


def _boolean(name: str, value: str) -> str:
    # parse_bool(): unique prefixes of these words.
    lowered = value.lower()
    for word, kept in (("true", "on"), ("false", "off"), ("yes", "on"), ("no", "off")):
        if lowered and word.startswith(lowered):
            return kept
    exact = {"on": "on", "off": "off", "of": "off", "1": "on", "0": "off"}
    if lowered in exact:
        return exact[lowered]
    raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, f'parameter "{name}" requires a Boolean value')


def _always_on(name: str, value: str) -> str:
    """Read-write is accepted since drivers ask for it by habit; writing is refused by the statement."""
    _boolean(name, value)
    return "on"


def _standard_strings(name: str, value: str) -> str:
    if _boolean(name, value) == "off":
        raise _invalid(name, value, "A backslash in '...' is an ordinary character here.")
    return "on"


def _only(*kept: str, hint: str) -> Check:
    def check(name: str, value: str) -> str:
        if value.lower() not in kept:
            raise _invalid(name, value, hint)
        return value.lower()

    return check


def _one_of(*kept: str) -> Check:
    return _only(*kept, hint=f"Available values: {', '.join(kept)}.")


def _integer(low: int, high: int) -> Check:
    def check(name: str, value: str) -> str:
        if not re.fullmatch(r"\s*[+-]?\d{1,12}\s*", value):
            raise _invalid(name, value)
        number = int(value)
        if not low <= number <= high:
            words = f'{number} is outside the valid range for parameter "{name}" ({low} .. {high})'
            raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, words)
        return str(number)

    return check


def milliseconds(name: str, value: str) -> int:
    """Read a time limit such as `5s`; a bare number is milliseconds."""
    match = re.fullmatch(r"\s*([+-]?\d{1,12}(?:\.\d{0,9})?)\s*([a-z]*)\s*", value)
    unit = _TIME_MS.get(match[2] or "ms") if match else None
    if match is None or unit is None:
        units = 'Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".'
        raise _invalid(name, value, units if value[:1].isdigit() else None)
    number = round(Decimal(match[1]) * unit)
    if not 0 <= number <= _TIMEOUT_MAX_MS:
        words = f'{number} ms is outside the valid range for parameter "{name}" (0 .. {_TIMEOUT_MAX_MS})'
        raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, words)
    return number


def _timeout(name: str, value: str) -> str:
    number = milliseconds(name, value)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if number and number % size == 0:
            return f"{number // size}{unit}"
    return f"{number}ms" if number else "0"


def _encoding(name: str, value: str) -> str:
    # pg_char_to_encoding() drops everything but letters and digits: asyncpg sends 'utf-8' with its quotes.
    cleaned = re.sub(r"[^a-z0-9]", "", value.lower())
    if cleaned in ("utf8", "unicode"):
        return "UTF8"
    if cleaned == "sqlascii":
        return "SQL_ASCII"
    raise _invalid(name, value, "This server speaks UTF8.")


def _date_style(name: str, value: str) -> str:
    words = [word.strip().lower() for word in value.split(",")]
    orders = {"mdy": "MDY", "us": "MDY", "noneuro": "MDY", "dmy": "DMY", "euro": "DMY", "ymd": "YMD"}
    order = [orders[word] for word in words if word in orders]
    if not all(word == "iso" or word in orders for word in words) or len(order) > 1:
        raise _invalid(name, value, "Dates are printed in ISO form.")
    return f"ISO, {order[0] if order else 'MDY'}"


def _time_zone(name: str, value: str) -> str:
    """Any zone is kept for those who ask for it; values are printed in UTC with their offset."""
    if not re.fullmatch(r"[A-Za-z0-9_+\-/:<>.,]{1,100}", value):
        raise _invalid(name, value)
    return value


def _positive_epsilon(name: str, value: str) -> str:
    if not _EPSILON.fullmatch(value) or Decimal(value) <= 0:
        raise _invalid(name, value, "Epsilon is a decimal above 0, such as 0.1.")
    return value


RESETTABLE: Final = frozenset({"session_authorization"})
OF_TRANSACTION: Final = frozenset({"transaction_deferrable", "transaction_isolation", "transaction_read_only"})
_ISOLATION: Final = _one_of("serializable", "repeatable read", "read committed", "read uncommitted")
_ROLE: Final = _only("none", hint="An analyst has the one role of the policy.")

_ALL: Final = (
    Setting("application_name", "", _any, reported=True),
    Setting("array_nulls", "on", _boolean),
    Setting("block_size", "8192"),
    Setting("bytea_output", "hex", _one_of("escape", "hex")),
    Setting("check_function_bodies", "on", _boolean),
    Setting("client_encoding", "UTF8", _encoding, reported=True),
    Setting("client_min_messages", "notice", _one_of(*LEVELS)),
    Setting("constraint_exclusion", "partition", _one_of("partition", "on", "off")),
    Setting("cursor_tuple_fraction", "0.1", _any),
    Setting("DateStyle", "ISO, MDY", _date_style, reported=True, separator="words"),
    Setting("default_table_access_method", "heap", _any),
    Setting("default_tablespace", "", _any),
    Setting("default_transaction_deferrable", "off", _boolean),
    Setting("default_transaction_isolation", "read committed", _ISOLATION),
    Setting("default_transaction_read_only", "on", _always_on, reported=True),
    Setting("dp.epsilon", "", _positive_epsilon, description="What a question costs; empty for the role's default."),
    Setting("dp.mode", "private", _one_of("private", "synthetic"), description="Noised answers or made-up rows."),
    Setting("escape_string_warning", "on", _boolean),
    Setting("extra_float_digits", "1", _integer(-15, 3)),
    Setting("force_parallel_mode", "off", _one_of("off", "on", "regress")),
    Setting("geqo", "on", _boolean),
    Setting("idle_in_transaction_session_timeout", "0", _timeout),
    Setting("idle_session_timeout", "0", _timeout),
    Setting("in_hot_standby", "off", reported=True),
    Setting("integer_datetimes", "on", reported=True),
    Setting(
        "IntervalStyle",
        "postgres",
        _one_of("postgres", "postgres_verbose", "sql_standard", "iso_8601"),
        reported=True,
    ),
    Setting("is_superuser", "off", reported=True),
    Setting("jit", "off", _boolean),
    Setting("lc_collate", "C"),
    Setting("lc_ctype", "C.UTF-8"),
    Setting("lc_messages", "C", _any),
    Setting("lc_monetary", "C", _any),
    Setting("lc_numeric", "C", _any),
    Setting("lc_time", "C", _any),
    Setting("lock_timeout", "0", _timeout),
    Setting("max_function_args", "100"),
    Setting("max_identifier_length", "63"),
    Setting("max_index_keys", "32"),
    Setting("plan_cache_mode", "auto", _one_of("auto", "force_generic_plan", "force_custom_plan")),
    Setting("quote_all_identifiers", "off", _boolean),
    Setting("role", "none", _ROLE),
    Setting("row_security", "on", _boolean),
    Setting("search_path", '"$user", public', _any, separator="idents"),
    Setting("server_encoding", "UTF8", reported=True),
    Setting("server_version", SERVER_VERSION, reported=True),
    Setting("server_version_num", "150008"),
    Setting("session_authorization", "", reported=True),
    Setting("standard_conforming_strings", "on", _standard_strings, reported=True),
    Setting("statement_timeout", "0", _timeout),
    Setting("synchronize_seqscans", "on", _boolean),
    Setting(
        "synchronous_commit",
        "on",
        _one_of("local", "remote_write", "remote_apply", "on", "off"),
    ),
    Setting("TimeZone", "UTC", _time_zone, reported=True),
    Setting("transaction_deferrable", "off", _boolean),
    Setting("transaction_isolation", "read committed", _ISOLATION),
    Setting("transaction_read_only", "on", _always_on),
    Setting("work_mem", "4MB", _any),
    Setting("xmlbinary", "base64", _one_of("base64", "hex")),
    Setting("xmloption", "content", _one_of("content", "document")),
)
TABLE: Final = {setting.name.lower(): setting for setting in _ALL}
"""Every parameter by its lower-case name."""
