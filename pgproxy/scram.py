"""scram: SCRAM-SHA-256, the server's side, as pure state (RFC 5802, RFC 7677; Postgres docs, SASL).

    client-first --start--> server-first --finish(client-final)--> server-final, or None: wrong password

A user who does not exist goes through the same exchange with a mock verifier whose salt is stable, so that
neither words nor shape of the exchange tell whether a name is known.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pgproxy import sqlstate
from rewriter.refusal import Refusal

MECHANISM: Final = "SCRAM-SHA-256"
ITERATIONS_DEFAULT: Final = 4096
"""What Postgres uses, and RFC 7677 section 4 asks for at least."""
ITERATIONS_MAX: Final = 10_000_000
"""A client that is told more would compute for a minute: a typing mistake in a policy."""
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 18
"""Randomness in our half of the nonce (SCRAM_RAW_NONCE_LEN)."""

_KEY_BYTES: Final = 32
# RFC 5802 section 7: gs2-header is cbind-flag "," [a=authzid] ","; nonce is printable ASCII without a comma.
_CLIENT_FIRST: Final = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=[A-Za-z0-9.-]+),(?P<authzid>a=[^,]*)?,)"
    rb"(?P<bare>n=(?P<user>[^,]*),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]{1,1024})(?:,.*)?)",
    re.DOTALL,
)
_CLIENT_FINAL: Final = re.compile(
    rb"(?P<without>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[a-z]=[^,]*)*)"
    rb",p=(?P<proof>[A-Za-z0-9+/=]+)"
)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password; it can check a proof and cannot make one."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def make_verifier(password: str, salt: bytes, iterations: int = ITERATIONS_DEFAULT) -> str:
    """Compute a verifier in the form of pg_authid.rolpassword.

    Args:
        password: as typed; normalised by SASLprep where that is possible.
        salt: 16 random bytes.
        iterations: rounds of PBKDF2.

    Returns:
        `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
    """
    salted = hashlib.pbkdf2_hmac("sha256", _normal(password).encode("utf-8"), salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    salt64, stored64, server64 = map(_b64, (salt, stored_key, _hmac(salted, b"Server Key")))
    return f"{MECHANISM}${iterations}:{salt64}${stored64}:{server64}"


def parse_verifier(text: str) -> Verifier:
    """Read a verifier.

    Raises:
        ValueError: it does not have the form that make_verifier gives, or its numbers are out of range.
    """
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d{1,8}):([^$:]+)\$([^$:]+):([^$:]+)", text)
    if match is None:
        raise ValueError("a verifier looks like SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>")
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in match.groups()[1:])
    except binascii.Error:
        raise ValueError("salt and keys of a verifier are base64") from None
    iterations = int(match[1])
    if not 1 <= iterations <= ITERATIONS_MAX:
        raise ValueError(f"a verifier has 1 to {ITERATIONS_MAX} iterations")
    if not salt or len(stored_key) != _KEY_BYTES or len(server_key) != _KEY_BYTES:
        raise ValueError("StoredKey and ServerKey of a verifier have 32 bytes, and its salt is not empty")
    return Verifier(iterations, salt, stored_key, server_key)


def mock_verifier(user: str, secret: bytes, iterations: int, salt_bytes: int = SALT_BYTES) -> Verifier:
    """A verifier for a name without one; nobody knows a password for it.

    Args:
        user: the name given.
        secret: at least 32 bytes, private to the server and kept as long as its verifiers are: a salt that
            changed between two attempts would tell that the name is unknown (as in mock_scram_secret()).
        iterations: those of the real verifiers.
        salt_bytes: length of the real verifiers' salts.
    """
    parts = (_hmac(secret, label + user.encode("utf-8")) for label in (b"salt\0", b"stored\0", b"server\0"))
    salt, stored_key, server_key = parts
    return Verifier(iterations, salt[:salt_bytes], stored_key, server_key)


@dataclass(frozen=True, slots=True)
class Verifiers:
    """The verifiers of a room, with stand-ins of the same shape for every other name."""

    known: Mapping[str, Verifier]
    secret: bytes = field(repr=False)

    def of(self, user: str) -> Verifier:
        """The verifier for a name, known or not."""
        # Both are always made, so that the time does not tell which one is used.
        mock = mock_verifier(user, self.secret, *self._shape())
        return self.known.get(user, mock)

    def _shape(self) -> tuple[int, int]:
        # The commonest shape, so that an odd one betrays its own user at most, and no absent one.
        shapes = Counter((verifier.iterations, len(verifier.salt)) for verifier in self.known.values())
        return shapes.most_common(1)[0][0] if shapes else (ITERATIONS_DEFAULT, SALT_BYTES)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where an exchange stands once server-first is out."""

    verifier: Verifier
    gs2_header: bytes
    nonce: bytes
    client_first_bare: bytes
    server_first: bytes


def start(client_first: bytes, verifier: Verifier, nonce: bytes) -> Exchange:
    """Answer the client's first message.

    Args:
        client_first: the data of SASLInitialResponse.
        verifier: of this user, or a mock one.
        nonce: NONCE_BYTES of randomness, used once.

    Raises:
        Refusal: 08P01 or 0A000, the message is not one this server can go on with.
    """
    match = _CLIENT_FIRST.fullmatch(client_first)
    if match is None:
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "malformed SCRAM message")
    if match["flag"].startswith(b"p"):
        # RFC 5802 section 6: "p" asks for channel binding, which we did not offer.
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "malformed SCRAM message")
    if match["authzid"]:
        words = "client uses authorization identity, but it is not supported"
        raise Refusal(sqlstate.FEATURE_NOT_SUPPORTED, words)
    # The user name inside is ignored, as Postgres does: the start-up packet's counts.
    both = match["nonce"] + base64.b64encode(nonce)
    salt = base64.b64encode(verifier.salt)
    server_first = b"r=%b,s=%b,i=%d" % (both, salt, verifier.iterations)
    return Exchange(verifier, match["gs2"], both, match["bare"], server_first)


def finish(exchange: Exchange, client_final: bytes) -> bytes | None:
    """Check the client's proof.

    Returns:
        server-final, which proves to the client that we knew the verifier; None if the password was wrong.

    Raises:
        Refusal: 08P01, the message is malformed or belongs to another exchange.
    """
    match = _CLIENT_FINAL.fullmatch(client_final)
    if match is None:
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "malformed SCRAM message")
    # RFC 5802 section 5.1, c=: repeats the gs2 header, so that nobody in between can have changed it.
    if match["binding"] != base64.b64encode(exchange.gs2_header):
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "unexpected SCRAM channel-binding attribute")
    if not hmac.compare_digest(match["nonce"], exchange.nonce):
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "invalid SCRAM response", detail="Nonce does not match.")
    proof = _unb64(match["proof"])
    signed = b",".join((exchange.client_first_bare, exchange.server_first, match["without"]))
    # RFC 5802 section 3: ClientKey = ClientProof XOR ClientSignature; StoredKey = H(ClientKey).
    signature = _hmac(exchange.verifier.stored_key, signed)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    if not hmac.compare_digest(hashlib.sha256(client_key).digest(), exchange.verifier.stored_key):
        return None
    return b"v=" + base64.b64encode(_hmac(exchange.verifier.server_key, signed))


def _unb64(proof: bytes) -> bytes:
    try:
        raw = base64.b64decode(proof, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, "malformed SCRAM message")
    return raw


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _normal(password: str) -> str:
    """SASLprep (RFC 4013); the password as it is where that is prohibited, as scram_build_secret does."""
    mapped = "".join(_mapped(char) for char in password)
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return password if not normal or _prohibited(normal) else normal


def _mapped(char: str) -> str:
    # RFC 4013 section 2.1: other spaces become a space, what is commonly mapped to nothing goes.
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


_PROHIBITED: Final = (
    stringprep.in_table_a1,  # section 2.5: unassigned in Unicode 3.2
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _prohibited(text: str) -> bool:
    if any(banned(char) for char in text for banned in _PROHIBITED):
        return True
    # RFC 3454 section 6: right-to-left text has no left-to-right character and is enclosed by its own kind.
    if not any(map(stringprep.in_table_d1, text)):
        return False
    enclosed = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return any(map(stringprep.in_table_d2, text)) or not enclosed
