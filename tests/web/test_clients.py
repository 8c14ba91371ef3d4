"""The same stream seen by other people's clients: curl, npm's eventsource, a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from enhancer.web import streams
from tests.conftest import Running
from tests.web import story
from tests.web.forms import STREAM
from tests.web.story import Story
from tests.web.waiting import until

pytestmark = pytest.mark.usefixtures("quiet")

Seen = tuple[str, str]
"""A message: the last event's id, and the data."""

Next = Callable[[], Any]


@pytest.fixture
async def told(idle: Running) -> Story:
    return await story.begin(idle.service.pool, idle.service.bus, idle.user.id)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are asked to come back after a moment, not after two seconds."""
    monkeypatch.setattr(streams, "RETRY", 50)


def address(running: Running, told: Story) -> str:
    """What a browser would open."""
    token = running.service.tokens.stream(running.user.id, told.task.channel)
    return str(running.http.make_url(STREAM.format(told.task.id)).with_query(token=token))


def hang_up(running: Running) -> None:
    """Break all connections, as a network does."""
    runner = running.http.server.runner
    assert runner
    assert runner.server
    for connection in list(runner.server.connections):
        if connection.transport:
            connection.transport.abort()


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[Process]:
    """A program whose output is read, and which does not outlive the test."""
    running = await asyncio.create_subprocess_exec(*command, stdout=PIPE, limit=2**20)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def messages(running: Process) -> AsyncIterator[Seen]:
    """The messages that a program prints as JSON, one a line, until it ends."""
    assert running.stdout
    async with asyncio.timeout(30):
        while line := await running.stdout.readline():
            found = json.loads(line)
            yield found[0], found[1]


async def follows_through_disconnects(running: Running, told: Story, seen: AsyncIterator[Seen]) -> None:
    """Tell the whole story, hanging up four times; the client must have seen it once and in order."""
    expected = []
    for number, progress in enumerate(story.POINTS[:-1]):
        event = await told.tell(progress)
        expected.append((str(event.seq), event.data))
        assert await anext(seen) == expected[-1]
        if number % 4 == 1:
            hang_up(running)
            if number == 5:
                await told.tell(progress, heard=False)  # while nobody listens
                expected.append((str(told.events[-1].seq), told.events[-1].data))
                assert await anext(seen) == expected[-1]
    await told.finish()
    assert [message async for message in seen] == [(told.ids[-1], told.data[-1])], "and nothing after it"


# -- curl


async def curl(url: str, *options: str) -> list[Seen]:
    async with process("curl", "--silent", "--no-buffer", "--max-time", "30", *options, url) as running:
        output, _ = await running.communicate()
    blocks = [block.split("\n") for block in output.decode().split("\n\n") if block.startswith("id: ")]
    return [(block[0].removeprefix("id: "), block[1].removeprefix("data: ")) for block in blocks]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_curl_sees_every_event(idle: Running, told: Story) -> None:
    url = address(idle, told)
    live = [asyncio.create_task(curl(url, option)) for option in ("--http1.1", "--http1.0")]
    await told.tell_all()
    expected = list(zip(told.ids, told.data, strict=True))
    for seen in live:
        assert await seen == expected
    assert await curl(url) == expected
    assert await curl(url, "--header", "Last-Event-ID: 9") == expected[9:]
    assert await curl(url, "--header", "Last-Event-ID: 15") == []


# -- Node

NODE = """
import { EventSource } from 'eventsource'

const source = new EventSource(process.argv[2])
source.onmessage = ({ lastEventId, data }) => console.log(JSON.stringify([lastEventId, data]))
source.onerror = () => { if (source.readyState === EventSource.CLOSED) process.exit(0) }
setInterval(() => {}, 1000)  // the library lets a process end that only waits to reconnect
"""


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program for Node that prints the messages of a stream until the server tells it to stop."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js with npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    options = ("--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund")
    installed = subprocess.run(["npm", "install", *options, "eventsource@5"], capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("npm could not install eventsource")
    (folder / "client.mjs").write_text(NODE)
    return str(folder / "client.mjs")


async def test_node_s_eventsource_follows_through_disconnects(
    at_once: None, idle: Running, told: Story, node: str
) -> None:
    async with process("node", node, address(idle, told)) as running:
        await follows_through_disconnects(idle, told, messages(running))
        assert await running.wait() == 0


# -- a browser

PAGE = """
const source = new EventSource(ADDRESS)
source.onmessage = ({ lastEventId, data }) => report(JSON.stringify([lastEventId, data]))
source.onerror = () => { if (source.readyState === EventSource.CLOSED) report('null') }
"""


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[str]:
    """A browser without a window -> where it takes commands (the DevTools protocol)."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    ports = ("--remote-debugging-port=0", f"--user-data-dir={folder}")
    running = await asyncio.create_subprocess_exec(
        "chromium", *options, *ports, "about:blank", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        told = folder / "DevToolsActivePort"
        await until(lambda: told.exists() and "\n" in told.read_text())
        yield f"http://127.0.0.1:{told.read_text().splitlines()[0]}"
    finally:
        running.terminate()
        await running.wait()


@asynccontextmanager
async def page(browser: str, url: str, script: str) -> AsyncIterator[AsyncIterator[Seen]]:
    """What a script on a page of that origin reports, until it reports null."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            target = (await answer.json(content_type=None))["webSocketDebuggerUrl"]
        socket = await stack.enter_async_context(session.ws_connect(target))
        numbers = count(1)

        async def until(key: str, value: object) -> Any:
            while (said := await socket.receive_json(timeout=30)).get(key) != value:
                pass
            assert "exceptionDetails" not in said.get("result", {}), said
            return said

        async def command(method: str, **params: object) -> None:
            number = next(numbers)
            await socket.send_json({"id": number, "method": method, "params": params})
            await until("id", number)

        async def reports() -> AsyncIterator[Seen]:
            while found := json.loads((await until("method", "Runtime.bindingCalled"))["params"]["payload"]):
                yield found[0], found[1]

        await command("Page.enable")
        await command("Page.navigate", url=url)
        await until("method", "Page.loadEventFired")
        await command("Runtime.enable")
        await command("Runtime.addBinding", name="report")
        await command("Runtime.evaluate", expression=script)
        yield reports()


@pytest.mark.skipif(not shutil.which("chromium"), reason="opt-in: chromium is not installed")
async def test_a_browser_follows_through_disconnects(at_once: None, idle: Running, told: Story, tmp_path: Path) -> None:
    script = PAGE.replace("ADDRESS", json.dumps(address(idle, told)))
    async with (
        chromium(tmp_path / "chromium") as browser,
        page(browser, str(idle.http.make_url("/docs")), script) as seen,
    ):
        await follows_through_disconnects(idle, told, seen)
