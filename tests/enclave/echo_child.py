"""echo_child: a worker for tests, which does what it is told, misbehaving included. Started by path."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import NoReturn

from enclave.frames import JSON
from enclave.service import Handler, Request, serve
from rewriter.refusal import Refusal

THREADS = 4
PR_GET_DUMPABLE = 3
firsts: list[JSON] = []
barrier = threading.Barrier(THREADS)


def first(request: Request) -> JSON:
    """What a fresh process is given; `params` may tell it to fail in one way or another."""
    firsts.append(request.params)
    orders = request.params if isinstance(request.params, dict) else {}
    if not os.path.exists(orders.get("die_unless", "/")):
        os._exit(3)
    if "refuse" in orders:
        raise Refusal("22023", orders["refuse"])
    return {"pid": os.getpid()}


def echo(request: Request) -> tuple[JSON, list[bytes | memoryview]]:
    return request.params, list(request.buffers)


def value(request: Request) -> JSON:
    return request.params


def told(request: Request) -> JSON:
    return firsts


def refuse(request: Request) -> NoReturn:
    raise Refusal(**request.params)


def fail(request: Request) -> NoReturn:
    warnings.warn(f"warned of {request.params}", stacklevel=1)
    os.write(2, request.params.encode())
    print(request.params)
    try:
        raise ValueError(request.params)
    except ValueError as error:
        raise RuntimeError(f"could not convert {request.params}") from error


def nan(request: Request) -> float:
    return float("nan")


def sleep(request: Request) -> JSON:
    time.sleep(request.params)
    return time.monotonic()


def meet(request: Request) -> int:
    """Return once as many calls as there are threads are here."""
    return barrier.wait()


def spin(request: Request) -> JSON:
    """Hold the GIL in C, so that not even the reading thread runs; SIGTERM would not help either."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    return sum(range(10**12))


def interruptible(request: Request) -> JSON:
    """Work until cancelled, as an engine does that is interrupted; `params` is a file to leave a mark in."""
    with open(request.params, "a") as mark:
        stopped: list[bool] = []
        request.on_cancel(lambda: stopped.append(True))
        mark.write("begun\n")
        mark.flush()
        while not stopped:
            time.sleep(0.005)
        mark.write("stopped\n")
    raise RuntimeError("INTERRUPT: a secret")


def stubborn(request: Request) -> None:
    """Fail to be interrupted, and end all the same; `params` is a secret and a file to leave a mark in."""
    secret, mark = request.params

    def interrupt() -> None:
        raise ValueError(secret)

    request.on_cancel(interrupt)
    with open(mark, "w"):
        pass
    while not request.cancelled:
        time.sleep(0.005)


def late(request: Request) -> str:
    """Answer as soon as the deadline has passed."""
    while not request.cancelled:
        time.sleep(0.005)
    return "late"


def hardening(request: Request) -> JSON:
    return {
        "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "core": list(resource.getrlimit(resource.RLIMIT_CORE)),
        "leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "environment": dict(os.environ),
        "isolated": sys.flags.isolated,
        "inheritable": os.get_inheritable(int(sys.argv[-1])),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    }


def grandchild(request: Request) -> int:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return process.pid


def raw(request: Request) -> JSON:
    """Send bytes that are no frame, past the worker's own code."""
    rogue = socket.socket(fileno=os.dup(int(sys.argv[-1])))
    rogue.sendall(bytes.fromhex(request.params))
    time.sleep(600)
    return None


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        first,
        echo,
        value,
        told,
        refuse,
        fail,
        nan,
        sleep,
        meet,
        spin,
        interruptible,
        stubborn,
        late,
        hardening,
        grandchild,
        raw,
    )
}

if __name__ == "__main__":
    serve(int(sys.argv[-1]), HANDLERS, threads=THREADS)
