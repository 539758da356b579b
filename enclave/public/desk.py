"""desk: the public worker's two calls: read a question, and finish its answer once its releases are there.

prepare   question -> an answer (catalogue, public rows, EXPLAIN, Describe), or the releases it needs
finish    question and noised releases -> the answer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa
from sqlglot import exp

from enclave.answer import Answer, Noised, Question, ResultColumn
from enclave.public.catalog import Catalog
from enclave.public.catalog_parse import mend
from enclave.public.kept import Kept
from enclave.public.postprocess import Processed, process
from enclave.tables import PublicTables
from policies.model import Policy
from rewriter.cost import Price
from rewriter.explain import explain
from rewriter.parse import parse
from rewriter.refusal import Refusal
from rewriter.released import ReleasedTable
from rewriter.resolve import OIDS
from rewriter.rewrite import VIEWS, Rewritten, rewrite

COLUMNS_MAX: Final = 1664
"""Of a result (Postgres docs, Limits): each column costs time in every process it passes, however few its rows."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Either an answer, or what must be bought first."""

    answer: Answer | None
    releases: tuple[ReleasedTable, ...] = ()
    views: tuple[str, ...] = ()


class Desk:
    """Reads analysts' text. Holds public tables and nothing clear."""

    def __init__(self, policy: Policy, connection: duckdb.DuckDBPyConnection) -> None:
        """Take an engine made by `postprocess.load_public`."""
        self._policy = policy
        self._connection = connection
        self._facts = PublicTables(lambda sql: int(connection.cursor().execute(sql).fetchall()[0][0]))
        self._catalogs: dict[str, Catalog] = {}
        self._parse = Kept(lambda text: parse(mend(text)))
        self._rewritten = Kept(self._rewrite)

    def prepare(
        self,
        question: Question,
        prices: Mapping[str, Price],
        on_start: Callable[[Callable[[], None]], None] = lambda _: None,
    ) -> Prepared:
        """Read a question.

        Args:
            question: text and parameters.
            prices: what the whole question would cost, by kind of unit (EXPLAIN shows it).
            on_start: is given what interrupts the engine, where public rows are read.

        Raises:
            Refusal: the question cannot be answered.
        """
        statement = self._parse(question.text)
        if not statement.explain and Catalog.mentions(statement.tree):
            return Prepared(
                self._catalog(question.analyst).answer(statement.tree.copy(), question.parameters, question.describe)
            )
        query = self._query(question)
        if statement.explain:
            return Prepared(self._explained(query, prices, question.describe))
        if question.describe or _is_probe(statement.tree):
            return Prepared(_answer(process(self._connection, query, (), self._policy, _empty_views(query)), query))
        if not query.releases and not query.views:
            return Prepared(_answer(process(self._connection, query, (), self._policy, {}, on_start), query))
        return Prepared(None, query.releases, query.views)

    def finish(
        self,
        question: Question,
        releases: Sequence[Noised],
        views: Mapping[str, pa.Table],
        on_start: Callable[[Callable[[], None]], None] = lambda _: None,
    ) -> tuple[Answer, tuple[tuple[str, float], ...]]:
        """Finish an answer; also gives each aggregate's label and typical 95 % half-width."""
        query = self._query(question)
        processed = process(self._connection, query, releases, self._policy, views, on_start)
        return _answer(processed, query), processed.margins

    def _query(self, question: Question) -> Rewritten:
        types = question.parameter_types
        open_ = tuple((oid, None) for oid in types) if question.describe else ()
        bound = tuple((parameter.type_oid, parameter.value) for parameter in question.parameters)
        return self._rewritten(question.text, question.analyst, bound or open_)

    def _rewrite(self, text: str, analyst: str, values: tuple[tuple[int, str | None], ...]) -> Rewritten:
        query = rewrite(self._parse(text).tree, self._policy, analyst, self._facts, values)
        if len(query.columns) > COLUMNS_MAX:
            raise Refusal("54011", f"target lists can have at most {COLUMNS_MAX} entries")
        return query

    def _catalog(self, analyst: str) -> Catalog:
        if analyst not in self._catalogs:
            self._catalogs[analyst] = Catalog(self._policy, analyst)
        return self._catalogs[analyst]

    def _explained(self, query: Rewritten, prices: Mapping[str, Price], describe: bool) -> Answer:
        lines = [] if describe else explain(query, prices, self._policy, self._facts)
        return Answer((ResultColumn("QUERY PLAN", 25),), pa.table({"c0": pa.array(lines, pa.string())}), "EXPLAIN")


def _is_probe(tree: exp.Expr) -> bool:
    """True if the text itself says that there are no rows: how BI tools ask for columns. It needs no release."""
    limit = tree.args.get("limit")
    if isinstance(limit, exp.Limit) and _is_number(limit.expression, "0"):
        return True
    where = tree.args.get("where")
    if not isinstance(tree, exp.Select) or where is None or tree.args.get("group") or tree.args.get("having"):
        return False
    # An aggregate has a row even over nothing.
    return _is_false(where.this) and not any(column.find(exp.AggFunc) for column in tree.expressions)


def _is_false(condition: exp.Expr) -> bool:
    one_is_zero = isinstance(condition, exp.EQ) and _is_number(condition.this, "1")
    return condition == exp.false() or (one_is_zero and _is_number(condition.expression, "0"))


def _is_number(node: exp.Expr | None, text: str) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and node.this == text


def _empty_views(query: Rewritten) -> dict[str, pa.Table]:
    return {name: view_table(name, ()) for name in query.views}


def view_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A dp view's rows as the table that post-processing reads."""
    arrow = {"text": pa.string(), "double precision": pa.float64(), "integer": pa.int32()}
    return pa.table({c: pa.array([row[c] for row in rows], arrow[type_.name]) for c, type_ in VIEWS[name].items()})


def _answer(processed: Processed, query: Rewritten) -> Answer:
    numbers = range(1, 1 + max(query.parameters, default=0))
    by_name = {type_.name: oid for oid, type_ in reversed(OIDS.items())}
    types = tuple(by_name.get(query.parameters[n].name, 25) if n in query.parameters else 25 for n in numbers)
    tag = f"SELECT {processed.table.num_rows}"
    return Answer(processed.columns, processed.table, tag, parameter_types=types)
