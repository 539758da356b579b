"""Real data at epsilon 1: through every client, close to the truth, and no code that one patient alone has."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from clients import fetched, plain, psql
from served import Served, closing

PATIENTS = 500
"""Cells with more than so many count for accuracy."""
ERROR_MAX = 0.02
QUESTIONS = {
    "readmission and stay by age": (
        "SELECT m.age_band, avg(CASE WHEN e.readmitted = 'YES' THEN 1 ELSE 0 END), avg(e.time_in_hospital) "
        "FROM members m JOIN encounters e ON e.member_id = m.member_id GROUP BY m.age_band ORDER BY m.age_band"
    ),
    "members by race": "SELECT race, count(*) FROM members m GROUP BY race ORDER BY race",
    "encounters by diagnosis": "SELECT diag_1, count(*) FROM encounters m GROUP BY diag_1 ORDER BY 2 DESC, 1",
}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, hospital_data: Path, hospital_policy: str) -> Iterator[Served]:
    with closing(Served(tmp_path_factory.mktemp("hospital"), hospital_policy, hospital_data)) as served:
        served.start()
        yield served


@pytest.fixture(scope="module")
def truth(hospital_data: Path) -> duckdb.DuckDBPyConnection:
    """The files as they are."""
    connection = duckdb.connect()
    for table in ("members", "encounters"):
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM '{hospital_data / table}.parquet'")
    return connection


def exact(truth: duckdb.DuckDBPyConnection, question: str) -> dict[str, tuple[list[float], int]]:
    """By key: the true values, and how many patients they are about."""
    counted = question.replace(" FROM ", ", count(DISTINCT m.member_id) FROM ", 1)
    return {row[0]: ([float(value) for value in row[1:-1]], row[-1]) for row in truth.execute(counted).fetchall()}


@pytest.mark.parametrize("name", QUESTIONS)
def test_at_epsilon_1_the_median_error_of_large_cells_is_below_2_percent(
    hospital: Served, truth: duckdb.DuckDBPyConnection, name: str
) -> None:
    with hospital.connected() as session:
        session.run("SET dp.epsilon = 1")
        told = {row[0]: row[1:] for row in session.ask(QUESTIONS[name])}
    true = exact(truth, QUESTIONS[name])
    large = [key for key, (_, patients) in true.items() if patients > PATIENTS]
    assert len(large) >= 4
    errors = [
        abs(float(noisy) - value) / value
        for key in large
        for noisy, value in zip(told[key], true[key][0], strict=True)
    ]
    assert statistics.median(errors) < ERROR_MAX


@pytest.mark.parametrize("name", QUESTIONS)
async def test_psycopg_asyncpg_and_psql_get_the_same_numbers(hospital: Served, name: str) -> None:
    question = QUESTIONS[name]
    with hospital.connected() as session:
        session.run("SET dp.epsilon = 1")
        rows = session.ask(question)
        session.notices.clear()
        assert session.ask(question, (), binary=True) == rows
        assert session.noticed().startswith("dp: charged epsilon 0 (released before), ")
    assert plain(await fetched(hospital, question, epsilon="1")) == plain(rows)
    out, err = psql(hospital, "SET dp.epsilon = 1", question, options=("-At",))
    assert "NOTICE:  dp: charged epsilon 0 (released before), " in err
    printed = [tuple(line.split("|")) for line in out.splitlines()[1:]]
    assert [row[0] for row in printed] == [row[0] for row in rows]
    assert [tuple(map(float, row[1:])) for row in printed] == [tuple(map(float, row[1:])) for row in rows]


def test_no_diagnosis_of_one_patient_alone_is_named(hospital: Served, truth: duckdb.DuckDBPyConnection) -> None:
    """A false alarm: 3 questions, some 100 such codes, each shown with at most delta_keys / 16 < 1e-9."""
    alone = {
        row[0]
        for row in truth.execute(
            "SELECT diag_1 FROM encounters GROUP BY 1 HAVING count(DISTINCT member_id) = 1"
        ).fetchall()
    }
    assert len(alone) > 50
    with hospital.connected() as session:
        session.run("SET dp.epsilon = 1")
        for condition in ("TRUE", "readmitted = 'YES'", "time_in_hospital > 3"):
            rows = session.ask(f"SELECT diag_1, count(*) FROM encounters WHERE {condition} GROUP BY diag_1")
            assert not alone & {row[0] for row in rows}
