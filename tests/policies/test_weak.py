from __future__ import annotations

from policies import weak
from policies.document import read

VERIFIER = f"SCRAM-SHA-256$4096:{'A' * 22}==${'A' * 43}=:{'A' * 43}="
BASE = f"""
[room]
name = "r"
version = 1
environment = "development"
[units.patient]
[tables.visits]
unit = {{ name = "patient", column = "patient_id" }}
rows_per_unit = 20
key = ["visit_id"]
[tables.visits.columns]
patient_id = {{ type = "bigint" }}
visit_id = {{ type = "bigint" }}
minutes = {{ type = "integer", bounds = [0, 240] }}
[tables.wards]
public = true
columns = {{ name = {{ type = "text" }}, beds = {{ type = "integer", bounds = [0, 12345] }} }}
[budgets.patient]
epsilon = 8
delta = "1e-6"
[roles.researcher]
tables = ["visits", "wards"]
epsilon = 8
query_epsilon = "0.1"
[analysts.ana]
role = "researcher"
verifier = "{VERIFIER}"
"""


def found(*changes: tuple[str, str], more: str = "") -> list[str]:
    text = BASE + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return [".".join(map(str, finding.path)) + ": " + finding.message for finding in weak.choices(read(text))]


def only(*changes: tuple[str, str], more: str = "") -> str:
    (text,) = found(*changes, more=more)
    return text


def test_a_sensible_policy_has_no_weak_choices() -> None:
    assert found() == []


def test_bounds_as_wide_as_the_type_are_weak() -> None:
    assert "as wide as the type" in only(("[0, 240]", "[-2147483648, 2147483647]"))


def test_bounds_that_look_measured_are_weak_unless_public() -> None:
    assert "look read off the data" in only(("[0, 240]", "[0, 23847]"))
    assert found(("[0, 240]", "[0, 24000000]")) == []
    assert (
        found(
            (
                'minutes = { type = "integer", bounds = [0, 240] }',
                'day = { type = "date", bounds = [2020-01-01, 2020-01-02] }',
            )
        )
        == []
    )


def test_undeclared_rows_are_weak() -> None:
    assert only(("rows_per_unit = 20\n", "")).startswith(
        "tables.visits: rows_per_unit is not declared: 1000 is assumed"
    )


def test_more_contribution_than_rows_is_weak() -> None:
    assert "above rows_per_unit" in only(("key = [", "contribution = { count = 21 }\nkey = ["))
    assert found(("key = [", "contribution = { count = 20 }\nkey = [")) == []


def test_large_budgets_are_weak() -> None:
    assert "protects little" in only(("epsilon = 8\ndelta", "epsilon = 21\ndelta"))
    assert "likely enough" in only(('"1e-6"', '"1e-4"'))
    assert found(('"1e-6"', '"1e-5"')) == []


def test_a_share_above_the_common_budget_is_weak() -> None:
    assert only(("epsilon = 8\nquery", "epsilon = 9\nquery")) == (
        "roles.researcher.epsilon: is above the common budget of patient, 8"
    )


def test_shares_that_exceed_the_common_budget_together_are_weak() -> None:
    second = f'[analysts.ben]\nrole = "researcher"\nverifier = "{VERIFIER.replace(":AAA", ":BBB", 1)}"\n'
    assert only(more=second) == (
        "budgets.patient.epsilon: the 2 analysts' shares add to 16: whoever asks first leaves less"
    )
    assert found(("epsilon = 8\nquery", "epsilon = 4\nquery"), more=second) == []


def test_shares_of_roles_that_see_only_public_tables_do_not_count() -> None:
    assert found(('tables = ["visits", "wards"]\nepsilon = 8', 'tables = ["wards"]\nepsilon = 9')) == [
        "tables.visits: no role sees it"
    ]


def test_an_unlimited_budget_is_exceeded_by_no_share() -> None:
    assert found(("epsilon = 8\nquery", "epsilon = 9\nquery"), more='[test]\nepsilon = "unlimited"\n') == []


def test_dear_synthetic_rows_are_weak() -> None:
    assert "more than half" in only(more="[synthetic]\nepsilon = 5\n")
    assert found(more="[synthetic]\nepsilon = 4\n") == []


def test_what_nobody_uses_is_weak() -> None:
    assert "units.doctor: no table belongs to it" in found(
        more="[units.doctor]\n[budgets.doctor]\nepsilon = 1\ndelta = 1e-6\n"
    )
    assert only(('"visits", "wards"]', '"visits"]')) == "tables.wards: no role sees it"
    nobody = found((f'[analysts.ana]\nrole = "researcher"\nverifier = "{VERIFIER}"', ""))
    assert nobody == ["roles.researcher: no analyst has it", "analysts: nobody may ask anything"]


def test_short_and_shared_salts_are_weak() -> None:
    assert "shorter than Postgres' 16" in only((f":{'A' * 22}==", ":AAAA"))
    second = f'[analysts.ben]\nrole = "researcher"\nverifier = "{VERIFIER}"\n'
    assert "has the salt of ana" in only(("epsilon = 8\nquery", "epsilon = 4\nquery"), more=second)
    certified = ('verifier = "' + VERIFIER, 'certificate = "sha256:' + "0" * 64)
    assert found(certified) == []
