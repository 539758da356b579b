"""engine: each query bounded and noised in this process, and exact on the same tables: CPU and memory of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

from enclave.answer import Noised
from enclave.clear import noise, vault
from enclave.clear.duckdb_engine import Engine
from policies.model import Policy
from rewriter.accountant import capacity, charge, key_delta
from rewriter.cost import Price
from rewriter.parse import parse
from rewriter.plan import Release
from rewriter.rewrite import rewrite
from tests.bench import observe, tpch
from tests.bench.measure import Cost, cost
from tests.bench.queries import Query

EPSILON: Final = Fraction(1, 10)
_SECRET: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Side:
    """A query on one engine: CPU seconds, and bytes held beyond the tables."""

    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One query both ways; `steps` is the CPU of each step of a bounded run, in seconds."""

    query: Query
    exact: Side
    bounded: Side
    groups: int
    steps: dict[str, float]

    @property
    def ratio(self) -> float:
        """CPU of the bounded query against the exact one."""
        return self.bounded.cpu_s / self.exact.cpu_s


class Bench:
    """Both engines with the same tables and the same number of threads."""

    loading_exact: Cost
    loading: Cost

    def __init__(self, found: dict[str, Path], threads: int) -> None:
        """Load the exact tables and the vault."""
        self._policy = tpch.policy()
        # The exact engine first: what it gives back to the allocator is little, so the vault's growth shows whole.
        self._exact = vault.connect(threads=threads)
        self.loading_exact = cost(lambda: tpch.load_exact(self._exact, found))
        self._vault = vault.connect(threads=threads)
        read = vault.file_reader(found, self._policy)
        self.loading = cost(lambda: vault.load(self._vault, self._policy, read, _SECRET))
        self._engine = Engine(self._vault, self._policy, _SECRET, noise.OpenDP())
        self._price = _price(self._policy)

    def measure(self, queries: Sequence[Query], runs: int) -> Iterator[Measured]:
        """Each query both ways: once to warm up and for the memory, `runs` times for CPU, once more for the steps."""
        for query in queries:
            plan = _release_of(query, self._policy, self._engine)
            ask, release = partial(self._ask, query), partial(self._release, plan)
            memory = observe.memory(self._exact, ask), observe.memory(self._vault, release)
            exact, bounded = cost(ask, runs), cost(release, runs)
            steps, groups = observe.steps(release), release().groups
            yield Measured(query, Side(exact.cpu_s, memory[0]), Side(bounded.cpu_s, memory[1]), groups, steps)

    def _ask(self, query: Query) -> list[tuple[Any, ...]]:
        return self._exact.execute(query.sql).fetchall()

    def _release(self, plan: Release) -> Noised:
        return self._engine.release(plan, self._price)


def _release_of(query: Query, policy: Policy, engine: Engine) -> Release:
    """The one release that a query needs, as the public worker plans it."""
    (analyst,) = policy.analysts
    (table,) = rewrite(parse(query.sql).tree, policy, analyst, engine.facts).releases
    return table.release


def _price(policy: Policy) -> Price:
    (budget,) = policy.budgets.values()
    delta, amount = Fraction(budget.delta), charge(budget.accountant, EPSILON)
    whole = capacity(budget.accountant, Fraction(budget.epsilon or 0), delta)
    return Price(budget.accountant, amount.amount, key_delta(budget.accountant, amount, whole, delta))
