"""settings: the run-time parameters of one session (Postgres docs, "Server Configuration" and SET).

Values live in three layers: what the session started with, what SET changed, and what SET LOCAL changed until the
end of the transaction. A transaction that fails takes its changes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from pgproxy import sqlstate
from pgproxy.statements import quote_identifier
from rewriter.refusal import Refusal

SERVER_VERSION: Final = "15.8"
"""The Postgres whose behaviour we follow; drivers choose catalogue queries by it."""
CUSTOM_MAX: Final = 100
"""Settings of a client's own, such as `myapp.user`."""
VALUE_CHARS_MAX: Final = 4_096
"""Longest value; application names and search paths are far shorter."""

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
_LEVELS: Final = ("debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error")

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


class Snapshot(NamedTuple):
    """The values at one moment; the dictionaries are never changed in place."""

    session: dict[str, str]
    local: dict[str, str]


class Settings:
    """The parameters of one session."""

    __slots__ = ("_fixed", "_local", "_session", "_start")

    def __init__(self, user: str) -> None:
        """Start with the defaults; `user` is what session_authorization shows."""
        self._fixed = {"session_authorization": user}
        self._start: dict[str, str] = {}
        self._session: dict[str, str] = {}
        self._local: dict[str, str] = {}

    def start(self, name: str, value: str) -> None:
        """Apply a parameter of the start-up message; RESET goes back to it.

        Raises:
            Refusal: as for `set`.
        """
        name = name.lower()
        self._start = {**self._start, name: self._checked(name, (value,), joined=True)}

    def get(self, name: str) -> str:
        """The value in force.

        Raises:
            Refusal: 42704, there is no such parameter.
        """
        name = name.lower()
        for layer in (self._local, self._session, self._start, self._fixed):
            if name in layer:
                return layer[name]
        if name not in TABLE:
            raise unknown(name)
        if name in _OF_TRANSACTION:
            return self.get(f"default_{name}")
        return TABLE[name].default

    def set(self, name: str, values: tuple[str, ...] | None, *, local: bool = False) -> None:
        """Change a value; None is the value the session started with.

        Raises:
            Refusal: 42704 unknown, 22023 not a value for it, 55P02 not to be changed, 42602 not a name.
        """
        name = name.lower()
        value = self._default(name) if values is None else self._checked(name, values)
        if local or name in _OF_TRANSACTION:
            self._local = {**self._local, name: value}
        else:
            self._session = {**self._session, name: value}
            self._local = {key: kept for key, kept in self._local.items() if key != name}

    def reset(self, name: str | None) -> None:
        """Go back to what the session started with; None is for all parameters."""
        if name is not None:
            self.set(name, None)
            return
        # RESET ALL spares the transaction's own modes (GUC_NO_RESET_ALL).
        self._session = {}
        self._local = {key: value for key, value in self._local.items() if key in _OF_TRANSACTION}

    def snapshot(self) -> Snapshot:
        """The values now, for `restore`."""
        return Snapshot(self._session, self._local)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot."""
        self._session, self._local = snapshot

    def end_local(self) -> None:
        """A transaction ended: SET LOCAL is over."""
        self._local = {}

    def reported(self) -> dict[str, str]:
        """Name and value of every parameter that clients follow."""
        return {setting.name: self.get(key) for key, setting in TABLE.items() if setting.reported}

    def all(self) -> list[tuple[str, str, str]]:
        """SHOW ALL: name, value, description, by name."""
        custom = {**self._start, **self._session, **self._local}.keys() - TABLE.keys()
        rows = [(setting.name, self.get(key), setting.description) for key, setting in TABLE.items()]
        return sorted([*rows, *((name, self.get(name), "") for name in custom)], key=lambda row: row[0].lower())

    @property
    def statement_timeout_ms(self) -> int:
        """Milliseconds a statement may take; 0 is without end."""
        return int(_milliseconds("statement_timeout", self.get("statement_timeout")))

    @property
    def epsilon(self) -> str | None:
        """`dp.epsilon` as typed, None for the role's own."""
        return self.get("dp.epsilon") or None

    @property
    def mode(self) -> Literal["private", "synthetic"]:
        """`dp.mode`."""
        return "synthetic" if self.get("dp.mode") == "synthetic" else "private"

    def wants(self, severity: Literal["NOTICE", "WARNING"]) -> bool:
        """True if client_min_messages lets a message of this severity through."""
        return _LEVELS.index(self.get("client_min_messages")) <= _LEVELS.index(severity.lower())

    def _default(self, name: str) -> str:
        setting = TABLE.get(name)
        if setting is not None and setting.check is None and name not in _RESETTABLE:
            raise _unchangeable(setting.name)
        if setting is None and name not in {**self._start, **self._session, **self._local}:
            self._custom(name)
        default = "" if setting is None else setting.default
        return self._start.get(name, self._fixed.get(name, default))

    def _checked(self, name: str, values: tuple[str, ...], *, joined: bool = False) -> str:
        setting = TABLE.get(name)
        if setting is None:
            self._custom(name)
        if len(values) > 1 and (setting is None or setting.separator is None):
            words = f"SET {name} takes only one argument"
            raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, words)
        if setting is not None and setting.separator == "idents" and not joined:
            values = tuple(map(quote_identifier, values))
        value = ", ".join(values)
        shown = name if setting is None else setting.name
        if len(value) > VALUE_CHARS_MAX:
            raise Refusal(sqlstate.INVALID_PARAMETER_VALUE, f'value for parameter "{shown}" is too long')
        if setting is None:
            return value
        if name == "session_authorization" and value == self._fixed[name]:
            return value
        if setting.check is None:
            raise _unchangeable(shown)
        return setting.check(shown, value)

    def _custom(self, name: str) -> None:
        """Let a client keep a setting of its own if its name has a dot."""
        if "." not in name:
            raise unknown(name)
        bad = Refusal(sqlstate.INVALID_NAME, f'invalid configuration parameter name "{name[:200]}"')
        if name.startswith("dp."):
            bad.detail = '"dp" is a reserved prefix.'
            bad.hint = "There are dp.epsilon and dp.mode."
            raise bad
        if not all(re.fullmatch(r"[^\W\d][\w$]{0,62}", part) for part in name.split(".")):
            raise bad
        held = {**self._start, **self._session, **self._local}.keys() - TABLE.keys()
        if name not in held and len(held) >= CUSTOM_MAX:
            raise Refusal(sqlstate.PROGRAM_LIMIT_EXCEEDED, f"more than {CUSTOM_MAX} custom parameters")


def unknown(name: str) -> Refusal:
    """Postgres' words for a parameter that does not exist."""
    return Refusal(sqlstate.UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name[:200]}"')


def _unchangeable(name: str) -> Refusal:
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


def _milliseconds(name: str, value: str) -> int:
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
    number = _milliseconds(name, value)
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


_RESETTABLE: Final = frozenset({"session_authorization"})
_OF_TRANSACTION: Final = frozenset({"transaction_deferrable", "transaction_isolation", "transaction_read_only"})
_ISOLATION: Final = _one_of("serializable", "repeatable read", "read committed", "read uncommitted")
_ROLE: Final = _only("none", hint="An analyst has the one role of the policy.")

_ALL: Final = (
    Setting("application_name", "", _any, reported=True),
    Setting("array_nulls", "on", _boolean),
    Setting("block_size", "8192"),
    Setting("bytea_output", "hex", _one_of("escape", "hex")),
    Setting("check_function_bodies", "on", _boolean),
    Setting("client_encoding", "UTF8", _encoding, reported=True),
    Setting("client_min_messages", "notice", _one_of(*_LEVELS)),
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
