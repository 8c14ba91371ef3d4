"""The page in a real browser, against the service as a process of its own, to the finished video."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from enhancer import embedded
from tests.conftest import PHOTOS, copied
from tests.fakes.openai import FakeOpenAI, faults
from tests.fakes.videos import FakeVideos
from tests.faults.processes import Watchdog
from tests.faults.servers import Valkey
from tests.page.shops import PASSWORD, Shop
from tests.page.visitors import RECORD, RENDERING, Visitor, tab, visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)

LENGTH = """async (video) => {
  if (!video.readyState) await new Promise((resolve) => video.addEventListener("loadedmetadata", resolve));
  return video.duration;
}"""


@dataclass(frozen=True)
class Place:
    """A shop, the models that work for it (none: the offline studio), and its Valkey."""

    shop: Shop
    openai: FakeOpenAI
    valkey: Valkey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(node_modules: Path) -> AsyncIterator[Browser]:
    """Debian's chromium, without a window."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        await running.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(
    servers: embedded.Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """The service with its offline studio."""
    async with AsyncExitStack() as stack:
        place = await opened(stack, servers, template, tmp_path_factory.mktemp("studio"))
        await place.shop.start()
        yield place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(
    servers: embedded.Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """The service with models that can be held and broken."""
    async with AsyncExitStack() as stack:
        place = await opened(stack, servers, template, tmp_path_factory.mktemp("models"))
        videos = await stack.enter_async_context(FakeVideos())
        place.shop.settings |= {
            "OPENAI_API_KEY": place.openai.key,
            "OPENAI_BASE_URL": place.openai.url,
            "VIDEO_BASE_URL": videos.url,
            "VIDEO_API_KEY": videos.key,
        }
        await place.shop.start()
        yield place


async def opened(stack: AsyncExitStack, servers: embedded.Servers, template: str, folder: Path) -> Place:
    """A place whose shop is not started yet."""
    watchdog = stack.enter_context(Watchdog())
    valkey = await stack.enter_async_context(Valkey.open(folder / "valkey", watchdog))
    openai = await stack.enter_async_context(FakeOpenAI(fast=True))
    database = await stack.enter_async_context(copied(servers, template))
    settings = {"DATABASE_URL": database, "REDIS_URL": valkey.url, "DATA_DIR": str(folder / "data")}
    shop = await stack.enter_async_context(Shop.open(folder, watchdog, **settings))
    return Place(shop, openai, valkey)


async def arrived(guest: Visitor) -> None:
    """Signed in by the address, which forgets the token at once."""
    await guest.enter(await guest.shop.token(await guest.shop.user()))
    await expect(guest.button("signOut")).to_be_visible()
    assert "token" not in guest.page.url


# -- the whole way


@pytest.mark.parametrize(
    ("where", "language", "width", "dark"),
    [
        ("studio", "en", 1280, False),
        ("studio", "zh", 320, True),
        ("models", "zh", 1280, False),
        ("models", "en", 320, True),
    ],
)
async def test_from_a_photo_to_a_video(
    browser: Browser, studio: Place, models: Place, where: str, language: str, width: int, dark: bool
) -> None:
    place = studio if where == "studio" else models
    async with visitor(browser, place.shop, language, width=width, dark=dark) as guest:
        page, text = guest.page, guest.text
        name = f"{where}-{language}-{width}"
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await guest.enter()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await guest.check(f"{name}-0-sign-in")
        await guest.sign_in(await place.shop.user(), PASSWORD)
        await expect(page.get_by_text(text["historyEmpty"])).to_be_visible()
        await guest.check(f"{name}-1-empty")

        await guest.drop()
        await expect(page.locator("figcaption")).to_contain_text("coffee.png")
        await expect(page.locator("figcaption")).to_contain_text("600×400")
        words = "A strong espresso in a red cup" if language == "en" else "红色杯子里的一杯浓缩咖啡"
        await page.get_by_label(text["description"]).fill(words)
        await expect(page.locator(".count")).to_have_text(f"{len(words)} / 4000")
        await page.get_by_label(text["scriptLanguage"]).select_option(language)
        await guest.check(f"{name}-2-chosen")
        held = place.openai.hold("edits") if where == "models" else None
        await page.evaluate(RECORD)
        await guest.press("enhance")
        await guest.sees("enhancing")
        if held:
            await held.arrived()
            await expect(guest.dot).to_have_text(text["connected"])
            await expect(guest.log.last).to_contain_text("[30%]")
            await expect(page.get_by_role("progressbar")).to_have_attribute("value", "30")
            await expect(page.get_by_role("status").first).to_contain_text("🎨")
            await guest.check(f"{name}-3-progress")
            held.release()

        await guest.sees("ready")
        await expect(page.locator(".toast")).to_contain_text(text["done"])
        slider = page.get_by_role("slider", name=text["compare"])
        await slider.press("ArrowRight")
        await expect(slider).to_have_value("51")
        script = page.get_by_label(text["script"], exact=True)
        assert "0:00" in await script.input_value()
        drafts = await page.evaluate("drafts")
        assert drafts["images"], "the image as far as it was made"
        assert drafts["words"], "the script as it was written"
        assert (await script.input_value()).startswith(drafts["words"][0].removesuffix("…")[:20])
        await script.fill(f"{await script.input_value()}\nOne more.")
        await guest.press("copy")
        await expect(page.locator(".toast")).to_contain_text(text["copied"])
        assert (await page.evaluate("navigator.clipboard.readText()")).endswith("One more.")
        async with page.expect_download() as download:
            await page.get_by_role("link", name=text["downloadImage"]).click()
        assert (await (await download.value).path()).read_bytes()
        await guest.check(f"{name}-4-result")

        await guest.press("generate")
        await expect(page.locator(".steps li")).to_have_count(10)
        await guest.sees("videoReady", patience=RENDERING)
        assert await page.locator("video").evaluate(LENGTH) == pytest.approx(4, abs=0.5)
        await expect(page.get_by_role("link", name=text["downloadVideo"])).to_be_visible()
        await expect(guest.works).to_have_count(2)
        await expect(guest.works.locator(".status.completed")).to_have_count(2)
        await expect(guest.works.locator("img")).to_have_count(2)
        await guest.check(f"{name}-5-video")

        await page.reload()
        await guest.sees("videoReady")
        await guest.sees("ready")


async def test_the_language_can_be_changed_and_is_remembered(browser: Browser, studio: Place) -> None:
    async with visitor(browser, studio.shop) as guest:
        await arrived(guest)
        await guest.page.get_by_label(guest.text["description"]).fill("A cup")
        await guest.page.get_by_role("button", name="中文").click()
        await expect(guest.page.get_by_role("heading", level=1)).to_contain_text("广告")
        await expect(guest.page.locator("#description")).to_have_value("A cup")
        await guest.page.reload()
        await expect(guest.page.locator("html")).to_have_attribute("lang", "zh")
        await expect(guest.page.get_by_role("heading", level=1)).to_contain_text("广告")


async def test_a_photo_can_be_chosen_pasted_and_dropped(browser: Browser, studio: Place) -> None:
    async with visitor(browser, studio.shop) as guest:
        await arrived(guest)
        caption = guest.page.locator("figcaption")
        await guest.page.locator("#file").set_input_files(PHOTOS / "rocket.jpg")
        await expect(caption).to_contain_text("rocket.jpg")
        await guest.paste()
        await expect(caption).to_contain_text("image.png 600×400")
        await guest.drop("chelsea.png")
        await expect(caption).to_contain_text("chelsea.png")


async def test_what_is_no_photo_is_refused_at_once(browser: Browser, studio: Place) -> None:
    async with visitor(browser, studio.shop) as guest:
        await arrived(guest)
        alert = guest.page.locator("#file-error")
        await guest.press("enhance")
        await expect(alert).to_have_text(guest.text["noPhoto"])
        await guest.drop("notes.txt", "text/plain", b"words")
        await expect(alert).to_have_text(guest.text["wrongType"])
        await guest.drop("big.png", "image/png", size=25_000_001)
        await expect(alert).to_contain_text("25")
        await guest.drop("broken.png", "image/png", b"no image at all")
        await expect(alert).to_have_text(guest.text["unreadable"])
        await guest.check("refused")
        await guest.drop()
        await expect(alert).to_be_empty()
        await guest.page.get_by_label(guest.text["description"]).fill("x" * 4001)
        await expect(guest.page.locator(".count")).to_have_text("4001 / 4000")
        await guest.press("enhance")
        await expect(guest.page.get_by_label(guest.text["description"])).to_be_focused()


# -- what goes wrong


async def test_a_reload_and_another_tab_show_the_same(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop) as guest:
        await arrived(guest)
        held = models.openai.hold("edits")
        await guest.order()
        await held.arrived()
        await expect(guest.log.last).to_contain_text("[30%]")
        before = await guest.log.all_text_contents()
        await guest.page.reload()
        await expect(guest.log.last).to_contain_text("[30%]")
        assert await guest.log.all_text_contents() == before
        other = await tab(guest.page.context, models.shop)
        await other.enter()  # without the address of the task: what runs is shown
        await expect(other.log.last).to_contain_text("[30%]")
        assert await other.log.all_text_contents() == before
        held.release()
        for one in (guest, other):
            await one.sees("ready")
            await expect(one.works.locator(".status.completed")).to_have_count(1)
        await other.press("delete")
        await other.press("reallyDelete")
        for one in (other, guest):
            await expect(one.page.get_by_text(one.text["historyEmpty"])).to_be_visible()
        await expect(guest.page.get_by_role("alert")).to_have_text([guest.text["error.not_found"]])
        assert other.complaints == []


async def test_the_service_is_killed_and_started_again(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop) as guest:
        await arrived(guest)
        await models.shop.end(SIGKILL)
        await models.shop.start(ENHANCER_CRASH_AT="after-done")  # SIGKILL, once the image is there
        await guest.page.reload()
        await guest.page.evaluate(RECORD)
        held = models.openai.hold("edits")
        await guest.order()
        await held.arrived()
        await expect(guest.dot).to_have_text(guest.text["connected"])
        guest.offline = True
        held.release()
        await models.shop.ended()
        await expect(guest.dot).to_have_text(guest.text["reconnecting"])
        chat = models.openai.hold("chat")
        await models.shop.start()
        await chat.arrived()
        await expect(guest.dot).to_have_text(guest.text["connected"])
        guest.offline = False
        chat.release()
        await guest.sees("ready")
        said = await guest.page.evaluate("said")
        assert len(set(said)) == len(said), "nothing twice"
        marks = [int(line.split("%")[0].removeprefix("[")) for line in said]
        assert marks == sorted(marks)
        assert {30, 75} <= set(marks)
        assert len(models.openai.calls_of("edits")) == len({call.started for call in models.openai.calls_of("edits")})


async def test_redis_is_killed(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop) as guest:
        await arrived(guest)
        held = models.openai.hold("edits")
        await guest.order()
        await held.arrived()
        await expect(guest.log.last).to_contain_text("[30%]")
        await models.valkey.kill()
        held.release()
        await guest.sees("ready")
        await models.valkey.start()


async def test_a_refused_image_says_why_and_can_be_tried_again(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop, "zh") as guest:
        await arrived(guest)
        models.openai.fail("edits", faults.moderated())
        await guest.order()
        alert = guest.page.get_by_role("alert").filter(has_text=guest.text["failed"])
        await expect(alert).to_contain_text("安全系统")
        await expect(guest.works.locator(".status.failed")).to_have_count(1)
        await guest.check("failed")
        await alert.get_by_role("button", name=guest.text["change"]).click()
        await expect(
            guest.page.get_by_alt_text(guest.text["photoAlt"])
        ).to_be_visible()  # photo and words are still there
        await guest.page.go_back()
        await alert.get_by_role("button", name=guest.text["retry"]).click()
        await guest.sees("ready")


async def test_a_failure_says_so(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop) as guest:
        await arrived(guest)
        models.openai.fail("edits", faults.status(400))
        await guest.order()
        await expect(guest.page.get_by_role("alert").filter(has_text=guest.text["failed"])).to_be_visible()


async def test_a_task_can_be_cancelled(browser: Browser, models: Place) -> None:
    async with visitor(browser, models.shop) as guest:
        await arrived(guest)
        held = models.openai.hold("edits")
        await guest.order()
        await held.arrived()
        await guest.page.locator(".progress").get_by_role("button", name=guest.text["cancel"]).click()
        await expect(
            guest.page.locator(".progress").get_by_role("button", name=guest.text["cancelling"])
        ).to_be_visible()
        held.release()
        await expect(guest.page.get_by_role("alert").filter(has_text=guest.text["cancelled"])).to_be_visible()
        await guest.check("cancelled")


async def test_an_expired_session_loses_nothing(browser: Browser, studio: Place) -> None:
    async with visitor(browser, studio.shop) as guest:
        await arrived(guest)
        await guest.drop()
        await expect(guest.page.get_by_alt_text(guest.text["photoAlt"])).to_be_visible()
        await guest.page.get_by_label(guest.text["description"]).fill("A cup that must not get lost")
        await guest.page.get_by_role("radio", name="8").check()
        await guest.page.evaluate("localStorage.setItem('enhancer.token', 'expired')")
        guest.offline = True  # the browser notes the 401
        await guest.press("enhance")
        await expect(guest.page.get_by_role("dialog")).to_contain_text(guest.text["expired"])
        await guest.check("expired")
        await guest.sign_in(await studio.shop.user(), "a wrong password")
        await expect(guest.page.get_by_role("dialog").get_by_role("alert")).not_to_be_empty()
        await guest.sign_in(await studio.shop.user(), PASSWORD)
        await expect(guest.page.get_by_role("dialog")).not_to_be_visible()
        await expect(guest.page.get_by_alt_text(guest.text["photoAlt"])).to_be_visible()
        await expect(guest.page.get_by_label(guest.text["description"])).to_have_value("A cup that must not get lost")
        await expect(guest.page.get_by_role("radio", name="8")).to_be_checked()
        await guest.press("enhance")
        await guest.sees("ready")
