from __future__ import annotations

import pytest

from policies import checks
from policies.document import PolicyError, read

VERIFIER = f"SCRAM-SHA-256$4096:{'A' * 22}==${'A' * 43}=:{'A' * 43}="
BASE = f"""
[room]
name = "r"
version = 1
environment = "development"
[owners.clinic]
[units.patient]
[tables.visits]
owner = "clinic"
unit = {{ name = "patient", column = "patient_id" }}
rows_per_unit = 20
key = ["visit_id"]
[tables.visits.columns]
patient_id = {{ type = "bigint" }}
visit_id = {{ type = "bigint" }}
minutes = {{ type = "integer" }}
[tables.payments]
owner = "clinic"
unit = {{ name = "patient", through = "visits", on = "visit_id" }}
rows_per_unit = 20
[tables.payments.columns]
visit_id = {{ type = "bigint" }}
[tables.wards]
public = true
columns = {{ name = {{ type = "text" }} }}
[budgets.patient]
epsilon = 8
delta = "1e-6"
[roles.researcher]
tables = ["visits", "payments", "wards"]
epsilon = 3
query_epsilon = "0.1"
[analysts.ana]
role = "researcher"
verifier = "{VERIFIER}"
"""


def problems(*changes: tuple[str, str], more: str = "") -> list[str]:
    """What is said about the good policy after some texts in it were replaced."""
    text = BASE + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    try:
        read(text)
    except PolicyError as error:
        return [f"{problem.field}: {problem.message}" for problem in error.problems]
    return []


def test_a_good_policy_has_no_contradictions() -> None:
    assert problems() == []
    assert list(checks.contradictions(read(BASE))) == []


@pytest.mark.parametrize("name", ["Visits", "_v", "pg_v", "dp", "v v", "é", "1v", "v" * 64])
def test_names_that_need_quotes_or_are_taken_are_refused(name: str) -> None:
    for section in ("owners", "units", "tables", "roles", "analysts"):
        found = problems(more=f'[{section}."{name}"]\n')
        assert any(name in line and ("must" in line or "keeps" in line) for line in found), (section, found)
    assert problems(('name = "r"', f'name = "{name}"'))


@pytest.mark.parametrize("name", ["_rank", "X", "ctid", "a" * 64])
def test_column_names_that_the_room_or_postgres_uses_are_refused(name: str) -> None:
    assert problems(("minutes =", f"{name} ="))


@pytest.mark.parametrize("name", ["dp", "pg_x", "a" * 63])
def test_columns_may_have_names_that_tables_may_not(name: str) -> None:
    assert problems(("minutes =", f"{name} =")) == []


@pytest.mark.parametrize("name", ["public", "none", "attest"])
def test_users_of_the_rooms_own_are_refused(name: str) -> None:
    (found,) = problems(("[analysts.ana]", f"[analysts.{name}]"))
    assert "keeps for itself" in found


SINGLE = [
    ("owner", ('owner = "clinic"\nunit = { name = "patient", c', 'owner = "x"\nunit = { name = "patient", c'),
     "tables.visits.owner: there is no owner 'x' in [owners]"),
    ("both", ("public = true", 'public = true\nunit = { name = "patient", column = "name" }'),
     "tables.wards.unit: a public table protects nobody"),
    ("neither", ("public = true", "public = false"), "tables.wards: needs a unit, or public = true"),
    ("rows of nobody", ("public = true", "public = true\nrows_per_unit = 1"),
     "tables.wards.rows_per_unit: is a limit"),
    ("more groups than rows", ("key = [", "groups_per_unit = 21\nkey = ["),
     "tables.visits.groups_per_unit: a unit with 20 rows"),
    ("unknown unit", ('{ name = "patient", column', '{ name = "p", column'),
     "tables.visits.unit.name: there is no unit 'p' in [units]"),
    ("no way", (', column = "patient_id"', ""), "tables.visits.unit: needs either column, or through and on"),
    ("two ways", (", on = ", ', column = "visit_id", on = '), "tables.payments.unit: needs either column"),
    ("half a way", (', on = "visit_id"', ""), "tables.payments.unit: through and on go together"),
    ("unknown unit column", ('column = "patient_id"', 'column = "x"'),
     "tables.visits.unit.column: table visits has no column 'x'"),
    ("unit by float", ('patient_id = { type = "bigint" }', 'patient_id = { type = "real" }'),
     "tables.visits.unit.column: a real cannot identify a unit"),
    ("unknown through", ('through = "visits"', 'through = "x"'),
     "tables.payments.unit.through: there is no table 'x' in [tables]"),
    ("through public", ('through = "visits"', 'through = "wards"'),
     "tables.payments.unit.through: wards has no unit to lead to"),
    ("through not a key", ('key = ["visit_id"]', 'key = ["visit_id", "minutes"]'),
     "tables.payments.unit.on: must be the declared key of visits"),
    ("through another type", ('columns]\nvisit_id = { type = "bigint" }', 'columns]\nvisit_id = { type = "text" }'),
     "tables.payments.unit.on: is text here and bigint in visits"),
    ("on nothing", ('[tables.payments.columns]\nvisit_id', "[tables.payments.columns]\nother"),
     "tables.payments.unit.on: table payments has no column 'visit_id'"),
    ("unknown key column", ('key = ["visit_id"]', 'key = ["visit_id", "x"]'),
     "tables.visits.key[1]: table visits has no column 'x'"),
    ("key twice", ('key = ["visit_id"]', 'key = ["visit_id", "visit_id"]'),
     "tables.visits.key[1]: is in the key twice"),
    ("measure", ("key = [", "contribution = { avg = 1 }\nkey = ["),
     "tables.visits.contribution.avg: is not a measure"),
    ("sum of nothing", ("key = [", 'contribution = { "sum.x" = 1 }\nkey = ['),
     'tables.visits.contribution."sum.x": table visits has no column'),
    ("sum of text",
     ('minutes = { type = "integer" }\n', 'minutes = { type = "text" }\n[tables.visits.contribution]\n'
      '"sum.minutes" = 1\n'),
     'tables.visits.contribution."sum.minutes": a text has no sum'),
    ("no budget", ("[units.patient]", "[units.patient]\n[units.doctor]"),
     "units.doctor: has no budget: add [budgets.doctor]"),
    ("budget of nobody", ("[budgets.patient]", "[budgets.doctor]\nepsilon = 1\ndelta = 0.1\n[budgets.patient]"),
     "budgets.doctor: there is no unit 'doctor'"),
    ("no epsilon", ("epsilon = 8\n", ""), "budgets.patient.epsilon: is missing"),
    ("no delta for zcdp", ('delta = "1e-6"', "delta = 0"), "budgets.patient.delta: must be above 0"),
    ("unknown table", ('"wards"]', '"x"]'), "roles.researcher.tables[2]: there is no table 'x'"),
    ("table twice", ('"wards"]', '"visits"]'), "roles.researcher.tables[2]: is in the list twice"),
    ("limit above share", ("query_epsilon =", "query_epsilon_max = 4\nquery_epsilon ="),
     "roles.researcher.query_epsilon_max: is above epsilon"),
    ("question above share", ('query_epsilon = "0.1"', "query_epsilon = 4"),
     "roles.researcher.query_epsilon: is above epsilon"),
    ("question above limit", ("query_epsilon =", 'query_epsilon_max = "0.01"\nquery_epsilon ='),
     "roles.researcher.query_epsilon: is above query_epsilon_max"),
    ("unknown role", ('role = "researcher"', 'role = "x"'), "analysts.ana.role: there is no role 'x' in [roles]"),
    ("no way in", (f'verifier = "{VERIFIER}"', ""),
     "analysts.ana: needs a verifier (`cleanroom user ana` makes one)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in SINGLE], ids=[case[0] for case in SINGLE])
def test_each_contradiction_is_named_with_little_else(change: tuple[str, str], expected: str) -> None:
    found = problems(change)
    assert sum(line.startswith(expected) for line in found) == 1
    assert len(found) <= 2


def test_a_policy_without_tables_protects_nothing() -> None:
    found = problems(more="[room]").pop()
    assert "Cannot declare" in found
    with pytest.raises(PolicyError, match="at least one table"):
        read('[room]\nname = "r"\nversion = 1\nenvironment = "development"')


def test_a_table_without_columns_is_refused() -> None:
    assert problems(("columns = { name =", "columns = {} # {")) == [
        "tables.wards.columns: a table needs at least one column"
    ]


def test_a_path_through_another_unit_is_refused() -> None:
    more = "[units.doctor]\n[budgets.doctor]\nepsilon = 1\ndelta = 0.1\n"
    (found,) = problems(('name = "patient", through', 'name = "doctor", through'), more=more)
    assert found == "tables.payments.unit.through: visits belongs to another unit, patient"


def test_one_unit_has_one_type() -> None:
    more = '[tables.calls]\nunit = { name = "patient", column = "who" }\ncolumns = { who = { type = "text" } }\n'
    (found,) = problems(more=more)
    assert found.startswith("tables.calls.unit.column: is text, and in visits the same unit is bigint")


def path_of(length: int, end: str) -> str:
    steps = "".join(
        f'[tables.t{step}]\nunit = {{ name = "patient", through = "{end if step == length - 1 else f"t{step + 1}"}", '
        f'on = "visit_id" }}\nkey = ["visit_id"]\ncolumns = {{ visit_id = {{ type = "bigint" }} }}\n'
        for step in range(length)
    )
    return steps


def test_paths_of_several_steps_are_followed() -> None:
    assert problems(more=path_of(7, "visits")) == []


def test_long_paths_are_refused() -> None:
    (found,) = problems(more=path_of(9, "visits"))
    assert found.startswith("tables.t0.unit.through: takes more than 8 steps")


def test_circles_are_found_from_each_table_on_them() -> None:
    assert problems(more=path_of(2, "t0")) == [
        "tables.t0.unit.through: leads in a circle back to t0",
        "tables.t1.unit.through: leads in a circle back to t1",
    ]


def test_a_path_into_a_circle_ends() -> None:
    found = problems(('through = "visits"', 'through = "t0"'), more=path_of(2, "t0"))
    assert "tables.payments.unit.through: takes more than 8 steps to reach a unit column, or never does" in found


PRODUCTION = (
    ('environment = "development"', 'environment = "production"\nexpires = 2030-01-01'),
    ("[owners.clinic]", f'[owners.clinic]\nkey = "ed25519:{"A" * 43}="'),
)


def test_production_with_all_it_demands_is_good() -> None:
    assert problems(*PRODUCTION) == []


def test_production_demands_what_development_leaves_open() -> None:
    found = problems(
        ('environment = "development"', 'environment = "production"'),
        ('owner = "clinic"\nunit = { name = "patient", t', 'unit = { name = "patient", t'),
        more="[test]\n",
    )
    assert found == [
        "room.expires: is missing, and production demands it",
        "owners.clinic.key: is missing, and production demands it",
        "tables.payments.owner: is missing, and production demands it",
        "test: is for development alone; remove it or set environment",
    ]
    assert "owners: production demands at least one owner" in problems(PRODUCTION[0], ("[owners.clinic]", ""))


def test_unlimited_needs_no_epsilon_and_is_for_development() -> None:
    unlimited = '[test]\nepsilon = "unlimited"\n'
    assert problems(("epsilon = 8\n", ""), more=unlimited) == []
    assert problems(*PRODUCTION, more=unlimited) == ["test: is for development alone; remove it or set environment"]


def test_pure_needs_no_delta() -> None:
    assert problems(('delta = "1e-6"', 'delta = 0\naccountant = "pure"')) == []


@pytest.mark.parametrize("field", ["bounds = [1, 9]", "values = [1, 9]"])
@pytest.mark.parametrize("column", ["visit_id", "patient_id"])
def test_columns_that_identify_have_neither_bounds_nor_values(column: str, field: str) -> None:
    change = (f'{column} = {{ type = "bigint" }}', f'{column} = {{ type = "bigint", {field} }}')
    assert any("identifies rows or units" in problem for problem in problems(change))
