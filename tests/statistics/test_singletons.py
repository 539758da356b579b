"""Diagnoses that one patient alone has never appear, in 200 fresh rooms over the hospital's data.

A unit supports up to k groups, and a group of one unit is shown with a probability p for which k p <= delta_keys. Of
n such diagnoses a correct room thus shows one in 200 rooms with a probability of at most 200 n delta_keys / k: about
1e-4 at epsilon 1 under the example policy. So an appearance counts only if there is one in 200 further rooms as well:
a correct room fails with the square of that probability, below 1e-6, and one that leaks shows some in both.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.rooms import PRODUCT, Data, Fixed

ROOMS = 200
FALSE_ALARM = 1e-6
ROOT = Path(__file__).parents[2]
HOSPITAL = ROOT.parent / "shared" / "data" / "hospital"
POLICY = ROOT / "policies" / "examples" / "hospital.toml"
QUESTION = "SELECT diag_1, count(*) FROM encounters GROUP BY diag_1"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not HOSPITAL.is_dir(), reason="there are no hospital data beside the project"),
]


@lru_cache(1)
def hospital() -> Data:
    return Data(POLICY.read_text(), HOSPITAL)


@lru_cache(1)
def singletons() -> frozenset[str]:
    """Diagnoses of one patient, counted in the file."""
    table = pq.read_table(HOSPITAL / "encounters.parquet", columns=["member_id", "diag_1"])
    patients: dict[str, set[int]] = defaultdict(set)
    for member, diagnosis in zip(table["member_id"].to_pylist(), table["diag_1"].to_pylist(), strict=True):
        patients[diagnosis].add(member)
    return frozenset(diagnosis for diagnosis, members in patients.items() if len(members) == 1)


def shown(epsilon: str, sampler: object = PRODUCT) -> set[str]:
    """The diagnoses that one fresh room shows."""
    with hospital().room(sampler) as room:  # type: ignore[arg-type]
        return {diagnosis for diagnosis, _ in room.rows(QUESTION, epsilon=epsilon)}


def appearances(epsilon: str) -> int:
    """How often, over the rooms, a diagnosis of one patient was shown."""
    return sum(len(shown(epsilon) & singletons()) for _ in range(ROOMS))


@pytest.mark.parametrize("epsilon", ["1", "0.1"])
def test_a_diagnosis_of_one_patient_alone_never_appears(epsilon: str) -> None:
    with hospital().room() as room:
        delta_keys = room.gate._price("member", Fraction(epsilon), 1).delta_keys
    groups_per_unit = hospital().policy.tables["encounters"].groups_per_unit_max
    alarm = ROOMS * len(singletons()) * float(delta_keys) / groups_per_unit
    print(f"a correct room shows one with a probability of at most {alarm:.1e}, and fails with {alarm**2:.1e}")
    assert alarm**2 < FALSE_ALARM
    assert len(singletons()) > 50
    assert appearances(epsilon) == 0 or appearances(epsilon) == 0


def test_frequent_diagnoses_do_appear() -> None:
    """A room that shows nothing would pass the test above for nothing. Of the 100 (10) most frequent diagnoses each
    has so many patients more than the threshold asks for that the noise hides one less often than once in 10^9."""
    assert len(shown("1")) > 100
    assert len(shown("0.1")) > 10


def test_without_a_threshold_the_diagnoses_of_one_patient_would_appear() -> None:
    assert len(shown("1", Fixed(others=10**9)) & singletons()) > 50
