"""Settings without limits of rate: tests and benchmarks ask more, and more often, than people do."""

from __future__ import annotations

import re

from enhancer.settings import Settings

_LIMIT = re.compile("(user|address|account)_(request|login|upload|stream)_limit")

ENDLESS = {name: 0 for name in Settings.model_fields if _LIMIT.fullmatch(name)}
