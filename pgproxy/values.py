"""values: a result set -> RowDescription and DataRow bytes, column by column.

Each column becomes one Arrow column of bytes in its text or binary form; one Arrow kernel then joins lengths and
values of all columns row by row. Nothing is done in Python for each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enclave.answer import ResultColumn
from pgproxy import sqlstate
from pgproxy.binaryform import binary_column
from pgproxy.messages import FieldDescription, RowDescription
from pgproxy.oids import type_bytes
from pgproxy.parameters import spread
from pgproxy.textform import Column, text_column
from rewriter.refusal import Refusal

BATCH_ROWS: Final = 4_000
"""Rows made into bytes at once: some 10 ms for ten columns, the longest that other sessions wait."""
BATCH_CELLS: Final = 200_000
"""Fewer rows of many columns: 20,000 columns in batches of 4,000 rows made others wait for 5 s."""


def describe(columns: tuple[ResultColumn, ...], formats: tuple[int, ...]) -> RowDescription:
    """The RowDescription of a result; `formats` has one code for each column."""
    return RowDescription(
        tuple(
            FieldDescription(column.name, column.type_oid, type_bytes(column.type_oid), column.typmod, code)
            for column, code in zip(columns, formats, strict=True)
        )
    )


def result_formats(formats: tuple[int, ...], columns: int) -> tuple[int, ...]:
    """One format code for each column from those of a Bind.

    Raises:
        Refusal: 08P01 or 22023, the codes do not fit.
    """
    if len(formats) > 1 and len(formats) != columns:
        words = f"bind message has {len(formats)} result formats but query has {columns} columns"
        raise Refusal(sqlstate.PROTOCOL_VIOLATION, words)
    return spread(formats, columns)


def data_rows(table: pa.Table, columns: tuple[ResultColumn, ...], formats: tuple[int, ...]) -> Iterator[bytes]:
    """DataRow messages for all rows of a table, some thousand rows at a time.

    Raises:
        Refusal: 0A000, a column has no binary form.
        ValueError: the table does not have the columns it claims.
    """
    if table.num_columns != len(columns):
        raise ValueError("a result has one Arrow column for each result column")
    rows = max(1, min(BATCH_ROWS, BATCH_CELLS // max(1, len(columns))))
    for start in range(0, table.num_rows, rows):
        part = table.slice(start, rows)
        forms = [
            _form(_whole(part.column(index)), column.type_oid, code)
            for index, (column, code) in enumerate(zip(columns, formats, strict=True))
        ]
        yield _framed(forms, part.num_rows)


def _whole(column: pa.ChunkedArray[pa.Scalar[pa.DataType]]) -> Column:
    combined = column.combine_chunks()
    # Without chunks, or too large for one, Arrow gives a chunked array back.
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], combined.type)
    return combined


def _form(column: Column, oid: int, code: int) -> Column:
    return binary_column(column, oid) if code else text_column(column, oid).cast(pa.binary())


def _framed(forms: list[Column], rows: int) -> bytes:
    """DataRow: 'D', Int32 length, Int16 columns, then for each column Int32 length (-1: NULL) and bytes."""
    total = np.full(rows, 4 + 2 + 4 * len(forms), np.int64)
    parts: list[Column] = []
    for form in forms:
        lengths = pc.binary_length(form).fill_null(-1).to_numpy(zero_copy_only=False)  # type: ignore[call-overload]
        total += np.maximum(lengths, 0)
        parts += [_fixed(lengths.astype(">i4")), form.fill_null(b"") if form.null_count else form]
    head = np.empty(rows, np.dtype([("type", "S1"), ("length", ">i4"), ("columns", ">u2")]))
    head["type"], head["length"], head["columns"] = b"D", total, len(forms)
    joined = pc.binary_join_element_wise(_fixed(head), *parts, pa.scalar(b""))  # type: ignore[call-overload]
    data: pa.Buffer = joined.buffers()[2]
    return data.to_pybytes()[: int(total.sum()) + rows]


def _fixed(numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Column:
    offsets = (np.arange(len(numbers) + 1) * numbers.itemsize).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(pa.binary(), len(numbers), buffers)
