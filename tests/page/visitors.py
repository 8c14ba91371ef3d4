"""Somebody at a browser: what they do on the page, and what a tester sees over their shoulder."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from tests.conftest import photo
from tests.page.conftest import HERE
from tests.page.shops import Shop, strings

PATIENCE = 60_000  # milliseconds for anything to appear; machines may be busy
RENDERING = 5 * PATIENCE  # a second of film is many seconds of work
AXE = HERE / "node_modules/axe-core/axe.min.js"
SHOTS = os.environ.get("SCREENSHOTS")  # a folder: the main states are drawn into it

expect.set_options(timeout=PATIENCE)

DROP = """async ([base64, name, type, size]) => {
  const bytes = size ? new Uint8Array(size) : Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  for (const event of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(event, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""

PASTE = """(base64) => {
  const clipboardData = new DataTransfer();
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  clipboardData.items.add(new File([bytes], "image.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""

RECORD = """() => {
  Object.assign(window, { said: [], drafts: { images: [], words: [] } });
  const last = (list, seen) => seen && seen !== list.at(-1) && list.push(seen);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) for (const node of addedNodes) {
      const items = node.matches?.(".log li") ? [node] : [...(node.querySelectorAll?.(".log li") ?? [])];
      window.said.push(...items.map((item) => item.textContent.trim()));
    }
    last(drafts.images, document.querySelector(".canvas img:not(.waiting)")?.src);
    last(drafts.words, document.querySelector(".written")?.textContent);
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


class Visitor:
    """One tab of one person's browser."""

    def __init__(self, page: Page, shop: Shop, language: str) -> None:
        self.page = page
        self.shop = shop
        self.language = language
        self.text = strings(language)
        self.complaints: list[str] = []
        self.offline = False  # while the service is away, browsers complain of it
        page.set_default_timeout(PATIENCE)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._see)

    # -- what they do

    async def enter(self, token: str | None = None) -> None:
        """Open the page."""
        await self.page.goto(self.shop.url + (f"#token={token}" if token else ""))

    async def sign_in(self, email: str, password: str) -> None:
        """Fill the form and send it."""
        await self.page.get_by_label(self.text["email"]).fill(email)
        await self.page.get_by_label(self.text["password"]).fill(password)
        await self.page.get_by_role("dialog").get_by_role("button", name=self.text["signIn"]).click()

    async def drop(
        self, name: str = "coffee.png", mime: str = "image/png", data: bytes | None = None, size: int = 0
    ) -> None:
        """Drop a file anywhere on the page: one of the photos, these data, or so many bytes of nothing."""
        given = data if data is not None or size else photo(name)
        await self.page.evaluate(DROP, [base64.b64encode(given or b"").decode(), name, mime, size])

    async def paste(self, name: str = "coffee.png") -> None:
        """Paste one of the photos, as it comes from another program."""
        await self.page.evaluate(PASTE, base64.b64encode(photo(name)).decode())

    async def order(self, words: str = "A strong espresso in a red cup") -> None:
        """Drop a photo, describe it, and have it enhanced."""
        await self.drop()
        await expect(self.page.get_by_alt_text(self.text["photoAlt"])).to_be_visible()
        await self.page.get_by_label(self.text["description"]).fill(words)
        await self.press("enhance")

    async def press(self, name: str) -> None:
        """Press a button by the name of its text."""
        await self.button(name).click()

    # -- what they see

    def button(self, name: str) -> Locator:
        """A button by the name of its text."""
        return self.page.get_by_role("button", name=self.text[name], exact=True)

    def heading(self, name: str) -> Locator:
        """A heading by the name of its text."""
        return self.page.get_by_role("heading", name=self.text[name], exact=True)

    @property
    def dot(self) -> Locator:
        """Whether events come as they happen: green or amber."""
        return self.page.locator(".dot")

    @property
    def log(self) -> Locator:
        """The last messages."""
        return self.page.locator(".log li")

    @property
    def works(self) -> Locator:
        """The history."""
        return self.page.locator(".work")

    async def sees(self, name: str, *, patience: int = PATIENCE) -> None:
        """A heading has come, after so many milliseconds at most."""
        await expect(self.heading(name)).to_be_visible(timeout=patience)

    async def check(self, state: str, *, accessible: bool = True) -> None:
        """The state is fit for everybody: by axe-core's rules, and without scrolling to the side."""
        width = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert await self.page.evaluate(width), f"{state}: wider than the window"
        if SHOTS:
            await self.page.screenshot(path=Path(SHOTS) / f"{state}.png", full_page=True)
        if accessible:
            assert await self.violations() == [], state

    async def violations(self) -> list[Any]:
        """What axe-core finds wrong."""
        await self.page.evaluate(AXE.read_text())
        found = await self.page.evaluate("axe.run().then(({ violations }) => violations)")
        return [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found]

    def _hear(self, message: ConsoleMessage) -> None:
        network = message.text.startswith("Failed to load resource")
        if message.type in {"error", "warning"} and not (self.offline and network):
            self.complaints.append(f"{message.text} {message.location}")

    def _see(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"blob", "data"} and address.netloc != urlsplit(self.shop.url).netloc:
            self.complaints.append(f"asked elsewhere: {request.url}")


@asynccontextmanager
async def visitor(
    browser: Browser, shop: Shop, language: str = "en", *, width: int = 1280, dark: bool = False
) -> AsyncIterator[Visitor]:
    """A new person with a window of this width; in the end nothing may have gone wrong on their page."""
    context = await browser.new_context(
        locale={"en": "en-GB", "zh": "zh-CN"}[language],
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    try:
        guest = await tab(context, shop, language)
        yield guest
        assert guest.complaints == []
    finally:
        await context.close()


async def tab(context: BrowserContext, shop: Shop, language: str = "en") -> Visitor:
    """Another tab of the same browser."""
    return Visitor(await context.new_page(), shop, language)
