"""The log: nothing acknowledged is ever lost or altered unnoticed, and nothing in it tells what was asked."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave.database import Head
from enclave.log import (
    LEAF_BYTES_MAX,
    Log,
    LogError,
    answer_leaf,
    commitment,
    question_leaf,
    refusal_leaf,
    start_leaf,
)

NOON = datetime(2026, 11, 20, 12, 0, 0, 123_456, tzinfo=UTC)
SALT = bytes(range(32))
MAGIC = b"cleanroom-log-v1\n"

leaves = st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(-9, 9) | st.none(), max_size=3).map(
    rfc8785.dumps
)


def leaf(number: int) -> bytes:
    return rfc8785.dumps({"n": number})


def filled(path: Path, count: int = 5) -> Head:
    with Log(path) as log:
        log.append_many([leaf(number) for number in range(count)])
        return log.head()


def test_leaves_come_back_in_order_with_their_positions(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        assert log.append(leaf(0)) == 0
        assert log.append_many([leaf(1), leaf(2)]) == (1, 2)
        assert log.append_many([]) == ()
    with Log(tmp_path / "log") as log:
        assert log.append(leaf(3)) == 3
        assert log.head().size == 4
    assert list(Log.read(tmp_path / "log")) == [(number, leaf(number)) for number in range(4)]


def test_the_chain_is_over_leaf_hashes_of_rfc_6962(tmp_path: Path) -> None:
    chain = sha256(MAGIC).digest()
    with Log(tmp_path / "log") as log:
        assert log.head() == Head(0, chain)
        for number in range(3):
            log.append(leaf(number))
            chain = sha256(chain + sha256(b"\0" + leaf(number)).digest()).digest()
            assert log.head() == Head(number + 1, chain)
    assert Log.verify(tmp_path / "log") == Head(3, chain)
    last = (tmp_path / "log").read_bytes().splitlines(keepends=True)[-1]
    assert last == b"00000007 " + chain.hex().encode() + b' {"n":2}\n'


def test_the_file_is_private_and_a_second_keeper_is_refused(tmp_path: Path) -> None:
    with Log(tmp_path / "log"):
        assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
        with pytest.raises(LogError, match="in use by another keeper"):
            Log(tmp_path / "log")
    Log(tmp_path / "log").close()
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_line_cut_short_anywhere_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    filled(tmp_path / "log", 3)
    before = filled(tmp_path / "two", 2)
    content = (tmp_path / "log").read_bytes()
    start = len((tmp_path / "two").read_bytes())
    for end in range(start, len(content)):
        torn = tmp_path / "torn"
        torn.write_bytes(content[:end])
        if end > start:
            with pytest.raises(LogError, match="ends within line 3"):
                Log.verify(torn)
        with Log(torn) as log:
            assert log.head() == before
        assert torn.read_bytes() == content[:start]


def test_every_flipped_bit_of_acknowledged_lines_is_found(tmp_path: Path) -> None:
    filled(tmp_path / "log", 2)
    content = (tmp_path / "log").read_bytes()
    path = tmp_path / "altered"
    for index in range(len(content)):
        for bit in (0, 5):
            altered = bytearray(content)
            altered[index] ^= 1 << bit
            path.write_bytes(altered)
            with pytest.raises(LogError, match="damaged"):
                Log(path)
            assert path.read_bytes() == altered, "a damaged log is left as it is"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_removed_repeated_or_reordered_lines_are_found(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        filled(path, 5)
        magic, *lines = path.read_bytes().splitlines(keepends=True)
        chosen = data.draw(st.lists(st.sampled_from(lines), max_size=6))
        path.write_bytes(magic + b"".join(chosen))
        if chosen == lines[: len(chosen)]:
            assert Log.verify(path).size == len(chosen)
        else:
            with pytest.raises(LogError, match="damaged"):
                Log.verify(path)


def test_a_remembered_head_tells_a_log_that_was_rolled_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    early = filled(path, 3)
    copy = path.read_bytes()
    late = filled(path, 2)
    for past in (Head(0, sha256(MAGIC).digest()), early, late):
        Log(path, past=past).close()
        assert Log.verify(path, past=past) == late
    path.write_bytes(copy)
    with pytest.raises(LogError, match="rolled back"):
        Log(path, past=late)
    with pytest.raises(LogError, match="rolled back"):
        Log.verify(path, past=Head(3, bytes(32)))


@pytest.mark.parametrize(
    "content", [b"", b"cleanroom", b"cleanroom-log-v2\n", MAGIC + b"\0" * 40, MAGIC + b"\0" * 4096, MAGIC + b"\n"]
)
def test_what_is_not_a_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(LogError, match="damaged"):
        Log(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == content


def test_a_directory_or_a_link_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    (tmp_path / "link").symlink_to(tmp_path / "log")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(LogError, match="cannot be opened"):
            Log(path)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"plain text",
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b'{"a":1}\n',
        b"[1]",
        b'{"a":NaN}',
        b"\xff",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        rfc8785.dumps({"a": "x" * LEAF_BYTES_MAX}),
    ],
)
def test_what_is_not_a_canonical_leaf_is_refused_and_nothing_of_its_batch_is_written(
    tmp_path: Path, bad: bytes
) -> None:
    with Log(tmp_path / "log") as log:
        with pytest.raises(ValueError, match="a leaf"):
            log.append_many([leaf(0), bad])
        assert log.append(leaf(1)) == 0


def test_the_largest_leaf_survives(tmp_path: Path) -> None:
    largest = rfc8785.dumps({"a": "x" * (LEAF_BYTES_MAX - 8)})
    with Log(tmp_path / "log") as log:
        log.append(largest)
    assert list(Log.read(tmp_path / "log")) == [(0, largest)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(leaves, max_size=4), max_size=4))
def test_batches_of_any_leaves_are_the_same_log_as_single_leaves(batches: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        together, apart = Path(directory) / "together", Path(directory) / "apart"
        for batch in batches:
            with Log(together) as log:
                log.append_many(batch)
        with Log(apart) as log:
            for one in (one for batch in batches for one in batch):
                log.append(one)
            head = log.head()
        if batches:
            assert together.read_bytes() == apart.read_bytes()
            assert Log.verify(together) == head


def test_after_a_failed_sync_nothing_more_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Log(tmp_path / "log") as log:
        log.append(leaf(0))
        with monkeypatch.context() as patch:
            patch.setattr("enclave.log.os.fsync", fail)
            with pytest.raises(LogError, match="could not be written"):
                log.append(leaf(1))
        with pytest.raises(LogError, match="opened again"):
            log.append(leaf(2))
        assert log.head().size == 1
    with pytest.raises(LogError, match="closed"):
        log.append(leaf(2))


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("enclave.log.os.write", lambda file, data: write(file, data[:7]))
    filled(tmp_path / "log", 3)
    assert Log.verify(tmp_path / "log").size == 3


CHILD = """
import sys
from pathlib import Path
from enclave.log import Log
log = Log(Path(sys.argv[1]))
while True:
    position = log.append(b"{}")
    sys.stdout.write(f"{position}\\n")
    sys.stdout.flush()
"""


def test_a_killed_keeper_never_loses_an_acknowledged_leaf(tmp_path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "log")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(20):
                last = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
        with Log(tmp_path / "log") as log:
            assert last + 1 <= log.head().size <= last + 2


def test_leaves_say_what_happened_without_what_it_was_about() -> None:
    text, answer = b"SELECT count(*) FROM members WHERE race = 'Asian'", b"4711"
    made = [
        question_leaf(at=NOON, analyst="ana", question=text, salt=SALT, charges=[("member", "1/200")]),
        answer_leaf(at=NOON, question=7, answer=answer, salt=SALT),
        refusal_leaf(at=NOON, analyst="ana", question=text, salt=SALT, sqlstate="53400"),
    ]
    for one in made:
        assert b"Asian" not in one
        assert b"4711" not in one
        assert rfc8785.dumps(json.loads(one)) == one
    assert [json.loads(one) for one in made] == [
        {
            "at": "2026-11-20T12:00:00.123Z",
            "analyst": "ana",
            "charges": [{"amount": "1/200", "unit": "member"}],
            "kind": "question",
            "question": sha256(SALT + text).hexdigest(),
            "v": 1,
        },
        {
            "answer": sha256(SALT + answer).hexdigest(),
            "at": "2026-11-20T12:00:00.123Z",
            "kind": "answer",
            "to": 7,
            "v": 1,
        },
        {
            "analyst": "ana",
            "at": "2026-11-20T12:00:00.123Z",
            "kind": "refusal",
            "question": sha256(SALT + text).hexdigest(),
            "sqlstate": "53400",
            "v": 1,
        },
    ]


def test_a_start_leaf_names_the_policy_and_the_balances_and_can_be_appended(tmp_path: Path) -> None:
    started = start_leaf(
        at=NOON.astimezone(timezone(timedelta(hours=2))),
        boot_id="b",
        environment="development",
        policy_sha256="00" * 32,
        policy_version=3,
        spent={"member": "7/200"},
    )
    assert json.loads(started) == {
        "at": "2026-11-20T12:00:00.123Z",
        "boot_id": "b",
        "environment": "development",
        "kind": "start",
        "policy_sha256": "00" * 32,
        "policy_version": 3,
        "spent": {"member": "7/200"},
        "v": 1,
    }
    with Log(tmp_path / "log") as log:
        log.append(started)


def test_another_salt_gives_another_commitment_and_a_short_one_is_refused() -> None:
    assert commitment(SALT, b"yes") != commitment(bytes(32), b"yes")
    for salt in (b"", SALT[:31], SALT + b"y"):
        with pytest.raises(ValueError, match="32 bytes"):
            commitment(salt, b"es")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        answer_leaf(at=NOON.replace(tzinfo=None), question=0, answer=b"", salt=SALT)
