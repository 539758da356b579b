"""codec: questions, answers and prices <-> JSON and Arrow IPC, for the sockets between the room's processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

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
    """Read what `answer_to_frame` wrote."""
    with pa.ipc.open_stream(pa.py_buffer(buffers[0])) as reader:
        table = reader.read_all()
    return Answer(
        columns=tuple(ResultColumn(name, oid, typmod) for name, oid, typmod in header["columns"]),
        table=table,
        tag=header["tag"],
        notices=tuple(Notice(message, severity, sqlstate) for message, severity, sqlstate in header["notices"]),
        parameter_types=tuple(header["parameter_types"]),
    )


def price_to_json(price: Price) -> JSON:
    """A price, exactly."""
    return {"accountant": price.accountant, "amount": str(price.amount), "delta_keys": str(price.delta_keys)}


def price_from_json(value: JSON) -> Price:
    """Read what `price_to_json` wrote."""
    return Price(value["accountant"], Fraction(value["amount"]), Fraction(value["delta_keys"]))
