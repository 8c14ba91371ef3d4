"""Where handlers find what is open."""

from __future__ import annotations

import asyncio

from aiohttp import web

from enhancer.service import Service
from enhancer.web.hub import Hub

DOCUMENT = web.AppKey("document", str)
"""The OpenAPI document, as JSON."""
SERVICE = web.AppKey("service", Service)
HUB = web.AppKey("hub", Hub)
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set when the process is about to stop."""
