"""service: the child's end of a worker: calls from the socket -> handlers in threads -> replies."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

from enclave import frames
from enclave.frames import JSON, Buffer
from rewriter.refusal import Refusal

_PLACES_SHOWN: Final = 30  # of a failure's stack, the innermost: recursion has thousands
_CAUSES_SHOWN: Final = 4
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_DUMPABLE: Final = 4


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Request:
    """A call as the child's handler sees it.

    Attributes:
        cancelled: the keeper no longer wants the answer; long handlers look at it between steps.
    """

    method: str
    params: JSON = field(default=None, repr=False)
    buffers: tuple[memoryview, ...] = field(default=(), repr=False)
    cancelled: bool = False
    _interrupt: Callable[[], object] = field(default=_nothing, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def on_cancel(self, interrupt: Callable[[], object]) -> None:
        """Have `interrupt` called once, from another thread, when the call is cancelled; at once if it already is.

        The last one registered counts. It is never called after the handler has returned.
        """
        with self._lock:
            self._interrupt = interrupt
            if self.cancelled:
                interrupt()

    def cancel(self) -> None:
        """What the keeper's cancel frame does."""
        with self._lock:
            if not self.cancelled:
                self.cancelled = True
                self._interrupt()

    def close(self) -> None:
        """Forget what to interrupt: the engine behind it now works for somebody else."""
        with self._lock:
            self._interrupt = _nothing


Handler: TypeAlias = Callable[[Request], tuple[JSON, Sequence[Buffer]] | JSON]
"""Gives a JSON value, or a tuple of one and buffers; a Refusal it raises reaches the caller as it is."""


def serve(fd: int, handlers: Mapping[str, Handler], *, threads: int) -> NoReturn:
    """Answer calls from the socket `fd` until the keeper closes it; then the process ends at once.

    Args:
        fd: the last argument of the command line.
        handlers: by method; each runs in one of the threads.
        threads: as many as the keeper's `concurrent`, or a call waits behind another while its deadline runs.
    """
    _harden()
    connection = socket.socket(fileno=fd)
    connection.set_inheritable(False)
    _Service(connection, handlers, threads).run()


class _Service:
    """Reads in the main thread, so that a cancel frame gets through while every handler is busy."""

    def __init__(self, connection: socket.socket, handlers: Mapping[str, Handler], threads: int) -> None:
        self._connection = connection
        self._handlers = handlers
        self._pool = ThreadPoolExecutor(threads)
        self._running: dict[int, Request] = {}
        self._writing = threading.Lock()

    def run(self) -> NoReturn:
        """Take frames; never returns, and leaves without waiting for the handlers."""
        try:
            while True:
                header, lengths = frames.header(self._read(frames.length(self._read(frames.LENGTH_BYTES))))
                self._take(header, tuple([memoryview(self._read(length)) for length in lengths]))
        except (EOFError, ConnectionError):
            os._exit(0)
        except BaseException as error:
            tell("\n".join(("worker gave up", *_places(error))))
            os._exit(1)

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            count = self._connection.recv_into(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return data

    def _take(self, header: Mapping[str, JSON], buffers: tuple[memoryview, ...]) -> None:
        if "cancel" in header:
            self._cancel(header["cancel"])
            return
        number = header["call"]
        request = self._running[number] = Request(header["method"], header["params"], buffers)
        self._pool.submit(self._answer, number, header["error_id"], request)

    def _cancel(self, number: int) -> None:
        request = self._running.get(number)
        if request is None:
            return
        try:
            request.cancel()
        except Exception as error:  # the handler runs on; if it does so for too long, the keeper kills us
            tell("\n".join(("a call could not be interrupted", *_places(error))))

    def _answer(self, number: int, error_id: str, request: Request) -> None:
        try:
            frame = self._handle(number, request)
        except BaseException as error:
            # After a cancel every engine raises something, and nobody will ever see this id.
            if not request.cancelled:
                tell("\n".join((f"internal error {error_id}", *_places(error))))
            frame = frames.frame({"call": number, "failed": True})
        request.close()
        del self._running[number]
        try:
            with self._writing:
                for part in frame:
                    self._connection.sendall(part)
        except OSError:
            os._exit(0)

    def _handle(self, number: int, request: Request) -> list[Buffer]:
        try:
            result = self._handlers[request.method](request)
        except Refusal as refusal:
            fields = ("sqlstate", "message", "hint", "position", "detail")
            return frames.frame({"call": number, "refusal": {name: getattr(refusal, name) for name in fields}})
        value, buffers = result if isinstance(result, tuple) else (result, ())
        return frames.frame({"call": number, "value": value}, buffers)


def _harden() -> None:
    """Leave no way for what this process holds to get out but the socket: no dumps, no tracing, no engine's chatter.

    Only Python's stderr stays, for places of failures: C++ prints what() of an uncaught exception, which may hold
    data, and so may warnings and errors in finalisers.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), *[ctypes.c_ulong(0)] * 3)
        prctl(_PR_SET_DUMPABLE, *[ctypes.c_ulong(0)] * 4)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None


def _places(error: BaseException) -> Iterator[str]:
    """The classes of a failure and of its causes, and where each struck: no message, no locals, no source."""
    cause: BaseException | None = error
    for _ in range(_CAUSES_SHOWN):
        if cause is None:
            return
        yield type(cause).__name__
        for frame, line in list(traceback.walk_tb(cause.__traceback__))[-_PLACES_SHOWN:]:
            yield f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        cause = cause.__cause__ or cause.__context__


def tell(text: str) -> None:
    """One write, so that lines of several processes do not mix. The text holds nothing of the data."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
