"""The four calls."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp

from enhancer.errors import ProviderBadAnswer, ProviderError
from enhancer.providers import Rendering, VideoBrief, connecting, models
from enhancer.providers.answers import read
from enhancer.providers.remote.failures import SETTING
from enhancer.providers.remote.reports import Receipt, Report, rendering
from enhancer.providers.remote.server import Server, reached
from enhancer.settings import Settings

LOOK_TIMEOUT = 15.0  # seconds
WITHDRAW_TIMEOUT = 8.0  # seconds
MAX_VIDEO = 500_000_000  # bytes; twelve seconds are some 10 MB
PIECE = 262_144  # bytes
MP4 = b"????ftyp"  # how the file begins: a length, then its kind (ISO/IEC 14496-12, 4.3)
UNNAMED = "video-server"  # recorded when no model is asked for

log = logging.getLogger(__name__)


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[RemoteVideos]:
    """The videos of the server at VIDEO_BASE_URL. Nothing is sent yet. Raises SetupError."""
    address = connecting.address(settings.video_base_url or "", SETTING)
    model = (settings.video_model or "").strip()
    if model:
        model = models.resolve(model, own_address=models.own_address(address))
    async with reached(address, settings, model or UNNAMED) as server:
        yield RemoteVideos(server, model, settings)


class RemoteVideos:
    """
    Videos of a server, one POST an order.

    `model` is the name that is sent, or UNNAMED when the server is to take its own. `longest_call` has a margin of
    30 s.
    """

    billed = True

    def __init__(self, server: Server, model: str, settings: Settings) -> None:
        self._server = server
        self._asked = model
        self._settings = settings
        self.model = model or UNNAMED
        self.longest_call = connecting.longest_call(settings)

    async def order(self, brief: VideoBrief) -> str:
        """POST /videos; the order's id. Raises errors.ProviderError."""
        form = aiohttp.FormData({"prompt": brief.prompt, "seconds": str(brief.duration)})
        form.add_field("size", f"{brief.size[0]}x{brief.size[1]}")
        if self._asked:
            form.add_field("model", self._asked)
        form.add_field("input_reference", brief.frame, filename="frame.jpg", content_type="image/jpeg")
        limit = self._settings.call_timeout
        answer = await self._server.call("POST", "videos", form=form, limit=limit, private=(brief.prompt,))
        return read(Receipt, answer.body).id

    async def look(self, order: str) -> Rendering:
        """GET /videos/{order}. Raises OrderFailed, OrderLost, or another errors.ProviderError for now."""
        answer = await self._server.call("GET", "videos", order, limit=LOOK_TIMEOUT)
        return rendering(read(Report, answer.body), answer.headers, private=self._server.private)

    async def fetch(self, order: str) -> AsyncGenerator[bytes, None]:
        """
        GET /videos/{order}/content, piece by piece.

        The file is whole when the pieces end. What it is, is told by its first bytes: a server's word for it is not
        taken. Raises as `look` does.
        """
        head = b""
        async with aclosing(self._server.download("videos", order, "content", piece=PIECE, most=MAX_VIDEO)) as pieces:
            async for data in pieces:
                if len(head) < len(MP4):
                    data = head = head + data  # the first packet may be a short one
                    if len(head) < len(MP4):
                        continue
                    _check(head)
                yield data
        if len(head) < len(MP4):
            raise ProviderBadAnswer("The provider sent no video.")

    async def withdraw(self, order: str) -> None:
        """DELETE /videos/{order}, for WITHDRAW_TIMEOUT at most; some servers go on with the work all the same."""
        try:
            await self._server.call("DELETE", "videos", order, limit=WITHDRAW_TIMEOUT)
        except ProviderError as error:
            log.warning("order.not_withdrawn", extra={"model": self.model, "error": type(error).__name__})


def _check(head: bytes) -> None:
    if head[4:8] != MP4[4:]:
        raise ProviderBadAnswer("The provider sent something that is not an MP4 video.")
