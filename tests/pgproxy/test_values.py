from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from wire import rows

from enclave.answer import ResultColumn
from pgproxy import values
from pgproxy.values import data_rows, describe, result_formats
from rewriter.refusal import Refusal

COLUMNS = (ResultColumn("n", 20), ResultColumn("t", 25))


def table(count: int) -> pa.Table:
    numbers = [None if n % 3 == 0 else n for n in range(count)]
    texts = [None if n % 5 == 0 else "ż" * (n % 4) for n in range(count)]
    return pa.table({"n": pa.array(numbers, pa.int64()), "t": pa.array(texts, pa.string())})


@pytest.mark.parametrize("formats", [(0, 0), (1, 0)])
def test_rows_come_out_as_they_went_in(formats: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "BATCH_ROWS", 7)
    given = table(50)
    pieces = list(data_rows(given, COLUMNS, formats))
    assert len(pieces) == 8
    for row, (number, text) in zip(
        rows(b"".join(pieces)), zip(*given.to_pydict().values(), strict=True), strict=True
    ):
        expected = None if number is None else str(number).encode()
        assert row[0] == (number.to_bytes(8, "big") if formats[0] and number is not None else expected)
        assert row[1] == (None if text is None else text.encode())


def test_a_data_row_has_the_bytes_of_the_documentation() -> None:
    one = pa.table({"n": pa.array([1], pa.int64()), "t": pa.array([None], pa.string())})
    (piece,) = data_rows(one, COLUMNS, (0, 0))
    assert piece == b"D\x00\x00\x00\x0f\x00\x02\x00\x00\x00\x011\xff\xff\xff\xff"


def test_tables_in_slices_and_chunks_come_out_whole() -> None:
    chunked = pa.concat_tables([table(10).slice(3, 4), table(20), table(0)]).slice(1)
    assert len(rows(b"".join(data_rows(chunked, COLUMNS, (0, 1))))) == 23
    assert list(data_rows(table(0), COLUMNS, (0, 0))) == []


def test_rows_without_columns_are_rows_all_the_same() -> None:
    assert list(data_rows(pa.table({}), (), ())) == []


def test_a_table_that_is_not_what_it_claims_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="one Arrow column"):
        list(data_rows(table(1), COLUMNS[:1], (0,)))


def test_row_description_has_sizes_and_modifiers() -> None:
    columns = (ResultColumn("a", 23), ResultColumn("b", 1700, 655366), ResultColumn("c", 19))
    fields = describe(columns, (0, 1, 0)).fields
    assert [(f.type_bytes, f.typmod, f.format_code) for f in fields] == [
        (4, -1, 0),
        (-1, 655366, 1),
        (64, -1, 0),
    ]


def test_result_formats_must_fit_the_columns() -> None:
    assert result_formats((1,), 3) == (1, 1, 1)
    with pytest.raises(Refusal) as raised:
        result_formats((1, 0), 3)
    assert raised.value.sqlstate == "08P01"


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 1])
def test_a_hundred_thousand_rows_of_ten_columns_cost_less_than_a_third_of_a_second(code: int) -> None:
    count = 100_000
    arrays = [
        pa.array(np.arange(count)),
        pa.array(np.arange(count) / 7),
        pa.array(np.arange(count) * 10**9).cast(pa.timestamp("us")),
        pa.array(np.arange(count)).cast(pa.string()),
        pa.array(np.arange(count)).cast(pa.decimal128(38, 2)),
    ] * 2
    columns = tuple(ResultColumn(f"c{n}", oid) for n, oid in enumerate([20, 701, 1114, 25, 1700] * 2))
    given = pa.table(arrays, names=[column.name for column in columns])
    started = time.process_time()
    for _ in data_rows(given, columns, (code,) * 10):
        pass
    assert time.process_time() - started < 0.3
