from __future__ import annotations

import pytest

from pgproxy import commands as c
from pgproxy.grammar import command
from pgproxy.statements import split
from rewriter.refusal import Refusal


def parsed(text: str) -> c.Command:
    (statement,) = split(text)
    return command(statement)


SERIALIZABLE = ("transaction_isolation", "serializable")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select 1", c.Read()),
        ("/* dbt */ with a as (select 1) select * from a", c.Read()),
        ("((select 1))", c.Read()),
        ("values (1)", c.Read()),
        ("table t", c.Read()),
        ("explain analyze select 1", c.Read()),
        ("begin", c.Begin("BEGIN", ())),
        ("BEGIN WORK", c.Begin("BEGIN", ())),
        ("start transaction isolation level serializable", c.Begin("START TRANSACTION", (SERIALIZABLE,))),
        (
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY NOT DEFERRABLE",
            c.Begin("BEGIN", (SERIALIZABLE, ("transaction_read_only", "on"), ("transaction_deferrable", "off"))),
        ),
        ("commit", c.Commit(False)),
        ("end transaction and chain", c.Commit(True)),
        ("abort", c.Rollback(False)),
        ("rollback work and no chain", c.Rollback(False)),
        ("savepoint A", c.Savepoint("a")),
        ('release savepoint "A b"', c.Release("A b")),
        ("release a", c.Release("a")),
        ("release savepoint", c.Release("savepoint")),
        ("rollback to a", c.RollbackTo("a")),
        ("ROLLBACK TRANSACTION TO SAVEPOINT a", c.RollbackTo("a")),
        ("set A.b to 'x'", c.Set("a.b", ("x",), False)),
        ("set session x = -1.5", c.Set("x", ("-1.5",), False)),
        ("set local x = on", c.Set("x", ("on",), True)),
        ("set x to default", c.Set("x", None, False)),
        ("set search_path = a, \"B\", 'c'", c.Set("search_path", ("a", "B", "c"), False)),
        ("set time zone 'UTC'", c.Set("timezone", ("UTC",), False)),
        ("set time zone local", c.Set("timezone", None, False)),
        ("set names 'utf8'", c.Set("client_encoding", ("utf8",), False)),
        ("set schema 'x'", c.Set("search_path", ("x",), False)),
        ("set role none", c.Set("role", ("none",), False)),
        ("set session authorization default", c.Set("session_authorization", None, False)),
        ("set transaction isolation level serializable", c.SetTransaction((SERIALIZABLE,), False)),
        (
            "set session characteristics as transaction isolation level serializable",
            c.SetTransaction((SERIALIZABLE,), True),
        ),
        ("set constraints all deferred", c.Nothing("SET CONSTRAINTS")),
        ("reset all", c.Reset(None)),
        ("reset time zone", c.Reset("timezone")),
        ("show all", c.Show(None)),
        ("show transaction isolation level", c.Show("transaction_isolation")),
        ("show TimeZone", c.Show("timezone")),
        ("discard all", c.Discard("ALL")),
        ("discard temporary", c.Discard("TEMP")),
        ("deallocate prepare x", c.Deallocate("x")),
        ("deallocate all", c.Deallocate(None)),
        ('close "C"', c.CloseCursor("C")),
        ("unlisten *", c.Nothing("UNLISTEN")),
    ],
)
def test_statements_and_what_they_want(text: str, wanted: c.Command) -> None:
    assert parsed(text) == wanted


@pytest.mark.parametrize(
    ("text", "near", "position"),
    [
        ("selec 1", "selec", 1),
        ("begin foo", "foo", 7),
        ("set = 1", "=", 5),
        ("set x 1", "1", 7),
        ("show a b", "b", 8),
        ("savepoint 'a'", "'a'", 11),
        ("discard some", "some", 9),
        ("rollback to a b", "b", 15),
        ("set x = -'a'", "'a'", 10),
        ("$1", "$1", 1),
    ],
)
def test_wrong_grammar_is_refused_where_it_is(text: str, near: str, position: int) -> None:
    with pytest.raises(Refusal) as raised:
        parsed(text)
    assert raised.value.message == f'syntax error at or near "{near}"'
    assert (raised.value.sqlstate, raised.value.position) == ("42601", position)


@pytest.mark.parametrize("text", ["show", "set x to", "savepoint", "start transaction isolation", "set"])
def test_a_statement_that_stops_short_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="syntax error"):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("insert into t values (1)", "INSERT"),
        ("UPDATE t SET a = 1", "UPDATE"),
        ("merge into t using s on true", "MERGE"),
        ("truncate t", "TRUNCATE TABLE"),
        ("create or replace temp view v as select 1", "CREATE VIEW"),
        ("create unique index on t (a)", "CREATE INDEX"),
        ("alter table t add b int", "ALTER TABLE"),
        ("drop foreign table t", "DROP FOREIGN TABLE"),
        ("copy t (a) from stdin", "COPY FROM"),
        ("refresh materialized view v", "REFRESH MATERIALIZED VIEW"),
        ("commit prepared 'x'", "COMMIT PREPARED"),
    ],
)
def test_what_writes_is_refused_by_its_tag(text: str, tag: str) -> None:
    found = parsed(text)
    assert isinstance(found, c.Refused)
    assert found.refusal.message == f"cannot execute {tag} in a read-only transaction"


@pytest.mark.parametrize(
    "text", ["declare c cursor for select 1", "copy (select a from t) to stdout", "prepare p as select 1"]
)
def test_what_is_not_built_says_what_to_do_instead(text: str) -> None:
    found = parsed(text)
    assert isinstance(found, c.Refused)
    assert found.refusal.sqlstate == "0A000"
    assert found.refusal.hint
