"""Statements that make the public worker grow: it must fail, or forget, before the machine does."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import pytest

from enclave.public import __main__ as public
from enclave.public import kept
from enclave.service import Request
from rewriter.parse import BYTES_MAX

GROW = """
import duckdb
from enclave.public.__main__ import limit_memory
limit_memory({limit})
try:
    print(len(bytearray({size})))
except MemoryError:
    print("refused")
text = "replace(" * 8 + "i::text || 'aaaaaaaaaa'" + ",'a','aaaaaaaaaa')" * 8
try:
    duckdb.connect().sql(f"SELECT length({{text}}) FROM range(4) t(i)").fetchall()
    print("answered")
except (duckdb.OutOfMemoryException, MemoryError):
    print("refused")
"""


def test_a_process_that_wants_more_than_its_share_is_refused_memory() -> None:
    source = GROW.format(limit=512 << 20, size=1 << 30)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[:1] == ["refused"]
    assert done.returncode != 0 or done.stdout.splitlines()[1:] == ["refused"]  # or the engine gave up altogether


def test_what_is_kept_of_long_statements_is_a_few_of_them() -> None:
    cache = kept.Kept(lambda text: text)
    for number in range(100):
        cache(f"{number}".ljust(BYTES_MAX))
    assert len(cache._results) * BYTES_MAX <= kept.CHARS_MAX


@pytest.mark.parametrize("error", [duckdb.FatalException, duckdb.InternalException])
def test_a_broken_engine_ends_its_process(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB refuses everything after such an error, so one analyst's query would stop all others for good."""

    class Ended(Exception):
        pass

    def end(status: int) -> None:
        assert status != 0
        raise Ended

    def broken(_request: Request) -> None:
        raise error("a value")

    monkeypatch.setattr(public.os, "_exit", end)
    with pytest.raises(Ended):
        public._ending(broken)(Request("prepare"))
