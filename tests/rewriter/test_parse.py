from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from rewriter import parse as module
from rewriter.parse import (
    BYTES_MAX,
    CHAIN_MAX,
    DEPTH_MAX,
    NESTED_MAX,
    PARAMETER,
    SUBSCRIPTS_MAX,
    TOKENS_MAX,
    parse,
    position,
)
from rewriter.refusal import Refusal


def refused(text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(text)
    return caught.value


def parameters(text: str) -> list[str]:
    return sorted(c.name for c in parse(text).tree.find_all(exp.Column) if PARAMETER.fullmatch(c.name))


def named(text: str, name: str) -> int | None:
    """The position of the column of that name."""
    return next(position(column) for column in parse(text).tree.find_all(exp.Column) if column.name == name)


# size


@pytest.mark.parametrize(
    ("name", "text", "state"),
    [
        ("bytes", "SELECT '" + "x" * BYTES_MAX + "'", "54000"),
        ("bytes of two-byte letters", "SELECT '" + "é" * (BYTES_MAX // 2) + "'", "54000"),
        ("words", "SELECT 1 WHERE 1 IN (" + "1," * (TOKENS_MAX // 2) + "1)", "54001"),
        ("parentheses", "SELECT " + "(" * (DEPTH_MAX + 1) + "1" + ")" * (DEPTH_MAX + 1), "54001"),
        ("cases", "SELECT " + "CASE WHEN true THEN " * (DEPTH_MAX + 1) + "1" + " END" * (DEPTH_MAX + 1), "54001"),
        ("ends that make room", "SELECT " + "a end, " * 60 + "(" * 60 + "1" + ")" * 60, "54001"),
        ("subqueries", "SELECT * FROM " + "(SELECT * FROM " * 49 + "t" + ") x" * 49, "54001"),
        ("ands", "SELECT 1 WHERE " + " AND ".join(["true"] * (CHAIN_MAX + 2)), "54001"),
        ("unions", " UNION ALL ".join(["SELECT 1"] * (CHAIN_MAX + 2)), "54001"),
        ("unions of a deep tree", " UNION ALL ".join(["SELECT 1"] * CHAIN_MAX), "54001"),
        ("sums", "SELECT " + "+".join(["1"] * (NESTED_MAX + 2)), "54001"),
        ("long sums", "SELECT " + "+".join(["1"] * 29_000), "54001"),
        ("casts", "SELECT 1" + "::int" * 20_000, "54001"),
        ("nots", "SELECT " + "NOT " * 20_000 + "true", "54001"),
        ("minuses", "SELECT " + "- " * 20_000 + "1", "54001"),
        ("is null", "SELECT 1" + " IS NULL" * 15_000, "54001"),
        ("betweens", "SELECT 1" + " BETWEEN 1 AND 1" * 400, "54001"),
        ("ins", "SELECT 1" + " IN (1)" * 10_000, "54001"),
        ("subscripts", "SELECT a" + "[1]" * (SUBSCRIPTS_MAX + 1), "54001"),
        ("arrows", "SELECT a" + "->1" * 10_000, "54001"),
        ("dots", "SELECT a" + ".b" * 10_000, "54001"),
        ("collations", "SELECT a" + " COLLATE x" * 10_000, "54001"),
    ],
)
def test_what_is_too_large_is_refused(name: str, text: str, state: str) -> None:
    assert refused(text).sqlstate == state


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '" + "x" * (BYTES_MAX - 9) + "'",
        "SELECT 1 WHERE 1 IN (" + "-1," * 10_000 + "1)",
        "SELECT " + "(" * DEPTH_MAX + "1" + ")" * DEPTH_MAX,
        "SELECT " + "abs(" * DEPTH_MAX + "1" + ")" * DEPTH_MAX,
        "SELECT 1 WHERE " + " AND ".join(["a = 1"] * CHAIN_MAX),
        "SELECT 1 WHERE " + " OR ".join(["(a = 1 AND b = 2)"] * (CHAIN_MAX // 2)),
        " UNION ALL ".join(["SELECT 1"] * 100),
        "SELECT " + "+".join(["1"] * (NESTED_MAX - 2)),
        "SELECT " + ", ".join(["a + b"] * 1000),
        "SELECT " + "(SELECT a + " * 20 + "1" + ")" * 20,
        "SELECT * FROM " + "(SELECT * FROM " * 24 + "t" + ") x" * 24,
        "SELECT CASE " + " ".join(f"WHEN a = {n} THEN {n}" for n in range(1000)) + " END",
    ],
)
def test_what_is_large_is_read_and_can_be_walked(text: str) -> None:
    tree = parse(text).tree
    assert len(tree.copy().sql(dialect="duckdb")) > 5


def test_a_text_made_to_be_slow_is_not() -> None:
    begun = time.process_time()
    for text in (
        "EXPLAIN (" + " " * 200_000,
        "'" * 200_001,
        "/*" * 100_000,
        "$a$ " * 60_000,
        "$" * 200_000,
        "--" * 100_000,
    ):
        with pytest.raises(Refusal):
            parse(text)
    refused("EXPLAIN (" + "verbose " * 25_000)
    refused("SELECT " + "".join(f"$a{n}$ " for n in range(30_000)))
    assert time.process_time() - begun < 10


# parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT $1", ["$1"]),
        ("SELECT $1+$2, ($3,$4)", ["$1", "$2", "$3", "$4"]),
        ("SELECT $12::int", ["$12"]),
        ("SELECT '$1', $1", ["$1"]),
        ("SELECT 'it''s $1', $2", ["$2"]),
        ("SELECT '\\', $1", ["$1"]),
        ("SELECT E'it\\'s $1', $2", ["$2"]),
        ("SELECT e'\\\\', $1", ["$1"]),
        ("SELECT E'''$1', $2", ["$2"]),
        ('SELECT "a""$1", $2', ["$2"]),
        ("SELECT $1 -- $2\n, $3", ["$1", "$3"]),
        ("SELECT $1 /* $2 */, $3", ["$1", "$3"]),
        ("SELECT $1 /* /* ' */ $2 ' */, $3", ["$1", "$3"]),
        ("SELECT $$ $1 $$, $2", ["$2"]),
        ("SELECT $a$ $1 $$ $b$ $a$, $2", ["$2"]),
        ("SELECT $a$it's$a$, $1, $a$'$a$", ["$1"]),
        ("SELECT 1 --", []),
    ],
)
def test_parameters_are_found_outside_strings_and_comments_alone(text: str, expected: list[str]) -> None:
    assert parameters(text) == expected


def test_strings_keep_what_looks_like_a_parameter() -> None:
    assert [node.name for node in parse("SELECT '$1', $$ $2 $$, $t$ $3 $t$").tree.expressions] == [
        "$1",
        " $2 ",
        " $3 ",
    ]


@pytest.mark.parametrize("text", ["SELECT a$1", "SELECT $1a", "SELECT $100000", "SELECT $0"])
def test_what_only_looks_like_a_parameter_is_none(text: str) -> None:
    assert parameters(text) == []


# positions


@pytest.mark.parametrize(
    "text",
    [
        "SELECT wanted",
        "SELECT $1, $22, wanted",
        "SELECT '$1', $1 + wanted, $2",
        "EXPLAIN SELECT wanted",
        "explain (costs off) SELECT $1, wanted FROM t WHERE $2",
        "SELECT\n  'é', $1,\n wanted",
    ],
)
def test_positions_are_those_of_the_text(text: str) -> None:
    assert named(text, "wanted") == text.index("wanted") + 1


def test_the_position_of_a_parameter_is_its_own() -> None:
    assert named("SELECT $1, $2", "$2") == 12


def test_a_node_without_a_place_has_no_position() -> None:
    assert position(exp.Null()) is None


# EXPLAIN


@pytest.mark.parametrize(
    "text",
    [
        "EXPLAIN SELECT 1",
        "  explain\nselect 1",
        "/* hello */ EXPLAIN SELECT 1",
        "-- hello\nEXPLAIN SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN (FORMAT TEXT) SELECT 1",
        "EXPLAIN (COSTS OFF, VERBOSE, FORMAT text) SELECT 1",
        "EXPLAIN (ANALYZE off) SELECT 1",
        "EXPLAIN (SELECT 1)",
        "EXPLAIN(COSTS) SELECT 1",
    ],
)
def test_explain_is_told_from_its_query(text: str) -> None:
    statement = parse(text)
    assert statement.explain
    assert statement.tree.find(exp.Select) is not None


@pytest.mark.parametrize(
    "text", ["SELECT 1", "SELECT explain FROM t", "SELECT 'EXPLAIN SELECT 1'", "-- EXPLAIN\nSELECT 1"]
)
def test_other_statements_are_not_explained(text: str) -> None:
    assert not parse(text).explain


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("EXPLAIN ANALYZE SELECT 1", "0A000", "EXPLAIN ANALYZE would run the query"),
        ("EXPLAIN analyse SELECT 1", "0A000", "EXPLAIN ANALYZE would run the query"),
        ("EXPLAIN VERBOSE ANALYZE SELECT 1", "0A000", "EXPLAIN ANALYZE would run the query"),
        ("EXPLAIN (ANALYZE) SELECT 1", "0A000", "EXPLAIN ANALYZE would run the query"),
        ("EXPLAIN (COSTS OFF, ANALYZE true) SELECT 1", "0A000", "EXPLAIN ANALYZE would run the query"),
        ("EXPLAIN (FORMAT JSON) SELECT 1", "0A000", "EXPLAIN has FORMAT TEXT alone"),
        ("EXPLAIN (colour) SELECT 1", "42601", 'unrecognized EXPLAIN option "colour"'),
        ("EXPLAIN", "42601", "syntax error at end of input"),
        ("EXPLAIN ()", "42601", 'unrecognized EXPLAIN option ")"'),
    ],
)
def test_what_explain_cannot_do_is_refused(text: str, state: str, words: str) -> None:
    assert (refused(text).sqlstate, refused(text).message) == (state, words)


# syntax


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("SELECT 1)", 'syntax error at or near ")"', 9),
        ("SELECT 1 1", 'syntax error at or near "1"', 10),
        ("SELECT $1, $2 3", 'syntax error at or near "3"', 15),
        ("SELECT\n  a b c d", 'syntax error at or near "c"', 14),
        ("EXPLAIN SELECT 1 1", 'syntax error at or near "1"', 18),
        ("SELECT 1 FROM", "syntax error at end of input", 14),
        ("SELECT (1", "syntax error at end of input", 10),
        ("SELECT a FROM t WHERE", "syntax error at end of input", 22),
        ("SELECT 'abc", 'unterminated quoted string at or near "\'abc"', 8),
        ("SELECT E'abc\\'", "unterminated quoted string at or near \"E'abc\\'\"", 8),
        ('SELECT "abc', 'unterminated quoted identifier at or near ""abc"', 8),
        ("SELECT 1 /* abc", 'unterminated /* comment at or near "/* abc"', 10),
        ("SELECT $a$ abc $$", 'unterminated dollar-quoted string at or near "$a$ abc $$"', 8),
        ("", "syntax error at end of input", None),
        ("-- nothing", "syntax error at end of input", None),
        (";", "syntax error at end of input", None),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands into a prepared statement", None),
    ],
)
def test_syntax_errors_have_postgres_words_and_place(text: str, words: str, place: int | None) -> None:
    refusal = refused(text)
    assert (refusal.sqlstate, refusal.message, refusal.position) == ("42601", words, place)


def test_a_trailing_semicolon_is_part_of_the_statement() -> None:
    assert parse("SELECT 1;").tree.sql() == "SELECT 1"


WORDS = "SELECT  1 a FROM ( ) ' $1 $$ $t$ /* */ -- E' ::int , ; AND CASE WHEN THEN END EXPLAIN ANALYZE [ ] * IN é { @"
PIECES = st.sampled_from([*WORDS.split(" "), " ", "\n", "\x00", "\\", '"'])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    try:
        parse(text)
    except Refusal as refusal:
        found = refusal
    else:
        return
    assert found.sqlstate in ("42601", "54000", "54001", "0A000")
    assert found.position is None or 1 <= found.position <= len(text) + 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["$1", "$23", ", ", "'$4'", " x ", "--\n"]), max_size=12).map("".join))
def test_offsets_go_back_to_the_text(text: str) -> None:
    found = list(module._parameters(text))
    quoted = module._quoted(text, found)
    for number, match in enumerate(found):
        assert quoted.startswith(f'"{match[0]}"', match.start() + 2 * number)
        assert module._original(match.start() + 2 * number, found) == match.start()
    assert module._original(len(quoted), found) == len(text)
