"""answer: what goes into the room and what comes out. Frozen values shared by the front and the keeper."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Literal

import pyarrow as pa

DATABASE: Final = "cleanroom"
"""The one database name that clients connect to."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """The value bound to `$n`, in Postgres' text form; `type_oid` 0 means that the client left it open."""

    type_oid: int
    value: str | None


@dataclass(frozen=True, slots=True)
class Question:
    """One SQL statement of one analyst.

    Attributes:
        text: exactly one statement, without session commands (the front answers those).
        analyst: the authenticated role name.
        parameters: values of $1, $2, ... in order.
        epsilon: the session's `dp.epsilon` as typed, or None for the role's `query_epsilon`.
        mode: the session's `dp.mode`.
        describe: True asks for columns and types alone: nothing runs, nothing is charged.
        parameter_types: OIDs declared by Parse (0: open); used with `describe`.
    """

    text: str
    analyst: str
    parameters: tuple[Parameter, ...] = ()
    epsilon: str | None = None
    mode: Literal["private", "synthetic"] = "private"
    describe: bool = False
    parameter_types: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a result, as RowDescription names it (Postgres docs, Message Formats)."""

    name: str
    type_oid: int
    typmod: int = -1


@dataclass(frozen=True, slots=True)
class Notice:
    """A NoticeResponse beside an answer."""

    message: str
    severity: Literal["NOTICE", "WARNING"] = "NOTICE"
    sqlstate: str = "00000"


@dataclass(frozen=True, slots=True)
class Answer:
    """The result set of a question.

    `table` has one Arrow column per entry of `columns`, in that order, of the type that `values.py` expects for
    its OID: bool 16 bool, int2 21 int16, int4 23 int32, int8 20 int64, oid 26 int64, float4 700 float32,
    float8 701 float64, numeric 1700 decimal128(38, s) or string (Postgres' text form), date 1082 date32,
    timestamp 1114 timestamp[us], timestamptz 1184 timestamp[us, UTC], everything else (text 25, name 19,
    varchar 1043, "char" 18, unknown 705, arrays) string in Postgres' text form.
    """

    columns: tuple[ResultColumn, ...]
    table: pa.Table = field(repr=False)
    tag: str
    notices: tuple[Notice, ...] = ()
    parameter_types: tuple[int, ...] = ()  # only for describe: the OID of each $n


@dataclass(frozen=True, slots=True)
class NoisyCoordinate:
    """One noised number per group, unrounded: value = integer * step.

    Attributes:
        values: noisy integers, one per group.
        step: what one integer step is worth in the measure's own unit.
        noise: kind of the noise.
        scale: Laplace scale or Gaussian standard deviation, in steps.
        bound: the contribution bound C in the measure's own unit.
        centre: what a mean was taken around, in the measure's own unit; 0 for everything else.
    """

    values: tuple[int, ...] = field(repr=False)
    step: Fraction
    noise: Literal["laplace", "gaussian"]
    scale: float
    bound: Fraction
    centre: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Noised:
    """A release as it is stored: group keys by column in the engine's text form, and noised coordinates."""

    keys: tuple[tuple[str | None, ...], ...] = field(repr=False)
    groups: int
    coordinates: tuple[NoisyCoordinate, ...]

    def to_json(self) -> dict[str, Any]:
        """The stored form; integers beyond 2^53 are safe as Python's JSON keeps them."""
        return {
            "keys": [list(column) for column in self.keys],
            "groups": self.groups,
            "coordinates": [
                {
                    "values": list(c.values),
                    "step": str(c.step),
                    "noise": c.noise,
                    "scale": c.scale,
                    "bound": str(c.bound),
                    "centre": str(c.centre),
                }
                for c in self.coordinates
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Noised:
        """Read what `to_json` wrote."""
        return cls(
            tuple(tuple(column) for column in value["keys"]),
            value["groups"],
            tuple(
                NoisyCoordinate(
                    tuple(c["values"]),
                    Fraction(c["step"]),
                    c["noise"],
                    c["scale"],
                    Fraction(c["bound"]),
                    Fraction(c["centre"]),
                )
                for c in value["coordinates"]
            ),
        )
