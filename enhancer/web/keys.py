"""Where handlers find what is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from enhancer.rates import Spent
from enhancer.service import Service
from enhancer.web.audience import Audience
from enhancer.web.hub import Hub

DOCUMENT: web.AppKey[Callable[[], str]] = web.AppKey("document")
"""Makes the OpenAPI document, as JSON, when it is first asked for: that takes longer than the rest of the app."""
SERVICE = web.AppKey("service", Service)
AUDIENCE = web.AppKey("audience", Audience)
HUB = web.AppKey("hub", Hub)
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the process is about to stop."""

ADDRESS = web.RequestKey("address", str)
"""Of the client, behind the proxies that we trust."""
EPOCH = web.RequestKey("epoch", int)
"""Of the user whose token came along."""
SPENT = web.RequestKey("spent", Spent)
"""The tightest limit that the request was counted against."""
