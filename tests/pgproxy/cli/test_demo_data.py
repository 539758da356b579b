from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pgproxy.cli import demo, demo_codes, demo_data
from policies import document
from policies.model import Table

PEOPLE = 20_000
KINDS = {"bigint": pa.int64(), "text": pa.string()}


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return demo_data.make(7, PEOPLE)


@pytest.fixture(scope="module")
def declared() -> dict[str, Table]:
    return dict(document.parse(demo.policy_text(), "demo").policy.tables)


def numbers(table: pa.Table, column: str) -> npt.NDArray[Any]:
    return table.column(column).to_numpy()


def stays_per_person(tables: dict[str, pa.Table]) -> npt.NDArray[Any]:
    return np.unique(numbers(tables["encounters"], "member_id"), return_counts=True)[1]


def test_the_same_seed_makes_the_same_tables_and_another_one_others() -> None:
    first, again, other = (demo_data.make(seed, 500) for seed in (3, 3, 4))
    assert first["members"].equals(again["members"])
    assert first["encounters"].equals(again["encounters"])
    assert not first["members"].equals(other["members"])


def test_the_tables_are_the_ones_that_are_promised(tables: dict[str, pa.Table]) -> None:
    assert tuple(tables) == demo_data.TABLES


def test_columns_have_the_names_and_types_of_the_policy(
    tables: dict[str, pa.Table], declared: dict[str, Table]
) -> None:
    for name, table in tables.items():
        wanted = {column: KINDS[str(c.type)] for column, c in declared[name].columns.items()}
        assert dict(zip(table.column_names, table.schema.types, strict=True)) == wanted


def test_loading_finds_nothing_to_clip_or_to_drop_but_the_rows_beyond_the_limit(
    tables: dict[str, pa.Table], declared: dict[str, Table]
) -> None:
    for name, table in tables.items():
        for column, rule in declared[name].columns.items():
            found = {value for value in table.column(column).to_pylist() if value is not None}
            if rule.values is not None:
                assert found <= set(rule.values), column
            if rule.bounds is not None:
                assert rule.bounds[0] <= min(found) <= max(found) <= rule.bounds[1], column
            assert not (rule.not_null and table.column(column).null_count), column


def test_every_declared_key_is_unique(tables: dict[str, pa.Table], declared: dict[str, Table]) -> None:
    for name, table in tables.items():
        (key,) = declared[name].key
        assert len(set(table.column(key).to_pylist())) == table.num_rows


def test_every_stay_is_a_members(tables: dict[str, pa.Table]) -> None:
    known = set(numbers(tables["members"], "member_id"))
    assert set(numbers(tables["encounters"], "member_id")) <= known


def test_there_are_about_three_stays_for_two_members(tables: dict[str, pa.Table]) -> None:
    assert tables["members"].num_rows == PEOPLE
    assert tables["encounters"].num_rows == pytest.approx(demo_data.STAYS_PER_MEMBER * PEOPLE, rel=0.05)


def test_visits_have_a_heavy_tail_that_passes_the_rows_a_unit_may_have(
    tables: dict[str, pa.Table], declared: dict[str, Table]
) -> None:
    stays = stays_per_person(tables)
    assert 0.3 < 1 - len(stays) / PEOPLE < 0.6
    top = np.sort(stays)[-PEOPLE // 100 :]
    assert top.sum() > 0.08 * stays.sum()
    assert stays.max() > declared["encounters"].rows_per_unit_max


def test_the_old_stay_longer_and_come_back_more_often(tables: dict[str, pa.Table]) -> None:
    joined = tables["encounters"].join(tables["members"], "member_id")
    days, back = numbers(joined, "time_in_hospital"), numbers(joined, "readmitted") == "YES"
    bands = numbers(joined, "age_band")
    young, old = np.isin(bands, ["[20-30)", "[30-40)"]), np.isin(bands, ["[70-80)", "[80-90)"])
    assert days[old].mean() > days[young].mean() + 0.2
    assert back[old].mean() > back[young].mean() + 0.02


def test_long_stays_have_more_medications_diagnoses_and_returns(tables: dict[str, pa.Table]) -> None:
    stays = tables["encounters"]
    days = numbers(stays, "time_in_hospital")
    assert np.corrcoef(days, numbers(stays, "num_medications"))[0, 1] > 0.3
    assert np.corrcoef(days, numbers(stays, "number_diagnoses"))[0, 1] > 0.03
    back = numbers(stays, "readmitted") == "YES"
    assert back[days > 7].mean() > back[days <= 2].mean()


def test_about_half_of_the_stays_are_followed_by_another() -> None:
    back = numbers(demo_data.make(11, 5_000)["encounters"], "readmitted") == "YES"
    assert 0.4 < back.mean() < 0.55


def test_whoever_died_does_not_come_back(tables: dict[str, pa.Table]) -> None:
    stays = tables["encounters"]
    died = numbers(stays, "discharge_disposition_id") == demo_codes.EXPIRED
    assert 0.005 < died.mean() < 0.05
    assert not (numbers(stays, "readmitted")[died] == "YES").any()
    last = {person: place for place, person in enumerate(numbers(stays, "member_id"))}
    assert all(last[person] == place for place, person in enumerate(numbers(stays, "member_id")) if died[place])


def test_a_few_diagnoses_are_common_and_many_are_one_persons_alone(tables: dict[str, pa.Table]) -> None:
    stays = tables["encounters"]
    codes = Counter(stays.column("diag_1").to_pylist())
    assert codes["428"] > 0.05 * stays.num_rows
    pairs = set(zip(stays.column("diag_1").to_pylist(), stays.column("member_id").to_pylist(), strict=True))
    people = Counter(code for code, _ in pairs)
    assert sum(count == 1 for count in people.values()) > 30


def test_missing_diagnoses_and_sources_are_null_and_few(tables: dict[str, pa.Table]) -> None:
    stays = tables["encounters"]
    missing = [stays.column(name).null_count for name in ("diag_1", "diag_2", "diag_3", "admission_source_id")]
    assert 0 < missing[0] < missing[1] < missing[2] < 0.03 * stays.num_rows
    assert 0 < missing[3] < 0.03 * stays.num_rows


def test_medication_columns_agree_with_their_summary(tables: dict[str, pa.Table]) -> None:
    stays = tables["encounters"]
    doses = np.stack([numbers(stays, name) for name in demo_codes.MEDICATIONS])
    given = (doses != "No").any(axis=0)
    assert (given == (numbers(stays, "diabetes_med") == "Yes")).all()
    changed = np.isin(doses, ["Up", "Down"]).any(axis=0)
    assert (numbers(stays, "change")[changed] == "Ch").all()
    assert (numbers(stays, "change")[~given] == "No").all()


def test_earlier_and_last_are_counted_along_each_persons_stays() -> None:
    earlier, is_last = demo_data._course(np.array([2, 0, 2, 2, 1, 0]))
    assert earlier.tolist() == [0, 0, 1, 2, 0, 1]
    assert is_last.tolist() == [False, False, False, True, True, True]
