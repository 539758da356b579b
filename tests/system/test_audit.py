"""audit_dp.py against two servers whose data differ in one person: no violation, unless one is planted.

The tool's bound exceeds the true epsilon with probability at most alpha, whatever the mechanism. So all clean tests
together fail by chance with probability below 1e-6. The planted mistake makes epsilon 4 of 2, and is overlooked with
probability below 1e-6 too: 1,000 samples a side, either of two tails is enough.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import small
from conftest import SHARED
from served import Served, closing

TOOL = SHARED / "tools" / "audit_dp.py"
EPSILON = "2"
CLEAN, VIOLATION = 0, 1
PEOPLE = 120
FEW = 39
"""People of one city, the one in question among them: so many that it is shown half of the time."""
SETTLED = 'rows_per_unit = 3\ncontribution = { count = "1" }\n'
"""Visits count once a person, of whom each has three: clipping binds for everyone."""
POLICY = (
    small.ROOM
    + small.TABLES.replace("rows_per_unit = 3\n", SETTLED)
    + '[budgets.person]\ndelta = "1e-6"\naccountant = "pure"\n[test]\nreuse_answers = false\nepsilon = "unlimited"\n'
    + small.role("full", ("people", "visits", "digits"), "8", most="8")
    + small.analyst("ana", "full")
)
QUESTIONS = {
    "count": "SELECT count(*) FROM people",
    "sum": "SELECT sum(cost) FROM visits",
    "avg": "SELECT avg(cost) FROM visits",
    "public keys": "SELECT kind, count(*) FROM visits GROUP BY kind ORDER BY kind",
    "thresholded keys": "SELECT city, count(*) FROM people GROUP BY city ORDER BY city",
    "join": "SELECT p.grp, sum(v.cost) FROM people p JOIN visits v USING (person_id) GROUP BY p.grp ORDER BY p.grp",
}


@pytest.fixture(scope="module", autouse=True)
def tool() -> Path:
    """The auditor."""
    if not TOOL.is_file():
        pytest.skip("the auditor is not there: shared/tools/audit_dp.py beside this project")
    return TOOL


@contextmanager
def neighbours(folder: Path, orders: dict[str, Any] | None = None) -> Iterator[tuple[Served, Served]]:
    """Two servers; the second lacks person 0, whose visits cost most and whose city is a small one."""
    people = [{**person, "city": "few" if person["person_id"] < FEW else "many"} for person in small.people(PEOPLE)]
    visits = small.visits(PEOPLE)
    with ExitStack() as stack:
        rooms = []
        for absent in (None, 0):
            place = folder / f"without-{absent}"
            place.mkdir()
            rows = [[row for row in table if row["person_id"] != absent] for table in (people, visits)]
            room = stack.enter_context(closing(Served(place, POLICY, small.write(place / "data", *rows))))
            room.start(orders)
            rooms.append(room)
        yield rooms[0], rooms[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Two servers as they are."""
    with neighbours(tmp_path_factory.mktemp("pair")) as found:
        yield found


def audit(rooms: tuple[Served, Served], question: str, samples: int, alpha: float) -> tuple[int, str]:
    """The auditor's exit code and what it prints."""
    command = [sys.executable, str(TOOL), "--dsn0", rooms[0].dsn(), "--dsn1", rooms[1].dsn(), "--sql", question]
    command += ["-n", str(samples), "--alpha", str(alpha), "--claimed-eps", EPSILON]
    command += ["--setup", f"SET dp.epsilon = {EPSILON}"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    return found.returncode, found.stdout + found.stderr


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_auditor_finds_no_violation(pair: tuple[Served, Served], question: str) -> None:
    code, text = audit(pair, question, samples=400, alpha=1e-7)
    assert code == CLEAN, text
    assert "errors=0/0" in text, text


def test_the_auditor_finds_a_c_that_was_doubled_behind_the_noise(tmp_path: Path) -> None:
    with neighbours(tmp_path, {"double": True}) as rooms:
        code, text = audit(rooms, "SELECT count(*) FROM visits", samples=1000, alpha=0.01)
    assert code == VIOLATION, text
    assert "errors=0/0" in text, text
