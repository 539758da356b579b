"""catalog_parse: text of one statement -> sqlglot's tree, past what its Postgres grammar stumbles over."""

from __future__ import annotations

import re
from typing import Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rewriter.refusal import Refusal

PARAMETER: Final = re.compile(r"\$([0-9]{1,5})")
"""The name of the quoted identifier that stands for a parameter in our trees."""
_STATEMENT_WORDS: Final = (TokenType.SELECT, TokenType.INSERT, TokenType.UPDATE, TokenType.DELETE)
_SKIPPED: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*)?\$.*?\$\1\$|(?<![\w$])\$[0-9]{1,5}(?!\w)""",
    re.S,
)


def parse(text: str) -> exp.Expr:
    """Read one statement.

    Raises:
        Refusal: 42601 where it cannot be read.
    """
    dialect = Postgres()
    source = _SKIPPED.sub(_quote_parameter, text)  # `($1,$2)` would begin a dollar-quoted string
    try:
        trees = dialect.parser().parse(_mended(dialect.tokenize(source)), source)
    except (ParseError, TokenError, RecursionError):
        raise Refusal("42601", "syntax error") from None
    found = [tree for tree in trees if tree is not None]
    if len(found) != 1:
        raise Refusal("42601", "cannot insert multiple commands into a prepared statement")
    return found[0]


def _quote_parameter(match: re.Match[str]) -> str:
    return f'"{match[0]}"' if PARAMETER.fullmatch(match[0]) else match[0]


def _mended(tokens: list[Token]) -> list[Token]:
    """Give the parser what it can read.

    Write `::oid[]` as `::pg_catalog.oid[]`: after the bare name the parser takes `[]` for an index.
    """
    result: list[Token] = []
    for at, token in enumerate(tokens):
        if result and result[-1].token_type == TokenType.ALIAS and token.token_type in _STATEMENT_WORDS:
            token = _like(token, TokenType.VAR, token.text)  # `AS select` is a label in Postgres
        after = [following.token_type for following in tokens[at + 1 : at + 3]]
        bare = bool(result) and result[-1].token_type == TokenType.DCOLON
        if bare and after == [TokenType.L_BRACKET, TokenType.R_BRACKET]:
            result += [_like(token, TokenType.VAR, "pg_catalog"), _like(token, TokenType.DOT, ".")]
            token = _like(token, TokenType.VAR, token.text)
        result.append(token)
    return result


def _like(token: Token, kind: TokenType, text: str) -> Token:
    return Token(kind, text, line=token.line, col=token.col, start=token.start, end=token.end)
