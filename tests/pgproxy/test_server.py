"""Real sockets on the loopback interface, real clients, a made-up room behind them."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import asyncpg
import psycopg
import pyarrow as pa
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wire import (
    SSL_REQUEST,
    VERIFIER,
    bind,
    client_final,
    cstring,
    errors,
    execute,
    frame,
    kinds,
    parse,
    query,
    startup,
)

from enclave.answer import Answer, Notice, Question, ResultColumn
from pgproxy.server import Server
from rewriter.refusal import InternalError, Refusal

pytestmark = pytest.mark.system

COLUMNS = {
    "b": (16, pa.array([True], pa.bool_())),
    "i": (23, pa.array([-7], pa.int32())),
    "l": (20, pa.array([2**40], pa.int64())),
    "f": (701, pa.array([0.1], pa.float64())),
    "d": (1700, pa.array([Decimal("12.50")], pa.decimal128(38, 2))),
    "t": (25, pa.array(["żółw"], pa.string())),
    "day": (1082, pa.array([dt.date(2024, 2, 29)], pa.date32())),
    "at": (1184, pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 60, dt.UTC)], pa.timestamp("us", "UTC"))),
    "gone": (25, pa.array([None], pa.string())),
}
EXPECTED = (
    True,
    -7,
    2**40,
    0.1,
    Decimal("12.50"),
    "żółw",
    dt.date(2024, 2, 29),
    dt.datetime(2024, 1, 2, 3, 4, 5, 60, dt.UTC),
    None,
)


class Room:
    """A made-up room: what a question does is written in its text."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.parameters: list[str | None] = []

    async def answer(self, question: Question) -> Answer:
        if question.describe:
            return self._columns(question, 0)
        self.parameters = [parameter.value for parameter in question.parameters]
        if "refuse" in question.text:
            raise Refusal("42703", 'column "x" does not exist', hint="There is y.", position=8)
        if "internal" in question.text:
            raise InternalError("f00d")
        if "crash" in question.text:
            raise RuntimeError(f"a {'clear'} value")
        if "sleep" in question.text:
            await self._sleep()
        return self._columns(question, 200_000 if "many" in question.text else 1)

    async def _sleep(self) -> None:
        self.started.set()
        try:
            await asyncio.wait_for(self.go_on.wait(), 30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def _columns(self, question: Question, count: int) -> Answer:
        if "many" in question.text:
            columns = (ResultColumn("n", 20),)
            table = pa.table({"n": pa.array(range(count), pa.int64())})
        else:
            columns = tuple(ResultColumn(name, oid) for name, (oid, _) in COLUMNS.items())
            table = pa.table({name: values for name, (_, values) in COLUMNS.items()}).slice(0, count)
        declared = question.parameter_types
        types = tuple((declared[n : n + 1] or (0,))[0] or 25 for n in range(question.text.count("$")))
        return Answer(columns, table, f"SELECT {count}", (Notice("dp: charged epsilon 0.10"),), types)


Serve = Callable[..., Awaitable[int]]


@asynccontextmanager
async def serving(room: Room, **options: object) -> AsyncIterator[tuple[Server, int]]:
    options = {"plaintext": True} | options
    server = Server(room.answer, {"ana": VERIFIER}, **options)  # type: ignore[arg-type]
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        room.go_on.set()
        await server.shutdown(5)


def dsn(port: int, **more: str) -> str:
    parts = {"host": "127.0.0.1", "port": str(port), "user": "ana", "password": "demo", "dbname": "cleanroom"}
    return " ".join(f"{name}={value}" for name, value in (parts | more).items())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*certificate)
    return context


async def psql(port: int, *arguments: str, **more: str) -> tuple[int, str, str]:
    program = shutil.which("psql")
    if program is None:
        pytest.skip("psql is not installed")
    process = await asyncio.create_subprocess_exec(
        program,
        dsn(port, **more),
        "-X",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes on a fresh connection and read until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("binary", [False, True])
async def test_psycopg_reads_every_type_in_both_formats(binary: bool) -> None:
    room = Room()
    async with serving(room) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port))
        async with connection, connection.cursor(binary=binary) as cursor:
            await cursor.execute("select %s, %s, %s", (5, "five", dt.date(2024, 1, 1)))
            assert await cursor.fetchall() == [EXPECTED]
            assert cursor.statusmessage == "SELECT 1"
    assert room.parameters == ["5", "five", "2024-01-01"]


async def test_psycopg_sees_errors_notices_and_transactions() -> None:
    notices: list[str | None] = []
    async with serving(Room()) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port))
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        async with connection:
            with pytest.raises(psycopg.errors.UndefinedColumn) as raised:
                await connection.execute("select refuse")
            assert raised.value.diag.message_hint == "There is y."
            assert raised.value.diag.statement_position == "8"
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                await connection.execute("select 1")
            await connection.rollback()
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await connection.execute("insert into t values (1)")
            await connection.rollback()
            async with connection.transaction(), connection.transaction():
                await connection.execute("select 1")
            with pytest.raises(psycopg.errors.InternalError_, match=r"internal error f00d"):
                await connection.execute("select internal")
    assert notices == ["dp: charged epsilon 0.10"]


async def test_a_crash_shows_the_client_a_number_and_stderr_no_value(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with serving(Room()) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        async with connection:
            with pytest.raises(psycopg.errors.InternalError_) as raised:
                await connection.execute("select crash")
            await connection.execute("select 1")
    log = capfd.readouterr().err
    assert str(raised.value) in log
    assert "RuntimeError" in log
    assert "clear value" not in log
    assert "clear value" not in str(raised.value)


async def test_psycopg_pipelines_and_prepares() -> None:
    async with serving(Room()) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), prepare_threshold=0)
        async with connection, connection.pipeline():
            cursors = [await connection.execute("select %s", (n,)) for n in range(20)]
            assert [len(await cursor.fetchall()) for cursor in cursors] == [1] * 20


async def test_asyncpg_reads_every_type_and_streams() -> None:
    async with serving(Room()) as (_, port):
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="ana", password="demo", database="cleanroom"
        )
        assert tuple(await connection.fetchrow("select $1, $2", "a", "b")) == EXPECTED
        async with connection.transaction():
            cursor = await connection.cursor("select many")
            assert [row["n"] for row in await cursor.fetch(50)] == list(range(50))
            assert [row["n"] for row in await cursor.fetch(5)] == list(range(50, 55))
        assert len(await connection.fetch("select many")) == 200_000
        await connection.reset()
        await connection.close()


async def test_psql_shows_results_and_errors() -> None:
    async with serving(Room()) as (_, port):
        code, out, err = await psql(port, "-At", "-c", "select 1; show server_version", "-c", "selec 1")
    assert "t|-7|1099511627776|0.1|12.50|żółw|2024-02-29|2024-01-02 03:04:05.00006+00|\n15.18\n" in out
    assert "NOTICE:  dp: charged epsilon 0.10" in err
    assert 'ERROR:  syntax error at or near "selec"' in err
    assert code == 1


async def test_psql_fails_to_log_in_in_postgres_words() -> None:
    async with serving(Room()) as (_, port):
        for more, words in (
            ({"password": "wrong"}, 'password authentication failed for user "ana"'),
            ({"user": "bob"}, 'password authentication failed for user "bob"'),
            ({"dbname": "other"}, 'database "other" does not exist'),
        ):
            code, _, err = await psql(port, "-c", "select 1", **more)
            assert code == 2
            assert f"FATAL:  {words}" in err


async def test_tls_works_with_every_client(context: ssl.SSLContext, certificate: tuple[Path, Path]) -> None:
    root = str(certificate[0])
    more = {"sslmode": "verify-full", "sslrootcert": root}
    async with serving(Room(), ssl_context=context, plaintext=False) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port, **more))
        async with connection:
            cursor = await connection.execute("select many")
            assert len(await cursor.fetchall()) == 200_000
        trusting = ssl.create_default_context(cafile=root)
        other = await asyncpg.connect(
            host="127.0.0.1", port=port, user="ana", password="demo", database="cleanroom", ssl=trusting
        )
        assert tuple(await other.fetchrow("select 1")) == EXPECTED
        await other.close()
        _, out, err = await psql(port, "-At", "-c", r"\conninfo", "-c", "select 1", **more)
        assert "SSL connection (protocol: TLSv1.3" in out, err
        assert "2024-02-29" in out


def test_the_server_runs_on_uvloop_too(context: ssl.SSLContext) -> None:
    async def visit() -> None:
        room = Room()
        async with serving(room, ssl_context=context, plaintext=False) as (_, port):
            connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
            async with connection:
                cursor = await connection.execute("select many")
                assert len(await cursor.fetchall()) == 200_000
                running = asyncio.create_task(connection.execute("select sleep"))
                await asyncio.wait_for(room.started.wait(), 10)
                await connection.cancel_safe(timeout=10)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await running

    uvloop.run(visit())


async def test_plain_text_is_refused_where_it_is_not_allowed(context: ssl.SSLContext) -> None:
    async with serving(Room(), ssl_context=context, plaintext=False) as (_, port):
        with pytest.raises(psycopg.OperationalError, match="connection requires TLS"):
            await psycopg.AsyncConnection.connect(dsn(port, sslmode="disable"))


async def test_tls_below_1_2_is_not_spoken(context: ssl.SSLContext) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.raises(ValueError, match="TLSv1_2"):
        Server(Room().answer, {}, ssl_context=old)
    with pytest.raises(ValueError, match="plaintext"):
        Server(Room().answer, {})


async def test_bytes_injected_behind_an_ssl_request_get_no_answer(context: ssl.SSLContext) -> None:
    async with serving(Room(), ssl_context=context) as (_, port):
        assert await exchange(port, SSL_REQUEST + startup()) == b""


async def test_garbage_inside_tls_ends_the_connection(context: ssl.SSLContext) -> None:
    async with serving(Room(), ssl_context=context) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SSL_REQUEST)
        assert await reader.readexactly(1) == b"S"
        writer.write(startup() * 20)
        rest = await asyncio.wait_for(reader.read(), 10)
        assert b"R\x00" not in rest
        writer.close()


async def test_a_cancel_request_stops_the_running_question() -> None:
    room = Room()
    async with serving(room) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        async with connection:
            running = asyncio.create_task(connection.execute("select sleep"))
            await asyncio.wait_for(room.started.wait(), 10)
            await connection.cancel_safe(timeout=10)
            with pytest.raises(psycopg.errors.QueryCanceled, match="due to user request"):
                await running
            assert room.cancelled.is_set()
            await connection.execute("select 1")


async def test_a_cancel_request_with_a_wrong_key_stops_nothing() -> None:
    room = Room()
    async with serving(room) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        async with connection:
            running = asyncio.create_task(connection.execute("select sleep"))
            await asyncio.wait_for(room.started.wait(), 10)
            process_id = connection.info.backend_pid
            for key in (b"\x00\x00\x00\x00", b"", b"x" * 200):
                request = struct.pack("!IIi", 12 + len(key), 80877102, process_id) + key
                assert await exchange(port, request) == b""
            assert not room.cancelled.is_set()
            room.go_on.set()
            await running


async def test_statement_timeout_stops_a_question() -> None:
    room = Room()
    async with serving(room) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        async with connection:
            await connection.execute("set statement_timeout = 50")
            with pytest.raises(psycopg.errors.QueryCanceled, match="due to statement timeout"):
                await connection.execute("select sleep")
            await connection.execute("select 1")


async def test_a_client_that_leaves_stops_its_question() -> None:
    room = Room()
    async with serving(room) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        running = asyncio.create_task(connection.execute("select sleep"))
        await asyncio.wait_for(room.started.wait(), 10)
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
        await asyncio.wait_for(room.cancelled.wait(), 10)
        with pytest.raises(psycopg.OperationalError):
            await running
        await connection.close()


async def test_a_client_that_does_not_read_does_not_fill_the_memory() -> None:
    async with serving(Room()) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(startup())
        head = await reader.readexactly(5)
        await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
        bare = b"n=,r=clientnonce"
        initial = cstring("SCRAM-SHA-256") + struct.pack("!i", len(bare) + 3) + b"n,," + bare
        writer.write(frame("p", initial))
        head = await reader.readexactly(5)
        server_first = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
        writer.write(frame("p", client_final("demo", bare, server_first[4:])) + query("select many; " * 50))
        await asyncio.sleep(1.0)
        (connection,) = server._connections.values()
        assert connection._transport is not None
        # 50 results of 4 MB each are waiting: what is made of them stays near the mark.
        assert 0 < connection._transport.get_write_buffer_size() < 1024 * 1024
        writer.transport.abort()


async def test_too_many_clients_are_told() -> None:
    async with serving(Room(), connections_max=1) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port))
        async with connection:
            with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
                await psycopg.AsyncConnection.connect(dsn(port))


async def test_a_log_in_that_takes_too_long_is_cut() -> None:
    async with serving(Room(), authentication_timeout_s=0.2) as (_, port):
        assert kinds(await exchange(port, startup())) in ("R", "")
        connection = await psycopg.AsyncConnection.connect(dsn(port))
        await asyncio.sleep(0.4)
        await connection.execute("select 1")
        await connection.close()


async def test_shutdown_lets_a_question_finish_and_then_says_good_bye() -> None:
    room = Room()
    async with serving(room) as (server, port):
        busy = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        idle = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        running = asyncio.create_task(busy.execute("select sleep"))
        await asyncio.wait_for(room.started.wait(), 10)
        stopping = asyncio.create_task(server.shutdown(10))
        with pytest.raises(psycopg.errors.AdminShutdown):
            await idle.execute("select 1")
        assert not stopping.done()
        room.go_on.set()
        assert len(await (await running).fetchall()) == 1
        await stopping
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(dsn(port))
        await busy.close()
        await idle.close()


async def test_shutdown_cuts_what_does_not_finish() -> None:
    room = Room()
    async with serving(room) as (server, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        running = asyncio.create_task(connection.execute("select sleep"))
        await asyncio.wait_for(room.started.wait(), 10)
        await server.shutdown(0.1)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await running
        await connection.close()


async def test_a_query_of_a_megabyte_leaves_the_connection_open() -> None:
    async with serving(Room()) as (_, port):
        connection = await psycopg.AsyncConnection.connect(dsn(port), autocommit=True)
        async with connection:
            with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="statement too long"):
                await connection.execute("select '" + "x" * 1_000_000 + "'")
            await connection.execute("select 1")


async def test_messages_before_the_log_in_end_the_connection() -> None:
    async with serving(Room()) as (_, port):
        out = await exchange(port, startup() + query("select 1") + parse("x") + bind() + execute())
        assert kinds(out) == "RE"
        assert errors(out)[0]["S"] == "FATAL"
