"""The command line, as an operator uses it: a process of its own, its output and its exit code."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from enhancer import clips
from tests.conftest import PHOTOS, SECRET
from tests.fakes.openai import FakeOpenAI
from tests.fakes.videos import FakeVideos

COFFEE = str(PHOTOS / "coffee.png")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The error, which must be one line that shows nothing of the inside."""
        [line] = self.err.strip().splitlines()
        assert "Traceback" not in line
        assert "/" not in line.replace("python -m", "").replace("and/or", "") or "--" in line
        return line


class Shell:
    """Runs commands with one environment, in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        root = str(Path(__file__).parents[2])
        self.environment = {**kept, "PYTHONPATH": root, "SECRET_KEY": SECRET, **environment}

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """A command that goes on."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "enhancer",
            *arguments,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **environment: str) -> Done:
        """A command, to its end."""
        process = await self.start(*arguments, **environment)
        out, err = await process.communicate()
        return Done(process.returncode or 0, out.decode(), err.decode())

    @asynccontextmanager
    async def serving(self, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
        """`serve` on a free port, ready, and its address; stopped at the end."""
        process = await self.start("serve", "--port", "0", **environment)
        assert process.stdout is not None
        first = (await process.stdout.readline()).decode()
        assert first, (await process.communicate())[1].decode()
        try:
            yield process, first.split()[-1]
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.communicate()


@pytest.fixture
def shell(tmp_path: Path, database_url: str, redis_url: str) -> Shell:
    """Commands on the test's own database."""
    return Shell(tmp_path, {"DATABASE_URL": database_url, "REDIS_URL": redis_url})


async def test_a_user_is_added_subscribed_listed_and_signed_in_beside_a_running_service(shell: Shell) -> None:
    async with shell.serving() as (_, address), aiohttp.ClientSession(address) as http:
        added = await shell.run("user", "add", "shop@example.com")
        assert re.fullmatch(r"1 shop@example\.com \S{16}\n", added.out)
        password = added.out.split()[-1]
        assert (await shell.run("user", "list")).out.split()[:4] == ["1", "shop@example.com", "no", "subscription"]
        assert (await shell.run("user", "subscribe", "shop@example.com", "--quota", "5")).code == 0
        assert "standard, active, 0 used, 5 a month" in (await shell.run("user", "list")).out
        login = {"email": "shop@example.com", "password": password}
        async with http.post("/api/v1/auth/login", json=login) as answer:
            assert answer.status == 200
        token = (await shell.run("token", "shop@example.com")).out
        assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", token)
        headers = {"Authorization": f"Bearer {token.strip()}"}
        async with http.get("/api/v1/ai/enhance-and-script/1/status", headers=headers) as answer:
            assert answer.status == 404


async def test_a_revocation_reaches_a_running_service(shell: Shell) -> None:
    await shell.run("user", "add", "a@example.com")
    former = (await shell.run("token", "a@example.com")).out.strip()
    async with shell.serving() as (_, address), aiohttp.ClientSession(address) as http:

        async def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.get("/api/v1/ai/enhance-and-script/1/status", headers=headers) as answer:
                return answer.status

        assert await status(former) == 404
        assert (await shell.run("user", "revoke", "a@example.com")).code == 0
        assert await status(former) == 401
        assert await status((await shell.run("token", "a@example.com")).out.strip()) == 404
    assert (await shell.run("user", "revoke", "nobody@example.com")).code == 1


async def test_enhance_on_a_server_leaves_the_image_and_the_script(shell: Shell) -> None:
    await shell.run("user", "add", "a@example.com")
    await shell.run("user", "subscribe", "a@example.com")
    token = (await shell.run("token", "a@example.com")).out.strip()
    async with shell.serving() as (_, address):
        done = await shell.run(
            "enhance",
            COFFEE,
            "-d",
            "红色咖啡杯",
            "--language",
            "zh",
            "--server",
            address,
            "--token",
            token,
            "-o",
            "out",
        )
    assert done.code == 0, done.err
    assert done.out.startswith("[0:00-0:02] ")
    script = (shell.folder / "out" / "coffee-script.txt").read_text(encoding="utf-8")
    assert script.startswith(done.out.strip())
    assert "红色咖啡杯" in script
    with Image.open(shell.folder / "out" / "coffee-enhanced.jpg") as image:
        assert image.size == (1280, 720)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user may pass through: as root, the database then stays in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


async def test_enhance_without_a_server_runs_the_embedded_default(reachable: Path) -> None:
    shell = Shell(reachable, {"DATA_DIR": "data here"})
    done = await shell.run("enhance", COFFEE)
    assert done.code == 0, done.err
    assert (reachable / "coffee-enhanced.jpg").exists()
    again = await shell.run("token", "demo@localhost")
    assert again.code == 0, again.err


async def test_a_job_that_fails_says_why_in_one_line(shell: Shell) -> None:
    await shell.run("user", "add", "a@example.com")
    token = (await shell.run("token", "a@example.com")).out.strip()
    async with shell.serving() as (_, address):
        server = ("--server", address, "--token", token)
        unsubscribed = await shell.run("enhance", COFFEE, *server)
        assert (unsubscribed.code, unsubscribed.complaint) == (1, "enhancer: An active subscription is needed.")
        await shell.run("user", "subscribe", "a@example.com")
        (shell.folder / "text.jpg").write_text("no image")
        no_image = await shell.run("enhance", "text.jpg", *server)
        assert (no_image.code, no_image.complaint) == (1, "enhancer: The file is not a JPEG, PNG or WebP image.")
        missing = await shell.run("enhance", "missing.png", *server)
        assert (missing.code, missing.complaint) == (1, "enhancer: missing.png: No such file or directory")
        odd = await shell.run("enhance", COFFEE, "--duration", "5", *server)
        assert odd.code == 1
        assert "duration" in odd.complaint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("enhance",), "required: photo"),
        (("enhance", COFFEE), "--server"),
        (("enhance", COFFEE, "--server", "http://127.0.0.1:9"), "--token"),
        (("user", "add", "nobody"), "not an e-mail address"),
        (("serve", "--port", "70000"), "PORT"),
    ],
)
async def test_wrong_use_is_one_line_and_exit_code_2(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    done = await shell.run(*arguments)
    assert done.code == 2
    assert says in done.complaint
    assert done.out == ""


async def test_an_unknown_user_is_told(shell: Shell) -> None:
    done = await shell.run("token", "nobody@example.com")
    assert (done.code, done.complaint) == (1, "enhancer: There is no user nobody@example.com.")


async def test_a_database_that_does_not_want_us_is_told_without_its_password(shell: Shell, redis_url: str) -> None:
    url = shell.environment["DATABASE_URL"].replace("enhancer:", "enhancer:wrong", 1)
    done = await shell.run("serve", DATABASE_URL=url)
    assert done.code == 2
    assert "DATABASE_URL" in done.err.strip().splitlines()[-1]
    assert "wrong" not in done.err


async def test_migrate_says_what_it_did(shell: Shell) -> None:
    assert (await shell.run("migrate")).out == "nothing to apply\n"


async def test_the_doctor_finds_what_is_wrong_with_the_models(shell: Shell, openai: FakeOpenAI) -> None:
    healthy = await shell.run("doctor")
    assert healthy.code == 0
    assert "offline studio" in healthy.out
    sick = await shell.run("doctor", OPENAI_API_KEY=openai.key, OPENAI_BASE_URL=openai.url, IMAGE_MODEL="no-such-model")
    assert sick.code == 1
    assert "BAD  model        no-such-model is not offered: set IMAGE_MODEL." in sick.out
    wrong_key = await shell.run("doctor", OPENAI_API_KEY="wrong", OPENAI_BASE_URL=openai.url)
    assert wrong_key.code == 1
    assert "OPENAI_API_KEY" in wrong_key.out


async def test_a_port_that_is_taken_is_told(shell: Shell) -> None:
    async with shell.serving() as (_, address):
        done = await shell.run("serve", "--port", address.rpartition(":")[2])
    assert (done.code, "cannot be listened on" in done.complaint) == (2, True)


async def test_sigterm_ends_the_service_with_exit_code_0_and_open_streams(shell: Shell) -> None:
    await shell.run("user", "add", "a@example.com")
    await shell.run("user", "subscribe", "a@example.com")
    token = (await shell.run("token", "a@example.com")).out.strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        shell.serving(WORKERS="0") as (process, address),
        aiohttp.ClientSession(address, headers=headers) as http,
    ):
        form = aiohttp.FormData({"user_description": "a cup"})
        form.add_field("file", Path(COFFEE).read_bytes(), filename="x.png")  # noqa: ASYNC240
        async with http.post("/api/v1/ai/enhance-and-script-async", data=form) as answer:
            task = await answer.json()
        async with http.get(task["stream_url"]) as stream:
            assert await stream.content.readline() == b"retry: 2000\n"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await process.wait() == 0
                await stream.read()


async def test_the_doctor_asks_the_server_of_videos(shell: Shell) -> None:
    assert "ok   videos       offline studio" in (await shell.run("doctor")).out
    async with FakeVideos() as fake:
        given = {"VIDEO_BASE_URL": fake.url, "VIDEO_MODEL": "wan-3"}
        healthy = await shell.run("doctor", VIDEO_API_KEY=fake.key, **given)
        assert (healthy.code, "ok   videos       wan-3 answers" in healthy.out, fake.billed) == (0, True, 0)
        assert "BAD  videos" in (await shell.run("doctor", VIDEO_API_KEY="wrong", **given)).out
    away = await shell.run("doctor", VIDEO_API_KEY=fake.key, **given)
    assert (away.code, "BAD  videos" in away.out) == (1, True)


HIDING = """
import sys


class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *more):
        return None if name == "av" else self.finder.find_spec(name, *more)


sys.meta_path[:] = map(Without, sys.meta_path)
"""


@pytest.fixture
def bare(shell: Shell, tmp_path: Path) -> Shell:
    """Commands of an installation without the extra `video`."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDING)
    shell.environment["PYTHONPATH"] = f"{folder}{os.pathsep}{shell.environment['PYTHONPATH']}"
    return shell


async def test_without_the_extra_all_but_videos_works(bare: Shell) -> None:
    await bare.run("user", "add", "a@example.com")
    await bare.run("user", "subscribe", "a@example.com")
    token = (await bare.run("token", "a@example.com")).out.strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with bare.serving() as (_, address), aiohttp.ClientSession(address, headers=headers) as http:
        async with http.post("/api/v1/videos/generate", json={"enhancement_id": 1}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "video_unavailable")
        done = await bare.run("enhance", COFFEE, "--server", address, "--token", token)
        assert done.code == 0, done.err


@pytest.mark.parametrize("given", [("serve", "--port", "0"), ("video", COFFEE)], ids=str)
async def test_without_the_extra_nobody_is_promised_a_video(bare: Shell, given: tuple[str, ...]) -> None:
    done = await bare.run(*given, VIDEO_BASE_URL="http://127.0.0.1:9/v1")
    assert (done.code, "'.[video]'" in done.complaint) == (2, True)


async def test_video_on_a_server_leaves_the_video_its_poster_and_all_else(shell: Shell) -> None:
    await shell.run("user", "add", "a@example.com")
    await shell.run("user", "subscribe", "a@example.com")
    token = (await shell.run("token", "a@example.com")).out.strip()
    async with shell.serving() as (_, address):
        done = await shell.run("video", COFFEE, "-d", "Espresso", "--server", address, "--token", token, "-o", "made")
    assert done.code == 0, done.err
    made = shell.folder / "made"
    assert {path.name for path in made.iterdir()} == {
        "coffee-enhanced.jpg",
        "coffee-script.txt",
        "coffee-video.mp4",
        "coffee-poster.jpg",
    }
    assert clips.check(made / "coffee-video.mp4", size=(1280, 720), duration=4).frames == 96
    with Image.open(made / "coffee-poster.jpg") as poster:
        assert poster.size == (1280, 720)
    assert "completed successfully" in done.err
