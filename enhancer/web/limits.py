"""How often somebody may ask: the rules in force, and counting against them."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from enhancer.rates import Rule
from enhancer.settings import Settings
from enhancer.web.keys import SERVICE, SPENT


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits in force."""

    user_requests: Rule
    address_requests: Rule
    user_uploads: Rule
    address_uploads: Rule
    account_logins: Rule
    address_logins: Rule

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """As they are set."""
        return cls(
            user_requests=Rule("user-requests", settings.user_request_limit),
            address_requests=Rule("address-requests", settings.address_request_limit),
            user_uploads=Rule("user-uploads", settings.user_upload_limit),
            address_uploads=Rule("address-uploads", settings.address_upload_limit),
            account_logins=Rule("account-logins", settings.account_login_limit),
            address_logins=Rule("address-logins", settings.address_login_limit),
        )


RULES = web.AppKey("rules", Rules)


async def spend(request: web.Request, rule: Rule, who: str) -> None:
    """Count the request against a rule; the answer tells of the tightest. Raises TooManyRequests."""
    spent = await request.app[SERVICE].rates.spend(rule, who)
    if spent is None:
        return
    if SPENT not in request or spent.left < request[SPENT].left:
        request[SPENT] = spent
    spent.check()
