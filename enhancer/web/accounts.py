"""Sign-in."""

from __future__ import annotations

import hashlib

from aiohttp import web
from pydantic import ValidationError

from enhancer import accounts
from enhancer.errors import InvalidRequest
from enhancer.web.enhancements import answer
from enhancer.web.keys import ADDRESS, SERVICE
from enhancer.web.limits import RULES, spend
from enhancer.web.models import LoginRequest, LoginResponse


async def login(request: web.Request) -> web.Response:
    """POST /api/v1/auth/login, JSON with `email` and `password` -> 200 and an account token."""
    service = request.app[SERVICE]
    try:
        wanted = LoginRequest.model_validate(await request.json())
    except ValidationError as error:
        raise InvalidRequest(*((".".join(map(str, e["loc"])) or "body", e["msg"]) for e in error.errors())) from None
    except (ValueError, LookupError, RecursionError):  # LookupError: a charset that nobody knows
        raise InvalidRequest(("body", "This is not JSON.")) from None
    if not wanted.email.isprintable():  # PostgreSQL has no text with NUL
        raise InvalidRequest(("email", "This is not an e-mail address."))
    rules = request.app[RULES]
    await spend(request, rules.address_logins, request[ADDRESS])
    await spend(request, rules.account_logins, hashlib.sha256(wanted.email.lower().encode()).hexdigest())
    user = await accounts.sign_in(service.pool, wanted.email, wanted.password)
    await service.epochs.current(user.id)
    token = service.tokens.account(user.id)
    return answer(LoginResponse(access_token=token, expires_in=service.settings.token_lifetime))
