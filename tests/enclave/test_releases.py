"""The release store: what was answered once is answered the same for ever, and only to those who paid."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import enclave.releases
from enclave.database import StateDamaged, StateError, StateLocked
from enclave.releases import Releases, Stored
from rewriter.accountant import NOTHING, Cost


def cost(amount: Fraction | int) -> Cost:
    return Cost(Fraction(amount))


def everyone(_: str) -> bool:
    return True


def test_a_release_is_found_by_its_id_and_nothing_else_is() -> None:
    with Releases(":memory:") as releases:
        releases.store("r", "q", cost(1), b"\0numbers\xff")
        assert releases.find("r") == b"\0numbers\xff"
        assert releases.find("q") is None


def test_an_empty_release_is_not_a_missing_one() -> None:
    with Releases(":memory:") as releases:
        releases.store("r", "q", cost(1), b"")
        assert releases.find("r") == b""


def test_storing_the_same_again_changes_nothing_and_other_numbers_are_refused() -> None:
    with Releases(":memory:") as releases:
        releases.store("r", "q", cost(1), b"first")
        releases.store("r", "q", cost(1), b"first")
        for key, price, payload in (("q", 1, b"second"), ("p", 1, b"first"), ("q", 2, b"first")):
            with pytest.raises(ValueError, match="the first ones stand"):
                releases.store("r", key, cost(price), payload)
        assert releases.find("r") == b"first"


def test_the_costliest_paid_release_is_the_best() -> None:
    with Releases(":memory:") as releases:
        for price in (Fraction(1, 200), Fraction(1, 3), Fraction(1, 50)):
            releases.store(f"r{price}", "q", Cost(price), str(price).encode())
        releases.store("other", "p", cost(9), b"another question")
        best = releases.best("q", NOTHING, everyone)
        assert best == Stored("r1/3", "q", cost(Fraction(1, 3)), b"1/3")
        cheaper = releases.best("q", NOTHING, lambda release_id: release_id != "r1/3")
        assert cheaper is not None
        assert cheaper.release_id == "r1/50"


def test_a_costlier_release_is_never_substituted_for_one_who_has_not_paid_it() -> None:
    with Releases(":memory:") as releases:
        releases.store("dear", "q", cost(2), b"exact")
        assert releases.best("q", cost(1), lambda _: False) is None


def test_a_cheaper_release_than_asked_for_is_not_offered() -> None:
    with Releases(":memory:") as releases:
        releases.store("cheap", "q", cost(1), b"vague")
        assert releases.best("q", cost(Fraction(100_001, 100_000)), everyone) is None
        assert releases.best("q", cost(1), everyone) is not None


def test_of_equally_costly_releases_the_first_made_is_picked() -> None:
    with Releases(":memory:") as releases:
        for name in ("z", "a", "m"):
            releases.store(name, "q", cost(1), name.encode())
        best = releases.best("q", NOTHING, everyone)
        assert best is not None
        assert best.release_id == "z"


def test_no_number_shows_in_a_repr() -> None:
    assert "numbers" not in repr(Stored("r", "q", cost(1), b"numbers"))


def test_releases_outlive_the_object_in_a_private_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "releases"
    with Releases(path) as releases:
        releases.store("r", "q", cost(1), b"numbers")
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
        with pytest.raises(StateLocked, match="release store"):
            Releases(path)
    with Releases(path) as releases:
        assert releases.find("r") == b"numbers"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE releases SET payload = x'00'",
        "UPDATE releases SET cost = '5'",
        "UPDATE releases SET release_id = 's'",
        "UPDATE releases SET question_key = 'p'",
    ],
)
def test_an_altered_release_is_never_returned(tmp_path: Path, change: str) -> None:
    path = tmp_path / "releases"
    with Releases(path) as releases:
        releases.store("r", "q", cost(1), b"numbers")
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="no changes"):
        connection.execute(change)
    connection.executescript(f"DROP TRIGGER no_change; {change};")
    connection.close()
    with Releases(path) as releases, pytest.raises(StateDamaged, match="altered"):
        releases.find("s" if "'s'" in change else "r")


@pytest.mark.parametrize("kept", [0, 300, 4096, 9000])
def test_a_truncated_store_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "releases"
    with Releases(path) as releases:
        releases.store("r", "q", cost(1), b"n" * 50_000)
    os.truncate(path, kept)
    with pytest.raises(StateDamaged, match="damaged"):
        Releases(path)


def test_a_payload_has_a_limit_and_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with Releases(":memory:") as releases:
        monkeypatch.setattr(enclave.releases, "PAYLOAD_BYTES_MAX", 10**6)
        with pytest.raises(ValueError, match="at most 1000000 bytes"):
            releases.store("r", "q", cost(1), bytes(10**6 + 1))
        releases._db.execute("PRAGMA max_page_count=20")
        with pytest.raises(StateError, match="SQLITE_FULL"):
            releases.store("r", "q", cost(1), bytes(10**6))
        assert releases.find("r") is None
        releases.store("s", "q", cost(1), b"fits")


@given(st.text(), st.text(), st.fractions(min_value=0), st.binary(max_size=100))
def test_any_key_price_and_payload_come_back_as_they_were(
    release_id: str, key: str, price: Fraction, payload: bytes
) -> None:
    with Releases(":memory:") as releases:
        releases.store(release_id, key, Cost(price), payload)
        assert releases.best(key, Cost(price), everyone) == Stored(release_id, key, Cost(price), payload)


class ReleasesMachine(RuleBasedStateMachine):
    """Stores, look-ups and reopenings in any order, against a dictionary."""

    keys = st.sampled_from("pq")
    prices = st.sampled_from((Fraction(1, 3), Fraction(1, 200), Fraction(2)))

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "releases"
        self.releases = Releases(self.path)
        self.model: dict[str, tuple[str, Fraction, bytes]] = {}

    @rule(key=keys, price=prices, payload=st.binary(max_size=3))
    def store(self, key: str, price: Fraction, payload: bytes) -> None:
        release_id = f"{key} {price}"
        wanted = (key, price, payload)
        if self.model.setdefault(release_id, wanted) == wanted:
            self.releases.store(release_id, key, Cost(price), payload)
        else:
            with pytest.raises(ValueError, match="first ones stand"):
                self.releases.store(release_id, key, Cost(price), payload)

    @rule(key=keys, floor=prices, paid=st.sets(st.sampled_from(("p 1/3", "q 1/3", "p 2", "q 1/200"))))
    def best(self, key: str, floor: Fraction, paid: set[str]) -> None:
        fitting = [name for name in paid & self.model.keys() if name[0] == key and self.model[name][1] >= floor]
        expected = max(fitting, key=lambda name: self.model[name][1], default=None)
        best = self.releases.best(key, Cost(floor), paid.__contains__)
        assert (None if best is None else best.release_id) == expected

    @rule()
    def reopen(self) -> None:
        self.releases.close()
        self.releases = Releases(self.path)

    @invariant()
    def everything_is_there(self) -> None:
        for release_id, (_, _, payload) in self.model.items():
            assert self.releases.find(release_id) == payload

    def teardown(self) -> None:
        self.releases.close()
        self.directory.cleanup()


TestReleasesMachine = ReleasesMachine.TestCase
TestReleasesMachine.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)

CHILD = """
import sys
from fractions import Fraction
from pathlib import Path
from enclave.releases import Releases
from rewriter.accountant import Cost
releases = Releases(Path(sys.argv[1]))
for number in range(10**6):
    releases.store(str(number), "q", Cost(Fraction(1)), bytes([number % 256]) * 5000)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_keeper_never_loses_a_stored_release(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "releases")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        stored = 20 + sum(line.endswith("\n") for line in child.stdout)
    with Releases(tmp_path / "releases") as releases:
        for number in range(stored):
            assert releases.find(str(number)) == bytes([number % 256]) * 5000
