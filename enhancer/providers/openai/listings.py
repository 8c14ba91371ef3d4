"""What a server says about its models: whether it has them, and until when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import openai

from enhancer.errors import OutcomeUnknown, ProviderBadAnswer, ProviderUnavailable
from enhancer.providers.answers import Answer, read
from enhancer.providers.openai.failures import translated

LIMIT = 15.0  # seconds
NO_ROUTE = {404, 405, 501}


@dataclass(frozen=True, slots=True)
class Listing:
    """`listed`: None when the server does not tell. `shutdown`: the day from which the model is gone, if announced."""

    model: str
    listed: bool | None
    shutdown: date | None = None


async def listings(client: openai.AsyncOpenAI, names: Iterable[str]) -> list[Listing]:
    """
    GET /models/{id} for each of `names`, once; free of charge.

    A server without that route gives `listed=None`. Raises errors.ProviderError: ProviderRefused when the key is not
    accepted, ProviderUnavailable when nobody answers.
    """
    try:
        return [await _listing(client, name) for name in dict.fromkeys(names)]
    except OutcomeUnknown:
        raise ProviderUnavailable("The provider did not answer.") from None


class _Model(Answer):
    id: str
    shutdown_date: str | int | None = None


async def _listing(client: openai.AsyncOpenAI, name: str) -> Listing:
    async with translated(name, limit=LIMIT, private=(client.api_key,)):
        try:
            answer = await client.models.with_raw_response.retrieve(name)
        except openai.APIStatusError as error:
            if error.status_code not in NO_ROUTE:
                raise
            return Listing(name, False if error.code == "model_not_found" else None)
    with contextlib.suppress(ProviderBadAnswer):
        return Listing(name, True, _day(read(_Model, answer.content).shutdown_date))
    return Listing(name, None)


def _day(text: str | int | None) -> date | None:
    """The documented form is YYYY-MM-DD."""
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        return None
