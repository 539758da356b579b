"""parse: the text of one statement -> sqlglot's tree, after its size has been counted on tokens.

sqlglot recurses and copies, so a hostile text is refused by its tokens before any of that starts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rewriter.refusal import Refusal

BYTES_MAX: Final = 256 * 1024
TOKENS_MAX: Final = 60_000  # an IN list of 10,000 entries is 20,000 tokens
DEPTH_MAX: Final = 48  # open parentheses, CASEs and subqueries; sqlglot's own recursion ends near 50
CHAIN_MAX: Final = 500  # AND, OR, UNION and the like: each is a level of the tree

PARAMETER: Final = re.compile(r"\$([1-9][0-9]{0,4})")
"""The name of the quoted identifier that stands for a parameter in our trees: `$1` becomes `"$1"`."""

_SKIPPED: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*)?\$.*?\$\1\$|(?<![\w$])\$[1-9][0-9]{0,4}(?!\w)""",
    re.S,
)
_CHAINS: Final = frozenset({TokenType.AND, TokenType.OR, TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT})
_EXPLAIN: Final = re.compile(r"\s*explain\b\s*(\(\s*(?:format\s+text|costs\s+\w+|verbose\s*\w*|,|\s)*\))?", re.I)


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement; `explain` if it asked for the plan alone."""

    tree: exp.Expr
    explain: bool = False


def parse(text: str) -> Statement:
    """Read one statement.

    Raises:
        Refusal: 42601 a syntax error, 54000 or 54001 too large, 0A000 EXPLAIN ANALYZE.
    """
    match = _EXPLAIN.match(text)
    body = text if match is None else text[match.end() :]
    if match is not None and re.match(r"\s*(\(\s*)?(analyze|analyse)\b", body, re.I):
        raise Refusal("0A000", "EXPLAIN ANALYZE would run the query", hint="Use EXPLAIN, which is free.")
    return Statement(_tree(body), match is not None)


def position(node: exp.Expr) -> int | None:
    """Where a node stands in its text, 1-based, if sqlglot kept it."""
    for part in node.walk():
        if "start" in part.meta:
            return int(part.meta["start"]) + 1
    return None


def _tree(text: str) -> exp.Expr:
    if len(text.encode()) > BYTES_MAX:
        raise Refusal("54000", f"statement is longer than {BYTES_MAX} bytes", hint="Join with a public table.")
    dialect = Postgres()
    # `($1,$2)` would begin a dollar-quoted string.
    source = _SKIPPED.sub(lambda m: f'"{m[0]}"' if PARAMETER.fullmatch(m[0]) else m[0], text)
    try:
        tokens = dialect.tokenize(source)
        _check_size(tokens)
        trees = [tree for tree in dialect.parser().parse(tokens, source) if tree is not None]
    except (ParseError, TokenError) as error:
        raise _syntax_error(error) from None
    except RecursionError:
        raise _too_deep() from None
    if len(trees) != 1:
        raise Refusal("42601", "cannot insert multiple commands into a prepared statement")
    return trees[0]


def _check_size(tokens: list[Token]) -> None:
    if len(tokens) > TOKENS_MAX:
        raise Refusal("54001", f"statement has more than {TOKENS_MAX} words", hint="Join with a public table.")
    depth = chain = 0
    for token in tokens:
        kind = token.token_type
        if kind in (TokenType.L_PAREN, TokenType.CASE, TokenType.L_BRACKET):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END, TokenType.R_BRACKET):
            depth -= 1
        chain += kind in _CHAINS
        if depth > DEPTH_MAX:
            raise _too_deep()
    if chain > CHAIN_MAX:
        raise Refusal("54001", f"statement has more than {CHAIN_MAX} ANDs, ORs and UNIONs", hint="Use an IN list.")


def _too_deep() -> Refusal:
    return Refusal("54001", "stack depth limit exceeded", hint=f"Nest at most {DEPTH_MAX} levels.")


def _syntax_error(error: ParseError | TokenError) -> Refusal:
    """Postgres' words; of sqlglot's only the place and the word that stood there."""
    details = getattr(error, "errors", None) or [{}]
    word = details[0].get("highlight")
    if not word:
        return Refusal("42601", "syntax error at end of input")
    return Refusal("42601", f'syntax error at or near "{word}"')
