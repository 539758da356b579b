"""serve: `cleanroom serve`: policy, data and state -> a listening room. Wires the front to the keeper."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from enclave import codec
from enclave.answer import Answer, Question
from enclave.frames import WorkerError
from enclave.worker import Call, DeadlineExceeded, Worker, WorkerLost
from pgproxy.server import Server
from policies import document
from policies.model import Policy
from policies.problem import PolicyError
from policies.seal import canonical
from rewriter.refusal import InternalError, Refusal

ANSWER_DEADLINE_S: Final = 3600.0
"""The keeper has its own, shorter deadlines; past this one it has hung and is replaced."""
GRACE_S: Final = 10.0
QUESTIONS: Final = 128
_CERTIFICATE_DAYS: Final = 365
_SECRET_BYTES: Final = 32


@click.command(
    epilog="""\b
Examples:
  cleanroom serve policy.toml --data data --state state
  cleanroom serve policy.toml --data data --state state --port 0
  cleanroom serve policy.toml --data data --state state --host 0.0.0.0 --tls-cert room.crt --tls-key room.key
"""
)
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with <table>.parquet or .csv.")
@click.option("--state", required=True, type=click.Path(path_type=Path), help="Folder for ledger, log and releases.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5433, show_default=True, type=click.IntRange(0, 65535), help="0 picks one.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain in PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key in PEM.")
def serve(
    policy: Path, data: Path, state: Path, host: str, port: int, tls_cert: Path | None, tls_key: Path | None
) -> None:
    """Serve a room to Postgres clients until SIGTERM or Ctrl-C.

    Prints `listening on HOST:PORT` to stdout once it answers; everything else goes to stderr.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    sys.exit(run(policy, data, state, host, port, tls_cert, tls_key))


def run(
    policy_path: Path,
    data: Path,
    state: Path,
    host: str,
    port: int,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    ready: Callable[[str, int], None] | None = None,
) -> int:
    """Serve until told to stop; `ready` is called once the room answers.

    Returns:
        The exit code: 0 after a stop, 1 if the room cannot be opened.
    """
    try:
        policy = document.load(policy_path)
        if policy.room.environment != "development":
            return _fail('a .toml policy is not sealed and serves in environment "development" only')
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        context = _tls(state, host, tls_cert, tls_key)
    except PolicyError as error:
        for problem in error.problems:
            _tell(f"{policy_path}:{problem.line}: {problem.field}: {problem.message}")
        return 1
    except (OSError, ssl.SSLError) as error:
        return _fail(str(error))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(policy, data, state, host, port, context, ready))


async def _serve(
    policy: Policy,
    data: Path,
    state: Path,
    host: str,
    port: int,
    context: ssl.SSLContext,
    ready: Callable[[str, int], None] | None,
) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    keeper = _keeper(policy, data, state)
    _tell("loading the data ...")
    try:
        await keeper.start()
    except Refusal as refusal:
        return _fail(refusal.message)
    except (InternalError, WorkerError) as error:
        return _fail(f"the room cannot be opened: {error}")
    server = Server(
        _asking(keeper),
        {name: analyst.verifier for name, analyst in policy.analysts.items() if analyst.verifier is not None},
        ssl_context=context,
        plaintext=policy.room.environment == "development" and _is_loopback(host),
        mock_secret=_mock_secret(state),
    )
    try:
        bound = await server.start(host, port)
    except OSError as error:
        await keeper.stop()
        return _fail(f"cannot listen on {host}:{port}: {error.strerror or error}")
    print(f"listening on {host}:{bound}", flush=True)  # noqa: T201 - the one line on stdout
    if ready is not None:
        ready(host, bound)
    await stopped.wait()
    _tell("stopping ...")
    await server.shutdown(GRACE_S)
    await keeper.call("close", deadline_s=GRACE_S)
    await keeper.stop()
    return 0


def _keeper(policy: Policy, data: Path, state: Path) -> Worker:
    params = {"policy": canonical(policy).decode(), "data": str(data.resolve()), "state": str(state.resolve())}
    return Worker("enclave", name="keeper", first=lambda: Call("start", params), concurrent=QUESTIONS)


def _asking(keeper: Worker) -> Callable[[Question], Awaitable[Answer]]:
    """How the front asks: one call to the keeper a question."""

    async def answer(question: Question) -> Answer:
        try:
            reply = await keeper.call("ask", codec.question_to_json(question), deadline_s=ANSWER_DEADLINE_S)
        except (WorkerLost, DeadlineExceeded):
            raise Refusal("57P03", "the room is starting up", hint="Try again in a moment.") from None
        return codec.answer_from_frame(reply.value, reply.buffers)

    return answer


def _tls(state: Path, host: str, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """The server's TLS context; without a certificate of the operator's, one is made and kept in the state."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None or key is None:
        certificate, key = state / "server.crt", state / "server.key"
        if not (certificate.exists() and key.exists()):
            _make_certificate(certificate, key, host)
            _tell(f"no --tls-cert given: made a self-signed certificate, {certificate}")
    context.load_cert_chain(certificate, key)
    return context


def _make_certificate(certificate: Path, key: Path, host: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names.append(x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host))
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    _write_private(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))


def _mock_secret(state: Path) -> bytes:
    """What the salts of unknown users are made from; kept, since a salt that changes tells who is unknown."""
    path = state / "mock.key"
    if not path.exists():
        _write_private(path, secrets.token_bytes(_SECRET_BYTES))
    return path.read_bytes()


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform
        return None
    return uvloop.new_event_loop


def _fail(sentence: str) -> int:
    _tell(f"error: {sentence}")
    return 1


def _tell(sentence: str) -> None:
    print(f"cleanroom: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the operator reads stderr
