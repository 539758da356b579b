"""attack_room: a small room without a server: SQL or a plan in, what would leave it out.

The noise is taken away, so whatever still differs between neighbouring data differs without noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import duckdb
import pyarrow as pa

from enclave.answer import Noised
from enclave.clear import vault
from enclave.clear.duckdb_engine import Engine
from enclave.clear.noise import Noisy
from policies import document
from policies.model import Policy
from rewriter.cost import Noise, Price
from rewriter.parse import parse
from rewriter.plan import Release
from rewriter.refusal import Refusal
from rewriter.rewrite import rewrite

SECRET = b"\7" * 32
HEAD = """
[room]
name = "attacked"
version = 1
environment = "development"
[units.person]
[budgets.person]
epsilon = "8"
delta = "1e-6"
[roles.curious]
tables = [{tables}]
epsilon = "3"
query_epsilon = "0.1"
[analysts.eve]
role = "curious"
certificate = "sha256:{certificate}"
"""
PRICE = Price("zcdp", Fraction(1, 2), Fraction(1, 10**6))

Rows = Sequence[Sequence[object]]


class NoNoise:
    """A sampler that adds nothing and remembers what it was asked to hide."""

    def __init__(self) -> None:
        self.asked: list[tuple[Noise, tuple[int, ...], int]] = []

    def add(self, noise: Noise, values: Sequence[int], sensitivity: int, amount: Fraction) -> Noisy:
        assert amount > 0
        self.asked.append((noise, tuple(values), sensitivity))
        return Noisy(tuple(values), noise, 1.0)


@dataclass(frozen=True, slots=True)
class Attacked:
    """A loaded room."""

    policy: Policy
    engine: Engine
    sampler: NoNoise

    def plan(self, sql: str) -> Release:
        """The release that a query asks for."""
        return rewrite(parse(sql).tree, self.policy, "eve", self.engine.facts).releases[0].release

    def ask(self, question: str | Release) -> Noised:
        """What leaves the clear engine for a query or a forged plan, without its noise."""
        plan = self.plan(question) if isinstance(question, str) else question
        return self.engine.release(plan, PRICE)

    def outcome(self, question: str | Release) -> str:
        """Whether a question is answered, refused or fails: that must not depend on rows."""
        try:
            self.ask(question)
        except Refusal as refusal:
            return refusal.sqlstate
        except duckdb.Error:
            return "error"
        return "answer"


def read_policy(tables: str) -> Policy:
    """A policy from its tables alone."""
    names = [line.split(".")[1].rstrip("]") for line in tables.splitlines() if line.startswith("[tables.")]
    quoted = ", ".join(f'"{name}"' for name in dict.fromkeys(names))
    return document.read(HEAD.format(tables=quoted, certificate="0" * 64) + tables)


def room(tables: str, rows: Mapping[str, Rows], threads: int = 1) -> Attacked:
    """Load a room. Cells are given as text, None is NULL."""
    policy = read_policy(tables)
    connection = vault.connect(threads=threads)

    def read(name: str) -> pa.Table:
        columns = list(policy.tables[name].columns)
        cells = [[None if row[i] is None else str(row[i]) for row in rows.get(name, ())] for i in range(len(columns))]
        return pa.table({c: pa.array(cells[i], pa.string()) for i, c in enumerate(columns)})

    vault.load(connection, policy, read, SECRET)
    vault.lock(connection)
    sampler = NoNoise()
    return Attacked(policy, Engine(connection, policy, SECRET, sampler), sampler)
