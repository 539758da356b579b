"""The seed case: a table of 3 diagnoses by 2 genders in which one cell is one person.

The attacker knows everybody else's rows and that Bob is there, and asks for the table, its total and both margins.
What is left to tell is which of two diagnoses is his. Hiding small cells fails here by one subtraction.

The attacker compares likelihoods, so nobody does better (Neyman and Pearson). Half of the rooms hold one diagnosis,
half the other. Rooms are independent; a sum of independent trials of unequal chances has no heavier tails than the
binomial of their mean (Hoeffding 1956), so each test compares the wins with exact binomial tails and fails a correct
room with a probability of at most FALSE_ALARM.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product

import pyarrow as pa
import pytest
from scipy.stats import binom, norm

from tests.rooms import PRODUCT, Data, Fixed, certificate

ROOMS = {"pure": 1000, "zcdp": 400}
FALSE_ALARM = 9e-7
EPSILON = "0.25"
QUESTIONS = (
    "SELECT diagnosis, gender, count(*) FROM patients GROUP BY diagnosis, gender",
    "SELECT count(*) FROM patients",
    "SELECT diagnosis, count(*) FROM patients GROUP BY diagnosis",
    "SELECT gender, count(*) FROM patients GROUP BY gender",
)
GUESSES = ("asthma", "flu")
OTHERS = {
    ("asthma", "f"): 5,
    ("asthma", "m"): 0,
    ("flu", "f"): 3,
    ("flu", "m"): 0,
    ("none", "f"): 4,
    ("none", "m"): 2,
}
POLICY = """
[room]
name = "seed"
version = 1
environment = "development"
[units.patient]
[tables.patients]
unit = {{ name = "patient", column = "id" }}
rows_per_unit = 1
key = ["id"]
[tables.patients.columns]
id = {{ type = "bigint", not_null = true }}
diagnosis = {{ type = "text", values = ["asthma", "flu", "none"], not_null = true }}
gender = {{ type = "text", values = ["f", "m"], not_null = true }}
[budgets.patient]
epsilon = "8"
delta = "1e-6"
accountant = "{accountant}"
[roles.curious]
tables = ["patients"]
epsilon = "8"
query_epsilon = "0.1"
[analysts.ana]
role = "curious"
certificate = "{certificate}"
"""

Cell = tuple[str, ...]
"""Which question, then the group's keys."""
Seen = dict[Cell, int]


def load(diagnosis: str, accountant: str) -> Data:
    """The clinic with Bob's diagnosis being that."""
    people = [cell for cell, count in OTHERS.items() for _ in range(count)] + [(diagnosis, "m")]
    columns = {
        "id": pa.array(range(1, len(people) + 1)),
        "diagnosis": pa.array([person[0] for person in people]),
        "gender": pa.array([person[1] for person in people]),
    }
    policy = POLICY.format(accountant=accountant, certificate=certificate("ana"))
    return Data(policy, {"patients": pa.table(columns)})


def truth(diagnosis: str) -> Seen:
    """What the four questions count if Bob's diagnosis is that."""
    seen: dict[Cell, int] = defaultdict(int)
    for (name, gender), count in OTHERS.items():
        for cell in (("0", name, gender), ("1",), ("2", name), ("3", gender)):
            seen[cell] += count + (cell[0] == "0" and (name, gender) == (diagnosis, "m"))
    for cell in (("1",), ("2", diagnosis), ("3", "m")):
        seen[cell] += 1
    return dict(seen)


def ask(data: Data, sampler: object = PRODUCT) -> tuple[Seen, Fraction]:
    """What one fresh room answers, and what that cost the patients."""
    seen: Seen = {}
    with data.room(sampler) as room:  # type: ignore[arg-type]
        for number, question in enumerate(QUESTIONS):
            for *keys, count in room.rows(question, epsilon=EPSILON):
                seen[str(number), *keys] = count
        return seen, room.spent("patient")


class Attacker:
    """Compares how likely what was seen is under each guess. Knows the noise, which is no secret."""

    def __init__(self, accountant: str) -> None:
        self._gaussian = accountant == "zcdp"
        self._truths = [truth(guess) for guess in GUESSES]

    def guess(self, seen: Mapping[Cell, int]) -> int:
        """0 or 1."""
        gain = sum(self._gain(seen[cell], *means) for cell, means in self._telling().items())
        return int(gain < 0)

    def chance(self) -> float:
        """The chance to be right, exactly: half the sum, over all that may be seen, of the greater likelihood."""
        sums = {0.0: (1.0, 1.0)}
        for means in self._telling().values():
            step = dict(self._outcomes(*means))
            sums = _convolved(sums, step)
        return sum(max(pair) for pair in sums.values()) / 2

    def _telling(self) -> dict[Cell, tuple[int, int]]:
        """The cells whose counts differ between the guesses."""
        first, second = self._truths
        return {cell: (first[cell], second[cell]) for cell in first if first[cell] != second[cell]}

    def _gain(self, seen: int, first: int, second: int) -> float:
        return math.log(self._likelihood(seen, first)) - math.log(self._likelihood(seen, second))

    def _likelihood(self, seen: int, mean: int) -> float:
        """Of a noisy count that is shown rounded. The noise's own grid is 2^-20 wide, too fine to matter."""
        near = abs(seen - mean)
        return self._tail(near - 0.5) - self._tail(near + 0.5)

    def _tail(self, x: float) -> float:
        """P(noise >= x)."""
        scale = 1 / float(EPSILON)
        if self._gaussian:
            return float(norm.sf(x / scale))
        return math.exp(-x / scale) / 2 if x >= 0 else 1 - math.exp(x / scale) / 2

    def _outcomes(self, first: int, second: int) -> Iterator[tuple[float, tuple[float, float]]]:
        """By gain: how likely it is under either guess."""
        found: dict[float, tuple[float, float]] = {}
        for seen in range(-100, 101):
            pair = self._likelihood(seen, first), self._likelihood(seen, second)
            gain = round(math.log(pair[0] / pair[1]), 6)
            old = found.get(gain, (0.0, 0.0))
            found[gain] = (old[0] + pair[0], old[1] + pair[1])
        yield from found.items()


def _convolved(
    sums: Mapping[float, tuple[float, float]], step: Mapping[float, tuple[float, float]]
) -> dict[float, tuple[float, float]]:
    result: dict[float, tuple[float, float]] = {}
    for (gain, pair), (more, others) in product(sums.items(), step.items()):
        place = round(gain + more, 4)
        old = result.get(place, (0.0, 0.0))
        result[place] = (old[0] + pair[0] * others[0], old[1] + pair[1] * others[1])
    return result


@pytest.mark.system
@pytest.mark.parametrize("accountant", ["pure", "zcdp"])
def test_the_best_attacker_tells_the_one_persons_diagnosis_no_oftener_than_the_charge_allows(accountant: str) -> None:
    """Two tails of FALSE_ALARM / 2 each: a correct room fails with a probability below 1e-6."""
    attacker, rooms = Attacker(accountant), ROOMS[accountant]
    wins, spent = 0, Fraction(0)
    for number, guess in enumerate(GUESSES):
        data = load(guess, accountant)
        for _ in range(rooms // 2):
            seen, spent = ask(data)
            wins += attacker.guess(seen) == number
    chance = attacker.chance()
    least, most = binom.ppf(FALSE_ALARM / 2, rooms, chance), binom.isf(FALSE_ALARM / 2, rooms, chance)
    print(f"{accountant}: {wins} of {rooms} right, expected {chance:.3f}, at most {allowed(spent, accountant):.3f}")
    # Not more than the charge allows, and less by far than that would let pass: what this noise and no less allows.
    assert chance <= allowed(spent, accountant)
    assert wins <= most, "the noise is smaller than charged"
    assert wins >= least, "the attacker is no good, so that the test proves nothing"


def allowed(spent: Fraction, accountant: str) -> float:
    """The greatest chance to tell two diagnoses of one person apart that what was spent allows.

    Pure: a total of epsilon bounds the odds of a row's presence by e^epsilon. Another diagnosis is one row less and
    one more, and two of the four questions, half of the charge, see it: 2 * epsilon / 2. So e^epsilon / (1 +
    e^epsilon). zcdp: rho of the two questions is rho / 2, for two rows 4 * rho / 2; then the total variation is at
    most sqrt(rho' / 2) (Pinsker, as the divergence is at most rho').
    """
    if accountant == "pure":
        odds = math.exp(float(spent))
        return odds / (1 + odds)
    return 0.5 + math.sqrt(2 * float(spent) / 2) / 2


@pytest.mark.parametrize("accountant", ["pure", "zcdp"])
def test_what_the_questions_cost_is_their_sum(accountant: str) -> None:
    _, spent = ask(load("flu", accountant))
    each = Fraction(EPSILON) if accountant == "pure" else Fraction(EPSILON) ** 2 / 2
    assert spent == 4 * each


@pytest.mark.parametrize("guess", GUESSES)
def test_without_noise_the_same_attacker_is_always_right(guess: str) -> None:
    seen, _ = ask(load(guess, "pure"), Fixed())
    assert seen == truth(guess)
    assert GUESSES[Attacker("pure").guess(seen)] == guess


@pytest.mark.parametrize("guess", GUESSES)
def test_hiding_small_cells_instead_leaks_the_diagnosis_by_subtraction(guess: str) -> None:
    seen, _ = ask(load(guess, "pure"), Fixed())
    published = {cell: count for cell, count in seen.items() if count >= 2}
    assert ("0", guess, "m") not in published
    recovered = {name: published["2", name] - published["0", name, "f"] for name in GUESSES}
    assert recovered == {name: int(name == guess) for name in GUESSES}
