"""The guard at the door: whose request it is, how often they may ask, and whether their tokens were revoked."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from enhancer.settings import Settings
from enhancer.web import addresses, auth
from enhancer.web.access import Auth
from enhancer.web.addresses import Proxies
from enhancer.web.errors import route_of
from enhancer.web.keys import ADDRESS, EPOCH, SERVICE
from enhancer.web.limits import RULES, Rules, spend
from enhancer.web.routes import ROUTES

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""What watches over the service must not be told to come back later."""

STATIC = ("/page", "/docs/assets")
"""A page is many small files."""

PROXIES = web.AppKey("proxies", Proxies)

_PROTECTED = {route.path: route.auth for route in ROUTES if route.auth is not Auth.NONE}
_UPLOADS = frozenset((route.method, route.path) for route in ROUTES if route.body and route.body.form)


def set_up(app: web.Application, settings: Settings) -> None:
    """Raises SetupError when TRUST_PROXY cannot be understood."""
    app[PROXIES] = Proxies.parse(settings.trust_proxy)
    app[RULES] = Rules.of(settings)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request for its user, or for its address when nobody signed it; read whether tokens were revoked."""
    address = request[ADDRESS] = addresses.client(request, request.app[PROXIES])
    route, rules = route_of(request), request.app[RULES]
    user_id = auth.bearer(request, _PROTECTED[route]) if route in _PROTECTED else None
    if user_id is not None:
        request[EPOCH] = await request.app[SERVICE].epochs.current(user_id)
        await spend(request, rules.user_requests, str(user_id))
        if (request.method, route) in _UPLOADS:
            await spend(request, rules.user_uploads, str(user_id))
            await spend(request, rules.address_uploads, address)
    elif route not in PROBES and route not in STATIC:
        await spend(request, rules.address_requests, address)
    return await handler(request)
