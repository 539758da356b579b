"""held: a room in which a question waits, charged, until it is let go: `release` (clear) or `finish` (public)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import small
from served import Rows, Served, Session, wait_until

from rewriter.accountant import capacity, charge

QUESTION = "SELECT grp, count(*), avg(age) FROM people GROUP BY grp ORDER BY grp"
PRICE = charge("zcdp", Fraction(1, 10)).amount
ONE = pytest.approx(float(PRICE / capacity("zcdp", Fraction(small.SHARE), Fraction(1, 10**6)).amount))
"""What `dp.budget` shows as spent after one question of ana's."""
CHARGED_ONCE = [("room", "", str(PRICE)), ("analyst", "ana", str(PRICE))]


class Held:
    """Such a room; `orders` are further ones (room_process.py)."""

    def __init__(self, served: Served, folder: Path, **orders: Any) -> None:
        self.served, self.folder = served, folder
        folder.mkdir()
        served.start({"hold": str(folder), **orders})

    @contextmanager
    def asked(self, step: str) -> Iterator[Future[Rows]]:
        """Ana's question, charged and waiting in a step."""
        (self.folder / f"hold-{step}").touch()
        with ThreadPoolExecutor(1) as pool:
            try:
                busy = pool.submit(self._ask)
                wait_until((self.folder / f"at-{step}").exists)
                yield busy
            finally:
                self.let_go()

    def waiting(self, step: str) -> int:
        """The process that a question waits in."""
        return int((self.folder / f"at-{step}").read_text())

    def let_go(self) -> None:
        """Nothing waits any more, now and after a restart."""
        for path in self.folder.glob("hold-*"):
            path.unlink(missing_ok=True)

    def _ask(self) -> Rows:
        with self.served.connected() as session:
            return session.ask(QUESTION)


def is_charged_once(served: Served) -> Rows:
    """The room, which runs, has charged ana once and answers for nothing, and so it does after a restart."""
    with served.connected() as session:
        rows = is_free(session)
    assert served.stop() == 0
    assert served.charges() == CHARGED_ONCE
    served.start()
    with served.connected() as session:
        assert is_free(session) == rows
    return rows


def is_free(session: Session) -> Rows:
    """Ana's answer, for which she has paid."""
    assert session.spent() == ONE
    rows = session.ask(QUESTION)
    assert "charged epsilon 0 (released before)" in session.noticed()
    assert session.spent() == ONE
    return rows
