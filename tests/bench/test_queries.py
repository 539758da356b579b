from __future__ import annotations

import pytest

from rewriter.parse import parse
from rewriter.plan import NoisyGroups, PublicGroups
from rewriter.rewrite import rewrite
from tests.bench import tpch
from tests.bench.queries import QUERIES, Query


class Sizes:
    """The public tables of TPC-H, as small as they come."""

    def rows(self, table: str) -> int:
        return {"region": 5, "nation": 25}.get(table, 10_000)

    def distinct(self, table: str, columns: tuple[str, ...]) -> int:
        return 25


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_every_query_is_one_release_with_public_groups(query: Query) -> None:
    (table,) = rewrite(parse(query.sql).tree, tpch.policy(), "ana", Sizes()).releases
    assert isinstance(table.release.groups, PublicGroups | NoisyGroups)
    assert isinstance(table.release.groups, PublicGroups), "a threshold would hide part of what is measured"


def test_names_tell_queries_apart() -> None:
    assert len({query.name for query in QUERIES}) == len(QUERIES)
