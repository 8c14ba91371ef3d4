"""What every connection to a provider needs: an address and a key that can be used, and limits of time."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import SecretStr

from enhancer.errors import SetupError
from enhancer.settings import Settings

CONNECT_TIMEOUT = 5.0  # seconds
MARGIN = 30.0  # seconds


def patience(settings: Settings) -> float:
    """Seconds that a connection may take to come about."""
    return min(CONNECT_TIMEOUT, settings.call_timeout / 2)


def longest_call(settings: Settings) -> float:
    """Seconds after which no call can still be running: CALL_TIMEOUT ends it, MARGIN is for a process that lags."""
    return settings.call_timeout + MARGIN


def key(secret: SecretStr | None, setting: str) -> str:
    """The key without space around it, "" when there is none. Raises SetupError when no key can look like that."""
    value = secret.get_secret_value().strip() if secret else ""
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise SetupError(f"{setting} has characters that no key has; was more copied than the key?")
    return value


def address(given: str, setting: str) -> str:
    """An address of HTTP without space around it. Raises SetupError."""
    given = given.strip()
    try:
        parts = urlsplit(given)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise SetupError(f"{setting} is not an address such as https://api.openai.com/v1.")
    return given
