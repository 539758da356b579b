"""engine: each query bounded and noised in this process, and exact on the same tables: CPU and memory of both."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from enclave.clear import duckdb_engine, noise, partials, vault
from enclave.clear.duckdb_engine import Engine
from policies.model import Policy
from rewriter.accountant import capacity, charge, key_delta
from rewriter.cost import Price
from rewriter.parse import parse
from rewriter.plan import Release
from rewriter.rewrite import rewrite
from tests.bench import tpch
from tests.bench.measure import Cost, cost
from tests.bench.queries import Query

EPSILON: Final = Fraction(1, 10)
_SECRET: Final = bytes(32)
_STEPS: Final = {
    "load": "partials",
    "set_groups": "groups",
    "supporters": "groups",
    "centre_histogram": "centre",
    "norm_histogram": "norms",
    "totals": "clip+sum",
}
"""Methods of Partials, and what the report calls the step."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One query both ways; `steps` is the CPU of each step of the bounded run, in seconds."""

    query: Query
    exact: Cost
    bounded: Cost
    groups: int
    steps: dict[str, float]

    @property
    def ratio(self) -> float:
        """CPU of the bounded query against the exact one."""
        return self.bounded.cpu_s / self.exact.cpu_s


class Bench:
    """Both engines with the same tables and the same number of threads."""

    def __init__(self, found: dict[str, Path], threads: int, queries: Sequence[Query]) -> None:
        """Load the exact tables, then the vault, and run every query once on each, to warm up and for the memory."""
        self._queries, self.policy = queries, tpch.policy()
        # The exact engine first: what it gives back to the allocator is little, so the vault's growth shows whole.
        self._exact = vault.connect(threads=threads)
        self.loading_exact = cost(lambda: tpch.load_exact(self._exact, found))
        self.querying_exact = cost(lambda: [self._run_exact(query) for query in queries])
        connection = vault.connect(threads=threads)
        read = vault.file_reader(found, self.policy)
        self.loading = cost(lambda: vault.load(connection, self.policy, read, _SECRET))
        self._engine = Engine(connection, self.policy, _SECRET, noise.OpenDP())
        self._price = _price(self.policy)
        self._plans = [release_of(query, self.policy, self._engine) for query in queries]
        self.querying = cost(lambda: [self._engine.release(plan, self._price) for plan in self._plans])

    def measure(self, runs: int) -> Iterator[Measured]:
        """Each query both ways, `runs` times; the steps are taken in one more run."""
        for query, plan in zip(self._queries, self._plans, strict=True):
            exact = cost(lambda query=query: self._run_exact(query), runs)  # type: ignore[misc]
            bounded = cost(lambda plan=plan: self._engine.release(plan, self._price), runs)  # type: ignore[misc]
            with _stepwise() as steps:
                groups = self._engine.release(plan, self._price).groups
            yield Measured(query, exact, bounded, groups, dict(steps))

    def _run_exact(self, query: Query) -> list[tuple[Any, ...]]:
        return self._exact.execute(query.sql).fetchall()


def release_of(query: Query, policy: Policy, engine: Engine) -> Release:
    """The one release that a query needs, as the public worker plans it."""
    (analyst,) = policy.analysts
    (table,) = rewrite(parse(query.sql).tree, policy, analyst, engine.facts).releases
    return table.release


def _price(policy: Policy) -> Price:
    (budget,) = policy.budgets.values()
    amount = charge(budget.accountant, EPSILON)
    whole = capacity(budget.accountant, Fraction(budget.epsilon or 0), Fraction(budget.delta))
    return Price(
        budget.accountant, amount.amount, key_delta(budget.accountant, amount, whole, Fraction(budget.delta))
    )


@contextmanager
def _stepwise() -> Iterator[dict[str, float]]:
    """While it lasts, releases add the CPU seconds of their steps to the dictionary given."""
    steps: dict[str, float] = defaultdict(float)

    class Timed(partials.Partials):
        pass

    for method, step in _STEPS.items():
        setattr(Timed, method, _timed(getattr(partials.Partials, method), steps, step))
    adding = noise.OpenDP.add
    duckdb_engine.Partials = Timed  # type: ignore[attr-defined]
    noise.OpenDP.add = _timed(adding, steps, "noise")  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        duckdb_engine.Partials = partials.Partials  # type: ignore[attr-defined]
        noise.OpenDP.add = adding  # type: ignore[method-assign]


def _timed(method: Callable[..., Any], steps: dict[str, float], step: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        start = time.process_time()
        try:
            return method(*arguments)
        finally:
            steps[step] += time.process_time() - start

    return run
