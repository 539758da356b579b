"""ledger: reservations -> durable charges. Who has paid for which release, and what still fits.

Reserve before run, no refunds: a charge is on disk before the caller hears of it, and nothing takes it back. The
common budget pays a release once in all; each analyst pays, from their own share, every release whose numbers reach
them, once and in full. Both fit or neither is charged. That the sums stay within the capacities is all that privacy
needs, for questions chosen adaptively and run concurrently, as every stage is reserved up front and one thread
gives the charges one order (Whitehouse et al. 2023, "Fully Adaptive Composition in Differential Privacy").

Balances belong to data sets: they outlive policies, and a new policy version brings new capacities only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Final, Literal, Self

from enclave.charges import Charge, Charges, Payer
from enclave.database import Head, Location
from rewriter.accountant import NOTHING, Accountant, Cost, charge, epsilons_below, questions_left
from rewriter.refusal import Refusal

ITEMS_MAX: Final = 1024
"""Releases of one question. A plan has a handful; a limit keeps the transaction short."""

_DENOMINATOR_BITS_MAX: Final = 128
_GRAIN: Final = 10**36
"""An amount whose denominator has more bits is rounded up to a multiple of 1/_GRAIN, so that sums stay small. Prices
of decimal epsilons (up to 18 places) never are."""

_ROOM: Final = ("room", "")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose budget: the room's common one, or one analyst's share of it."""

    kind: Literal["room", "analyst"]
    name: str

    @property
    def payer(self) -> Payer:
        """Who pays, as stored. A ledger has one room, whatever a later policy calls it."""
        return (self.kind, "" if self.kind == "room" else self.name)


@dataclass(frozen=True, slots=True)
class Account:
    """A budget for one unit kind, as the policy in force grants it.

    Attributes:
        scope: the room, or an analyst.
        unit: the unit kind, such as "member".
        accountant: the same for all accounts of a unit.
        capacity: what charges may sum to; None is unlimited (test rooms only).
        epsilon: what the policy says, for display; None is unlimited.
        delta: what the policy says, for display.
    """

    scope: Scope
    unit: str
    accountant: Accountant
    capacity: Cost | None
    epsilon: Fraction | None
    delta: Fraction


@dataclass(frozen=True, slots=True)
class Reservation:
    """One release to be paid: its id (which covers its price), the unit kind it is about, its price."""

    release_id: str
    unit: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Charged:
    """Who was charged just now; False where they had paid before."""

    room: bool
    analyst: bool


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A row of the view dp.budget. `spent` is a fraction of the capacity, for display alone."""

    unit: str
    scope: Literal["room", "analyst"]
    name: str
    epsilon: Fraction | None
    delta: Fraction
    spent: float
    questions_left: int | None


class Ledger:
    """All charges of a room, in a file that this object owns. Use it, and close it, in the thread that made it.

    Args:
        path: the state file, made if there is none, or ":memory:".
        accounts: of the policy in force; one for the room per unit kind.
        past: a head that the caller remembers; a file that does not run through it was rolled back or replaced.

    Raises:
        ValueError: the accounts contradict each other, or name another accountant than a unit was charged under.
        StateError: the file is in use, damaged, not a ledger, or does not run through `past`.
    """

    def __init__(self, path: Location, accounts: Iterable[Account], *, past: Head | None = None) -> None:
        self._accounts = _indexed(accounts)
        self._charges = Charges(path, past=past)
        try:
            self._refuse_another_accountant()
        except ValueError:
            self._charges.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another keeper have the file."""
        self._charges.close()

    def head(self) -> Head:
        """Say how many charges there are, and the chain over all of them."""
        return self._charges.head()

    def reserve(self, release_id: str, unit: str, cost: Cost, analyst: str, *, epsilon: Fraction) -> Charged:
        """Charge one release to whoever has not paid it yet; see `reserve_all`."""
        return self.reserve_all((Reservation(release_id, unit, cost),), analyst, epsilon=epsilon)[0]

    def reserve_all(self, items: Sequence[Reservation], analyst: str, *, epsilon: Fraction) -> tuple[Charged, ...]:
        """Charge every release of one question, or none. The charges are durable when this returns.

        Args:
            items: what the question needs; an item that is there twice is charged once.
            analyst: whose share pays.
            epsilon: what the question was asked at; the hint of a refusal scales it down.

        Raises:
            Refusal: 53400, a budget cannot hold the charges; 42501, the analyst has no share for that unit.
            ValueError: a cost is nothing, or a release id was paid at another price or for another unit.
            StateError: the file could not be written; whether the charges hold is known when it is opened again.
        """
        if len(items) > ITEMS_MAX:
            raise ValueError(f"a question reserves at most {ITEMS_MAX} releases")
        priced = [Reservation(item.release_id, item.unit, _stored(item.cost)) for item in items]
        due, charged = self._due(priced, analyst)
        short = self._short(due)
        if short:
            raise self._refusal(short, priced, analyst, epsilon)
        if due:
            self._charges.add(due)
        return charged

    def paid(self, release_id: str, analyst: str) -> bool:
        """Say whether this analyst has paid this release, so that its numbers may reach them."""
        return self._charges.find(release_id, Scope("analyst", analyst).payer) is not None

    def spent(self, scope: Scope, unit: str) -> Cost:
        """Sum what a scope has been charged for a unit kind."""
        return self._charges.spent(scope.payer, unit)

    def remaining(self, scope: Scope, unit: str) -> Cost | None:
        """Say what a scope may still be charged; None is unlimited.

        Raises:
            KeyError: the policy in force gives the scope no account for that unit.
        """
        capacity = self._accounts[scope.payer, unit].capacity
        return None if capacity is None else capacity.without(self.spent(scope, unit))

    def rows(self, analyst: str, epsilon: Fraction) -> tuple[BudgetRow, ...]:
        """List an analyst's own shares, by unit, with how many questions at `epsilon` each still holds.

        The common budget is not among them: what it has spent tells what others asked.
        """
        own = [a for a in self._accounts.values() if a.scope == Scope("analyst", analyst)]
        return tuple(self._row(account, epsilon) for account in sorted(own, key=lambda a: a.unit))

    def _row(self, account: Account, epsilon: Fraction) -> BudgetRow:
        spent, scope = self.spent(account.scope, account.unit), account.scope
        if account.capacity is None:
            share, left = 0.0, None
        else:
            share = float(spent.amount / account.capacity.amount) if account.capacity.amount else 1.0
            left = questions_left(account.capacity, spent, charge(account.accountant, epsilon))
        return BudgetRow(account.unit, scope.kind, scope.name, account.epsilon, account.delta, share, left)

    def _refuse_another_accountant(self) -> None:
        for (_, unit), account in self._accounts.items():
            former = self._charges.accountant(unit)
            if former not in (None, account.accountant):
                raise ValueError(
                    f"unit {unit!r} was charged under accountant {former!r}, not {account.accountant!r}: "
                    "its amounts would mean something else; a budget keeps its accountant"
                )

    def _short(self, due: Iterable[Charge]) -> set[tuple[Payer, str]]:
        """Find the accounts that cannot hold what is due."""
        totals: dict[tuple[Payer, str], Cost] = {}
        for one in due:
            key = (one.payer, one.unit)
            totals[key] = totals.get(key, self._charges.spent(*key)) + one.cost
        return {
            key
            for key, total in totals.items()
            if (capacity := self._accounts[key].capacity) is not None and not total <= capacity
        }

    def _due(self, items: Sequence[Reservation], analyst: str) -> tuple[list[Charge], tuple[Charged, ...]]:
        """Find what is not paid yet, each release once, and say so for each item."""
        due: dict[tuple[str, Payer], Charge] = {}
        charged = []
        for item in items:
            new = []
            for payer in (_ROOM, Scope("analyst", analyst).payer):
                accountant = self._account(payer, item.unit).accountant
                wanted = Charge(item.release_id, payer, item.unit, accountant, item.cost)
                earlier = due.get((item.release_id, payer)) or self._charges.find(item.release_id, payer)
                if earlier is not None and earlier != wanted:
                    raise ValueError("a release was paid at another price or for another unit")
                if earlier is None:
                    due[item.release_id, payer] = wanted
                new.append(earlier is None)
            charged.append(Charged(room=new[0], analyst=new[1]))
        return list(due.values()), tuple(charged)

    def _account(self, payer: Payer, unit: str) -> Account:
        account = self._accounts.get((payer, unit))
        if account is not None:
            return account
        if payer == _ROOM:
            raise ValueError(f"there is no budget for unit {unit!r}")
        raise Refusal(
            "42501",
            f'you have no share of the "{unit}" budget',
            hint="the policy gives a role its share; SELECT * FROM dp.budget shows yours",
        )

    def _refusal(
        self,
        short: set[tuple[Payer, str]],
        items: Sequence[Reservation],
        analyst: str,
        epsilon: Fraction,
    ) -> Refusal:
        """Say which budget is short and what still fits. The words depend on budgets alone, never on data."""
        payer, unit = max(short, key=lambda key: (key[0] != _ROOM, key[1]))  # one's own share is named first
        whose = "the common" if payer == _ROOM else "your share of the"
        hint = "nothing smaller fits either; answers that you have paid for stay free"
        for smaller in epsilons_below(epsilon):
            times = self._times(smaller / epsilon, items, analyst)
            if times:
                price = _decimal_text(smaller)
                hint = f"{times} more like it would fit at epsilon {price}: SET dp.epsilon = '{price}'"
                break
        return Refusal("53400", f'{whose} "{unit}" budget cannot hold this question', hint=hint)

    def _times(self, ratio: Fraction, items: Sequence[Reservation], analyst: str) -> int:
        """Count how often the whole question would fit at `ratio` of its epsilon."""
        needs: dict[tuple[Payer, str], Cost] = {}
        for item in {item.release_id: item for item in items}.values():
            for payer in (_ROOM, Scope("analyst", analyst).payer):
                key = (payer, item.unit)
                scale = ratio * ratio if self._accounts[key].accountant == "zcdp" else ratio
                needs[key] = needs.get(key, NOTHING) + item.cost * scale
        return min(
            questions_left(capacity, self._charges.spent(*key), need)
            for key, need in needs.items()
            if (capacity := self._accounts[key].capacity) is not None
        )


def _indexed(accounts: Iterable[Account]) -> dict[tuple[Payer, str], Account]:
    found: dict[tuple[Payer, str], Account] = {}
    accountants: dict[str, Accountant] = {}
    for account in accounts:
        key = (account.scope.payer, account.unit)
        if key in found:
            raise ValueError(f"two accounts for {account.scope} and unit {account.unit!r}")
        if accountants.setdefault(account.unit, account.accountant) != account.accountant:
            raise ValueError(f"unit {account.unit!r} has two accountants")
        found[key] = account
    for _, unit in found:
        if (_ROOM, unit) not in found:
            raise ValueError(f"unit {unit!r} has shares but no common budget")
    return found


def _stored(cost: Cost) -> Cost:
    """The cost as it is charged: exact, or rounded up where its fraction is unwieldy."""
    if not cost.amount:
        raise ValueError("a release costs more than nothing")
    if cost.amount.denominator.bit_length() <= _DENOMINATOR_BITS_MAX:
        return cost
    return Cost(Fraction(ceil(cost.amount * _GRAIN), _GRAIN))


def _decimal_text(value: Fraction) -> str:
    return f"{(Decimal(value.numerator) / Decimal(value.denominator)).normalize():f}"
