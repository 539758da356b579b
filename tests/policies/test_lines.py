from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lines import Lines, index


def test_every_way_to_write_a_key_is_found() -> None:
    text = """# a comment = 1
top = 1
[a.b]
c.d = 2
"quoted.key" = 3
'literal' = 4

[ spaced . "out" ]
x = 5
"""
    at = index(text).at
    assert at["top",] == 2
    assert at["a", "b"] == 3
    assert at["a",] == 3
    assert at["a", "b", "c", "d"] == 4
    assert at["a", "b", "quoted.key"] == 5
    assert at["a", "b", "literal"] == 6
    assert at["spaced", "out", "x"] == 9


def test_inline_tables_and_lists_over_several_lines_are_followed() -> None:
    text = """t = { a = [ # ] not the end
  1, "]", # }
  { b = '#' },
  [2,
   3],
], c = { d = 1979-05-27 07:32:00, e = 1 } }
after = 2
"""
    at = index(text).at
    assert at["t", "a", 0] == 2
    assert at["t", "a", 1] == 2
    assert at["t", "a", 2, "b"] == 3
    assert at["t", "a", 3, 1] == 5
    assert at["t", "c", "e"] == 6
    assert at["after",] == 7


def test_strings_hide_what_looks_like_toml() -> None:
    text = '''a = """
[not.a.table]
b = 1 \\""" ""\\"
"""""
c = \'\'\'
d = 2
\'\'\'
e = "\\"#"
'''
    tomllib.loads(text)
    assert index(text).at == {(): 1, ("a",): 1, ("c",): 5, ("e",): 8}


def test_tables_in_lists_are_counted() -> None:
    text = "[[a]]\nx = 1\n[[a]]\nx = 2\n[a.b]\ny = 3\n"
    at = index(text).at
    assert at["a", 0, "x"] == 2
    assert at["a", 1, "x"] == 4
    assert at["a", 1, "b", "y"] == 6


def test_a_header_after_its_children_is_the_better_place() -> None:
    assert index("[a.b]\nx = 1\n[a]\ny = 2\n").at["a",] == 3


def test_line_ends_of_windows_count_once() -> None:
    assert index("a = 1\r\nb = 2\r\n").at["b",] == 2


def test_what_is_missing_is_looked_for_around_its_place() -> None:
    lines = index("[a]\n[b]\nc = [1]\n")
    assert lines.of(("b", "c", 7)) == 3
    assert lines.of(("b", "d", "e")) == 2
    assert lines.of(("z",)) == 1
    assert Lines().of(("z",)) == 0


@pytest.mark.parametrize("text", ["= 1", "a = 1\n]"])
def test_what_tomllib_refuses_is_not_misread_for_ever(text: str) -> None:
    with pytest.raises(ValueError, match="not TOML"):
        index(text)


_keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)
_leaves = st.one_of(
    st.integers(-5, 5).map(str),
    st.just("true"),
    st.just("1.5e3"),
    st.just("2020-01-01 10:00:00Z"),
    st.sampled_from(['"]"', "'}'", '"""\n#\n"""', "'''''a\n'''", '"\\""']),
)
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[\n" + ",\n".join(items) + "\n]"),
        st.dictionaries(_keys, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{_quoted(key)} = {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=8,
)


def _quoted(key: str) -> str:
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _paths(value: Any, path: tuple[Any, ...] = ()) -> set[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path}
    for key, item in items:
        found |= _paths(item, (*path, key))
    return found


@given(st.dictionaries(_keys, _values, max_size=4))
def test_it_sees_the_paths_that_tomllib_sees(document: dict[str, str]) -> None:
    text = "\n# [x]\n".join(f"{_quoted(key)} = {value}" for key, value in document.items())
    assert set(index(text).at) == _paths(tomllib.loads(text))
