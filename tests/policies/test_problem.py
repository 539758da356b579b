from __future__ import annotations

from policies.problem import PolicyError, Problem, dotted


def test_a_path_is_spelled_as_in_toml() -> None:
    assert dotted(("tables", "visits", "key", 0)) == "tables.visits.key[0]"
    assert dotted(("contribution", "sum.minutes")) == 'contribution."sum.minutes"'
    assert dotted(()) == ""


def test_problems_are_in_the_order_of_the_text() -> None:
    error = PolicyError([Problem(2, "b", "is late"), Problem(1, "", "is early")], "room.toml")
    assert str(error) == "room.toml:1: is early\nroom.toml:2: b: is late"
    assert [problem.line for problem in error.problems] == [1, 2]
