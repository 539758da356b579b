"""queries: what is measured: the SQL of an analyst, which the exact engine runs as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Query:
    """A query over the TPC-H tables of tpch.toml, in SQL that Postgres, DuckDB and the room read alike."""

    name: str
    sql: str


_YEAR: Final = "l_shipdate >= DATE '1995-01-01' AND l_shipdate < DATE '1996-01-01'"
_VOLUME: Final = "sum(l_extendedprice * (1 - l_discount))"

QUERIES: Final = (
    Query(
        "count of a year",
        "SELECT count(*) FROM orders WHERE o_orderdate >= DATE '1995-01-01' AND o_orderdate < DATE '1996-01-01'",
    ),
    Query("sum of a year", f"SELECT sum(l_extendedprice) FROM lineitem WHERE {_YEAR}"),
    Query("avg of a year", f"SELECT avg(l_quantity) FROM lineitem WHERE {_YEAR}"),
    Query("orders by priority", "SELECT o_orderpriority, count(*) FROM orders GROUP BY 1 ORDER BY 1"),
    Query(
        "revenue by nation (4 tables)",
        f"SELECT n_name, {_VOLUME} AS revenue FROM customer JOIN orders ON c_custkey = o_custkey "
        "JOIN lineitem ON lineitem.orderkey = orders.orderkey JOIN nation ON c_nationkey = n_nationkey "
        "GROUP BY n_name ORDER BY 1",
    ),
    Query(
        "quantity by month",
        "SELECT date_trunc('month', l_shipdate) AS month, sum(l_quantity) FROM lineitem GROUP BY 1 ORDER BY 1",
    ),
    Query(
        "price by brand (public part)",
        "SELECT p_brand, sum(l_extendedprice) FROM lineitem JOIN part ON l_partkey = p_partkey "
        "GROUP BY p_brand ORDER BY 1",
    ),
    Query(
        "Q5-like (6 tables)",
        f"SELECT n_name, {_VOLUME} AS revenue FROM customer JOIN orders ON c_custkey = o_custkey "
        "JOIN lineitem ON lineitem.orderkey = orders.orderkey JOIN supplier ON l_suppkey = s_suppkey "
        "JOIN nation ON s_nationkey = n_nationkey JOIN region ON n_regionkey = r_regionkey "
        "WHERE c_nationkey = s_nationkey AND r_name = 'ASIA' "
        "AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1995-01-01' "
        "GROUP BY n_name ORDER BY revenue DESC",
    ),
    Query(
        "customers by nation (distinct)",
        "SELECT n_name, count(DISTINCT o_custkey) FROM customer JOIN orders ON c_custkey = o_custkey "
        "JOIN nation ON c_nationkey = n_nationkey GROUP BY n_name ORDER BY 1",
    ),
    Query(
        "Q1-like (6 aggregates)",
        f"SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), {_VOLUME}, "
        f"avg(l_quantity), avg(l_discount), count(*) FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' "
        "GROUP BY 1, 2 ORDER BY 1, 2",
    ),
)
