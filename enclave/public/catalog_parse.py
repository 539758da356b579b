"""catalog_parse: text of one statement -> sqlglot's tree, past what its Postgres grammar stumbles over."""

from __future__ import annotations

import re
from typing import Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from rewriter import parse as rewriter_parse

PARAMETER: Final = rewriter_parse.PARAMETER
"""The name of the quoted identifier that stands for a parameter in a tree: `$1` becomes `"$1"`."""
_PARAMETER_START: Final = re.compile(r"(?<![\w$])\$(?=[0-9])")
_STATEMENT_WORDS: Final = (TokenType.SELECT, TokenType.INSERT, TokenType.UPDATE, TokenType.DELETE)
_ARRAY: Final = [TokenType.L_BRACKET, TokenType.R_BRACKET]


def parse(text: str) -> exp.Expr:
    """Read one statement.

    Raises:
        Refusal: as rewriter.parse.parse.
    """
    return rewriter_parse.parse(mend(text)).tree


def mend(text: str) -> str:
    """Rewrite two forms that drivers send and the parser does not take.

    `::oid[]` becomes `::pg_catalog.oid[]`: after the bare name of an object identifier type the parser takes `[]` for
    a subscript. `AS select` becomes `AS "select"`: any word is a label there.
    """
    if len(text) > rewriter_parse.BYTES_MAX or not ("[]" in text or " as " in text.lower()):
        return text
    source = _PARAMETER_START.sub(" ", text)  # `($1,$2)` would begin a dollar-quoted string
    try:
        tokens = Postgres().tokenize(source)
    except TokenError:
        return text
    mended, end = "", 0
    for at, token in enumerate(tokens[1:], 1):
        replacement = _replacement(tokens, at, token)
        if replacement:
            mended += text[end : token.start] + replacement
            end = token.end + 1
    return mended + text[end:]


def _replacement(tokens: list[Token], at: int, token: Token) -> str:
    before = tokens[at - 1].token_type
    if before == TokenType.ALIAS and token.token_type in _STATEMENT_WORDS:
        return f'"{token.text.lower()}"'
    after = [following.token_type for following in tokens[at + 1 : at + 3]]
    if before == TokenType.DCOLON and after == _ARRAY and token.token_type == TokenType.OBJECT_IDENTIFIER:
        return f"pg_catalog.{token.text}"
    return ""
