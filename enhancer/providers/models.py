"""Model names at OpenAI's own address: which are gone, which are going, and what takes their place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """From `shutdown` on the model is gone; `successor` does its work then, or None when nothing does."""

    shutdown: date
    successor: str | None


_IMAGES = "gpt-image-2.5-flare"
_SCRIPTS = "gpt-6-luna"
_OCTOBER = date(2026, 10, 23)
_JANUARY = date(2027, 1, 14)

# https://developers.openai.com/api/docs/deprecations, read in November 2026. Only what may stand in somebody's
# settings: models that edit images, and chat models that see. The successors are the settings' defaults.
ENDINGS: Mapping[str, Ending] = {
    "dall-e-2": Ending(date(2026, 5, 12), _IMAGES),
    "dall-e-3": Ending(date(2026, 5, 12), _IMAGES),
    "gpt-image-1": Ending(_OCTOBER, _IMAGES),
    "gpt-image-1-mini": Ending(date(2026, 12, 1), _IMAGES),
    "gpt-image-1.5": Ending(date(2026, 12, 1), _IMAGES),
    "gpt-image-1.5-2025-12-16": Ending(date(2026, 12, 1), _IMAGES),
    "chatgpt-image-latest": Ending(date(2026, 12, 1), _IMAGES),
    "gpt-4-turbo": Ending(_OCTOBER, _SCRIPTS),
    "gpt-4-turbo-2024-04-09": Ending(_OCTOBER, _SCRIPTS),
    "gpt-4o-2024-05-13": Ending(_OCTOBER, _SCRIPTS),
    "gpt-4.1-nano": Ending(_OCTOBER, _SCRIPTS),
    "gpt-4.1-nano-2025-04-14": Ending(_OCTOBER, _SCRIPTS),
    "o1": Ending(_OCTOBER, _SCRIPTS),
    "o4-mini": Ending(_OCTOBER, _SCRIPTS),
    "gpt-4o": Ending(_JANUARY, _SCRIPTS),
    "gpt-4o-2024-08-06": Ending(_JANUARY, _SCRIPTS),
    "gpt-4o-2024-11-20": Ending(_JANUARY, _SCRIPTS),
    "gpt-4o-mini": Ending(_JANUARY, _SCRIPTS),
    "gpt-4o-mini-2024-07-18": Ending(_JANUARY, _SCRIPTS),
    "gpt-4.1": Ending(_JANUARY, _SCRIPTS),
    "gpt-4.1-2025-04-14": Ending(_JANUARY, _SCRIPTS),
    "gpt-4.1-mini": Ending(_JANUARY, _SCRIPTS),
    "gpt-4.1-mini-2025-04-14": Ending(_JANUARY, _SCRIPTS),
    "gpt-5": Ending(date(2026, 12, 11), _SCRIPTS),
    "gpt-5-2025-08-07": Ending(date(2026, 12, 11), _SCRIPTS),
    "gpt-5-mini": Ending(date(2026, 12, 11), _SCRIPTS),
    "gpt-5-mini-2025-08-07": Ending(date(2026, 12, 11), _SCRIPTS),
    "gpt-5-nano": Ending(date(2026, 12, 11), _SCRIPTS),
    "gpt-5-nano-2025-08-07": Ending(date(2026, 12, 11), _SCRIPTS),
    "sora-2": Ending(date(2026, 9, 24), None),
    "sora-2-pro": Ending(date(2026, 9, 24), None),
}


def own_address(base_url: str | None) -> bool:
    """Whether OPENAI_BASE_URL leads to OpenAI itself, one of its regional hosts included; None does."""
    host = urlsplit(base_url or "https://api.openai.com").hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def resolve(name: str, *, own_address: bool, today: date | None = None) -> str:
    """
    The name to send: the successor of a model that is gone, else the model itself.

    At OpenAI's own address a name counts however a person writes it ("GPT-4o"); a replaced one is logged as
    `model.retired`, one whose last day is known as `model.ending`. Another server's names come back untouched.
    """
    if not own_address:
        return name
    model = _spelled(name)
    ending = ENDINGS.get(model)
    if ending is None:
        return model
    gone = (today or datetime.now(UTC).date()) >= ending.shutdown
    fields = {"model": model, "shutdown": ending.shutdown.isoformat(), "successor": ending.successor}
    log.warning("model.retired" if gone else "model.ending", extra=fields)
    return ending.successor if gone and ending.successor else model


def _spelled(name: str) -> str:
    """As OpenAI spells it; what belongs to an account ("ft:gpt-4o:acme::Ab1") is left as it is."""
    name = name.strip()
    return name if ":" in name else "-".join(name.lower().split())
