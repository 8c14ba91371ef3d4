"""
What servers answer, read from the bytes themselves.

The client passes a page of HTML or a wrong shape on without a word, so its own reading is not used.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from enhancer.errors import ProviderBadAnswer


class Answer(BaseModel):
    """Foreign data: what is not expected is passed over, and no error repeats what was in it."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Usage(Answer):
    """Tokens as billed; 0 when the server does not count, as some do not."""

    total_tokens: Annotated[int, BeforeValidator(lambda n: n if type(n) is int and n > 0 else 0)] = 0


AnyUsage = Annotated[Usage, BeforeValidator(lambda given: given if isinstance(given, dict | Usage) else {})]

AnswerT = TypeVar("AnswerT", bound=Answer)


def read(kind: type[AnswerT], body: bytes | str) -> AnswerT:
    """JSON as a `kind`. Raises ProviderBadAnswer."""
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise ProviderBadAnswer("The provider's answer does not have the expected form.") from None
