"""The keeper's process: `python -I -m enclave FD`, started by `cleanroom serve`.

The main thread reads calls; the event loop, which owns ledger, log, releases and the workers, has a thread of its
own that lives as long as the process.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from enclave import codec
from enclave.boot import Room, boot
from enclave.service import Request, serve

QUESTIONS_MAX: Final = 128
"""Questions at a time; more wait in the front."""
_T = TypeVar("_T")


class _Keeper:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._room: Room | None = None
        threading.Thread(target=self._loop.run_forever, name="keeper", daemon=True).start()

    def start(self, request: Request) -> Any:
        """Params: policy (canonical text), data, state (folders)."""
        params = request.params
        opening = boot(params["policy"].encode(), Path(params["data"]), Path(params["state"]))
        self._room = self._run(opening, request)
        return None

    def ask(self, request: Request) -> Any:
        """Params: question. Back: the answer."""
        assert self._room is not None
        question = codec.question_from_json(request.params)
        return codec.answer_to_frame(self._run(self._room.gate.answer(question), request))

    def close(self, request: Request) -> Any:
        """Stop the workers and close the state."""
        if self._room is not None:
            room, self._room = self._room, None
            self._run(room.close(), request)
        return None

    def _run(self, coroutine: Coroutine[Any, Any, _T], request: Request) -> _T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        request.on_cancel(future.cancel)
        return future.result()


if __name__ == "__main__":
    keeper = _Keeper()
    handlers = {"start": keeper.start, "ask": keeper.ask, "close": keeper.close}
    serve(int(sys.argv[1]), handlers, threads=QUESTIONS_MAX)
