"""Run the benchmarks: `python -m tests.bench`; docs/bench.md says how to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Column, Table

from tests.bench import tpch, wire
from tests.bench.engine import EPSILON, Bench
from tests.bench.measure import Cost
from tests.bench.queries import QUERIES

_MB: Final = 1_000_000
_WIDTH: Final = 170
"""Of the report, whatever the terminal: it is compared between runs."""


@click.command()
@click.option("--scale", default="1", show_default=True, help="TPC-H scale factor.")
@click.option("--runs", default=3, show_default=True, help="Medians are over so many, after one to warm up.")
@click.option("--threads", default=2, show_default=True, help="Of both engines.")
@click.option("--only", default="", help="Queries whose name contains this.")
@click.option("--part", type=click.Choice(["all", "engine", "wire"]), default="all", show_default=True)
def main(scale: str, runs: int, threads: int, only: str, part: str) -> None:
    """Print speed and memory of bounded plans as ratios to the exact query, and the wire's, in one run."""
    console = Console(width=_WIDTH, highlight=False)
    if part != "wire":
        _engine(console, tpch.files(scale), scale, runs, threads, only)
    if part != "engine":
        _wire(console)


def _engine(console: Console, found: dict[str, Path], scale: str, runs: int, threads: int, only: str) -> None:
    bench = Bench(found, threads)
    console.print(f"TPC-H SF{scale}, {threads} threads, epsilon {float(EPSILON)}, medians of {runs} runs")
    console.print(f"loading, exact  {_shown(bench.loading_exact)}")
    console.print(f"loading, vault  {_shown(bench.loading)}")
    numbers = ("groups", "exact ms", "bounded ms", "ratio", "exact MB", "bounded MB")
    table = Table("query", *(Column(name, justify="right") for name in numbers), "CPU of a bounded run by step, ms")
    for one in bench.measure([query for query in QUERIES if only in query.name], runs):
        steps = sorted(one.steps.items(), key=lambda item: -item[1])
        table.add_row(
            one.query.name,
            str(one.groups),
            f"{one.exact.cpu_s * 1000:.0f}",
            f"{one.bounded.cpu_s * 1000:.0f}",
            f"{one.ratio:.1f}",
            f"{one.exact.memory_bytes / _MB:.0f}",
            f"{one.bounded.memory_bytes / _MB:.0f}",
            ", ".join(
                f"{name} {seconds * 1000:.0f}" for name, seconds in steps if seconds >= 0.02 * one.bounded.cpu_s
            ),
        )
    console.print(table)


def _wire(console: Console) -> None:
    report = wire.measure()
    for what, (wall, cpu) in zip(("first start", "start again"), report.starts, strict=True):
        console.print(f"{what}, demo data  {wall:.1f} s, {cpu:.1f} s CPU")
    table = Table("over the wire (TLS)", "asked", "ms each", "CPU ms each", "CPU by process, ms")
    for one in report.asked:
        table.add_row(
            one.name,
            str(one.count),
            f"{one.wall_s * 1000:.2f}",
            f"{sum(one.cpu_s.values()) * 1000:.2f}",
            ", ".join(f"{name} {seconds * 1000:.2f}" for name, seconds in one.cpu_s.items()),
        )
    console.print(table)
    console.print("peak memory  " + ", ".join(f"{name} {peak / _MB:.0f} MB" for name, peak in report.peaks))


def _shown(cost: Cost) -> str:
    memory = f"peak +{cost.peak_bytes / _MB:.0f} MB, kept {cost.kept_bytes / _MB:.0f} MB"
    return f"{cost.cpu_s:.1f} s CPU, {cost.wall_s:.1f} s, {memory}"


if __name__ == "__main__":
    main()
