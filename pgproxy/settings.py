"""settings: the run-time parameters of one session (Postgres docs, "Server Configuration" and SET).

Values live in three layers: what the session started with, what SET changed, and what SET LOCAL changed until the
end of the transaction. A transaction that fails takes its changes back.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from pgproxy import sqlstate
from pgproxy.guc import LEVELS, OF_TRANSACTION, RESETTABLE, TABLE, milliseconds, unchangeable, unknown
from pgproxy.statements import quote_identifier
from rewriter.refusal import Refusal

CUSTOM_MAX: Final = 100
"""Settings of a client's own, such as `myapp.user`."""
VALUE_CHARS_MAX: Final = 4_096
"""Longest value; application names and search paths are far shorter."""


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
        if name in OF_TRANSACTION:
            return self.get(f"default_{name}")
        return TABLE[name].default

    def set(self, name: str, values: tuple[str, ...] | None, *, local: bool = False) -> None:
        """Change a value; None is the value the session started with.

        Raises:
            Refusal: 42704 unknown, 22023 not a value for it, 55P02 not to be changed, 42602 not a name.
        """
        name = name.lower()
        value = self._default(name) if values is None else self._checked(name, values)
        if local or name in OF_TRANSACTION:
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
        self._local = {key: value for key, value in self._local.items() if key in OF_TRANSACTION}

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
        return int(milliseconds("statement_timeout", self.get("statement_timeout")))

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
        return LEVELS.index(self.get("client_min_messages")) <= LEVELS.index(severity.lower())

    def _default(self, name: str) -> str:
        setting = TABLE.get(name)
        if setting is not None and setting.check is None and name not in RESETTABLE:
            raise unchangeable(setting.name)
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
            raise unchangeable(shown)
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
