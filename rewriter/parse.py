"""parse: the text of one statement -> sqlglot's tree, after its size has been counted on tokens.

sqlglot recurses and copies, so a hostile text is refused by its tokens before any of that starts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
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
SUBSCRIPTS_MAX: Final = 100  # sqlglot's time is quadratic in a[1][1][1]...
NESTED_MAX: Final = 80  # operators within operators: `1 + 1 + 1 ...` needs no parentheses and is as deep as long
TREE_MAX: Final = 160  # levels of the whole tree; what walks it later recurses, at up to five calls a level

PARAMETERS_MAX: Final = 65_535  # what a Bind can count (Postgres docs, Message Formats)
PARAMETER: Final = re.compile(r"\$([1-9][0-9]{0,4})")
"""The name of the quoted identifier that stands for a parameter in our trees: `$1` becomes `"$1"`."""

_CHAINS: Final = frozenset({TokenType.AND, TokenType.OR, TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT})
_SPACE: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*(?:(?!\*/).)*\*/)*+"
_EXPLAIN: Final = re.compile(_SPACE + r"explain\b" + _SPACE, re.I | re.S)
_FLAG: Final = re.compile(r"(analyze|analyse|verbose)\b" + _SPACE, re.I | re.S)
_OPTIONS: Final = re.compile(r"\(([\w\s,]*+)\)")
_OPTION: Final = re.compile(
    r"(?:(?:analyze|analyse)\s+(?:off|false|0)|(?:verbose|costs|settings|buffers|wal|timing|summary)(?:\s+\w+)?|format\s+text)",
    re.I,
)


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
    if len(text.encode()) > BYTES_MAX:
        raise Refusal("54000", f"statement is longer than {BYTES_MAX} bytes", hint="Join with a public table.")
    start = _after_explain(text)
    return Statement(_tree(" " * start + text[start:]), start > 0)  # blanks: positions stay those of the text


def position(node: exp.Expr) -> int | None:
    """Where a node stands in its text, 1-based, if sqlglot kept it."""
    for part in node.walk():
        if "start" in part.meta:
            return int(part.meta["start"]) + 1
    return None


def _after_explain(text: str) -> int:
    """Where the query begins behind EXPLAIN and its options (Postgres docs, EXPLAIN); 0 without EXPLAIN."""
    match = _EXPLAIN.match(text)
    if match is None:
        return 0
    at = match.end()
    while flag := _FLAG.match(text, at):
        _check_explained(flag[1])
        at = flag.end()
    options = _OPTIONS.match(text, at)
    if options is None or re.match(r"\s*(select|with|values|table)\b", options[1], re.I):
        return at
    for option in options[1].split(","):
        _check_explained(option.strip())
    return options.end()


def _check_explained(option: str) -> None:
    if _OPTION.fullmatch(option):
        return
    if option[:5].lower() == "analy":
        raise Refusal("0A000", "EXPLAIN ANALYZE would run the query", hint="Use EXPLAIN, which is free.")
    word = option.split()[0] if option.split() else ")"
    if word.lower() == "format":
        raise Refusal("0A000", "EXPLAIN has FORMAT TEXT alone")
    raise Refusal("42601", f'unrecognized EXPLAIN option "{word}"')


_POSTGRES_NAMES: Final = {"rand": "random", "group_concat": "string_agg", "pad": "lpad", "array_agg": "array_agg"}


def function_name(node: exp.Func) -> str:
    """The name of a function as an analyst would write it; sqlglot has names of its own for some."""
    name = str(node.this) if isinstance(node, exp.Anonymous) else node.sql_name()
    return _POSTGRES_NAMES.get(name.lower(), name.lower())


def folded(identifier: exp.Expr | str) -> str:
    """A name as Postgres takes it: lower case unless it was quoted."""
    if isinstance(identifier, str):
        return identifier.lower()
    quoted = isinstance(identifier, exp.Identifier) and identifier.args.get("quoted")
    return identifier.name if quoted else identifier.name.lower()


def _tree(text: str) -> exp.Expr:
    dialect = Postgres()
    # `($1,$2)` would begin a dollar-quoted string.
    parameters = list(_parameters(text))
    for match in parameters:
        if int(match[0][1:]) > PARAMETERS_MAX:
            raise Refusal("42P02", f"there is no parameter {match[0]}", position=match.start() + 1)
    source = _quoted(text, parameters)
    try:
        tokens = dialect.tokenize(source)
        _check_size(tokens)
        trees = [tree for tree in dialect.parser().parse(tokens, source) if tree is not None]
    except (ParseError, TokenError) as error:
        raise _syntax_error(error, source, parameters) from None
    except RecursionError:
        raise _too_deep() from None
    except (TypeError, ValueError, AttributeError, LookupError):  # sqlglot's own, as for `1::"integer); x"`
        raise Refusal("42601", "syntax error") from None
    if not trees:
        raise Refusal("42601", "syntax error at end of input")
    if len(trees) > 1:
        raise Refusal("42601", "cannot insert multiple commands into a prepared statement")
    _check_depth(trees[0])
    _restore_positions(trees[0], parameters)
    return trees[0]


# What a `$1` can hide in: E'..' and '..' and ".." strings, comments, $tag$..$tag$.
_NEXT: Final = re.compile(
    r"""(?<!\w)[eE]'|['"]|--|/\*|(?<![\w$])\$(?:[A-Za-z_]\w*)?\$|(?<![\w$])\$[1-9][0-9]{0,4}(?!\w)"""
)
_REST: Final = {
    "'": re.compile(r"[^']*+(?:''[^']*+)*+'"),
    '"': re.compile(r'[^"]*+(?:""[^"]*+)*+"'),
    "e'": re.compile(r"[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'", re.S),
    "--": re.compile(r"[^\n]*+"),
}
_COMMENT: Final = re.compile(r"/\*|\*/")


def _parameters(text: str) -> Iterator[re.Match[str]]:
    """Every `$n` that is a parameter.

    Raises:
        Refusal: 42601, a string or comment does not end (in Postgres' words).
    """
    at = 0
    while match := _NEXT.search(text, at):
        if PARAMETER.fullmatch(match[0]):
            yield match
            at = match.end()
        else:
            at = _end_of(text, match)


def _end_of(text: str, opening: re.Match[str]) -> int:
    """Where the string or comment ends that begins here."""
    sign, at = opening[0].lower(), opening.end()
    if sign in _REST:
        match = _REST[sign].match(text, at)
        if match is not None:
            return match.end()
        raise _unterminated("quoted identifier" if sign == '"' else "quoted string", text, opening.start())
    if sign == "/*":
        open_ = 1
        for mark in _COMMENT.finditer(text, at):
            open_ += 1 if mark[0] == "/*" else -1  # Postgres' comments nest
            if open_ == 0:
                return mark.end()
        raise _unterminated("/* comment", text, opening.start())
    end = text.find(opening[0], at)
    if end < 0:
        raise _unterminated("dollar-quoted string", text, opening.start())
    return end + len(opening[0])


def _unterminated(what: str, text: str, start: int) -> Refusal:
    return Refusal("42601", f'unterminated {what} at or near "{text[start : start + 40]}"', position=start + 1)


def _quoted(text: str, parameters: Sequence[re.Match[str]]) -> str:
    pieces, at = [], 0
    for match in parameters:
        pieces += [text[at : match.start()], f'"{match[0]}"']
        at = match.end()
    return "".join((*pieces, text[at:]))


def _restore_positions(tree: exp.Expr, parameters: Sequence[re.Match[str]]) -> None:
    """Each parameter before a node has grown by two quotes."""
    if not parameters:
        return
    for node in tree.walk():
        if "start" in node.meta:
            node.meta["start"] = _original(node.meta["start"], parameters)


def _original(offset: int, parameters: Sequence[re.Match[str]]) -> int:
    """The offset in the text of an offset in the text with quoted parameters."""
    before = bisect_left(range(len(parameters)), offset, key=lambda n: parameters[n].start() + 2 * n + 1)
    return offset - 2 * before


def _check_size(tokens: list[Token]) -> None:
    if len(tokens) > TOKENS_MAX:
        raise Refusal("54001", f"statement has more than {TOKENS_MAX} words", hint="Join with a public table.")
    depth = chain = subscripts = 0
    for token in tokens:
        kind = token.token_type
        if kind in (TokenType.L_PAREN, TokenType.CASE, TokenType.L_BRACKET):
            depth += 1
        elif kind in (TokenType.R_PAREN, TokenType.END, TokenType.R_BRACKET):
            depth = max(0, depth - 1)  # END can be a name; it must not make room for parentheses
        chain += kind in _CHAINS
        subscripts += kind == TokenType.L_BRACKET
        if depth > DEPTH_MAX:
            raise _too_deep()
    if chain > CHAIN_MAX:
        raise Refusal("54001", f"statement has more than {CHAIN_MAX} ANDs, ORs and UNIONs", hint="Use an IN list.")
    if subscripts > SUBSCRIPTS_MAX:
        raise Refusal("54001", f"statement has more than {SUBSCRIPTS_MAX} subscripts")


def _check_depth(tree: exp.Expr) -> None:
    """Refuse what later steps could not walk. ANDs and ORs of one kind are flat, parentheses add nothing."""
    waiting: list[tuple[exp.Expr, int, int]] = [(tree, 0, 0)]
    while waiting:
        node, depth, nested = waiting.pop()
        if depth > TREE_MAX or nested > NESTED_MAX:
            raise _too_deep()
        for child in node.iter_expressions():
            flat = isinstance(child, exp.Paren) or (isinstance(child, exp.And | exp.Or) and type(child) is type(node))
            inside = 0 if isinstance(child, exp.Query) else nested + (not flat)
            waiting.append((child, depth + (not flat), inside))


def _too_deep() -> Refusal:
    return Refusal("54001", "stack depth limit exceeded", hint=f"Nest at most {DEPTH_MAX} levels.")


def _syntax_error(error: ParseError | TokenError, source: str, parameters: Sequence[re.Match[str]]) -> Refusal:
    """Postgres' words; of sqlglot's only the place and the word that stood there."""
    details = (getattr(error, "errors", None) or [{}])[0]
    word, line, column = (details.get(field) for field in ("highlight", "line", "col"))
    if not word or not line:
        return Refusal("42601", "syntax error at end of input")
    # sqlglot gives the line and the column at which the word ends.
    start = len("\n".join(source.split("\n")[: line - 1])) + (line > 1) + column - len(word)
    if source[start : start + len(word)] != word:
        return Refusal("42601", f'syntax error at or near "{word}"')
    if "Unexpected token" not in details["description"] and not source[start + len(word) :].strip(" \t\r\n;"):
        return Refusal("42601", "syntax error at end of input", position=_original(len(source), parameters) + 1)
    return Refusal("42601", f'syntax error at or near "{word}"', position=_original(start, parameters) + 1)
