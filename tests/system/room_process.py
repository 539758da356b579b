"""room_process: `cleanroom serve` with shorter deadlines or workers that misbehave. For tests; started by path.

    python -I room_process.py front ORDERS serve ...
    python -I room_process.py keeper|public|clear ORDERS FD        what the one above starts

No setting of the product does any of this: each process here changes the modules it has imported, then runs as the
real one. ORDERS is JSON, every part optional:

    deadlines   {name of a constant of enclave.boot: seconds}
    grace_s     how long a worker may take to give up a cancelled call
    stop_s      how long a stopping server waits for what runs
    hold        a folder: while `hold-public` or `hold-clear` lies in it, such a worker does not begin on `finish` or
                `release`, but waits, deaf to cancellation, and writes its process id into `at-public` or `at-clear`
    limits      {name of a constant of rewriter.parse: number}
    double      the clear engine clips each unit to 2 C, and adds the noise for C
"""
# ruff: noqa: PLC0415 - each kind of process imports what it runs, and nothing else

from __future__ import annotations

import functools
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

POLL_S = 0.01


def front(orders: dict[str, Any], arguments: list[str]) -> None:
    """The command, whose keeper is one of ours."""
    from enclave.worker import Worker
    from pgproxy.cli import main, serve

    changed: Any = serve
    changed.Worker = functools.partial(Worker, command=command_of("keeper", orders))
    changed.GRACE_S = orders.get("stop_s", serve.GRACE_S)
    main(arguments, prog_name="cleanroom")


def keeper(orders: dict[str, Any], arguments: list[str]) -> None:
    """The keeper, whose workers are ours."""
    from enclave import boot
    from enclave.worker import Worker

    def worker(module: str, **others: Any) -> Worker:
        return Worker(module, command=command_of(module.removeprefix("enclave."), orders), **others)

    grace = {"grace_s": orders["grace_s"]} if "grace_s" in orders else {}
    changed: Any = boot
    changed.Worker = functools.partial(worker, **grace)
    for name, seconds in orders.get("deadlines", {}).items():
        assert isinstance(getattr(boot, name), float), name
        setattr(changed, name, seconds)
    run("enclave", arguments)


def public(orders: dict[str, Any], arguments: list[str]) -> None:
    """The public worker."""
    from enclave.public.desk import Desk
    from rewriter import parse

    changed: Any = parse
    for name, number in orders.get("limits", {}).items():
        assert isinstance(getattr(parse, name), int), name
        setattr(changed, name, number)
    if "hold" in orders:
        Desk.finish = held(Desk.finish, Path(orders["hold"]), "public")  # type: ignore[method-assign]
    run("enclave.public", arguments)


def clear(orders: dict[str, Any], arguments: list[str]) -> None:
    """The clear engine."""
    from enclave.clear.duckdb_engine import Engine
    from enclave.clear.partials import Partials

    if "hold" in orders:
        Engine.release = held(Engine.release, Path(orders["hold"]), "clear")  # type: ignore[method-assign]
    if orders.get("double"):
        Partials.totals = doubled(Partials.totals)  # type: ignore[method-assign]
    run("enclave.clear", arguments)


def command_of(role: str, orders: dict[str, Any]) -> tuple[str, ...]:
    """What to start for a worker."""
    return (sys.executable, "-I", __file__, role, json.dumps(orders))


def run(module: str, arguments: list[str]) -> None:
    """Be the real process from here on."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def held(method: Callable[..., Any], folder: Path, role: str) -> Callable[..., Any]:
    """A method that begins once nothing holds it."""

    def waiting(*arguments: Any, **others: Any) -> Any:
        while (folder / f"hold-{role}").exists():
            told = folder / f"{os.getpid()}.new"
            told.write_text(str(os.getpid()))
            told.replace(folder / f"at-{role}")  # whoever finds the file finds it whole
            time.sleep(POLL_S)
        return method(*arguments, **others)

    return waiting


def doubled(totals: Callable[..., list[list[int]]]) -> Callable[..., list[list[int]]]:
    """Totals of what is clipped to 2 C, in the grid steps of C that the noise is made for."""

    def twice(partials: Any, bounds: Sequence[Fraction], noise: str) -> list[list[int]]:
        found = totals(partials, [2 * bound for bound in bounds], noise)
        return [[2 * total for total in column] for column in found]

    return twice


if __name__ == "__main__":
    role, text, *rest = sys.argv[1:]
    {"front": front, "keeper": keeper, "public": public, "clear": clear}[role](json.loads(text), rest)
