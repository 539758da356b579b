"""The worker: whatever a child process does, its caller hears in time, hears nothing it should not, and can go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from enclave import frames
from enclave import worker as module
from enclave.frames import FrameError
from enclave.service import Request
from enclave.worker import Call, DeadlineExceeded, Reply, Worker, WorkerLost
from rewriter.refusal import InternalError, Refusal

CHILD = Path(__file__).with_name("echo_child.py")
COMMAND = (sys.executable, "-I", str(CHILD))
SECRET = "patient n42"
LONG_S = 60.0
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@asynccontextmanager
async def running(
    *, first: Callable[[], Call] = lambda: Call("first"), concurrent: int = 1, grace_s: float = LONG_S
) -> AsyncIterator[Worker]:
    worker = Worker("unused", name="echo", first=first, concurrent=concurrent, grace_s=grace_s, command=COMMAND)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


def gone(pid: int) -> bool:
    """No such process, or a zombie that somebody else has to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def children() -> set[int]:
    """Processes that we started and did not reap."""
    return {int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if parent(stat) == os.getpid()}


def has_no_child(pid: int) -> bool:
    """Not even a zombie of ours."""
    return not Path(f"/proc/{pid}").exists()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(LONG_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def answers(worker: Worker) -> None:
    assert (await worker.call("value", "still here", deadline_s=LONG_S)).value == "still here"


async def kill(worker: Worker) -> int:
    """Kill the process and wait until the worker has noticed."""
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: worker.pid != pid)
    return pid


# Calls and replies.


async def test_a_value_and_buffers_come_back_as_they_went() -> None:
    large = os.urandom(3_000_000)
    async with running() as worker:
        reply = await worker.call(
            "echo", {"a": [1, "ü\ud800", None, 2**200]}, [b"", large, memoryview(b"view")], deadline_s=LONG_S
        )
        assert reply == Reply({"a": [1, "ü\ud800", None, 2**200]}, (b"", large, b"view"))
        assert [type(buffer) for buffer in reply.buffers] == [bytes, bytes, bytes]
        assert await worker.call("value", deadline_s=LONG_S) == Reply(None, ())


async def test_the_first_call_comes_before_every_other_and_its_reply_is_what_start_gives() -> None:
    worker = Worker("unused", name="echo", first=lambda: Call("first", "the keys"), command=COMMAND)
    assert worker.pid is None
    reply = await worker.start()
    try:
        assert reply.value == {"pid": worker.pid}
        assert (await worker.call("told", deadline_s=LONG_S)).value == ["the keys"]
    finally:
        await worker.stop()
    assert worker.pid is None


async def test_many_calls_at_once_each_get_their_own_reply_even_if_others_are_cancelled() -> None:
    async with running(concurrent=4) as worker:
        calls = [
            asyncio.create_task(worker.call("echo", n, [b"%d" % n] * (n % 3), deadline_s=LONG_S)) for n in range(300)
        ]
        for n, call in enumerate(calls):
            if n % 7 == 0:
                await asyncio.sleep(0)
                call.cancel()
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for n, reply in enumerate(replies):
            expected = Reply(n, (b"%d" % n,) * (n % 3))
            assert reply == expected or (n % 7 == 0 and isinstance(reply, asyncio.CancelledError))
        await asyncio.gather(*[answers(worker) for _ in range(8)])


async def test_calls_beyond_the_limit_wait_and_their_deadline_counts_from_when_they_are_sent() -> None:
    async with running(grace_s=0.0) as worker:
        slow = asyncio.create_task(worker.call("sleep", 0.35, deadline_s=LONG_S))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(worker.call("sleep", 0, deadline_s=0.34)) for _ in range(3)]
        ends = [(await call).value for call in (slow, *waiting)]
        assert ends == sorted(ends)


async def test_as_many_calls_as_allowed_run_side_by_side() -> None:
    async with running(concurrent=4) as worker:
        replies = await asyncio.gather(*[worker.call("meet", deadline_s=LONG_S) for _ in range(4)])
        assert sorted(reply.value for reply in replies) == [0, 1, 2, 3]


async def test_a_refusal_arrives_with_all_its_fields() -> None:
    fields = {"sqlstate": "42703", "message": 'column "x" does not exist', "hint": "y", "position": 8, "detail": "d"}
    async with running() as worker:
        with pytest.raises(Refusal) as caught:
            await worker.call("refuse", fields, deadline_s=LONG_S)
        assert {name: getattr(caught.value, name) for name in fields} == fields
        with pytest.raises(Refusal) as caught:
            await worker.call("refuse", {"sqlstate": "0A000", "message": "no"}, deadline_s=LONG_S)
        assert (caught.value.hint, caught.value.position, caught.value.detail) == (None, None, None)


async def test_a_failure_tells_its_number_and_places_and_never_its_words(capfd: pytest.CaptureFixture[str]) -> None:
    async with running() as worker:
        with pytest.raises(InternalError) as caught:
            await worker.call("fail", SECRET, deadline_s=LONG_S)
        await answers(worker)
    output = capfd.readouterr()
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
    assert SECRET not in output.err + output.out
    lines = output.err.splitlines()
    assert lines[0] == f"internal error {caught.value.error_id}"
    assert [line for line in lines[1:] if not line.startswith("  ")] == ["RuntimeError", "ValueError"]
    assert any(line.startswith(f"  {CHILD}:") and line.endswith(" fail") for line in lines)


async def test_two_failures_have_two_numbers() -> None:
    async with running() as worker:
        numbers = []
        for _ in range(2):
            with pytest.raises(InternalError) as caught:
                await worker.call("fail", "", deadline_s=LONG_S)
            numbers.append(caught.value.error_id)
        assert numbers[0] != numbers[1]


@pytest.mark.parametrize("method", ["nan", "no such method"])
async def test_what_cannot_be_answered_is_an_internal_error(method: str) -> None:
    async with running() as worker:
        with pytest.raises(InternalError):
            await worker.call(method, deadline_s=LONG_S)
        await answers(worker)


# Limits and the form of frames.


@given(json_values, st.lists(st.binary(max_size=20), max_size=4))
def test_a_frame_reads_as_it_was_written(value: Any, buffers: list[bytes]) -> None:
    head, *views = map(bytes, frames.frame({"value": value}, buffers))
    assert frames.length(head[:4]) == len(head[4:])
    header, lengths = frames.header(head[4:])
    assert header["value"] == value
    assert views == buffers
    assert lengths == [len(buffer) for buffer in buffers]


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_header_is_an_object_that_lists_its_buffers_or_refused(text: bytes) -> None:
    try:
        header, lengths = frames.header(text)
    except FrameError:
        return
    assert header["buffers"] == lengths


@pytest.mark.parametrize(
    "buffers",
    ["[-1]", "[true]", "[1.0]", '["1"]', "[1073741825]", "[536870912,536870913]", f"[{'0,' * 4096}0]", "{}", "null"],
)
def test_impossible_buffer_lengths_are_refused(buffers: str) -> None:
    with pytest.raises(FrameError):
        frames.header(b'{"buffers":%s}' % buffers.encode())


def test_a_header_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(FrameError):
        frames.header(b'{"buffers":' + b"[" * 200_000)


def test_a_header_over_the_limit_is_refused_before_it_is_read() -> None:
    assert frames.length((64 * 1024 * 1024).to_bytes(4, "big")) == 64 * 1024 * 1024
    with pytest.raises(FrameError):
        frames.length((64 * 1024 * 1024 + 1).to_bytes(4, "big"))


long = {"refusal": {"sqlstate": "42P011", "message": "m", "hint": None, "position": None, "detail": None}}


@pytest.mark.parametrize("header", [{}, {"failed": 1}, {"refusal": {}}, {"refusal": {"sqlstate": 1}}, long])
def test_a_reply_without_an_outcome_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        module._outcome(header, (), "id")


async def test_a_call_over_a_limit_is_not_sent_and_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as worker:
        monkeypatch.setattr(frames, "HEADER_BYTES_MAX", 1000)
        monkeypatch.setattr(frames, "BUFFER_BYTES_MAX", 1000)
        with pytest.raises(FrameError):
            await worker.call("value", "x" * 1000, deadline_s=LONG_S)
        with pytest.raises(FrameError):
            await worker.call("echo", None, [b"x" * 500, b"x" * 501], deadline_s=LONG_S)
        await answers(worker)


def frame(header: dict[str, Any]) -> bytes:
    return b"".join(frames.frame(header))


@pytest.mark.parametrize(
    "rogue",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x02\xff\xff",
        frame({"call": 999, "value": None}),
        frame({"call": [], "value": None}),
        frame({"call": 2}),
    ],
)
async def test_a_child_that_breaks_the_form_is_replaced(rogue: bytes) -> None:
    async with running() as worker:
        pid = worker.pid
        with pytest.raises(WorkerLost):
            await worker.call("raw", rogue.hex(), deadline_s=LONG_S)
        await answers(worker)
        assert worker.pid != pid


def launch(*, stderr: int = subprocess.PIPE) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen([*COMMAND, str(theirs.fileno())], pass_fds=[theirs.fileno()], stderr=stderr)
    return child, ours


@pytest.mark.parametrize("text", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", frame({"call": 1})])
def test_the_child_ends_at_a_frame_it_cannot_understand(text: bytes) -> None:
    child, ours = launch()
    with ours, child:
        ours.sendall(text)
        assert child.wait(LONG_S) == 1
        assert child.stderr is not None
        assert child.stderr.read().startswith(b"worker gave up\n")


@pytest.mark.parametrize("begun", [b"", b"\x00", b"\x00\x00\x00\x09{"])
def test_the_child_ends_in_silence_when_the_keeper_closes_the_socket(begun: bytes) -> None:
    child, ours = launch()
    with child:
        ours.sendall(begun)
        ours.close()
        assert child.wait(LONG_S) == 0
        assert child.stderr is not None
        assert child.stderr.read() == b""


# Cancelling.


def test_a_request_calls_what_was_registered_last_once_and_not_after_its_end() -> None:
    called: list[str] = []
    request = Request("m")
    request.on_cancel(lambda: called.append("first"))
    request.on_cancel(lambda: called.append("second"))
    request.cancel()
    request.cancel()
    assert (called, request.cancelled) == (["second"], True)
    request.on_cancel(lambda: called.append("at once"))
    assert called == ["second", "at once"]
    ended = Request("m")
    ended.on_cancel(lambda: called.append("too late"))
    ended.close()
    ended.cancel()
    assert called == ["second", "at once"]


async def begun(worker: Worker, mark: Path, deadline_s: float = LONG_S) -> asyncio.Task[Reply]:
    """A call of `interruptible` whose handler runs."""
    call = asyncio.create_task(worker.call("interruptible", str(mark), deadline_s=deadline_s))
    await until(lambda: mark.exists() and mark.read_text() == "begun\n")
    return call


async def test_a_cancelled_call_interrupts_its_handler_and_keeps_the_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running() as worker:
        pid = worker.pid
        call = await begun(worker, tmp_path / "mark")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await answers(worker)  # after the handler, as there is one place
        assert (tmp_path / "mark").read_text() == "begun\nstopped\n"
        assert worker.pid == pid
    assert capfd.readouterr().err == ""


async def test_a_call_that_is_cancelled_while_it_waits_is_never_sent(tmp_path: Path) -> None:
    async with running() as worker:
        call = await begun(worker, tmp_path / "mark")
        waiting = asyncio.create_task(worker.call("spin", deadline_s=LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        call.cancel()
        await answers(worker)


async def test_at_its_deadline_a_handler_is_interrupted_and_the_process_lives_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running() as worker:
        pid = worker.pid
        with pytest.raises(DeadlineExceeded):
            await worker.call("interruptible", str(tmp_path / "mark"), deadline_s=0.05)
        await answers(worker)
        assert worker.pid == pid
        assert (tmp_path / "mark").read_text() == "begun\nstopped\n"
    assert capfd.readouterr().err == ""


async def test_an_interrupt_that_fails_harms_nothing_and_tells_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    async with running() as worker:
        pid = worker.pid
        call = asyncio.create_task(worker.call("stubborn", [SECRET, str(mark)], deadline_s=LONG_S))
        await until(mark.exists)
        call.cancel()
        await answers(worker)
        assert worker.pid == pid
    error = capfd.readouterr().err
    assert error.startswith("a call could not be interrupted\nValueError\n")
    assert SECRET not in error


async def test_a_reply_within_the_grace_still_counts() -> None:
    async with running() as worker:
        assert (await worker.call("late", deadline_s=0.02)).value == "late"


# Killing.


@pytest.mark.system
async def test_a_child_that_spins_in_c_is_killed_in_time_and_replaced_while_another_worker_answers() -> None:
    firsts: list[int] = []

    def first() -> Call:
        firsts.append(1)
        return Call("first", len(firsts))

    async with running(first=first, concurrent=2, grace_s=0.3) as worker, running() as other:
        pid = worker.pid
        assert pid is not None
        begun = time.monotonic()
        spinning = asyncio.create_task(worker.call("spin", deadline_s=0.5))
        neighbour = asyncio.create_task(worker.call("sleep", LONG_S, deadline_s=LONG_S))
        waiting = asyncio.create_task(worker.call("told", deadline_s=LONG_S))
        meanwhile = 0
        while not spinning.done():
            await answers(other)
            meanwhile += 1
        with pytest.raises(DeadlineExceeded):
            await spinning
        assert 0.8 <= time.monotonic() - begun < 5
        assert meanwhile > 10
        with pytest.raises(WorkerLost):
            await neighbour
        assert (await waiting).value == [2]
        assert worker.pid != pid
        assert has_no_child(pid)


@pytest.mark.system
async def test_a_cancelled_call_that_ignores_it_is_still_killed_at_its_deadline() -> None:
    async with running(grace_s=0.1) as worker:
        pid = worker.pid
        call = asyncio.create_task(worker.call("spin", deadline_s=0.3))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await answers(worker)
        assert worker.pid != pid


async def test_a_killed_child_loses_its_calls_and_recovers(capfd: pytest.CaptureFixture[str]) -> None:
    async with running(concurrent=3) as worker:
        pid = worker.pid
        assert pid is not None
        calls = [asyncio.create_task(worker.call("sleep", LONG_S, deadline_s=LONG_S)) for _ in range(3)]
        await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        for call in calls:
            with pytest.raises(WorkerLost):
                await call
        await asyncio.gather(*[answers(worker) for _ in range(6)])
        assert worker.pid != pid
        assert has_no_child(pid)
    assert capfd.readouterr().err == f"worker echo ({pid}): ended by itself, exit status -9\n"


async def test_a_call_made_the_moment_its_child_is_lost_waits_for_the_next() -> None:
    async with running() as worker:
        assert worker._child is not None
        worker._child._lose()
        await answers(worker)


async def test_stopping_ends_process_and_calls_and_a_stopped_worker_can_be_started_again() -> None:
    worker = Worker("unused", name="echo", first=lambda: Call("first"), command=COMMAND)
    with pytest.raises(WorkerLost):
        await worker.call("value", deadline_s=LONG_S)
    await worker.start()
    pid = worker.pid
    assert pid is not None
    calls = [asyncio.create_task(worker.call("sleep", LONG_S, deadline_s=LONG_S)) for _ in range(3)]
    await asyncio.sleep(0.02)
    await worker.stop()
    await worker.stop()
    for call in calls:
        with pytest.raises(WorkerLost):
            await call
    assert has_no_child(pid)
    await worker.start()
    await answers(worker)
    await worker.stop()


@pytest.mark.system
async def test_what_a_child_started_dies_with_it() -> None:
    async with running() as worker:
        pid = (await worker.call("grandchild", deadline_s=LONG_S)).value
        assert not gone(pid)
    await until(lambda: gone(pid))


# Starting, failing to start, and starting again.


async def test_a_first_call_that_is_refused_fails_the_start_and_leaves_nothing() -> None:
    worker = Worker("unused", name="echo", first=lambda: Call("first", {"refuse": "no table"}), command=COMMAND)
    with pytest.raises(Refusal, match="no table"):
        await worker.start()
    assert worker.pid is None
    with pytest.raises(WorkerLost):
        await worker.call("value", deadline_s=LONG_S)


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (Call("sleep", LONG_S), DeadlineExceeded),
        (Call("fail", ""), InternalError),
        (Call("first", {"die_unless": "/nonexistent"}), WorkerLost),
    ],
)
async def test_a_first_call_that_comes_to_nothing_fails_the_start(first: Call, error: type[Exception]) -> None:
    worker = Worker("unused", name="echo", first=lambda: first, grace_s=0.0, command=COMMAND)
    with pytest.raises(error):
        await worker.start(deadline_s=0.2 if error is DeadlineExceeded else LONG_S)
    assert worker.pid is None


@pytest.mark.parametrize(
    ("command", "error"), [(["/nonexistent"], FileNotFoundError), ([sys.executable, "-c", ""], WorkerLost)]
)
async def test_a_command_that_is_no_worker_fails_the_start(command: Sequence[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        await Worker("unused", name="echo", first=lambda: Call("first"), command=command).start()


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    before, mark = children(), tmp_path / "mark"
    worker = Worker("unused", name="echo", first=lambda: Call("interruptible", str(mark)), command=COMMAND)
    starting = asyncio.create_task(worker.start())
    await until(mark.exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == before


@pytest.mark.system
async def test_after_five_failed_starts_calls_fail_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 0.2)
    healthy = tmp_path / "healthy"
    healthy.touch()
    firsts: list[int] = []

    def first() -> Call:
        firsts.append(1)
        return Call("first", {"die_unless": str(healthy)})

    async with running(first=first) as worker:
        healthy.unlink()
        await kill(worker)
        with pytest.raises(WorkerLost):
            await worker.call("value", deadline_s=LONG_S)
        assert len(firsts) == 6
        with pytest.raises(WorkerLost):
            await worker.call("value", deadline_s=LONG_S)
        healthy.touch()
        await until(lambda: worker.pid is not None)
        await answers(worker)
    assert capfd.readouterr().err.count("worker echo did not start (WorkerLost)\n") >= 5


@pytest.mark.system
async def test_a_child_that_dies_young_again_and_again_is_restarted_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "YOUNG_S", LONG_S)
    monkeypatch.setattr(module, "BACKOFF_S", 0.2)
    waits: list[float] = []
    async with running() as worker:
        for _ in range(4):
            begun = time.monotonic()
            await kill(worker)
            await answers(worker)
            waits.append(time.monotonic() - begun)
    assert all(wait >= pause for wait, pause in zip(waits, (0, 0.2, 0.4, 0.8), strict=True))


# What a child is and what it leaves behind.


async def test_a_child_has_no_environment_no_dumps_and_no_descriptors_but_its_own() -> None:
    async with running() as worker:
        found = (await worker.call("hardening", deadline_s=LONG_S)).value
    descriptors = found.pop("descriptors")
    assert len(descriptors) <= 6  # 0-2, the socket, the real stderr, the listing itself
    assert found.pop("environment").keys() <= {"LANG", "LC_CTYPE"}
    assert found == {
        "dumpable": 0,
        "core": [0, 0],
        "leader": True,
        "isolated": 1,
        "inheritable": False,
    }


ORPHANING = """
import asyncio, sys
from enclave.worker import Call, Worker
async def main():
    worker = Worker("unused", name="echo", first=lambda: Call("first"), command=sys.argv[2:])
    print((await worker.start()).value["pid"], flush=True)
    await worker.call(sys.argv[1], 600, deadline_s=600)
asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.parametrize("method", ["sleep", "spin"])
def test_a_child_dies_with_its_keeper_whatever_it_does(method: str) -> None:
    command = [sys.executable, "-I", "-c", ORPHANING, method, *COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        pid = int(keeper.stdout.readline())
        time.sleep(0.2)
        assert not gone(pid)
        keeper.kill()
    asyncio.run(until(lambda: gone(pid)))


@pytest.mark.system
async def test_fifty_restarts_leave_no_process_and_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.0)
    before = children()
    pids: list[int] = []
    async with running() as worker:
        descriptors = sorted(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await answers(worker)
            pids.append(await kill(worker))
        await answers(worker)
        assert sorted(os.listdir("/proc/self/fd")) == descriptors
        assert [pid for pid in pids if not has_no_child(pid)] == []
        assert children() - before == {worker.pid}
    assert children() == before


@pytest.mark.system
def test_it_is_the_same_on_uvloop(tmp_path: Path) -> None:
    before = children()

    async def scenario() -> None:
        async with running(concurrent=2, grace_s=0.2) as worker:
            large = os.urandom(3_000_000)
            assert (await worker.call("echo", 1, [large], deadline_s=LONG_S)).buffers == (large,)
            call = await begun(worker, tmp_path / "mark")
            call.cancel()
            await answers(worker)
            with pytest.raises(DeadlineExceeded):
                await worker.call("spin", deadline_s=0.2)
            await answers(worker)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerLost):
                await worker.call("sleep", LONG_S, deadline_s=LONG_S)
            await answers(worker)
        assert children() == before

    uvloop.run(scenario())
