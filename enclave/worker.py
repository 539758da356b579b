"""worker: a call -> a child process -> its reply, or the child's death. The keeper's end.

The keeper's end (`Worker`) starts `python -I -m MODULE FD` with nothing but a socket, makes the call that gives the
fresh process its policy, keys and files, and passes calls from then on; the child's end is `service.py`. A call
ends in time whatever the child does: at its deadline it is cancelled, and a child that ignores that is killed.

    Exception
    ├── Refusal, InternalError      (rewriter.refusal) what the handler raised, or that it failed
    └── WorkerError
        ├── WorkerLost              the process went away under the call; a fresh one may answer a second try
        ├── DeadlineExceeded        the call ran out of time
        └── FrameError              a frame is over a limit or not of the form above
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from enclave import frames
from enclave.frames import JSON, Buffer, FrameError, WorkerError
from enclave.service import tell
from rewriter.refusal import InternalError, Refusal

START_DEADLINE_S: Final = 600.0
"""For the call that initialises a process: it may read, check and sort all the data of a room."""

STARTS_MAX: Final = 5
"""Starts that may fail in a row before calls stop waiting for the next one."""

YOUNG_S: Final = 1.0
"""A process that dies sooner than this after it got ready is not replaced at once when it happens again."""

BACKOFF_S: Final = 0.1
BACKOFF_MAX_S: Final = 30.0
"""The pause doubles from the first to the second: a room whose files are being repaired recovers by itself."""

_REAP_PAUSE_MAX_S: Final = 0.1
_SQLSTATE_LENGTH: Final = 5
_STREAM_BYTES: Final = 1024 * 1024  # read ahead


class WorkerLost(WorkerError):
    """The process ended under the call, or none could be started. A second try may succeed."""


class DeadlineExceeded(WorkerError):
    """The call was not answered in time; it was cancelled, or its process killed."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to ask of the child: one of its handlers by name, with a JSON value and buffers (Arrow IPC)."""

    method: str
    params: JSON = field(default=None, repr=False)
    buffers: Sequence[Buffer] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler returned."""

    value: JSON = field(repr=False)
    buffers: tuple[bytes, ...] = field(default=(), repr=False)


class Worker:
    """One child process at a time, replaced whenever it ends. Belongs to one event loop; uses no threads.

    The loop must run in the thread that lives as long as the keeper (its main thread): Linux counts the end of the
    thread that started a child as its parent's death.

    Args:
        module: what `python -I -m` runs; its main calls `serve` with the last argument as descriptor.
        name: for the operator's stderr.
        first: the call that initialises a fresh process; made after every start, before any other.
        concurrent: how many calls the child gets at a time; the others wait in order.
        grace_s: how long after a call's deadline the child may take to give up before it is killed.
        command: what to run instead of `python -I -m MODULE`; the descriptor is appended.
    """

    def __init__(
        self,
        module: str,
        *,
        name: str,
        first: Callable[[], Call],
        concurrent: int = 1,
        grace_s: float = 2.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._command = tuple(command or (sys.executable, "-I", "-m", module))
        self._name = name
        self._first = first
        self._grace_s = grace_s
        self._slots = asyncio.Semaphore(concurrent)
        self._keeping: asyncio.Task[None] | None = None
        self._child: _Child | None = None
        # Set: calls need not wait, as there is a child, or none is to be expected soon.
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def pid(self) -> int | None:
        """The process that takes calls, or None while there is none."""
        return None if self._child is None else self._child.pid

    async def start(self, *, deadline_s: float = START_DEADLINE_S) -> Reply:
        """Start a process, make the first call and give its reply. Later starts have the same deadline.

        Raises:
            Refusal, InternalError, DeadlineExceeded, WorkerLost: the first call's end; nothing keeps running.
            OSError: no process could be started.
        """
        assert self._keeping is None, "started twice"
        started: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._settled.clear()
        self._keeping = asyncio.create_task(self._keep(started, deadline_s), name=f"worker {self._name}")
        try:
            return await started
        except BaseException:
            await self.stop()
            raise

    async def call(
        self, method: str, params: JSON = None, buffers: Sequence[Buffer] = (), *, deadline_s: float
    ) -> Reply:
        """Have the child answer one call; `deadline_s` counts from when it is sent, not from when it has to wait.

        A reply that comes in the grace after the deadline still counts. If the awaiting task is cancelled so is the
        call, and its reply is dropped; its deadline stays.

        Raises:
            Refusal: the handler's, field by field.
            InternalError: the handler failed; the child's stderr says where under this id.
            DeadlineExceeded, WorkerLost: see there. FrameError: the call is over a limit and was not sent.
        """
        await self._slots.acquire()
        try:
            child = await self._ready()
            sent = child.send(Call(method, params, buffers), deadline_s, self._slots.release)
        except BaseException:
            self._slots.release()
            raise
        try:
            return await sent.reply
        except asyncio.CancelledError:
            child.cancel(sent)
            raise

    async def stop(self) -> None:
        """End the process; calls in flight and calls that wait raise WorkerLost. Harmless if nothing runs."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _ready(self) -> _Child:
        while True:
            await self._settled.wait()
            if self._child is None and self._settled.is_set():
                raise WorkerLost(f"worker {self._name} is not running")
            if self._child is not None and not self._child.lost.is_set():
                return self._child
            await asyncio.sleep(0)  # lost just now: `_live` is about to notice and to clear the event

    async def _keep(self, started: asyncio.Future[Reply], deadline_s: float) -> None:
        """Have one process after the other, until `stop`."""
        failed = misfires = 0
        try:
            while True:
                try:
                    aged = await self._live(started, deadline_s)
                    failed, misfires = 0, (0 if aged else misfires + 1)
                except Exception as error:
                    if not started.done():
                        started.set_exception(error)
                        return
                    failed, misfires = failed + 1, misfires + 1
                    tell(f"worker {self._name} did not start ({type(error).__name__})")
                    if failed >= STARTS_MAX:
                        self._settled.set()
                if misfires > 1:
                    await asyncio.sleep(min(BACKOFF_S * 2 ** min(misfires - 2, 16), BACKOFF_MAX_S))
        finally:
            self._settled.set()

    async def _live(self, started: asyncio.Future[Reply], deadline_s: float) -> bool:
        """Have one process, from exec until nothing is left of it; False if it died young and by itself."""
        loop = asyncio.get_running_loop()
        child = await _Child.spawn(self._command, self._name, self._grace_s)
        try:
            reply = await child.send(self._first(), deadline_s, lambda: None).reply
            self._child, since = child, loop.time()
            self._settled.set()
            if not started.done():
                started.set_result(reply)
            await child.lost.wait()
            return child.condemned or loop.time() - since >= YOUNG_S
        finally:
            if self._child is child:
                self._child = None
                self._settled.clear()
            await child.end()


@dataclass(slots=True)
class _Sent:
    """A call in the child. `reply` is cancelled when nobody waits for it any more."""

    number: int
    error_id: str
    reply: asyncio.Future[Reply]
    over: Callable[[], None]
    timer: asyncio.TimerHandle
    cancelled: bool = False
    overdue: bool = False


class _Child:
    """The keeper's end of one process."""

    @classmethod
    async def spawn(cls, command: Sequence[str], name: str, grace_s: float) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_STREAM_BYTES)
            except BaseException:
                ours.close()
                raise
            try:
                process = _execute((*command, str(theirs.fileno())), theirs.fileno())
            except BaseException:
                writer.transport.abort()
                raise
        return cls(process, name, grace_s, reader, writer)

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        name: str,
        grace_s: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.lost = asyncio.Event()
        self.condemned = False
        self._process = process
        self._name = name
        self._grace_s = grace_s
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._sent: dict[int, _Sent] = {}
        self._why = ""
        self._reading = asyncio.create_task(self._read(reader))

    def send(self, call: Call, deadline_s: float, over: Callable[[], None]) -> _Sent:
        """Write the call; `over` is called once, when the child is done with it or gone."""
        number, error_id = next(self._numbers), secrets.token_hex(8)
        header = {"call": number, "method": call.method, "params": call.params, "error_id": error_id}
        frame = frames.frame(header, call.buffers)
        if self.lost.is_set():
            raise WorkerLost(f"worker {self._name} was lost")
        timer = self._loop.call_later(deadline_s, self._expire, number)
        sent = self._sent[number] = _Sent(number, error_id, self._loop.create_future(), over, timer)
        for part in frame:  # writelines would copy them all into one
            self._writer.write(part)
        return sent

    def cancel(self, sent: _Sent) -> None:
        """Ask the child to give up on a call; what it answers still ends it."""
        if sent.number in self._sent and not sent.cancelled:
            sent.cancelled = True
            self._writer.write(frames.frame({"cancel": sent.number})[0])

    async def end(self) -> None:
        """Kill what is left and wait until the kernel has let go of it: its memory and its keys are then gone."""
        unasked = self.lost.is_set()
        self._lose()
        pause_s = 0.001
        # SIGCHLD belongs to the event loop, whichever it is; after SIGKILL a short poll is as good.
        while self._process.poll() is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _REAP_PAUSE_MAX_S)
        await asyncio.wait([self._reading])
        if unasked:
            why = self._why or f"ended by itself, exit status {self._process.returncode}"
            tell(f"worker {self._name} ({self.pid}): {why}")

    def _expire(self, number: int) -> None:
        sent = self._sent[number]
        sent.overdue = True
        self.cancel(sent)
        sent.timer = self._loop.call_later(self._grace_s, self._condemn)

    def _condemn(self) -> None:
        self.condemned = True
        self._why = "killed, as a call ran out of time"
        self._lose()

    def _lose(self) -> None:
        """Kill the whole process group and end every call in flight. Harmless when repeated."""
        if self.lost.is_set():
            return
        self.lost.set()
        # Not reaped yet, so the number is still this group's. A group of zombies may refuse (EPERM on macOS).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._writer.transport.abort()
        for number in tuple(self._sent):
            self._settle(number, WorkerLost(f"worker {self._name} was lost"))

    def _settle(self, number: int, outcome: Reply | Exception) -> None:
        sent = self._sent.pop(number)
        sent.timer.cancel()
        sent.over()
        if sent.reply.done():
            return
        if isinstance(outcome, Reply):
            sent.reply.set_result(outcome)
        elif sent.overdue:
            # Whatever else a cancelled handler raises, it is the deadline's doing.
            sent.reply.set_exception(DeadlineExceeded(f"worker {self._name} ran out of time"))
        else:
            sent.reply.set_exception(outcome)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                header, lengths = frames.header(
                    await reader.readexactly(frames.length(await reader.readexactly(frames.LENGTH_BYTES)))
                )
                buffers = tuple([await reader.readexactly(length) for length in lengths])
                number = header.get("call")
                sent = self._sent.get(number) if isinstance(number, int) else None
                if sent is None:
                    raise FrameError("it answered a call that was not made")
                self._settle(sent.number, _outcome(header, buffers, sent.error_id))
        except FrameError as error:
            self._why = f"killed, as {error}"
        except (EOFError, OSError):
            pass
        finally:
            self._lose()


def _execute(command: Sequence[str], fd: int) -> subprocess.Popen[bytes]:
    """Start a process with an empty environment, its own session and no descriptor but `fd` and stderr."""
    return subprocess.Popen(  # noqa: S603 - the command is a constant of the keeper's
        command,
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
        start_new_session=True,
    )


def _outcome(header: Mapping[str, JSON], buffers: tuple[bytes, ...], error_id: str) -> Reply | Exception:
    match header:
        case {"value": value}:
            return Reply(value, buffers)
        case {"failed": True}:
            return InternalError(error_id)
        case {
            "refusal": {
                "sqlstate": str() as sqlstate,
                "message": str() as message,
                "hint": (str() | None) as hint,
                "position": (int() | None) as position,
                "detail": (str() | None) as detail,
            }
        } if len(sqlstate) == _SQLSTATE_LENGTH:
            return Refusal(sqlstate, message, hint=hint, position=position, detail=detail)
        case _:
            raise FrameError("a reply is neither a value nor a refusal nor a failure")
