"""wire: the client's side in a few lines, for tests: frames out, frames in, and a session driven without sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator

import pyarrow as pa

from enclave.answer import Answer, Notice, Question, ResultColumn
from pgproxy import scram
from pgproxy.events import Ask, Event, Fault, StartTls
from pgproxy.login import Key, Login, Rules
from pgproxy.session import Session
from rewriter.refusal import InternalError, Refusal

SALT = b"0123456789abcdef"
VERIFIER = scram.make_verifier("demo", SALT)
KEY = Key(7, b"\x01\x02\x03\x04")
NONCE = bytes(range(18))
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
Frames = list[tuple[str, bytes]]
Answerer = Callable[[Question], Answer]


def frame(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def cstring(text: str) -> bytes:
    return text.encode() + b"\x00"


def startup(version: int = 3 << 16, **parameters: str) -> bytes:
    pairs = {"user": "ana", "database": "cleanroom"} | parameters
    body = b"".join(cstring(name) + cstring(value) for name, value in pairs.items() if value) + b"\x00"
    return struct.pack("!II", len(body) + 8, version) + body


def query(text: str) -> bytes:
    return frame("Q", cstring(text))


def parse(text: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return frame("P", cstring(name) + cstring(text) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(
    values: tuple[bytes | None, ...] = (),
    portal: str = "",
    name: str = "",
    formats: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    body = cstring(portal) + cstring(name) + struct.pack(f"!H{len(formats)}h", len(formats), *formats)
    body += struct.pack("!H", len(values))
    body += b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values
    )
    return frame("B", body + struct.pack(f"!H{len(results)}h", len(results), *results))


def describe(kind: str, name: str = "") -> bytes:
    return frame("D", kind.encode() + cstring(name))


def execute(portal: str = "", rows_max: int = 0) -> bytes:
    return frame("E", cstring(portal) + struct.pack("!i", rows_max))


def close(kind: str, name: str = "") -> bytes:
    return frame("C", kind.encode() + cstring(name))


SYNC, FLUSH, TERMINATE = frame("S"), frame("H"), frame("X")


def frames(data: bytes) -> Frames:
    """Backend bytes as (type, body)."""
    return list(_frames(data))


def _frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        length = int.from_bytes(data[1:5], "big")
        assert len(data) > length
        yield chr(data[0]), data[5 : length + 1]
        data = data[length + 1 :]


def kinds(data: bytes) -> str:
    """The type bytes alone."""
    return "".join(kind for kind, _ in frames(data))


def fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\x00") if part}


def errors(data: bytes) -> list[dict[str, str]]:
    return [fields(body) for kind, body in frames(data) if kind == "E"]


def rows(data: bytes) -> list[list[bytes | None]]:
    return [_row(body) for kind, body in frames(data) if kind == "D"]


def _row(body: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    offset = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        values.append(None if length < 0 else body[offset : offset + length])
        offset += max(0, length)
    assert offset == len(body)
    return values


def integers(*values: int | None, notices: tuple[Notice, ...] = ()) -> Answer:
    """One column `n` of int8."""
    table = pa.table({"n": pa.array(values, pa.int64())})
    return Answer((ResultColumn("n", 20),), table, f"SELECT {len(values)}", notices)


def echo(question: Question) -> Answer:
    """Answers `rows N` with N rows, `refuse` with a Refusal, anything else with one row."""
    words = question.text.split()
    if "refuse" in words:
        raise Refusal("42703", 'column "x" does not exist', hint="There is y.", position=8, detail="Really.")
    if "bug" in words:
        raise InternalError("f00d")
    count = int(words[words.index("rows") + 1]) if "rows" in words else 1
    types = tuple(
        (question.parameter_types[index : index + 1] or (0,))[0] or 25 for index in range(question.text.count("$"))
    )
    table = pa.table({"n": pa.array(range(0 if question.describe else count), pa.int64())})
    answer = Answer((ResultColumn("n", 20),), table, f"SELECT {count}")
    return Answer(answer.columns, table, answer.tag, (), types) if question.describe else answer


class Peer:
    """A session and what came out of it."""

    def __init__(
        self,
        answer: Answerer = echo,
        *,
        tls: bool = False,
        plaintext: bool = True,
        full: bool = False,
        users: dict[str, str] | None = None,
    ) -> None:
        known = {user: scram.parse_verifier(text) for user, text in (users or {"ana": VERIFIER}).items()}
        rules = Rules(scram.Verifiers(known, b"s" * 32), "cleanroom", tls, plaintext)
        self.session = Session(Login(rules, KEY, NONCE, full=full))
        self.answer = answer
        self.events: list[Event] = []
        self.questions: list[Question] = []
        self.hold = False  # leave Ask unanswered

    def send(self, data: bytes) -> bytes:
        """Feed bytes, play the shell, and give what came back."""
        self.session.receive(data)
        return self.pump()

    def pump(self) -> bytes:
        out = b""
        while (item := self.session.next()) is not None:
            if isinstance(item, bytes):
                out += item
                continue
            self.events.append(item)
            if isinstance(item, Ask) and not self.hold:
                self._reply(item.question)
            elif isinstance(item, Fault):
                self.session.failed(InternalError("cafe"))
            elif isinstance(item, StartTls):
                self.session.tls_started()
        return out

    def _reply(self, question: Question) -> None:
        self.questions.append(question)
        try:
            answer = self.answer(question)
        except (Refusal, InternalError) as error:
            self.session.failed(error)
        else:
            self.session.answered(answer)

    def log_in(self, password: str = "demo", **parameters: str) -> bytes:
        """Start up and authenticate; what came after the proof."""
        self.send(startup(**parameters))
        return self.authenticate(password)

    def authenticate(self, password: str = "demo") -> bytes:
        bare = b"n=,r=clientnonce"
        initial = b"n,," + bare
        body = b"SCRAM-SHA-256\x00" + struct.pack("!i", len(initial)) + initial
        (_, reply), *_ = frames(self.send(frame("p", body)))
        return self.send(frame("p", client_final(password, bare, reply[4:])))


def client_final(password: str, bare: bytes, server_first: bytes, gs2: bytes = b"n,,") -> bytes:
    """What a client answers to server-first (RFC 5802 section 3)."""
    parts = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without = b"c=" + base64.b64encode(gs2) + b",r=" + parts[b"r"]
    signed = b",".join((bare, server_first, without))
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return without + b",p=" + base64.b64encode(proof)


def ready(answer: Answerer = echo, **parameters: str) -> Peer:
    """A session that is logged in."""
    peer = Peer(answer)
    assert peer.log_in(**parameters).endswith(frame("Z", b"I"))
    return peer
