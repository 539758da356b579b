"""gate: a question -> its answer: read, reserve, log, run, store, finish, log. The one place where that order is.

    public.prepare -> releases.best | ledger.reserve_all -> log -> clear.release -> releases.store -> public.finish

Claim: whatever leaves the room was charged before it was computed and stored before it left. A failure after the
reservation keeps the charge; the same question then runs again free of charge, which is safe because nothing of the
first run was seen (its result, had there been one, would have been stored).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, Protocol, TypeVar

from enclave import codec
from enclave.answer import Answer, Noised, Notice, Question
from enclave.ledger import Account, BudgetRow, Charged, Ledger, Reservation, Scope
from enclave.log import SALT_BYTES, Log, answer_leaf, question_leaf, refusal_leaf
from enclave.releases import Releases
from enclave.worker import DeadlineExceeded, WorkerLost
from policies.model import Policy
from rewriter.accountant import EPSILON_MAX, Cost, capacity, charge, epsilon_of, key_delta
from rewriter.cost import Price
from rewriter.plan import Release, decode, fingerprint, scans
from rewriter.refusal import InternalError, Refusal

EPSILON_MIN: Final = Decimal("1e-6")
"""Below it the noise nears the ends of a 64-bit integer, where the sampler would cut it off."""
_COUNT_MAX: Final = 2**31 - 1  # of dp.budget's integer column
_UNCHARGED: Final = Charged(room=False, analyst=False)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Needed:
    """A release that a question needs: its plan as JSON, the plan's fingerprint, its unit and tables."""

    plan: Any
    key: str
    unit: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the public worker made of a question."""

    answer: Answer | None
    releases: tuple[Needed, ...] = ()
    views: tuple[str, ...] = ()


class Public(Protocol):
    """The public worker, as the gate sees it."""

    async def prepare(self, question: Question, prices: Mapping[str, Price]) -> Prepared:
        """Read a question."""
        ...

    async def finish(
        self, question: Question, releases: Sequence[Noised], views: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> tuple[Answer, Sequence[tuple[str, float]]]:
        """Finish its answer; also label and typical 95 % half-width of each aggregate."""
        ...


class Clear(Protocol):
    """The clear engine, as the gate sees it."""

    async def release(self, plan: Any, price: Price) -> Noised:
        """Run one plan at its price."""
        ...


@dataclass(frozen=True, slots=True)
class _Bought:
    """A release on its way into an answer; `amount` is what was charged for it now, to this analyst."""

    needed: Needed
    price: Price
    release_id: str
    payload: bytes | None
    charged: Charged


@dataclass(slots=True)
class _Making:
    """A release that is being made, and how many questions wait for it."""

    task: asyncio.Task[bytes]
    waiting: int = 0


class Gate:
    """Answers questions. Belongs to one event loop; its ledger, log and releases to that loop's thread."""

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        log: Log,
        releases: Releases,
        public: Public,
        clear: Clear,
        *,
        epoch: str,
        clock: Callable[[], datetime],
    ) -> None:
        """Take the room's parts; `epoch` names the state of data and tables, `clock` tells the log's time."""
        self._policy = policy
        self._ledger, self._log, self._releases = ledger, log, releases
        self._public, self._clear = public, clear
        self._epoch, self._clock = epoch, clock
        self._making: dict[str, _Making] = {}
        self._reuse = policy.test is None or policy.test.reuse_answers

    async def answer(self, question: Question) -> Answer:
        """Answer one question.

        Raises:
            Refusal: it cannot be answered, or not within the budget.
            InternalError: a fault of ours.
        """
        try:
            return await self._answer(question)
        except Refusal as refusal:
            self._log_refusal(question, refusal)
            raise
        except DeadlineExceeded:
            raise Refusal("57014", "canceling statement due to statement timeout") from None
        except WorkerLost:
            raise InternalError(secrets.token_hex(6)) from None

    async def _answer(self, question: Question) -> Answer:
        epsilon = self._epsilon(question)
        prepared = await self._retried(lambda: self._public.prepare(question, self._prices(epsilon)))
        if prepared.answer is not None:
            return prepared.answer
        if prepared.releases:
            self._check_purchase(question, epsilon)
        for needed in prepared.releases:
            self._check(question, needed)
        bought = self._buy(question, prepared.releases, epsilon)
        position = self._log_question(question, bought) if bought else None
        payloads = [await self._payload(release) for release in bought]
        releases = [Noised.from_json(json.loads(payload)) for payload in payloads]
        views = {name: self._view(question.analyst, epsilon) for name in prepared.views}
        answer, margins = await self._retried(lambda: self._public.finish(question, releases, views))
        if position is None:
            return answer
        self._log_answer(position, payloads)
        notice = self._notice(question.analyst, epsilon, bought, margins)
        return replace(answer, notices=(*answer.notices, Notice(notice)))

    def _epsilon(self, question: Question) -> Fraction:
        role = self._policy.role_of(question.analyst)
        text = role.query_epsilon if question.epsilon is None else question.epsilon
        try:
            value = Decimal(str(text))
            known = value.is_finite()
        except InvalidOperation:
            known = False
        if not known:
            raise Refusal("22023", f'invalid value for parameter "dp.epsilon": "{text}"')
        if value <= 0:
            raise Refusal("22023", "dp.epsilon must be greater than 0", hint="For example SET dp.epsilon = 0.1.")
        if not EPSILON_MIN <= value <= EPSILON_MAX:  # compared before a Fraction writes out all of 1e-999999999
            raise Refusal("22023", f"dp.epsilon is {EPSILON_MIN:f} to {EPSILON_MAX}")
        return Fraction(value)

    def _check_purchase(self, question: Question, epsilon: Fraction) -> None:
        """Refuse to buy what the session's settings rule out; what is free goes on under any of them."""
        most = self._policy.role_of(question.analyst).query_epsilon_max
        if most is not None and epsilon > Fraction(most):
            raise Refusal(
                "53400",
                f"dp.epsilon {float(epsilon):g} is above what one question may cost",
                hint=f"SET dp.epsilon to at most {most}.",
            )
        if question.mode == "synthetic":
            raise Refusal(
                "0A000",
                "this room has no synthetic rows",
                hint="SET dp.mode = 'private' for noised answers from the data.",
            )

    def _prices(self, epsilon: Fraction) -> dict[str, Price]:
        """What a whole question at `epsilon` costs, by kind of unit."""
        return {unit: self._price(unit, epsilon, 1) for unit in self._policy.units}

    def _price(self, unit: str, epsilon: Fraction, parts: int) -> Price:
        """One of `parts` equal parts of a question's price."""
        budget = self._policy.budgets[unit]
        room = capacity(budget.accountant, _fraction(budget.epsilon), Fraction(budget.delta))
        cost = charge(budget.accountant, epsilon) * Fraction(1, parts)
        held = cost if room is None else min(cost, room)  # the ledger refuses a question that the budget cannot hold
        return Price(budget.accountant, cost.amount, key_delta(budget.accountant, held, room, Fraction(budget.delta)))

    def _check(self, question: Question, needed: Needed) -> None:
        """Compare what the public worker says of a plan with the plan: it decides who pays, and for which tables.

        The worker checked names and roles too; one that an attacker has taken over did not.
        """
        plan = decode(needed.plan)
        if not isinstance(plan, Release) or (plan.unit, fingerprint(plan)) != (needed.unit, needed.key):
            raise InternalError(secrets.token_hex(6))
        allowed = set(self._policy.visible_tables(question.analyst))
        tables = sorted({scan.table for scan in scans(plan.source)})
        for table in tables:
            if table not in allowed:
                raise Refusal("42501", f"permission denied for table {table}")
        units = {unit.name for table in tables if (unit := self._policy.tables[table].unit) is not None}
        if units != {plan.unit}:
            raise InternalError(secrets.token_hex(6))

    def _buy(self, question: Question, needed: tuple[Needed, ...], epsilon: Fraction) -> list[_Bought]:
        """Find what the analyst has paid for already and charge the rest, all of it or nothing."""
        found = [self._find(question.analyst, one, self._price(one.unit, epsilon, len(needed))) for one in needed]
        missing = list({release.release_id: release for release in found if release.payload is None}.values())
        items = [Reservation(r.release_id, r.needed.unit, Cost(r.price.amount)) for r in missing]
        charged = self._ledger.reserve_all(items, question.analyst, epsilon=epsilon) if items else ()
        by_id = dict(zip((release.release_id for release in missing), charged, strict=True))
        # One that is there twice was charged once, and is logged and told so.
        return [replace(release, charged=by_id.pop(release.release_id, _UNCHARGED)) for release in found]

    def _find(self, analyst: str, needed: Needed, price: Price) -> _Bought:
        key = hashlib.sha256(f"{needed.key}|{self._epoch}|{price.accountant}".encode()).hexdigest()
        nonce = "" if self._reuse else secrets.token_hex(16)
        release_id = hashlib.sha256(f"{key}|{price.amount}|{price.delta_keys}|{nonce}".encode()).hexdigest()
        best = self._releases.best(key, Cost(price.amount), lambda other: self._ledger.paid(other, analyst))
        if best is not None and self._reuse:
            return _Bought(needed, price, best.release_id, best.payload, _UNCHARGED)
        return _Bought(replace(needed, key=key), price, release_id, None, _UNCHARGED)

    async def _payload(self, bought: _Bought) -> bytes:
        """The stored release: made now unless it is there; whoever asks while it is made waits for it."""
        if bought.payload is not None:
            return bought.payload
        if (stored := self._releases.find(bought.release_id)) is not None:
            return stored
        making = self._making.get(bought.release_id)
        if making is None:
            making = self._making[bought.release_id] = _Making(asyncio.create_task(self._make(bought)))
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if making.waiting == 0:
                # Whoever asks next starts anew: this run may be ending, and its cancellation is none of theirs.
                del self._making[bought.release_id]
                making.task.cancel()  # nobody wants it any more; harmless once it is done

    async def _make(self, bought: _Bought) -> bytes:
        noised = await self._retried(lambda: self._clear.release(bought.needed.plan, bought.price))
        payload = json.dumps(noised.to_json(), separators=(",", ":")).encode()
        self._releases.store(bought.release_id, bought.needed.key, Cost(bought.price.amount), payload)
        return payload

    @staticmethod
    async def _retried(call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call once more if its worker died under it, as when another session's call had to be killed."""
        try:
            return await call()
        except WorkerLost:
            return await call()

    def _view(self, analyst: str, epsilon: Fraction) -> list[dict[str, Any]]:
        return [_budget_row(row) for row in self._ledger.rows(analyst, epsilon)]

    def _notice(
        self, analyst: str, epsilon: Fraction, bought: list[_Bought], margins: Sequence[tuple[str, float]]
    ) -> str:
        """The sentence beside an answer (design: what the analyst sees)."""
        paid = [release for release in bought if release.charged.analyst]
        units = sorted({release.needed.unit for release in bought})
        left = [row.questions_left for row in self._ledger.rows(analyst, epsilon) if row.unit in units]
        known = [number for number in left if number is not None]
        more = f", {min(known)} more" if known else ""
        if paid:
            amount = max(sum((r.price.amount for r in paid if r.needed.unit == u), Fraction(0)) for u in units)
            words = f"charged epsilon {self._shown(units[0], amount)}{self._alone(units[0], amount)}"
            words += f"{more} like it in your share" if more else ""
        else:
            words = "charged epsilon 0 (released before)"
            words += f"{more} at {float(epsilon):.2f} in your share" if more else ""
        shown = ", ".join(f"{label} +-{_rounded(half)}" for label, half in margins)
        return f"dp: {words}" + (f"; {shown} (95 %)" if shown else "")

    def _shown(self, unit: str, amount: Fraction) -> str:
        accountant = self._policy.budgets[unit].accountant
        epsilon = math.sqrt(2 * float(amount)) if accountant == "zcdp" else float(amount)
        return f"{epsilon:.2f}" if epsilon >= 0.1 else f"{epsilon:.2g}"

    def _alone(self, unit: str, amount: Fraction) -> str:
        budget = self._policy.budgets[unit]
        if budget.accountant == "pure":
            return ""
        half = Fraction(budget.delta) / 2
        alone = epsilon_of("zcdp", Cost(amount), half)
        return f" (alone: {float(alone):.2f} at delta {_power(float(half))})"

    # the log: no text, no literal, no number of an answer; only salted commitments to them

    def _log_question(self, question: Question, bought: list[_Bought]) -> int:
        salt = secrets.token_bytes(SALT_BYTES)
        charges = [(r.needed.unit, str(r.price.amount)) for r in bought if r.charged.analyst or r.charged.room]
        return self._log.append(
            question_leaf(
                at=self._clock(), analyst=question.analyst, question=_encoded(question), salt=salt, charges=charges
            )
        )

    def _log_answer(self, position: int, payloads: Sequence[bytes]) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        joined = b"".join(hashlib.sha256(payload).digest() for payload in payloads)
        self._log.append(answer_leaf(at=self._clock(), question=position, answer=joined, salt=salt))

    def _log_refusal(self, question: Question, refusal: Refusal) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        self._log.append(
            refusal_leaf(
                at=self._clock(),
                analyst=question.analyst,
                question=_encoded(question),
                salt=salt,
                sqlstate=refusal.sqlstate,
            )
        )


def accounts(policy: Policy) -> list[Account]:
    """The budgets of a policy: one for all analysts together and a share for each, by kind of unit."""
    found = []
    for unit, budget in policy.budgets.items():
        delta = Fraction(budget.delta)
        owners = [(Scope("room", policy.room.name), _fraction(budget.epsilon))]
        for analyst in policy.analysts:
            share = Fraction(policy.role_of(analyst).epsilon)
            owners.append((Scope("analyst", analyst), None if budget.epsilon is None else share))
        for scope, epsilon in owners:
            size = capacity(budget.accountant, epsilon, delta)
            found.append(Account(scope, unit, budget.accountant, size, epsilon, delta))
    return found


def _fraction(value: Decimal | None) -> Fraction | None:
    return None if value is None else Fraction(value)


def _encoded(question: Question) -> bytes:
    return json.dumps(codec.question_to_json(question), sort_keys=True).encode()


def _budget_row(row: BudgetRow) -> dict[str, Any]:
    return {
        "unit": row.unit,
        "scope": row.scope,
        "name": row.name,
        "epsilon": None if row.epsilon is None else float(row.epsilon),
        "delta": float(row.delta),
        "spent": row.spent,
        "questions_left": None if row.questions_left is None else min(row.questions_left, _COUNT_MAX),
    }


def _rounded(half: float) -> str:
    """A half-width to two digits that matter, rounded up; whole from 10 on."""
    if half >= 10 or half == 0:
        return f"{math.ceil(half):.0f}"
    digits = 1 - math.floor(math.log10(half))
    return f"{math.ceil(half * 10**digits) / 10**digits:.{digits}f}"


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"
