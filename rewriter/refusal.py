"""refusal: the two ways a question can fail.

    Exception
    ├── Refusal         the asker can do something: it has an SQLSTATE, a sentence and a hint
    └── InternalError   ours: it has an id and says nothing else

A Refusal is decided from the text and the policy alone, so that its words are the same whatever the data.
"""

from __future__ import annotations


class Refusal(Exception):
    """What was not possible, in Postgres' words where Postgres has some, and what would be.

    Attributes:
        sqlstate: five characters of Postgres' appendix A, "PostgreSQL Error Codes".
        message: one sentence without a full stop, lower-case first letter.
        hint: what to write instead, or None.
        position: 1-based character offset in the statement, or None (field `P` of ErrorResponse).
        detail: a second sentence, or None.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        hint: str | None = None,
        position: int | None = None,
        detail: str | None = None,
    ) -> None:
        """Keep the parts apart: the wire sends each as a field of its own."""
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.position = position
        self.detail = detail


class InternalError(Exception):
    """A fault of ours. The client sees SQLSTATE XX000 and the id; what happened goes to the operator's stderr."""

    def __init__(self, error_id: str) -> None:
        """Carry the id alone: engine texts echo values."""
        super().__init__(f"internal error {error_id}")
        self.error_id = error_id


def not_private(construct: str, why: str, hint: str, position: int | None = None) -> Refusal:
    """Refuse a construct by name because no bound on one unit's effect is known for it (0A000)."""
    return Refusal("0A000", f"{construct} cannot be answered privately: {why}", hint=hint, position=position)
