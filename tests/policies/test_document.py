from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies import document
from policies.document import PolicyError, Problem, decode, load, parse, read, warnings

EXAMPLES = Path(document.__file__).parent / "examples"
HOSPITAL = (EXAMPLES / "hospital.toml").read_text(encoding="utf-8")

BROKEN = """\
[room]
name = "Bad Room"
versoin = 1
environment = "prod"
[units.member]
[tables.members]
unit = { name = "membr", column = "member" }
rows_per_unit = 0
key = [
  "member_id",
  "x",
]
contribution = { sum.age = 3 }
[tables.members.columns]
member_id = { type = "bigin" }
age = { type = "integer", bounds = [100, 0] }
Name = { comment = 3, not_null = "yes" }
[budgets.member]
epsilon = 0.0
delta = nan
[roles.r]
tables = ["members", 3, "nope"]
epsilon = "many"
query_epsilon = 0.1
fallbck = true
[analysts.ana]
role = "x"
[unit.x]
[synthetic]
"""


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as caught:
        read(text, "room.toml")
    return caught.value.problems


def test_every_mistake_is_named_with_its_line() -> None:
    assert [(problem.line, problem.field, problem.message.split(";")[0]) for problem in problems(BROKEN)] == [
        (1, "room.version", "is missing"),
        (2, "room.name", "must be a lower-case letter, then lower-case letters, digits or _"),
        (3, "room.versoin", "is unknown"),
        (4, "room.environment", "must be 'development' or 'production'"),
        (7, "tables.members.unit.column", "table members has no column 'member'"),
        (7, "tables.members.unit.name", "there is no unit 'membr' in [units]"),
        (8, "tables.members.rows_per_unit", "must be 1 to 1000000"),
        (11, "tables.members.key[1]", "table members has no column 'x'"),
        (13, "tables.members.contribution.sum", "must be a number"),
        (15, "tables.members.columns.member_id.type", problems(BROKEN)[9].message.split(";")[0]),
        (16, "tables.members.columns.age.bounds", "the lower bound comes first"),
        (17, "tables.members.columns.Name", "must be a lower-case letter, then lower-case letters, digits or _"),
        (17, "tables.members.columns.Name.comment", "must be a text in quotes"),
        (17, "tables.members.columns.Name.not_null", "must be true or false"),
        (17, "tables.members.columns.Name.type", "is missing"),
        (19, "budgets.member.epsilon", "must be above 0 and at most 1000"),
        (20, "budgets.member.delta", "must be a finite number of ordinary size"),
        (22, "roles.r.tables[1]", "must be a text in quotes"),
        (23, "roles.r.epsilon", 'must be a number in plain digits, such as "0.5" or "1e-6"'),
        (25, "roles.r.fallbck", "is unknown"),
        (26, "analysts.ana", "needs a verifier (`cleanroom user ana` makes one) or a certificate"),
        (27, "analysts.ana.role", "there is no role 'x' in [roles]"),
        (28, "unit", "is unknown"),
        (29, "synthetic.epsilon", "is missing"),
    ]


def test_the_exception_reads_like_a_compilers_messages() -> None:
    with pytest.raises(PolicyError, match=r"^room\.toml:1: room\.version: is missing\nroom\.toml:2: room\.name: "):
        read(BROKEN, "room.toml")


def test_unknown_fields_come_with_a_suggestion() -> None:
    said = {problem.field: problem.message for problem in problems(BROKEN)}
    assert said["room.versoin"] == "is unknown; did you mean version?"
    assert said["unit"] == "is unknown; did you mean units?"
    (column,) = problems(HOSPITAL.replace('not_null = true, comment = "days"', "notnull = true"))
    assert column.message == "is unknown; did you mean not_null?"
    (far,) = problems(HOSPITAL + "[answers]\nqqq = 1\n")
    assert far.message == "is unknown; there are counts"
    (unit,) = problems(HOSPITAL.replace('{ name = "member", column', '{ name = "member", zzz = 1, column', 1))
    assert unit.message == "is unknown; there are name, column, through, on"


def test_a_malformed_field_hides_no_other_mistake_and_invents_none() -> None:
    two = HOSPITAL.replace('role = "auditor"', 'role = "x"').replace("rows_per_unit = 20", 'rows_per_unit = "20"')
    assert {problem.field for problem in problems(two)} == {"analysts.ben.role", "tables.encounters.rows_per_unit"}
    for section in ("units", "tables", "roles", "budgets", "owners", "analysts", "room"):
        broken = "\n".join(line for line in HOSPITAL.splitlines() if line).replace(f"[{section}", f"[x.{section}")
        fields = {problem.field for problem in problems(f"{section} = 3\n{broken}")}
        assert {"x", section} >= fields, section


def test_stand_ins_do_not_loop_on_names_that_are_fields() -> None:
    more = "[analysts]\nrole = 3\ntables = 4\n[roles]\nepsilon = 3\n"
    assert {
        problem.field for problem in problems('[room]\nname = "r"\nversion = 1\nenvironment = "development"\n' + more)
    } == {
        "analysts.role",
        "analysts.tables",
        "roles.epsilon",
        "tables",
    }


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[room]\nname = \n", 2, "Invalid value"),
        ("[room]\nname = 'a'\nname = 'b'\n", 3, "Cannot overwrite"),
        ("[room]\nname = [1,\n\n", 4, "Invalid value"),
        ("b = 1\na = " + "9" * 5000, 2, "too many digits"),
        ("a = " + "[" * 3000 + "]" * 3000, 1, "nested too deeply"),
        (".".join("a" * 18) + " = 1", 1, "nested too deeply"),
        (".".join("a" * 3000) + " = 1", 1, "nested too deeply"),
        ("#" * (document.TEXT_BYTES_MAX + 1), 1, "at most 4194304 bytes"),
    ],
)
def test_what_is_not_toml_is_a_problem_with_a_line(text: str, line: int, said: str) -> None:
    (problem,) = problems(text)
    assert (problem.line, problem.field) == (line, "")
    assert said in problem.message


def test_files_are_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    file.write_bytes(b"[room]\nname = '\xff'\n")
    with pytest.raises(PolicyError, match=r"room\.toml:2: is not UTF-8"):
        load(file)
    assert decode("é".encode()) == "é"


def test_a_file_is_read_like_its_text(tmp_path: Path) -> None:
    file = tmp_path / "room.toml"
    file.write_bytes(HOSPITAL.replace("\n", "\r\n").encode())
    assert load(file) == read(HOSPITAL)
    with pytest.raises(OSError, match="No such file"):
        load(tmp_path / "other.toml")


def test_numbers_are_exact_whether_quoted_or_not() -> None:
    quoted = read(HOSPITAL)
    plain = read(HOSPITAL.replace('query_epsilon = "0.1"', "query_epsilon = 0.1").replace('"1e-6"', "1e-6"))
    assert quoted == plain
    assert plain.roles["researcher"].query_epsilon == Decimal("0.1")
    assert plain.room.expires == date(2030, 12, 31)


def test_warnings_have_lines_where_there_is_a_text() -> None:
    found = parse(HOSPITAL.replace("bounds = [0, 150]", "bounds = [0, 13217]"))
    (warning,) = found.warnings
    assert warning.line == 1 + HOSPITAL[: HOSPITAL.index("num_lab_procedures")].count("\n")
    assert warning.field == "tables.encounters.columns.num_lab_procedures.bounds"
    assert [problem.line for problem in warnings(found.policy)] == [0]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_policy_is_read_or_named_and_nothing_else(data: st.DataObject) -> None:
    text = (EXAMPLES / "everything.toml").read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    junk = data.draw(
        st.sampled_from(["", "3", '"x"', "[", "]", "{", "}", "=", "\n", ".", "true", "-1", "nan", "\0", "[[a]]\n"])
    )
    read_or_named(text[:start] + junk + text[end:])


@given(st.text())
@example("[room]\nname=1e99999999999999999999")
@example("a.b.c = [{d = 1}, {d.e = 2}]")
@example("\ud800")
def test_any_text_is_read_or_named(text: str) -> None:
    read_or_named(text)


def read_or_named(text: str) -> None:
    try:
        found = parse(text).warnings
    except PolicyError as error:
        found = error.problems
        refused = True
    else:
        refused = False
    assert found or not refused
    assert all(1 <= problem.line <= text.count("\n") + 1 and problem.message for problem in found)
