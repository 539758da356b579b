"""wire: CPU of a served room per question. Needs `cleanroom serve`."""

from __future__ import annotations


def report(runs: int) -> list[str]:
    """Lines for the report."""
    return ["wire: not measured, since there is no `cleanroom serve` yet"]
