"""released: the shape of a released table, as post-processing reads it: keys `k0`, measures `m0`, margins `e0`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from policies.sqltype import SqlType
from rewriter.plan import Release

OWN_NAME: Final = re.compile(r"_(?:r\d+|dp_.*)", re.S)
"""Names of released tables and views in the engine; a policy's names begin with a letter."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Column `k<n>`: group key number n. `scale`: its text form is an integer of 10**-scale units."""

    type: SqlType
    scale: int | None


@dataclass(frozen=True, slots=True)
class MeasureColumn:
    """Columns `m<n>` and `e<n>`: an aggregate of the query and its 95 % half-width.

    Attributes:
        label: how the notice calls it, such as `avg`.
        kind: "number" is one coordinate; "sum" and "mean" are made of a count and a centred sum.
        type: the aggregate's type in Postgres.
        coordinates: which coordinates of the release it is made of.
        low, high: a mean's public range, in its own unit, where it has one.
    """

    label: str
    kind: Literal["number", "sum", "mean"]
    type: SqlType
    coordinates: tuple[int, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ReleasedTable:
    """A release and how the rest of the query sees it, as the table `name`."""

    name: str
    release: Release
    keys: tuple[KeyColumn, ...]
    measures: tuple[MeasureColumn, ...]
