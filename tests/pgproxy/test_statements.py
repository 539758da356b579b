from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy import statements
from pgproxy.statements import Kind, identifier, quote_identifier, split, string_value, tokenize
from rewriter.refusal import Refusal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("select 1", ["select 1"]),
        (" select 1 ; ; select 2;", ["select 1", "select 2"]),
        ("select ';' ; x", ["select ';'", "x"]),
        ("select 'it''s;' ; x", ["select 'it''s;'", "x"]),
        (r"select E'\';' ; x", [r"select E'\';'", "x"]),
        (r"select '\'; x", [r"select '\'", "x"]),
        ('select ";""" ; x', ['select ";"""', "x"]),
        ("select $$;$$ ; x", ["select $$;$$", "x"]),
        ("select $a$ $$;$b$ $a$ ; x", ["select $a$ $$;$b$ $a$", "x"]),
        ("a$b$ ; c$b$", ["a$b$", "c$b$"]),
        ("select $1;$2", ["select $1", "$2"]),
        ("a -- ; no\n; b", ["a", "b"]),
        ("/* ; /* ; */ ; */ a /* ; */ b ; c", ["a /* ; */ b", "c"]),
        ("select U&'\\0041;' ; B'0;' ; nö$ ;", ["select U&'\\0041;'", "B'0;'", "nö$"]),
        ("", []),
        ("-- only this", []),
        ("1.5e10..2 ; .5", ["1.5e10..2", ".5"]),
    ],
)
def test_statements_end_at_semicolons_that_are_not_quoted(text: str, parts: list[str]) -> None:
    found = split(text)
    assert [statement.text for statement in found] == parts
    for statement in found:
        assert text[statement.offset :].startswith(statement.text)


@pytest.mark.parametrize(
    ("text", "what", "position"),
    [
        ("select 'abc", "quoted string", 8),
        ("select e'abc\\'", "quoted string", 8),
        ('ż "abc', "quoted identifier", 3),
        ("select $$abc", "dollar-quoted string", 8),
        ("a /* /* */", "/* comment", 3),
        ("''''''''''z'", "quoted string", 12),
    ],
)
def test_what_does_not_end_is_refused_with_its_place(text: str, what: str, position: int) -> None:
    with pytest.raises(Refusal) as raised:
        split(text)
    assert raised.value.message.startswith(f"unterminated {what} at or near ")
    assert (raised.value.sqlstate, raised.value.position) == ("42601", position)


@given(st.text(alphabet="ab1$'\"\\;-/* \nEeUu&.\u00e4", max_size=60))
def test_any_text_is_cut_or_refused_and_no_token_is_lost(text: str) -> None:
    try:
        tokens = tokenize(text)
    except Refusal:
        return
    assert [text[token.start : token.end] for token in tokens] == [token.text for token in tokens]
    assert all(one.end <= two.start for one, two in pairwise(tokens))


def test_the_number_of_statements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "STATEMENTS_MAX", 2)
    with pytest.raises(Refusal) as raised:
        split("a;b;c")
    assert raised.value.sqlstate == "54000"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it''s'", "it's"),
        (r"'a\n'", r"a\n"),
        (r"E'a\n\x41\101\u0041\\\''", "a\nAAA\\'"),
        ("$$a'b$$", "a'b"),
        ("$x$a$$b$x$", "a$$b"),
    ],
)
def test_string_constants_mean_what_postgres_says(text: str, value: str) -> None:
    (token,) = tokenize(text)
    assert token.kind is Kind.STRING
    assert string_value(token) == value


@given(st.text(min_size=1).filter(lambda name: "\x00" not in name))
def test_a_quoted_identifier_reads_back(name: str) -> None:
    (token,) = tokenize(quote_identifier(name))
    assert identifier(token) == name
