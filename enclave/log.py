"""log: leaves -> an append-only, hash-chained file. What happened in the room, without what it was about.

A leaf is canonical JSON (RFC 8785) without data and without literals: of a question and of an answer it holds
SHA-256(salt || value) alone, where the 32-byte salt goes to the asker, who can then show what was asked and
answered, while nobody else can test guesses. An id that is derived from a question is committed to likewise.

The file: a magic line, then one line per leaf

    LENGTH(8 hex digits) SP CHAIN(64 hex digits) SP LEAF LF

where CHAIN is SHA-256(the chain before || SHA-256(0x00 || LEAF)), the inner one being RFC 6962's leaf hash
(section 2.1), so that a Merkle tree can take over behind the same interface.

    Exception
    └── LogError            the operator can do something; the sentence says what
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self

import rfc8785

from enclave.database import Head, create_whole

LEAF_BYTES_MAX: Final = 64 * 1024
"""A leaf is commitments, names and charges: well below a kilobyte for a handful of releases."""

SALT_BYTES: Final = 32
"""As long as the digest: a commitment then hides even a value of which there are only two."""

_MAGIC: Final = b"cleanroom-log-v1\n"
_GENESIS: Final = sha256(_MAGIC).digest()
_HEAD: Final = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{64}) ")
_HEAD_BYTES: Final = 8 + 1 + 64 + 1
_HEAD_BEGUN: Final = re.compile(rb"[0-9a-f]{1,8}(\Z| [0-9a-f]{0,64}(\Z| ))")
_LINE_BYTES_MAX: Final = _HEAD_BYTES + LEAF_BYTES_MAX + 1


class LogError(Exception):
    """A log cannot be used or trusted. The message is one sentence and names the file."""


class Log:
    """The log of a room, in a file that this object owns: a second writer is refused.

    A crash while writing leaves an incomplete last line. It was never acknowledged, so opening removes it. Anything
    else that does not add up refuses to open: it was acknowledged once.

    Args:
        path: the file, made (mode 0600) if there is none.
        past: a head that the caller remembers; a log that does not run through it was rolled back or replaced.

    Raises:
        LogError: the file is in use, damaged, or does not run through `past`.
    """

    def __init__(self, path: Path, *, past: Head | None = None) -> None:
        self._path = path
        if not path.exists():
            create_whole(path, _begin)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise LogError(f"the log {path} cannot be opened ({error.strerror})") from error
        self._broken = False
        self._head = Head(0, _GENESIS)
        try:
            self._lock()
            os.fchmod(self._file, 0o600)
            self._recover(past)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another keeper have the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, leaf: bytes) -> int:
        """Add one leaf and return its position, from 0. It is durable when this returns.

        Raises:
            ValueError: the leaf is not canonical JSON of an object, or exceeds LEAF_BYTES_MAX.
            LogError: it could not be written; whether it is there is known when the log is opened again.
        """
        return self.append_many((leaf,))[0]

    def append_many(self, leaves: Sequence[bytes]) -> tuple[int, ...]:
        """Add leaves with one write and one sync, and return their positions; see `append`."""
        if self._broken or self._file < 0:
            raise LogError(f"the log {self._path} is closed or failed to write and must be opened again")
        chain, lines = self._head.hash, bytearray()
        for leaf in leaves:
            _check_leaf(leaf)
            chain = _link(chain, leaf)
            lines += b"%08x %s %s\n" % (len(leaf), chain.hex().encode(), leaf)
        if lines:
            self._write(lines)
        first = self._head.size
        self._head = Head(first + len(leaves), chain)
        return tuple(range(first, first + len(leaves)))

    def head(self) -> Head:
        """Say where the log ends."""
        return self._head

    @staticmethod
    def verify(path: Path, *, past: Head | None = None) -> Head:
        """Check a whole log, or a copy of one, and return its head.

        Raises:
            LogError: it is damaged, ends within a line, or does not run through `past`.
        """
        with path.open("rb") as file:
            head, end = _scan(file, path, past)
            complete = end == file.seek(0, os.SEEK_END)
        if not complete:
            raise LogError(f"the log {path} ends within line {head.size + 1}")
        return head

    @staticmethod
    def read(path: Path) -> Iterator[tuple[int, bytes]]:
        """List positions and leaves of a log that `verify` accepts."""
        Log.verify(path)
        with path.open("rb") as file:
            for position, leaf, _, _ in _lines(file, path):
                yield position, leaf

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LogError(f"the log {self._path} is in use by another keeper; one room has one keeper") from None

    def _recover(self, past: Head | None) -> None:
        with open(self._file, "rb", closefd=False) as file:
            self._head, end = _scan(file, self._path, past)
            complete = end == file.seek(0, os.SEEK_END)
        if not complete:
            os.ftruncate(self._file, end)
            os.fsync(self._file)

    def _write(self, lines: bytearray) -> None:
        # After a failed write or sync nobody knows what the disk holds, and a second fsync may report success for
        # pages that were dropped (Rebello et al. 2020, "Can Applications Recover from fsync Failures?").
        self._broken = True
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            raise LogError(f"the log {self._path} could not be written ({error.strerror})") from error
        self._broken = False


def start_leaf(
    *,
    at: datetime,
    boot_id: str,
    environment: str,
    policy_sha256: str,
    policy_version: int,
    spent: Mapping[str, str],
) -> bytes:
    """Say that a keeper opened the room: under which policy, and what each unit kind's budget had spent by then.

    Args:
        at: of the keeper's clock, with a time zone.
        boot_id: fresh at every start.
        environment: "development" or "production".
        policy_sha256: of the sealed policy, in hex.
        policy_version: as the policy says.
        spent: unit kind -> exact amount of the common budget, as "num/den".
    """
    return _leaf(
        "start",
        at,
        boot_id=boot_id,
        environment=environment,
        policy_sha256=policy_sha256,
        policy_version=policy_version,
        spent=dict(spent),
    )


def question_leaf(
    *, at: datetime, analyst: str, question: bytes, salt: bytes, charges: Sequence[tuple[str, str]]
) -> bytes:
    """Say that a question was admitted and what it was charged just now; written after the ledger, before the run.

    Args:
        at: of the keeper's clock, with a time zone.
        analyst: whose share paid.
        question: text and parameters, as the gate encodes them; only a commitment is written.
        salt: 32 fresh bytes, for this leaf alone; goes to the asker.
        charges: (unit kind, exact amount as "num/den") for each release that the common budget paid just now.

    Raises:
        ValueError: the salt has another length, or `at` has no time zone.
    """
    paid = [{"amount": amount, "unit": unit} for unit, amount in charges]
    return _leaf("question", at, analyst=analyst, charges=paid, question=commitment(salt, question))


def answer_leaf(*, at: datetime, question: int, answer: bytes, salt: bytes) -> bytes:
    """Say that the question at that position was answered; only a commitment to the answer's bytes is written.

    Raises:
        ValueError: the salt has another length, or `at` has no time zone.
    """
    return _leaf("answer", at, answer=commitment(salt, answer), to=question)


def refusal_leaf(*, at: datetime, analyst: str, question: bytes, salt: bytes, sqlstate: str) -> bytes:
    """Say that a question was refused. The words of a refusal may name what was asked, so its SQLSTATE must do.

    Raises:
        ValueError: the salt has another length, or `at` has no time zone.
    """
    return _leaf("refusal", at, analyst=analyst, question=commitment(salt, question), sqlstate=sqlstate)


def commitment(salt: bytes, value: bytes) -> str:
    """Commit to a value: SHA-256(salt || value) in hex.

    Raises:
        ValueError: the salt has not SALT_BYTES bytes; one of a fixed length cannot run into the value.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    digest = sha256(salt)
    digest.update(value)
    return digest.hexdigest()


def _leaf(kind: str, at: datetime, **fields: object) -> bytes:
    if at.utcoffset() is None:
        raise ValueError("a time without a zone means nothing in a log")
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return rfc8785.dumps({"at": moment, "kind": kind, "v": 1, **fields})  # type: ignore[dict-item]


def _check_leaf(leaf: bytes) -> None:
    if len(leaf) > LEAF_BYTES_MAX:
        raise ValueError(f"a leaf has at most {LEAF_BYTES_MAX} bytes")
    try:
        value = json.loads(leaf)
        canonical = isinstance(value, dict) and rfc8785.dumps(value) == leaf
    except (ValueError, RecursionError):
        canonical = False
    if not canonical:
        raise ValueError("a leaf is a JSON object in canonical form (RFC 8785)")


def _begin(draft: Path) -> None:
    with draft.open("wb") as file:
        file.write(_MAGIC)
        file.flush()
        os.fsync(file.fileno())


def _link(chain: bytes, leaf: bytes) -> bytes:
    return sha256(chain + sha256(b"\0" + leaf).digest()).digest()


def _scan(file: BinaryIO, path: Path, past: Head | None) -> tuple[Head, int]:
    """Check every line, and give the head and the offset after the last whole one."""
    head, end = Head(0, _GENESIS), len(_MAGIC)
    met = past is None or past == head
    for position, leaf, chain, after in _lines(file, path):
        expected = _link(head.hash, leaf)
        if chain != expected.hex().encode():
            raise LogError(f"the log {path} is damaged: line {position + 1} was altered, or one before it removed")
        head, end = Head(position + 1, expected), after
        met = met or past == head
    if not met:
        raise LogError(f"the log {path} does not run through the remembered head: it was rolled back or replaced")
    return head, end


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes, bytes, int]]:
    """List (position, leaf, chain, offset after it) of every whole line; an incomplete last one is left out.

    A leaf has no line feed in it: canonical JSON escapes it.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise LogError(f"the log {path} is damaged: its first line is not that of a log")
    offset, position = len(_MAGIC), 0
    while line := file.readline(_LINE_BYTES_MAX + 1):
        matched = _HEAD.match(line)
        size = _HEAD_BYTES + int(matched[1], 16) + 1 if matched else 0
        if line[-1:] != b"\n" and len(line) < (size if matched else _HEAD_BYTES) and _HEAD_BEGUN.match(line):
            return
        if matched is None or len(line) != size or line[-1:] != b"\n":
            raise LogError(f"the log {path} is damaged: line {position + 1} is not as long as it says")
        offset += size
        yield position, line[_HEAD_BYTES:-1], matched[2], offset
        position += 1
