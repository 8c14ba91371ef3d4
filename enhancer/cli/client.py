"""A client of the service: upload, follow the stream, fetch the result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from enhancer.imaging import sniff

RECONNECTS = 10  # times in a row that a stream may break without an event in between

Event = Mapping[str, object]


class JobFailed(Exception):
    """The service did not do the job; the message says why."""


class Client:
    """Talks to the service at `server` for the holder of `token`. Every method raises JobFailed."""

    def __init__(self, http: aiohttp.ClientSession, server: str, token: str) -> None:
        self._http = http
        self._server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    async def enhance(self, photo: Path, *, description: str, duration: str, language: str) -> Event:
        """Upload a photo; the pending task."""
        try:
            data = await asyncio.to_thread(photo.read_bytes)
        except OSError as error:
            raise JobFailed(f"{photo}: {error.strerror}") from None
        found = sniff(data[:64])
        form = aiohttp.FormData(
            {"user_description": description, "duration": duration, "language": language}, quote_fields=False
        )
        form.add_field("file", data, filename="photo", content_type=found.mime if found else "application/octet-stream")
        return await self._json("POST", "/api/v1/ai/enhance-and-script-async", data=form)

    async def video(self, enhancement: Event) -> Event:
        """Order the video of a finished enhancement; the pending video."""
        return await self._json("POST", "/api/v1/videos/generate", json={"enhancement_id": enhancement["id"]})

    async def follow(self, task: Event) -> AsyncIterator[Event]:
        """Every event of the task once, to the last one; broken connections are taken up again."""
        last_id, failures = "", 0
        while True:
            try:
                async for seen, event in self._events(str(task["stream_url"]), last_id):
                    last_id, failures = seen, 0
                    yield event
                    if event["status"] in {"completed", "failed", "cancelled"}:
                        return
            except (aiohttp.ClientError, TimeoutError):
                failures += 1
                if failures > RECONNECTS:
                    raise JobFailed("The connection to the service was lost.") from None
            await asyncio.sleep(0.5)

    async def download(self, url: str, to: Path) -> None:
        """Fetch a file by its signed link."""
        try:
            async with self._http.get(url) as answer:
                await _check(answer)
                data = await answer.read()
            await asyncio.to_thread(to.write_bytes, data)
        except OSError as error:
            raise JobFailed(f"{to}: {error.strerror or error}") from None
        except aiohttp.ClientError as error:
            raise JobFailed(f"The result cannot be fetched: {error}") from None

    async def _events(self, url: str, last_id: str) -> AsyncIterator[tuple[str, Event]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)  # the server is never quiet for longer than 15 s
        async with self._http.get(url, headers=headers, timeout=timeout) as answer:
            if answer.status == 204:
                return
            await _check(answer)
            passing = False  # named events show what is being made; they are no progress
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    passing = True
                elif name == "id":
                    last_id = value
                elif name == "data" and not passing:
                    yield last_id, json.loads(value)
                elif not name:
                    passing = False

    async def _json(
        self, method: str, path: str, *, data: aiohttp.FormData | None = None, json: Event | None = None
    ) -> Event:
        url = self._server + path
        try:
            async with self._http.request(method, url, data=data, json=json, headers=self._headers) as answer:
                await _check(answer)
                body: Event = await answer.json()
                return body
        except aiohttp.ClientError as error:
            raise JobFailed(f"{self._server} cannot be reached: {error}") from None


async def enhance(
    client: Client, photo: Path, output: Path, *, description: str, duration: str, language: str
) -> Event:
    """An enhancement with a progress bar: the image and the script are left in the folder `output`. The task."""
    console = Console(stderr=True)
    task = await client.enhance(photo, description=description, duration=duration, language=language)
    last = await _watch(client, task, console, lambda event: event["progress"])
    image, script = output / f"{photo.stem}-enhanced.jpg", output / f"{photo.stem}-script.txt"
    await asyncio.to_thread(_write, script, f"{last['script']}\n\n{last['product_analysis']}\n")
    await client.download(str(last["enhanced_image_url"]), image)
    print(last["script"])
    console.print(f"\n[bold]image[/]   {image}\n[bold]script[/]  {script}", highlight=False)
    return task


async def film(client: Client, enhancement: Event, photo: Path, output: Path) -> None:
    """The video of an enhancement with a progress bar: it and its poster are left in the folder `output`."""
    console = Console(stderr=True)
    last = await _watch(client, await client.video(enhancement), console, _filmed)
    video, poster = output / f"{photo.stem}-video.mp4", output / f"{photo.stem}-poster.jpg"
    await client.download(str(last["video_url"]), video)
    await client.download(str(last["poster_url"]), poster)
    console.print(f"\n[bold]video[/]   {video}\n[bold]poster[/]  {poster}", highlight=False)


def _filmed(event: Event) -> object:
    """Per cent of all: most of the time goes into step 5, whose own percentage fills the middle of the bar."""
    step, rendered = event["step"], event["progress"]
    if not isinstance(step, int) or step < 0:
        return None
    return 2 * step if step < 5 else 64 + 4 * step if step > 5 else 10 + 0.75 * float(str(rendered or 0))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobFailed(f"{path}: {error.strerror}") from None


async def _watch(client: Client, task: Event, console: Console, reached: Callable[[Event], object]) -> Event:
    """The last event, of a task that has succeeded. `reached`: an event -> per cent, if it says so."""
    bar_and_time = (BarColumn(40), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    columns = (*bar_and_time, TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=100)
        async for event in client.follow(task):
            percent = reached(event)
            if isinstance(percent, int | float) and percent >= 0:
                progress.update(bar, completed=percent)
            progress.update(bar, description=str(event.get("message", "")))
            last = event
    if last["status"] != "completed":
        raise JobFailed(str(last.get("error") or last.get("message")))
    return last


async def _check(answer: aiohttp.ClientResponse) -> None:
    """Raises JobFailed with the service's own sentence."""
    if answer.status < 400:
        return
    try:
        problem = await answer.json(content_type=None)
        details = [f"{e['field']}: {e['message']}" for e in problem.get("errors") or ()]
        raise JobFailed(" ".join([problem["detail"], *details]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JobFailed(f"The service answered {answer.status}.") from None
