"""grammar: one statement -> a command for the session, or a question for the room.

The grammar is Postgres' for transactions, settings and cursors (docs, part VI, "SQL Commands"). What only reads
goes on as a question; what writes, and what is not built, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pgproxy import sqlstate
from pgproxy.commands import (
    Begin,
    CloseCursor,
    Command,
    Commit,
    Deallocate,
    Discard,
    Modes,
    Nothing,
    Read,
    Refused,
    Release,
    Reset,
    Rollback,
    RollbackTo,
    Savepoint,
    Set,
    SetTransaction,
    Show,
)
from pgproxy.statements import Kind, Statement, Token, identifier, string_value, syntax_error
from rewriter.refusal import Refusal

NAME_CHARS_MAX: Final = 63


def command(statement: Statement) -> Command:
    """Tell what a statement wants.

    Raises:
        Refusal: 42601, it is none of Postgres' statements or a session command with a wrong grammar.
    """
    tokens = Tokens(statement.tokens)
    first = tokens.next()
    if first.word in _QUESTIONS or first.text == "(":
        return Read()
    if first.word == "COPY":
        return _copy(statement)
    if first.word in _UNSUPPORTED:
        words, hint = f"{first.word} is not supported", _UNSUPPORTED[first.word]
        return Refused(Refusal(sqlstate.FEATURE_NOT_SUPPORTED, words, hint=hint))
    if first.word in _WRITES:
        return _write(first.word, statement.tokens)
    parse = _SESSION.get(first.word)
    if parse is None:
        raise syntax_error(first)
    parsed = parse(tokens)
    tokens.end()
    return parsed


class Tokens:
    """A cursor over the tokens of a statement."""

    __slots__ = ("_next", "_tokens")

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._next = 0

    def peek(self) -> Token | None:
        """The next token, left where it is; None at the end."""
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def next(self) -> Token:
        """The next token; it must be there."""
        token = self.peek()
        if token is None:
            raise syntax_error(None)
        self._next += 1
        return token

    def accept(self, *words: str) -> bool:
        """Step over these words if they are all next."""
        ahead = self._tokens[self._next : self._next + len(words)]
        if [token.word or token.text for token in ahead] != list(words):
            return False
        self._next += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Step over these words, which must come."""
        for word in words:
            if not self.accept(word):
                raise syntax_error(self.peek())

    def name(self) -> str:
        """An identifier, cut as Postgres cuts it (docs, Identifiers), so that none is a place to store things."""
        token = self.next()
        if token.kind not in (Kind.WORD, Kind.QUOTED):
            raise syntax_error(token)
        return identifier(token)[:NAME_CHARS_MAX]

    def end(self) -> None:
        """Nothing may follow."""
        token = self.peek()
        if token is not None:
            raise syntax_error(token)


def _begin(tokens: Tokens) -> Begin:
    _ = tokens.accept("WORK") or tokens.accept("TRANSACTION")
    return Begin("BEGIN", _modes(tokens))


def _start(tokens: Tokens) -> Begin:
    tokens.expect("TRANSACTION")
    return Begin("START TRANSACTION", _modes(tokens))


def _commit(tokens: Tokens) -> Command:
    if tokens.accept("PREPARED"):
        tokens.next()
        return Refused(_read_only("COMMIT PREPARED"))
    _ = tokens.accept("WORK") or tokens.accept("TRANSACTION")
    return Commit(_chain(tokens))


def _rollback(tokens: Tokens) -> Command:
    if tokens.accept("PREPARED"):
        tokens.next()
        return Refused(_read_only("ROLLBACK PREPARED"))
    _ = tokens.accept("WORK") or tokens.accept("TRANSACTION")
    if tokens.accept("TO"):
        tokens.accept("SAVEPOINT")
        return RollbackTo(tokens.name())
    return Rollback(_chain(tokens))


def _release(tokens: Tokens) -> Release:
    first = tokens.name()
    return Release(first if first != "savepoint" or tokens.peek() is None else tokens.name())


def _chain(tokens: Tokens) -> bool:
    if tokens.accept("AND", "NO", "CHAIN"):
        return False
    return tokens.accept("AND", "CHAIN")


def _modes(tokens: Tokens) -> Modes:
    modes: list[tuple[str, str]] = []
    while tokens.peek() is not None:
        if modes:
            tokens.accept(",")
        modes.append(_mode(tokens))
    return tuple(modes)


def _mode(tokens: Tokens) -> tuple[str, str]:
    for words, name, value in _MODES:
        if tokens.accept(*words):
            return name, value
    raise syntax_error(tokens.peek())


_MODES: Final = (
    (("ISOLATION", "LEVEL", "SERIALIZABLE"), "transaction_isolation", "serializable"),
    (("ISOLATION", "LEVEL", "REPEATABLE", "READ"), "transaction_isolation", "repeatable read"),
    (("ISOLATION", "LEVEL", "READ", "COMMITTED"), "transaction_isolation", "read committed"),
    (("ISOLATION", "LEVEL", "READ", "UNCOMMITTED"), "transaction_isolation", "read uncommitted"),
    (("READ", "ONLY"), "transaction_read_only", "on"),
    (("READ", "WRITE"), "transaction_read_only", "off"),
    (("DEFERRABLE",), "transaction_deferrable", "on"),
    (("NOT", "DEFERRABLE"), "transaction_deferrable", "off"),
)


def _set(tokens: Tokens) -> Command:
    if tokens.accept("TRANSACTION"):
        return _set_transaction(tokens, session=False)
    if tokens.accept("SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"):
        return _set_transaction(tokens, session=True)
    if tokens.accept("CONSTRAINTS"):
        while tokens.peek() is not None:
            tokens.next()
        return Nothing("SET CONSTRAINTS")
    local = tokens.accept("LOCAL")
    if tokens.accept("SESSION", "AUTHORIZATION") or tokens.accept("SESSION", "SESSION", "AUTHORIZATION"):
        return Set("session_authorization", _values(tokens), local)
    if not local:
        tokens.accept("SESSION")
    for words, name in _SHORTHANDS:
        if tokens.accept(*words):
            return Set(name, _values(tokens), local)
    name = setting_name(tokens)
    if not tokens.accept("TO"):
        tokens.expect("=")
    return Set(name, _values(tokens), local)


_SHORTHANDS: Final = (
    (("TIME", "ZONE"), "timezone"),
    (("NAMES",), "client_encoding"),
    (("SCHEMA",), "search_path"),
    (("ROLE",), "role"),
    (("XML", "OPTION"), "xmloption"),
)


def _set_transaction(tokens: Tokens, session: bool) -> SetTransaction:
    modes = _modes(tokens)
    if not modes:
        raise syntax_error(None)
    return SetTransaction(modes, session)


def setting_name(tokens: Tokens) -> str:
    """A setting's name, dotted or not, in lower case."""
    parts = [tokens.name()]
    while tokens.accept("."):
        parts.append(tokens.name())
    return ".".join(parts).lower()


def _values(tokens: Tokens) -> tuple[str, ...] | None:
    if tokens.accept("DEFAULT") or tokens.accept("LOCAL"):
        return None
    values = [_value(tokens)]
    while tokens.accept(","):
        values.append(_value(tokens))
    return tuple(values)


def _value(tokens: Tokens) -> str:
    sign = "-" if tokens.accept("-") else ""
    signed = bool(sign) or tokens.accept("+")
    token = tokens.next()
    match token.kind:
        case Kind.NUMBER:
            return sign + token.text
        case Kind.STRING if not signed:
            return string_value(token)
        case Kind.WORD | Kind.QUOTED if not signed:
            return identifier(token)
        case _:
            raise syntax_error(token)


def _named_setting(tokens: Tokens) -> str | None:
    """What SHOW and RESET take: a setting, or None for ALL."""
    if tokens.accept("ALL"):
        return None
    for words, name in _LONGHANDS:
        if tokens.accept(*words):
            return name
    return setting_name(tokens)


_LONGHANDS: Final = (
    (("TIME", "ZONE"), "timezone"),
    (("TRANSACTION", "ISOLATION", "LEVEL"), "transaction_isolation"),
    (("SESSION", "AUTHORIZATION"), "session_authorization"),
)


def _discard(tokens: Tokens) -> Discard:
    token = tokens.next()
    what = {"TEMPORARY": "TEMP"}.get(token.word, token.word)
    if what not in ("ALL", "PLANS", "SEQUENCES", "TEMP"):
        raise syntax_error(token)
    return Discard(what)


def _deallocate(tokens: Tokens) -> Deallocate:
    tokens.accept("PREPARE")
    return Deallocate(None if tokens.accept("ALL") else tokens.name())


def _close(tokens: Tokens) -> CloseCursor:
    return CloseCursor(None if tokens.accept("ALL") else tokens.name())


def _unlisten(tokens: Tokens) -> Nothing:
    if not tokens.accept("*"):
        tokens.name()
    return Nothing("UNLISTEN")


_SESSION: Final[dict[str, Callable[[Tokens], Command]]] = {
    "BEGIN": _begin,
    "START": _start,
    "COMMIT": _commit,
    "END": _commit,
    "ROLLBACK": _rollback,
    "ABORT": _rollback,
    "SAVEPOINT": lambda tokens: Savepoint(tokens.name()),
    "RELEASE": _release,
    "SET": _set,
    "RESET": lambda tokens: Reset(_named_setting(tokens)),
    "SHOW": lambda tokens: Show(_named_setting(tokens)),
    "DISCARD": _discard,
    "DEALLOCATE": _deallocate,
    "CLOSE": _close,
    "UNLISTEN": _unlisten,
}

_QUESTIONS: Final = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN"})

_CURSOR_HINT: Final = "Ask with a plain SELECT, or fetch in pieces with the row limit of the extended protocol."
_UNSUPPORTED: Final = {
    "DECLARE": _CURSOR_HINT,
    "FETCH": _CURSOR_HINT,
    "MOVE": _CURSOR_HINT,
    "PREPARE": "Prepare statements through the extended protocol, as drivers do.",
    "EXECUTE": "Prepare statements through the extended protocol, as drivers do.",
    "CALL": "Ask with SELECT.",
    "DO": "Ask with SELECT.",
    "LISTEN": "There are no notifications here.",
    "NOTIFY": "There are no notifications here.",
    "LOAD": "Nothing can be loaded into a room.",
    "CHECKPOINT": "Ask with SELECT.",
}
_WRITES: Final = {
    "INSERT": "INSERT",
    "UPDATE": "UPDATE",
    "DELETE": "DELETE",
    "MERGE": "MERGE",
    "TRUNCATE": "TRUNCATE TABLE",
    "CREATE": "CREATE",
    "ALTER": "ALTER",
    "DROP": "DROP",
    "GRANT": "GRANT",
    "REVOKE": "REVOKE",
    "COMMENT": "COMMENT",
    "SECURITY": "SECURITY LABEL",
    "VACUUM": "VACUUM",
    "ANALYZE": "ANALYZE",
    "ANALYSE": "ANALYZE",
    "CLUSTER": "CLUSTER",
    "REINDEX": "REINDEX",
    "REFRESH": "REFRESH MATERIALIZED VIEW",
    "IMPORT": "IMPORT FOREIGN SCHEMA",
    "REASSIGN": "REASSIGN OWNED",
    "LOCK": "LOCK TABLE",
}
_OBJECT_MODIFIERS: Final = frozenset(
    {"OR", "REPLACE", "TEMP", "TEMPORARY", "UNLOGGED", "GLOBAL", "LOCAL", "UNIQUE", "RECURSIVE", "TRUSTED"}
)


def _write(verb: str, tokens: tuple[Token, ...]) -> Refused:
    tag = _WRITES[verb]
    if verb in ("CREATE", "ALTER", "DROP"):
        # The tag names the object: CREATE OR REPLACE TEMP VIEW -> CREATE VIEW.
        words = [token.word for token in tokens[1:6] if token.word not in _OBJECT_MODIFIERS]
        two = {"MATERIALIZED", "FOREIGN", "ACCESS", "EVENT", "TEXT", "DEFAULT", "USER"}
        tag = " ".join([tag, *words[: 2 if words[:1] and words[0] in two else 1]]).strip()
    return Refused(_read_only(tag))


def _copy(statement: Statement) -> Refused:
    depth = 0
    for token in statement.tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.word == "FROM":
            return Refused(_read_only("COPY FROM"))
    return Refused(Refusal(sqlstate.FEATURE_NOT_SUPPORTED, "COPY is not supported", hint="Ask with SELECT."))


def _read_only(tag: str) -> Refusal:
    return Refusal(
        sqlstate.READ_ONLY_SQL_TRANSACTION,
        f"cannot execute {tag} in a read-only transaction",
        hint="A clean room answers questions and changes nothing: ask with SELECT.",
    )
