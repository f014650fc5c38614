"""What the parts of a rule have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

OUR_FAULT = "rules"
"""Type of the validation errors whose text is ours already."""


class Frozen(BaseModel):
    """A part of a rule: checked when made, never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def fault(message: str, *at: str | int) -> PydanticCustomError:
    """Give the error for a validator to raise.

    Args:
        message: what is wrong and what to write instead.
        at: keys that lead from the value being checked to the one that is wrong.
    """
    return PydanticCustomError(OUR_FAULT, "{text}", {"text": message, "at": at})
