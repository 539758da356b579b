"""statements: SQL text -> tokens -> statements, cut at semicolons.

This is Postgres' lexical structure (docs, section 4.1; scan.l) and no more: enough to find where a statement ends
and to read session commands (commands.py). SQL proper is parsed behind the gate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from pgproxy import sqlstate
from rewriter.refusal import Refusal

STATEMENTS_MAX: Final = 1_000
"""Statements in one Query. Tools send up to a dozen; each may cost a question."""


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    QUOTED = auto()  # "identifier"
    STRING = auto()  # '...', E'...', $$...$$
    NUMBER = auto()
    PARAMETER = auto()  # $1
    SYMBOL = auto()


class Token(NamedTuple):
    """A token as written; `start` is a 0-based character offset in the text."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset behind the token."""
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """The upper-case keyword or identifier, "" for anything else."""
        return self.text.upper() if self.kind is Kind.WORD else ""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement from its first to its last token.

    Attributes:
        text: without the semicolon and without comments around it.
        offset: of its first character in the text it came from.
        tokens: all of them; their `start` counts from the beginning of the text it came from.
    """

    text: str
    offset: int
    tokens: tuple[Token, ...]


# Possessive quantifiers (Python 3.11): no backtracking, so an unterminated quote costs linear time and is never
# read again as something shorter.
_TOKEN: Final = re.compile(
    r"""
      (?P<space>[\ \t\n\r\f\v]++|--[^\n\r]*+)
    | (?P<comment>/\*)
    | (?P<string>
          [eE]'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+'
        | (?:[bBxXnN]|[uU]&)?+'[^']*+(?:''[^']*+)*+')
    | (?P<quoted>(?:[uU]&)?+"[^"]*+(?:""[^"]*+)*+")
    | (?P<open>[eE]'|(?:[bBxXnN]|[uU]&)?+'|(?:[uU]&)?+")
    | (?P<parameter>\$[0-9]++)
    | (?P<dollar>\$(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*+)?+\$)
    | (?P<number>(?:[0-9]++(?:\.(?!\.)[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+)
    | (?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*+)
    | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_KINDS: Final = {
    "string": Kind.STRING,
    "quoted": Kind.QUOTED,
    "parameter": Kind.PARAMETER,
    "number": Kind.NUMBER,
    "word": Kind.WORD,
    "symbol": Kind.SYMBOL,
}


def split(text: str) -> list[Statement]:
    """Cut a text into its statements; empty ones are left out.

    Raises:
        Refusal: 42601, a quote or comment has no end; 54000, there are too many statements.
    """
    found: list[Statement] = []
    tokens: list[Token] = []
    for token in tokenize(text):
        if token.text == ";" and token.kind is Kind.SYMBOL:
            _keep(found, text, tokens)
            tokens = []
        else:
            tokens.append(token)
    _keep(found, text, tokens)
    return found


def tokenize(text: str) -> list[Token]:
    """Read a text to its end; white space and comments are left out.

    Raises:
        Refusal: 42601 with its position, a quote or comment has no end.
    """
    tokens: list[Token] = []
    position = 0
    while match := _TOKEN.match(text, position):
        start, position = match.span()
        group = str(match.lastgroup)
        if group == "space":
            continue
        if group == "comment":
            position = _comment_end(text, start)
        elif group == "open":
            raise _unterminated(text, start)
        elif group == "dollar":
            position = _dollar_end(text, start, match[0])
            tokens.append(Token(Kind.STRING, text[start:position], start))
        else:
            tokens.append(Token(_KINDS[group], match[0], start))
    return tokens


def string_value(token: Token) -> str:
    """What a string constant means."""
    text = token.text
    if text.startswith("$"):
        tag_chars = text.index("$", 1) + 1
        return text[tag_chars:-tag_chars]
    prefix, _, body = text.partition("'")
    body = body[:-1].replace("''", "'")
    return _ESCAPE.sub(_unescaped, body) if prefix in ("e", "E") else body


def identifier(token: Token) -> str:
    """The name that an identifier means: lower case unless quoted."""
    if token.kind is Kind.QUOTED:
        return token.text[token.text.index('"') + 1 : -1].replace('""', '"')
    return token.text.lower()


def quote_identifier(name: str) -> str:
    """Write a name so that it reads back as itself."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def syntax_error(token: Token | None) -> Refusal:
    """Postgres' words for a token that cannot stand where it does; None is the end of the input."""
    if token is None:
        return Refusal(sqlstate.SYNTAX_ERROR, "syntax error at end of input")
    words = f'syntax error at or near "{token.text}"'
    return Refusal(sqlstate.SYNTAX_ERROR, words, position=token.start + 1)


def _keep(found: list[Statement], text: str, tokens: list[Token]) -> None:
    if not tokens:
        return
    if len(found) == STATEMENTS_MAX:
        raise Refusal(
            sqlstate.PROGRAM_LIMIT_EXCEEDED,
            f"more than {STATEMENTS_MAX} statements in one query",
            hint="Send them in several queries.",
        )
    start, end = tokens[0].start, tokens[-1].end
    found.append(Statement(text[start:end], start, tuple(tokens)))


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise _unended("/* comment", text, start)


def _dollar_end(text: str, start: int, tag: str) -> int:
    found = text.find(tag, start + len(tag))
    if found < 0:
        raise _unended("dollar-quoted string", text, start)
    return found + len(tag)


def _unterminated(text: str, start: int) -> Refusal:
    first_quote = re.compile("['\"]").search(text, start)
    double = first_quote is not None and first_quote[0] == '"'
    return _unended("quoted identifier" if double else "quoted string", text, start)


def _unended(what: str, text: str, start: int) -> Refusal:
    words = f'unterminated {what} at or near "{text[start : start + 60]}"'
    return Refusal(sqlstate.SYNTAX_ERROR, words, position=start + 1)


_ESCAPE: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_LETTERS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _unescaped(match: re.Match[str]) -> str:
    octal, short, basic, full, letter = match.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    code = int(octal, 8) if octal else int(short or basic or full, 16)
    if not 0 < code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise Refusal(sqlstate.SYNTAX_ERROR, "invalid Unicode escape value")
    return chr(code)
