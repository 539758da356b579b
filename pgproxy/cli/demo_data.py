"""demo_data: a seed -> an insurer's members and a hospital group's stays, made up, and skewed as real ones are.

Each person has a frailty that nobody records. It drives how often they come (a mixed Poisson: many never, a few
dozens of times), how long they stay, how many diagnoses and medications they have and whether they come back, so that
what is recorded hangs together. The same seed and the same numpy give the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pgproxy.cli import demo_codes
from pgproxy.cli.demo_codes import COMMON, EXPIRED, RARE

GENERATOR_VERSION: Final = 1
"""Counts up when the same seed gives other tables, so that old ones are made anew."""
TABLES: Final = ("members", "encounters")
MEMBERS: Final = 50_000
STAYS_PER_MEMBER: Final = 1.5
_STAYS_MAX: Final = 40
"""The most stays of one person: more than the policy's rows_per_unit, as real data have it."""
_ID_MAX: Final = 450_000_000
_FRAILTY_SPREAD: Final = 0.95
"""Standard deviation of the logarithm of a person's rate of stays."""
_RARE_START: Final = 60.0
_RARE_DECAY: Final = 2.6
"""The codes in `RARE` fall off as (start + rank)^-decay (Zipf-Mandelbrot): many come up for one person alone."""
_SAME_DIAGNOSIS: Final = 0.3
"""How often somebody comes back for what they came for last."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def make(seed: int, members: int = MEMBERS) -> dict[str, pa.Table]:
    """Make both tables, under their names in the policy."""
    random = np.random.default_rng(seed)
    people = _People(random, members)
    return {"members": people.table(), "encounters": _Stays(random, people).table()}


class _People:
    """Who is insured, in the order of their pseudonyms."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        self.ids = _identifiers(random, count)
        self.band = _drawn(random, demo_codes.AGE_BANDS.values(), count)
        self.race = _drawn(random, demo_codes.RACES.values(), count)
        self.gender = _drawn(random, demo_codes.GENDERS.values(), count)
        self.frailty = random.normal(size=count)

    def table(self) -> pa.Table:
        return pa.table(
            {
                "member_id": self.ids,
                "race": _texts(self.race, list(demo_codes.RACES)),
                "gender": _texts(self.gender, list(demo_codes.GENDERS)),
                "age_band": _texts(self.band, list(demo_codes.AGE_BANDS)),
            }
        )

    def stays(self, random: np.random.Generator) -> Integers:
        """How often each comes: Poisson, at a rate that is log-normal and rises with age."""
        rate = np.exp(_FRAILTY_SPREAD * self.frailty + 0.14 * self.band)
        counts = random.poisson(rate * (STAYS_PER_MEMBER / rate.mean()))
        return _whole(np.minimum(counts, _STAYS_MAX))


class _Stays:
    """Stays in the order in which they began."""

    def __init__(self, random: np.random.Generator, people: _People) -> None:
        self._random = random
        self._people = people
        person = np.repeat(np.arange(len(people.ids)), people.stays(random))
        self.person = random.permutation(person)
        self.count = len(person)
        self.band = people.band[self.person]
        self.earlier, self.is_last = _course(self.person)
        # How ill somebody is during one stay: half of it is the person, the rest is this time.
        self.severity = (
            0.5 * people.frailty[self.person] + 0.1 * (self.band - 6) + 0.8 * random.normal(size=self.count)
        )
        self.first = self._first_diagnosis()

    def table(self) -> pa.Table:
        columns = {
            "member_id": self._people.ids[self.person],
            "encounter_id": _identifiers(self._random, self.count),
            **self._ways_in_and_out(),
            **self._amounts(),
            **self._diagnoses(),
            **self._treatment(),
        }
        died = columns["discharge_disposition_id"] == EXPIRED
        columns["readmitted"] = _texts(self._returns(died).astype(np.int64), ["NO", "YES"])
        return pa.table({name: columns[name] for name in _ORDER})

    def _ways_in_and_out(self) -> dict[str, Any]:
        leaves = self._coded(demo_codes.DISCHARGES)
        # Whoever dies comes back no more.
        dies = self.is_last & (self._random.random(self.count) < 0.03 * np.exp(0.8 * self.severity))
        source = self._coded(demo_codes.ADMISSION_SOURCES)
        return {
            "admission_type_id": self._coded(demo_codes.ADMISSION_TYPES),
            "discharge_disposition_id": np.where(dies, EXPIRED, leaves),
            "admission_source_id": pa.array(source, mask=self._random.random(self.count) < 0.01),
        }

    def _amounts(self) -> dict[str, Any]:
        random, severity, count = self._random, self.severity, self.count
        stay_factor = np.array([diagnosis.stay for diagnosis in COMMON] + [1.0] * len(RARE))[self.first]
        days = 1 + np.floor(random.gamma(1.5, 2.0 * stay_factor * np.exp(0.25 * severity)))
        days = np.clip(days, 1, 14)
        visits = np.exp(0.6 * self._people.frailty[self.person])
        return {
            "time_in_hospital": _whole(days),
            "num_lab_procedures": _whole(np.clip(random.normal(37 + 1.4 * days, 18.5), 1, 132)),
            "num_procedures": _whole(np.clip(random.geometric(0.42, count) - 1, 0, 6)),
            "num_medications": _whole(np.clip(random.gamma(6.0, (10 + 1.2 * days + 1.5 * severity) / 6), 1, 81)),
            "number_outpatient": _whole(np.clip(random.poisson(visits * random.gamma(0.2, 1.6, count)), 0, 42)),
            "number_emergency": _whole(np.clip(random.poisson(visits * random.gamma(0.2, 0.7, count)), 0, 50)),
            "number_inpatient": _whole(
                np.minimum(random.binomial(self.earlier, 0.5) + random.poisson(0.2, count), 21)
            ),
            "number_diagnoses": self._number_of_diagnoses(),
        }

    def _number_of_diagnoses(self) -> Integers:
        """Most forms have nine lines, so nine is what most stays have; a few forms go on to sixteen."""
        wanted = np.round(self._random.normal(7.6 + 0.35 * (self.band - 6) + 0.9 * self.severity, 2.2))
        long_form = self._random.random(self.count) < 0.001
        return _whole(np.clip(wanted + 7 * long_form, 1, np.where(long_form, 16, 9)))

    def _first_diagnosis(self) -> Integers:
        """A draw for each stay; some stays are for the same as the person's first one."""
        drawn = self._drawn_codes([diagnosis.first for diagnosis in COMMON])
        by_person = np.empty(len(self._people.ids), np.int64)
        by_person[self.person[::-1]] = drawn[::-1]
        same = self._random.random(self.count) < _SAME_DIAGNOSIS
        return np.where(same, by_person[self.person], drawn)

    def _diagnoses(self) -> dict[str, Any]:
        codes = [*(diagnosis.code for diagnosis in COMMON), *RARE]
        further = [diagnosis.further for diagnosis in COMMON]
        second, third = (self._drawn_codes(further) for _ in range(2))
        missing = self._random.random(self.count)
        return {
            "diag_1": _texts(self.first, codes, missing < 0.0003),
            "diag_2": _texts(second, codes, missing < 0.004),
            "diag_3": _texts(third, codes, missing < 0.015),
        }

    def _drawn_codes(self, common: Sequence[float]) -> Integers:
        """Indices into COMMON + RARE, by the patient's age."""
        drawn = np.empty(self.count, np.int64)
        for band in range(len(demo_codes.AGE_BANDS)):
            at = np.flatnonzero(self.band == band)
            drawn[at] = _drawn(self._random, _code_weights(common, band), len(at))
        return drawn

    def _treatment(self) -> dict[str, Any]:
        texts = ["No", *demo_codes.DOSES]
        doses = {name: self._doses(name, share) for name, share in demo_codes.MEDICATIONS.items()}
        given = np.zeros(self.count, np.bool_)
        changed = self._random.random(self.count) < 0.25
        for dose in doses.values():
            given |= dose > 0
            changed |= dose > 1
        return {
            "max_glu_serum": self._worded(demo_codes.GLUCOSE),
            "a1cresult": self._worded(demo_codes.A1C),
            **{name: _texts(dose, texts) for name, dose in doses.items()},
            "change": _texts((given & changed).astype(np.int64), ["No", "Ch"]),
            "diabetes_med": _texts(given.astype(np.int64), ["No", "Yes"]),
        }

    def _doses(self, name: str, share: float) -> Integers:
        """0 for not prescribed, else 1 and the index in DOSES."""
        shares = demo_codes.INSULIN_DOSES if name == "insulin" else demo_codes.DOSES
        taken = np.flatnonzero(self._random.random(self.count) < share)
        dose = np.zeros(self.count, np.int64)
        dose[taken] = 1 + _drawn(self._random, shares.values(), len(taken))
        return dose

    def _returns(self, died: Flags) -> Flags:
        """Most who come again are entered so; of the others, the frail ones go elsewhere."""
        likely = np.where(self.is_last, 0.22 * np.exp(0.35 * self.severity), 0.64)
        return (self._random.random(self.count) < likely) & ~died

    def _coded(self, shares: Mapping[int, float]) -> Integers:
        return np.array(list(shares), np.int64)[_drawn(self._random, shares.values(), self.count)]

    def _worded(self, shares: Mapping[str, float]) -> Any:
        return _texts(_drawn(self._random, shares.values(), self.count), list(shares))


_ORDER: Final = (
    *("member_id", "encounter_id", "admission_type_id", "discharge_disposition_id", "admission_source_id"),
    *("time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_outpatient"),
    *("number_emergency", "number_inpatient", "diag_1", "diag_2", "diag_3", "number_diagnoses"),
    *("max_glu_serum", "a1cresult", *demo_codes.MEDICATIONS, "change", "diabetes_med", "readmitted"),
)


def _identifiers(random: np.random.Generator, count: int) -> Integers:
    """Distinct numbers in rising order, with gaps: pseudonyms tell nothing of how many there are."""
    return np.sort(random.choice(_ID_MAX, size=count, replace=False, shuffle=False)).astype(np.int64) + 1


def _course(person: Integers) -> tuple[Integers, Flags]:
    """For stays in order: how many earlier ones the person has, and whether it is the last."""
    order = np.argsort(person, kind="stable")
    sorted_person = person[order]
    begins = np.flatnonzero(np.diff(sorted_person, prepend=-1))
    lengths = np.diff(begins, append=len(person))
    earlier = np.empty(len(person), np.int64)
    earlier[order] = np.arange(len(person)) - np.repeat(begins, lengths)
    is_last = np.zeros(len(person), np.bool_)
    is_last[order[begins + lengths - 1]] = True
    return earlier, is_last


def _code_weights(common: Sequence[float], band: int) -> Floats:
    """Weights of COMMON + RARE for one age band; RARE takes what COMMON leaves of a thousand."""
    tilt = np.exp(np.outer(np.arange(len(demo_codes.AGE_BANDS)), [diagnosis.age for diagnosis in COMMON]))
    # Divided by its mean over all ages, so that an age's lean leaves a code as common as it was.
    head = np.array(common, np.float64) * tilt[band] / (np.fromiter(demo_codes.AGE_BANDS.values(), np.float64) @ tilt)
    tail = (_RARE_START + np.arange(len(RARE))) ** -_RARE_DECAY
    # The codes are in numeric order: a stride coprime to their number spreads the common ones over the chapters.
    places = (np.arange(len(RARE)) * 389) % len(RARE)
    rest = (1000 - sum(common)) * tail[places] / tail[places].sum()
    return np.concatenate([head, rest])


def _drawn(random: np.random.Generator, weights: Any, count: int) -> Integers:
    """Indices of a categorical draw, by inversion."""
    ends = np.cumsum(np.fromiter(weights, np.float64))
    return _whole(np.searchsorted(ends, random.random(count) * ends[-1], side="right"))


def _texts(index: Integers, values: Sequence[str], missing: Flags | None = None) -> Any:
    indices: Any = pa.array(index.astype(np.int32), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values)).cast(pa.string())


def _whole(values: Any) -> Integers:
    return np.asarray(values).astype(np.int64)
