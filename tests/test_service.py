"""Opening and closing: in order, in reverse, and when something in the middle fails."""

from __future__ import annotations

import asyncio
import stat
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from enhancer import service as services
from enhancer.bus import Bus
from enhancer.domain.tasks import Status
from enhancer.errors import SetupError
from enhancer.settings import Settings
from enhancer.storage import tasks
from enhancer.storage.database import Pool
from tests.fakes.openai import FakeOpenAI
from tests.pipeline.cable import laid
from tests.pipeline.watching import ended, eventually, listening
from tests.pipeline.workshop import opened, order, with_models

ROOT = Path(__file__).parents[1]


def with_database(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url)})


def elsewhere(settings: Settings, *, password: str | None = None, name: str | None = None) -> Settings:
    """Settings whose DATABASE_URL is wrong."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    address = urlsplit(url)
    if password:
        url = url.replace(str(address.password), password)
    return with_database(settings, url.replace(address.path, f"/{name}") if name else url)


async def tasks_left() -> set[str]:
    """What still runs, the test itself aside."""
    return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}


async def connections(pool: Pool) -> int:
    """How many others are connected to the test's database."""
    count: int = await pool.fetchval(
        """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'observer'
        """
    )
    return count


# opening and closing


async def test_what_was_opened_is_closed(settings: Settings, openai: FakeOpenAI, pool: Pool) -> None:
    before, connected = await tasks_left(), await connections(pool)
    async with services.running(with_models(settings, openai)) as service:
        assert await service.bus.ping()
        assert await service.pool.fetchval("SELECT 1") == 1
        assert {"_feed", "_beat", "_reap", "enhancement-0", "enhancement-3", "bus"} <= await tasks_left()
    assert await tasks_left() == before
    assert await connections(pool) == connected


async def test_an_error_inside_closes_everything(settings: Settings, pool: Pool) -> None:
    before, connected = await tasks_left(), await connections(pool)
    with pytest.raises(RuntimeError, match="in the middle"):
        await fail_inside(settings)
    assert await tasks_left() == before
    assert await connections(pool) == connected


async def fail_inside(settings: Settings) -> None:
    async with services.running(settings) as service:
        await eventually(lambda: is_connected(service.bus))
        raise RuntimeError("in the middle")


async def is_connected(bus: Bus) -> bool:
    return bus.connected


async def test_what_was_opened_before_a_failure_is_closed(settings: Settings, pool: Pool) -> None:
    """The models come after the database and the bus."""
    before, connected = await tasks_left(), await connections(pool)
    wrong = settings.model_copy(update={"openai_api_key": SecretStr("sk-…"), "openai_base_url": "nowhere"})
    with pytest.raises(SetupError, match="OPENAI_"):
        async with services.running(wrong):
            pass
    assert await tasks_left() == before
    assert await connections(pool) == connected


async def test_workers_end_before_what_they_work_with(settings: Settings, openai: FakeOpenAI, pool: Pool) -> None:
    held = openai.hold("edits")
    async with opened(settings.model_copy(update={"workers": 0})) as front:
        task = await order(front)
    async with services.running(with_models(settings, openai)) as service:
        await held.arrived()
        held.release()
        assert not service.pool.is_closing()
    found = await tasks.get(pool, task.id)
    assert found is not None
    assert (found.status, found.attempts) in {(Status.PENDING, 0), (Status.COMPLETED, 1)}


async def test_two_services_on_one_database_share_the_work(settings: Settings, pool: Pool) -> None:
    one_settings, two_settings = [
        settings.model_copy(update={"replica": name, "workers": 1}) for name in ("one", "two")
    ]
    async with opened(one_settings) as one, opened(two_settings) as two:
        added = [await order(place) for place in (one, two, one, two)]
        done = [await ended(pool, task) for task in added]
    assert [(task.status, task.attempts) for task in done] == [(Status.COMPLETED, 1)] * 4


async def test_two_services_that_start_at_once_apply_the_schema_once(settings: Settings, pool: Pool) -> None:
    await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    async with AsyncExitStack() as stack:
        bases = await asyncio.gather(
            *(stack.enter_async_context(services.foundation(settings, share=False)) for _ in range(2))
        )
    assert sorted(base.applied for base in bases)[0] == []
    assert sorted(base.applied for base in bases)[1][0] == 1


# a database that cannot be used


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as long as a database may take to come up."""
    monkeypatch.setattr(services, "CONNECT_PATIENCE", 0.3)


async def complaint(settings: Settings) -> str:
    """Why it does not start, in one line without the password."""
    with pytest.raises(SetupError) as caught:
        async with services.running(settings):
            pass
    assert settings.database_url is not None
    password = urlsplit(settings.database_url.get_secret_value()).password
    said = str(caught.value)
    assert "\n" not in said
    assert password is None or password not in said
    return said


async def test_a_wrong_password_is_said_and_not_shown(settings: Settings) -> None:
    said = await complaint(elsewhere(settings, password="my-secret-password"))
    assert said == 'PostgreSQL refuses DATABASE_URL: password authentication failed for user "enhancer"'


async def test_a_database_that_does_not_exist_is_named(settings: Settings) -> None:
    said = await complaint(elsewhere(settings, name="of_nobody"))
    assert said == 'PostgreSQL refuses DATABASE_URL: database "of_nobody" does not exist'


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://enhancer:my-secret-password@127.0.0.1:1/enhancer",
        "postgresql://enhancer:my-secret-password@no-such-host.invalid/enhancer",
        "postgresql://enhancer:my-secret-password@127.0.0.1:port/enhancer",
        "mysql://enhancer:my-secret-password@127.0.0.1/enhancer",
        "my-secret-password",
    ],
)
async def test_an_address_that_leads_nowhere_is_said_and_not_shown(
    settings: Settings, impatient: None, url: str
) -> None:
    said = await complaint(with_database(settings, url))
    assert said.startswith("PostgreSQL cannot be reached by DATABASE_URL (")
    assert "my-secret-password" not in said


async def test_a_database_that_comes_up_late_is_waited_for(settings: Settings) -> None:
    async with laid(settings) as (cable, behind):
        cable.cut()
        with listening() as log:
            starting = asyncio.create_task(complaint_or_none(behind))
            await log.says("storage.unreachable", times=2)
            cable.mend()
            assert await starting is None


async def complaint_or_none(settings: Settings) -> str | None:
    try:
        async with services.foundation(settings, share=False):
            return None
    except SetupError as error:
        return str(error)


# folders


async def test_a_store_that_cannot_be_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = await complaint(settings.model_copy(update={"upload_dir": tmp_path / "file" / "uploads"}))
    assert said == f"UPLOAD_DIR: The folder {tmp_path}/file/uploads cannot be used: Not a directory."
    said = await complaint(settings.model_copy(update={"storage_url": "nonsense"}))
    assert said == "STORAGE_URL: There is no storage at nonsense."


async def test_a_key_that_cannot_be_kept_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = await complaint(settings.model_copy(update={"secret_key": None, "data_dir": tmp_path / "file" / "data"}))
    assert said == "No key can be kept in DATA_DIR (Not a directory): set SECRET_KEY."


async def key_of(settings: Settings) -> str:
    async with services.foundation(settings, share=False):
        return (settings.data_dir / "secret_key").read_text()


async def test_a_key_is_made_once_and_for_its_owner_alone(settings: Settings) -> None:
    without = settings.model_copy(update={"secret_key": None})
    key = await key_of(without)
    assert len(key) >= 64
    path = without.data_dir / "secret_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert await key_of(without) == key
    assert [file.name for file in without.data_dir.iterdir()] == ["secret_key"]


async def test_a_token_outlives_a_restart_and_not_another_key(settings: Settings) -> None:
    without = settings.model_copy(update={"secret_key": None})
    async with services.foundation(without, share=False) as base:
        token = base.tokens.account(7)
    async with services.foundation(without, share=False) as base:
        assert base.tokens.read_account(token) == 7


async def test_a_key_that_is_given_is_not_kept(settings: Settings) -> None:
    async with services.foundation(settings, share=False):
        assert not settings.data_dir.exists() or list(settings.data_dir.iterdir()) == []


RACER = """
import sys
from pathlib import Path
from enhancer.service import _kept_key
print(flush=True)
sys.stdin.readline()
print(_kept_key(Path(sys.argv[1])))
"""


async def test_processes_that_race_for_the_key_agree_on_one(tmp_path: Path) -> None:
    command = (sys.executable, "-c", RACER, str(tmp_path / "data"))
    racers = [await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE) for _ in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"\n"
    said = await asyncio.gather(*(racer.communicate(b"\n") for racer in racers))
    keys = {out for out, _ in said}
    assert len(keys) == 1
    assert len(keys.pop().strip()) >= 64
