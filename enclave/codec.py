"""codec: questions, answers and prices <-> JSON and Arrow IPC, for the sockets between the room's processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from enclave.answer import Answer, Notice, Parameter, Question, ResultColumn
from rewriter.cost import Price

JSON: TypeAlias = Any


def question_to_json(question: Question) -> JSON:
    """A question as JSON."""
    return dataclasses.asdict(question)


def question_from_json(value: JSON) -> Question:
    """Read what `question_to_json` wrote."""
    fields = dict(value)
    fields["parameters"] = tuple(Parameter(p["type_oid"], p["value"]) for p in fields["parameters"])
    fields["parameter_types"] = tuple(fields["parameter_types"])
    return Question(**fields)


def answer_to_frame(answer: Answer) -> tuple[JSON, list[bytes]]:
    """An answer as JSON and one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.table.schema) as writer:
        writer.write_table(answer.table)
    header = {
        "columns": [[column.name, column.type_oid, column.typmod] for column in answer.columns],
        "tag": answer.tag,
        "notices": [[notice.message, notice.severity, notice.sqlstate] for notice in answer.notices],
        "parameter_types": list(answer.parameter_types),
    }
    return header, [sink.getvalue().to_pybytes()]


def answer_from_frame(header: JSON, buffers: Sequence[bytes | memoryview]) -> Answer:
    """Read what `answer_to_frame` wrote; the child that wrote it may be anyone's.

    Raises:
        ValueError: it is not an answer. Nothing of it is in the message.
    """
    table = _table(buffers)
    try:
        answer = Answer(
            columns=tuple(ResultColumn(_text(n), _whole(oid), _whole(mod)) for n, oid, mod in header["columns"]),
            table=table,
            tag=_text(header["tag"]),
            notices=tuple(Notice(_text(m), _SEVERITIES[severity], _text(s)) for m, severity, s in header["notices"]),
            parameter_types=tuple(_whole(oid) for oid in header["parameter_types"]),
        )
    except (TypeError, KeyError, ValueError):
        raise ValueError("not an answer") from None
    if len(answer.columns) != table.num_columns:
        raise ValueError("not an answer")
    return answer


def _table(buffers: Sequence[bytes | memoryview]) -> pa.Table:
    """The table of an Arrow IPC stream, checked to its last offset.

    Reading checks little: an offset beyond its buffer would have us read, and send to an analyst, what else is in
    this process' memory.
    """
    if len(buffers) != 1:
        raise ValueError("not an answer")
    try:
        with pa.ipc.open_stream(pa.py_buffer(buffers[0])) as reader:
            if not all(_is_flat(field.type) for field in reader.schema):
                raise ValueError("not an answer")
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError):
        raise ValueError("not an answer") from None
    return table


def _is_flat(type_: pa.DataType) -> bool:
    """One of the types that `Answer` names: nothing nested, encoded or of an extension."""
    return type_ in _FLAT or pa.types.is_decimal128(type_)


def _text(value: JSON) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: JSON) -> int:
    if type(value) is not int or not -(2**31) <= value < 2**32:
        raise TypeError
    return value


_SEVERITIES: Final[dict[str, Literal["NOTICE", "WARNING"]]] = {"NOTICE": "NOTICE", "WARNING": "WARNING"}
_FLAT: Final = frozenset(
    (
        pa.bool_(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.float32(),
        pa.float64(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
        pa.string(),
    )
)


def price_to_json(price: Price) -> JSON:
    """A price, exactly."""
    return {"accountant": price.accountant, "amount": str(price.amount), "delta_keys": str(price.delta_keys)}


def price_from_json(value: JSON) -> Price:
    """Read what `price_to_json` wrote."""
    return Price(value["accountant"], Fraction(value["amount"]), Fraction(value["delta_keys"]))
