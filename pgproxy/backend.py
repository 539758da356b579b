"""backend: one authenticated session's messages -> replies (Postgres docs, "Message Flow").

Each handler is a generator: it yields bytes to send and `Ask` events, to which the shell sends the Answer. Whatever
it raises ends the message; session.py tells what that means for those that follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, Final

import pyarrow as pa

from enclave.answer import Answer, Notice, Parameter, Question, ResultColumn
from pgproxy import commands as c
from pgproxy import messages as m
from pgproxy import oids, sqlstate
from pgproxy.codec import encode
from pgproxy.events import Ask, Work, notice_response
from pgproxy.grammar import command
from pgproxy.guc import TABLE
from pgproxy.parameters import bound_parameters
from pgproxy.portal import Portal, Prepared, Store
from pgproxy.settings import Settings
from pgproxy.statements import Statement, split
from pgproxy.transaction import Status, Transaction
from pgproxy.values import data_rows, describe, result_formats
from rewriter.refusal import Refusal

_SHOW_ALL: Final = tuple(ResultColumn(name, oids.TEXT) for name in ("name", "setting", "description"))
_ENDS_FAILURE: Final = (c.Commit, c.Rollback, c.RollbackTo)


class Backend:
    """What an analyst's session remembers, and how it replies."""

    __slots__ = ("_reported", "_settings", "_store", "_transaction", "_user")

    def __init__(self, user: str, settings: Settings) -> None:
        """Begin a session of `user`, whose start-up parameters are in `settings`."""
        self._user = user
        self._settings = settings
        self._transaction = Transaction(settings)
        self._store = Store()
        self._reported: dict[str, str] = {}

    def ready(self) -> bytes:
        """ReadyForQuery, after what has changed (ReportChangedGUCOptions)."""
        return self.report() + encode(m.ReadyForQuery(self._transaction.status.value))

    def report(self) -> bytes:
        """ParameterStatus of every setting that clients follow and that they do not know yet."""
        now, known = self._settings.reported(), self._reported
        self._reported = now
        changed = [item for item in now.items() if known.get(item[0]) != item[1]]
        return b"".join(encode(m.ParameterStatus(*item)) for item in changed)

    def fail(self) -> None:
        """A statement failed."""
        self._transaction.fail()
        if not self._transaction.in_block:
            self._store.portals.clear()

    def handle(self, message: m.Frontend) -> Work:
        """The replies to one message."""
        return _HANDLERS[type(message)](self, message)

    # Simple query.

    def _query(self, message: m.Query) -> Work:
        # exec_simple_query() drops both unnamed objects before anything else.
        self._store.statements.pop("", None)
        self._store.portals.pop("", None)
        statements = [(statement, command(statement)) for statement in split(message.text)]
        if not statements:
            yield encode(m.EMPTY_QUERY_RESPONSE)
        for statement, wanted in statements:
            self._enter(wanted)
            portal = Portal(Prepared(statement, wanted), (), ())
            yield from self._first_execution(portal, several=len(statements) > 1)
            if portal.answer is not None:
                portal.formats = (0,) * len(portal.answer.columns)
                yield encode(describe(portal.answer.columns, portal.formats))
                yield from self._rows(portal, 0)
        self._leave()
        yield self.ready()

    # Extended query.

    def _parse(self, message: m.Parse) -> Work:
        if not message.name:
            self._store.statements.pop("", None)
        self._store.check_statement(message.name)
        statements = split(message.text)
        if len(statements) > 1:
            words = "cannot insert multiple commands into a prepared statement"
            raise Refusal(sqlstate.SYNTAX_ERROR, words)
        if statements:
            wanted = command(statements[0])
            self._enter(wanted)
            prepared = yield from self._prepared(statements[0], wanted, message.parameter_types)
        else:
            prepared = Prepared(None, None)
        self._store.add_statement(message.name, prepared)
        yield encode(m.PARSE_COMPLETE)

    def _prepared(
        self, statement: Statement, wanted: c.Command, types: tuple[int, ...]
    ) -> Generator[Any, Answer | None, Prepared]:
        kept = Statement(statement.text, statement.offset, ())  # the tokens have served
        if isinstance(wanted, c.Show):
            return Prepared(kept, wanted, (), self._show(wanted).columns)
        if not isinstance(wanted, c.Read):
            return Prepared(kept, wanted)
        shape = yield from self._ask(kept, (), describe_types=types)
        return Prepared(kept, wanted, shape.parameter_types, shape.columns)

    def _bind(self, message: m.Bind) -> Work:
        if not message.portal:
            self._store.portals.pop("", None)
        prepared = self._store.statement(message.statement)
        expected = len(prepared.parameter_types)
        if len(message.values) != expected:
            words = (
                f"bind message supplies {len(message.values)} parameters, "
                f'but prepared statement "{message.statement}" requires {expected}'
            )
            raise Refusal(sqlstate.PROTOCOL_VIOLATION, words)
        if prepared.command is not None:
            self._enter(prepared.command)
        parameters = bound_parameters(prepared.parameter_types, message.parameter_formats, message.values)
        formats = result_formats(message.result_formats, len(prepared.columns or ()))
        self._store.add_portal(message.portal, Portal(prepared, parameters, formats))
        yield encode(m.BIND_COMPLETE)

    def _describe(self, message: m.Describe) -> Work:
        if message.kind == "S":
            prepared = self._store.statement(message.name)
            yield encode(m.ParameterDescription(prepared.parameter_types))
            formats = (0,) * len(prepared.columns or ())
        else:
            portal = self._store.portal(message.name)
            prepared, formats = portal.prepared, portal.formats
        if prepared.columns is None:
            yield encode(m.NO_DATA)
        elif self._transaction.status is Status.FAILED:
            raise _in_failed_transaction()
        else:
            yield encode(describe(prepared.columns, formats))

    def _execute(self, message: m.Execute) -> Work:
        portal = self._store.portal(message.portal)
        wanted = portal.prepared.command
        if wanted is None:
            yield encode(m.EMPTY_QUERY_RESPONSE)
            return
        self._enter(wanted)
        if portal.answer is None:
            if portal.done:
                words = f'portal "{message.portal}" cannot be run'
                raise Refusal(sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE, words)
            yield from self._first_execution(portal, several=False)
        if portal.answer is not None:
            self._check_shape(portal, portal.answer)
            yield from self._rows(portal, message.rows_max)

    def _close(self, message: m.Close) -> Work:
        # Postgres docs, Close: it is not an error to close what does not exist.
        kept: dict[str, Any] = self._store.statements if message.kind == "S" else self._store.portals
        kept.pop(message.name, None)
        yield encode(m.CLOSE_COMPLETE)

    def _sync(self, _message: m.Sync) -> Work:
        self._leave()
        yield self.ready()

    def _nothing(self, _message: m.Frontend) -> Work:
        yield from ()

    def _function_call(self, _message: m.FunctionCall) -> Work:
        words = "function calls by message are not supported"
        raise Refusal(sqlstate.FEATURE_NOT_SUPPORTED, words, hint="Ask with SELECT.")
        yield b""

    # What both have in common.

    def _enter(self, wanted: c.Command) -> None:
        if self._transaction.status is Status.FAILED and not isinstance(wanted, _ENDS_FAILURE):
            raise _in_failed_transaction()
        self._transaction.enter()

    def _leave(self) -> None:
        self._transaction.leave()
        if not self._transaction.in_block:
            self._store.portals.clear()

    def _first_execution(self, portal: Portal, *, several: bool) -> Work:
        """Run a statement; its result, if it has one, is left in the portal."""
        statement, wanted = portal.prepared.statement, portal.prepared.command
        assert statement is not None
        assert wanted is not None
        if isinstance(wanted, c.Read):
            answer = yield from self._ask(statement, portal.parameters)
            self._store.check_result(answer)
            portal.answer = answer
            yield self._notices(answer.notices)
        elif isinstance(wanted, c.Show):
            portal.answer = self._show(wanted)
        else:
            portal.done = True
            tag, notices = self._perform(wanted, several)
            yield self._notices(notices) + encode(m.CommandComplete(tag))

    def _ask(
        self,
        statement: Statement,
        parameters: tuple[Parameter, ...],
        describe_types: tuple[int, ...] | None = None,
    ) -> Generator[Any, Answer | None, Answer]:
        question = Question(
            statement.text,
            self._user,
            parameters,
            self._settings.epsilon,
            self._settings.mode,
            describe=describe_types is not None,
            parameter_types=describe_types or (),
        )
        try:
            answer = yield Ask(question, self._settings.statement_timeout_ms)
        except Refusal as refusal:
            raise _shifted(refusal, statement.offset) from None
        assert answer is not None
        return answer

    def _rows(self, portal: Portal, rows_max: int) -> Work:
        answer = portal.answer
        assert answer is not None
        left = answer.table.num_rows - portal.rows_sent
        count = min(left, rows_max) if rows_max else left
        part = answer.table.slice(portal.rows_sent, count)
        yield from data_rows(part, answer.columns, portal.formats)
        portal.rows_sent += count
        # Exactly as many as asked for: whether there are more, the next Execute tells (Postgres does so too).
        if rows_max and count == rows_max:
            yield encode(m.PORTAL_SUSPENDED)
            return
        # The tag counts the rows of this Execute, not of the portal.
        yield encode(m.CommandComplete(re.sub(r"^SELECT \d+$", f"SELECT {count}", answer.tag)))

    def _check_shape(self, portal: Portal, answer: Answer) -> None:
        described = [column.type_oid for column in portal.prepared.columns or ()]
        if [column.type_oid for column in answer.columns] != described:
            portal.answer = None
            words = "cached plan must not change result type"
            raise Refusal(sqlstate.FEATURE_NOT_SUPPORTED, words)

    def _notices(self, notices: tuple[Notice, ...]) -> bytes:
        wanted = (notice for notice in notices if self._settings.wants(notice.severity))
        return b"".join(encode(notice_response(notice)) for notice in wanted)

    def _show(self, wanted: c.Show) -> Answer:
        if wanted.name is None:
            return _texts(_SHOW_ALL, self._settings.all())
        value = self._settings.get(wanted.name)
        name = TABLE[wanted.name].name if wanted.name in TABLE else wanted.name
        return _texts((ResultColumn(name, oids.TEXT),), [(value,)])

    # Session commands: each gives its tag and notices.

    def _perform(self, wanted: c.Command, several: bool) -> tuple[str, tuple[Notice, ...]]:
        transaction, settings = self._transaction, self._settings
        match wanted:
            case c.Begin(tag, modes):
                return tag, () if transaction.begin(modes) else (_ALREADY,)
            case c.Commit(chain):
                return self._ended("COMMIT", chain)
            case c.Rollback(chain):
                return self._ended("ROLLBACK", chain)
            case c.Savepoint(name):
                transaction.savepoint(name)
                return "SAVEPOINT", ()
            case c.Release(name):
                transaction.release(name)
                return "RELEASE", ()
            case c.RollbackTo(name):
                transaction.rollback_to(name)
                return "ROLLBACK", ()
            case c.Set(name, values, local):
                settings.set(name, values, local=local)
                return "SET", () if transaction.in_block or several or not local else (_warning("SET LOCAL"),)
            case c.SetTransaction(modes, session):
                for name, value in modes:
                    settings.set(f"default_{name}" if session else name, (value,), local=not session)
                alone = not (transaction.in_block or several or session)
                return "SET", (_warning("SET TRANSACTION"),) if alone else ()
            case c.Reset(name):
                settings.reset(name)
                return "RESET", ()
            case c.Discard() | c.Deallocate() | c.CloseCursor():
                return self._forget(wanted, several), ()
            case c.Nothing(tag):
                return tag, ()
            case c.Refused(refusal):
                raise _shifted(refusal, 0)
            case c.Read() | c.Show():
                raise AssertionError("not a session command")

    def _ended(self, tag: str, chain: bool) -> tuple[str, tuple[Notice, ...]]:
        notices = () if self._transaction.in_block or chain else (_NONE_IN_PROGRESS,)
        if tag == "ROLLBACK":
            self._transaction.rollback(chain=chain)
        elif not self._transaction.commit(chain=chain):
            tag = "ROLLBACK"  # a failed transaction cannot be committed
        self._store.portals.clear()
        return tag, notices

    def _forget(self, wanted: c.Discard | c.Deallocate | c.CloseCursor, several: bool) -> str:
        match wanted:
            case c.Discard(what):
                if what == "ALL":
                    self._discard_all(several)
                return f"DISCARD {what}"
            case c.Deallocate(name):
                if name is None:
                    self._store.statements.clear()
                    return "DEALLOCATE ALL"
                self._store.statement(name)
                del self._store.statements[name]
                return "DEALLOCATE"
            case c.CloseCursor(name):
                if name is None:
                    self._store.portals.clear()
                    return "CLOSE CURSOR ALL"
                if self._store.portals.pop(name, None) is None:
                    raise Refusal(sqlstate.INVALID_CURSOR_NAME, f'cursor "{name}" does not exist')
                return "CLOSE CURSOR"

    def _discard_all(self, several: bool) -> None:
        if self._transaction.in_block or several:
            words = "DISCARD ALL cannot run inside a transaction block"
            raise Refusal(sqlstate.ACTIVE_SQL_TRANSACTION, words)
        self._settings.reset(None)
        self._store.statements.clear()
        self._store.portals.clear()


_HANDLERS: Final[dict[type[m.Frontend], Callable[[Backend, Any], Work]]] = {
    m.Query: Backend._query,
    m.Parse: Backend._parse,
    m.Bind: Backend._bind,
    m.Describe: Backend._describe,
    m.Execute: Backend._execute,
    m.Close: Backend._close,
    m.Flush: Backend._nothing,
    m.Sync: Backend._sync,
    m.FunctionCall: Backend._function_call,
}

_ALREADY: Final = Notice("there is already a transaction in progress", "WARNING", sqlstate.ACTIVE_SQL_TRANSACTION)
_NONE_IN_PROGRESS: Final = Notice(
    "there is no transaction in progress", "WARNING", sqlstate.NO_ACTIVE_SQL_TRANSACTION
)


def _warning(what: str) -> Notice:
    words = f"{what} can only be used in transaction blocks"
    return Notice(words, "WARNING", sqlstate.NO_ACTIVE_SQL_TRANSACTION)


def _texts(columns: tuple[ResultColumn, ...], rows: list[Any]) -> Answer:
    arrays = [pa.array([row[index] for row in rows], pa.string()) for index in range(len(columns))]
    table = pa.Table.from_arrays(arrays, names=[column.name for column in columns])
    return Answer(columns, table, "SHOW")


def _in_failed_transaction() -> Refusal:
    words = "current transaction is aborted, commands ignored until end of transaction block"
    return Refusal(sqlstate.IN_FAILED_SQL_TRANSACTION, words)


def _shifted(refusal: Refusal, offset: int) -> Refusal:
    """The refusal with its position counted in the whole text; a fresh one, since it may be kept and reused."""
    position = None if refusal.position is None else refusal.position + offset
    return Refusal(refusal.sqlstate, refusal.message, hint=refusal.hint, position=position, detail=refusal.detail)
