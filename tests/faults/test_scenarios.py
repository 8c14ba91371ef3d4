"""
The faults that the engine is built for, one by one; each docstring says what must come of it.

Beside what a test asks for, `Stage.settled` holds every run against all invariants of the checker.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from itertools import pairwise

import psutil
import pytest
from redis.asyncio import Redis

from enhancer.domain.tasks import encode
from tests.faults import evidence
from tests.faults.checker import Facts, StepRow
from tests.faults.clients import API, GONE, Order
from tests.faults.patience import until, until_found
from tests.faults.servers import FAST, IMMEDIATE
from tests.faults.stage import Site, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_01_killed_before_the_claim(site: Site) -> None:
    """A task whose 202 was sent, or whose row was just committed, is claimed after the restart."""
    async with Stage.open(site) as stage:
        user, order = await stage.user(), Order(await stage.user())
        server = await stage.replica(crash_at="after-accept:2", workers=0)
        await stage.task(user)
        with pytest.raises(GONE):
            await stage.clients.post(order)
        assert await server.program.ended() == -signal.SIGKILL
        await stage.replica()
        stage.watch(order.user_id, await stage.clients.upload(order))
        assert _statuses(await stage.settled()) == {"completed": 2}


async def test_02_killed_between_claim_and_hand_off(site: Site) -> None:
    """The next process of the same name adopts the task at once; it does not wait for the lease to run out."""
    async with Stage.open(site, lease=60) as stage:
        facts = await _killed(stage, "after-claim", name="the-same")
        assert facts.tasks[0].status == "completed"
        assert _billed(facts) == {"redraw": 1, "write": 1}


async def test_03_killed_in_a_paid_call(site: Site) -> None:
    """Repeated once after the call's longest life and recorded as ambiguous; or held, where that is the setting."""

    async def killed_at(point: str, calls: int) -> None:
        async with Stage.open(site) as stage:
            facts = await _killed(stage, point)
            assert facts.tasks[0].status == "completed"
            assert _step(facts, "redraw").ambiguous == 1
            assert len(facts.calls) == calls

    async def held(setting: str, status: str, bills: int) -> None:
        async with Stage.open(site, ambiguous_calls=setting) as stage:
            await stage.provider.hold("edits")
            dying = await stage.replica()
            await stage.task()
            await stage.provider.arrived("edits")
            await dying.program.kill()
            await stage.provider.release("edits")
            await stage.replica()
            facts = await stage.settled()
            assert (facts.tasks[0].status, _billed(facts)["redraw"]) == (status, bills)
            assert facts.tasks[0].error_code == (None if status == "completed" else "outcome_unknown")

    await asyncio.gather(
        killed_at("after-gate", 2),
        killed_at("after-call", 3),
        held("repeat-once", "completed", 2),
        held("hold", "failed", 1),
    )


async def test_04_killed_after_an_order(site: Site) -> None:
    """An order whose id was stored is gone on with: one order, one bill."""
    async with Stage.open(site, videos=True, call_timeout=20) as stage:
        facts = await _killed(stage, "after-order", video=True)
        assert facts.tasks[0].status == "completed"
        assert _orders(facts) == 1
        assert _step(facts, "render").ambiguous == 0


async def test_04_killed_before_the_id_is_stored(site: Site) -> None:
    """As for any paid call: repeated once after its longest life and recorded as ambiguous; or held, by setting."""

    async def killed(setting: str, status: str, orders: int) -> None:
        async with Stage.open(site, videos=True, ambiguous_calls=setting, call_timeout=5) as stage:
            facts = await _killed(stage, "after-call", video=True)
            assert (facts.tasks[0].status, _orders(facts)) == (status, orders)
            assert facts.tasks[0].error_code == (None if status == "completed" else "outcome_unknown")
            assert _step(facts, "render").ambiguous == orders - 1

    await asyncio.gather(killed("repeat-once", "completed", 2), killed("hold", "failed", 1))


async def test_04_stopped_while_it_is_rendered(site: Site) -> None:
    """It exits within the grace time and charges no attempt; the next start asks for the same order."""
    grace = 5
    async with Stage.open(site, videos=True, lease=60, call_timeout=20, shutdown_grace=grace) as stage:
        await stage.videos.tell("in_progress", 40)
        replica = await stage.replica()
        task = await stage.task(video=True)
        await stage.videos.arrived("look", 2)
        assert await replica.program.end(signal.SIGTERM, seconds=grace + 20) == 0  # with time for what is closed after
        row = await stage.row(task)
        assert (row["status"], row["attempts"]) == ("pending", 0)
        looks = len(stage.videos.looks())
        await stage.replica()
        await stage.videos.arrived("look", looks + 1)
        await stage.videos.tell("completed", 100)
        facts = await stage.settled()
        assert (facts.tasks[0].status, facts.tasks[0].attempts) == ("completed", 1)
        assert _orders(facts) == 1


async def test_04_one_of_two_is_killed_while_it_is_rendered(site: Site) -> None:
    """The other asks for the same order, and ends the task."""
    async with Stage.open(site, videos=True, lease=4, call_timeout=20) as stage:
        await stage.videos.tell("in_progress", 40)
        replicas = {replica.name: replica for replica in await asyncio.gather(stage.replica(), stage.replica())}
        task = await stage.task(video=True)
        await stage.videos.arrived("look", 2)
        row = await stage.until(task, lambda row: row["worker"] is not None, "is somebody's")
        await replicas[row["worker"]].program.kill()
        await stage.until(task, lambda now: now["fence"] > row["fence"], "is taken over")
        await stage.videos.tell("completed", 100)
        facts = await stage.settled()
        assert facts.tasks[0].status == "completed"
        assert _orders(facts) == 1


async def test_05_killed_between_store_and_done(site: Site) -> None:
    """The stored result is adopted: one bill, and nothing is ambiguous."""
    async with Stage.open(site) as stage:
        facts = await _killed(stage, "after-store")
        assert facts.tasks[0].status == "completed"
        assert _billed(facts) == {"redraw": 1, "write": 1}
        assert _step(facts, "redraw").ambiguous == 0


@pytest.mark.parametrize("point", ["after-done", "before-gate:2"])
async def test_06_killed_between_image_and_script(site: Site, point: str) -> None:
    """The image is not called again."""
    async with Stage.open(site) as stage:
        facts = await _killed(stage, point)
        assert facts.tasks[0].status == "completed"
        assert Counter(call.step for call in facts.calls) == {"redraw": 1, "write": 1}


async def test_07_killed_before_the_finish(site: Site) -> None:
    """No provider is called any more; the task completes."""
    async with Stage.open(site) as stage:
        facts = await _killed(stage, "before-finish")
        assert facts.tasks[0].status == "completed"
        assert Counter(call.step for call in facts.calls) == {"redraw": 1, "write": 1}


async def test_08_frozen_in_a_call(site: Site) -> None:
    """The result that the zombie paid for is kept, its transitions are refused."""
    async with Stage.open(site, lease=1.5, call_timeout=15) as stage:
        await stage.provider.hold("edits")
        replicas = {replica.name: replica for replica in await asyncio.gather(stage.replica(), stage.replica())}
        task = await stage.task()
        await stage.provider.arrived("edits")
        zombie = replicas[(await stage.row(task))["worker"]]
        zombie.program.send(signal.SIGSTOP)
        await stage.until(task, lambda row: row["fence"] > 1, "is taken over")
        await stage.provider.release("edits")
        zombie.program.send(signal.SIGCONT)
        await zombie.program.said(r"task\.lease_lost")
        facts = await stage.settled()
        assert facts.tasks[0].status == "completed"
        assert _billed(facts) == {"redraw": 1, "write": 1}


async def test_08_frozen_before_the_call(site: Site) -> None:
    """A permit that has become old is not used: others may have taken its call for dead, and made it themselves."""
    async with Stage.open(site) as stage:
        zombie = await stage.replica(crash_at="after-gate:1:STOP")
        ordering = stage.ordering()
        await until(lambda: zombie.program.frozen, "it is frozen with its permit")
        await stage.replica()
        await stage.ended(await ordering)
        zombie.program.send(signal.SIGCONT)
        await zombie.program.said(r"task\.lease_lost")
        facts = await stage.settled()
        assert Counter(call.step for call in facts.calls) == {"redraw": 1, "write": 1}
        assert _step(facts, "redraw").ambiguous == 1


async def test_09_a_task_that_kills_its_process(site: Site) -> None:
    """It fails after its four claims; others finish."""
    async with Stage.open(site) as stage:
        poison = stage.ordering()
        for _ in range(4):
            dying = await stage.replica("the-same", crash_at="after-claim")
            assert await dying.program.ended() == -signal.SIGKILL
        await stage.replica("the-same")
        others = [await stage.task() for _ in range(2)]
        facts = await stage.settled()
        rows = {task.id: task for task in facts.tasks}
        assert (rows[await poison].status, rows[await poison].attempts) == ("failed", 4)
        assert {rows[task].status for task in others} == {"completed"}


async def test_10_postgresql_restarts(site: Site) -> None:
    """No paid call starts meanwhile, results that come then are kept and saved, nothing is lost: one bill each."""
    async with Stage.open(site, lease=30, call_timeout=20) as stage:
        await stage.provider.hold("edits")
        await asyncio.gather(stage.replica(), stage.replica())
        users = [await stage.user() for _ in range(3)]
        for user in users * 2:
            await stage.task(user)
        for kind, step, how in (("edits", "redraw", FAST), ("chat", "write", IMMEDIATE)):
            await stage.provider.arrived(kind, 6)
            if kind == "edits":
                await stage.provider.hold("chat")
            await site.postgres.stop(how)
            down = time.time()
            await stage.provider.release(kind)
            await _answered(stage, step, 6)
            up = time.time()
            await site.postgres.start()
            assert not [call for call in stage.provider.calls() if down < call.started < up]
        facts = await stage.settled()
        assert _statuses(facts) == {"completed": 6}
        assert _billed(facts) == {"redraw": 6, "write": 6}
        assert {task.attempts for task in facts.tasks} == {1}


async def test_11_postgresql_is_down(site: Site) -> None:
    """An upload is answered by 503, `/readyz` is red, and there is no 202 without a commit."""
    async with Stage.open(site) as stage:
        await stage.replica()
        order = Order(await stage.user())
        await site.postgres.stop()
        try:
            assert (await stage.clients.post(order))[0] == 503
            assert (await stage.clients.get("/readyz"))[0] == 503
            assert (await stage.clients.get("/healthz"))[0] == 200
        finally:
            await site.postgres.start()
        stage.watch(order.user_id, await stage.clients.upload(order))
        assert (await stage.clients.get("/readyz"))[0] == 200
        assert _statuses(await stage.settled()) == {"completed": 1}


async def test_12_redis_restarts_or_is_down(site: Site) -> None:
    """Tasks go on; streams go on from the database; no event is lost or comes twice."""
    async with Stage.open(site, call_timeout=20) as stage:
        await asyncio.gather(stage.replica(), stage.replica())
        await stage.provider.hold("edits")
        for _ in range(3):
            await stage.task()
        await stage.provider.arrived("edits", 3)
        await site.valkey.kill()
        try:
            await stage.provider.release("edits")
            await stage.task()
            await asyncio.wait_for(asyncio.gather(*stage.watching), 60)
        finally:
            await site.valkey.start()
        await stage.provider.hold("edits")
        for _ in range(3):
            await stage.task()
        await site.valkey.kill()
        await site.valkey.start()
        await stage.provider.release("edits")
        assert _statuses(await stage.settled()) == {"completed": 7}


async def test_13_rate_limited(site: Site) -> None:
    """Released, not called before the time that was asked for, and the attempt does not count."""
    async with Stage.open(site) as stage:
        await stage.replica()
        await stage.provider.fail("edits", "429-3s")
        await stage.task()
        facts = await stage.settled()
        first, second = (call for call in facts.calls if call.step == "redraw")
        assert second.started - first.ended >= 3
        assert (facts.tasks[0].status, facts.tasks[0].attempts) == ("completed", 1)


async def test_14_the_provider_is_broken(site: Site) -> None:
    """500 or 503 four times: four calls with growing pauses, then the task has failed."""
    async with Stage.open(site) as stage:
        await stage.replica()
        for recipe in ("500", "503", "500", "503"):
            await stage.provider.fail("edits", recipe)
        await stage.task()
        facts = await stage.settled()
        task, started = facts.tasks[0], [call.started for call in facts.calls]
        assert (task.status, task.error_code, task.attempts) == ("failed", "provider_unavailable", 4)
        gaps = [late - early for early, late in pairwise(started)]
        assert all(gap > pause for gap, pause in zip(gaps, (0.15, 0.3, 0.6), strict=True))


async def test_15_no_answer_or_half_of_one(site: Site) -> None:
    """One POST a gate; the outcome is ambiguous, and the call repeated once."""

    async def once() -> None:
        async with Stage.open(site) as stage:
            await stage.replica()
            for recipe in ("hang", "dropped", "truncated", "unread"):
                await stage.provider.fail("edits", recipe)
            for _ in range(4):
                await stage.task()
            facts = await stage.settled()
            assert _statuses(facts) == {"completed": 4}
            assert [(s.calls, s.ambiguous) for s in facts.steps if s.step == "redraw"] == [(2, 1)] * 4
            assert len([call for call in facts.calls if call.step == "redraw"]) == 8

    async def twice() -> None:
        async with Stage.open(site) as stage:
            await stage.replica()
            await stage.provider.fail("edits", "dropped", times=2)
            await stage.task()
            facts = await stage.settled()
            assert facts.tasks[0].error_code == "outcome_unknown"
            assert _billed(facts) == {"redraw": 2}

    await asyncio.gather(once(), twice())


async def test_16_answers_that_are_none(site: Site) -> None:
    """HTML, nothing, other JSON, bytes that are no image: `provider_bad_answer`, and the process goes on."""
    async with Stage.open(site) as stage:
        replica = await stage.replica()
        spoilt = [("edits", name) for name in ("html", "empty", "wrong-json", "not-an-image", "half-an-image")]
        for kind, recipe in [*spoilt, ("chat", "html"), ("chat", "empty"), ("chat", "wrong-json")]:
            await stage.provider.fail(kind, recipe)
        for _ in range(8):
            await stage.task()
        await until(lambda: len(stage.provider.calls()) >= 11, "all bad answers")
        await stage.task()
        facts = await stage.settled()
        assert _statuses(facts) == {"failed": 8, "completed": 1}
        assert {task.error_code for task in facts.tasks} == {"provider_bad_answer", None}
        assert "Traceback" not in replica.program.text()


async def test_17_the_store_fails(site: Site) -> None:
    """The bytes are kept in memory and written again, without a second payment."""
    async with Stage.open(site) as stage:
        user, replica = await stage.user(), await stage.replica()
        in_the_way = stage.store / f"user_{user}" / "enhanced"
        in_the_way.parent.mkdir()
        in_the_way.touch()
        await stage.task(user)
        await replica.program.said(r"storage\.unreachable")
        in_the_way.unlink()
        facts = await stage.settled()
        assert facts.tasks[0].status == "completed"
        assert _billed(facts) == {"redraw": 1, "write": 1}


async def test_18_cancelled(site: Site) -> None:
    """While it waits: at once. In a call: its result is stored, then it ends. When it is done: 409."""
    async with Stage.open(site, workers=1, call_timeout=20) as stage:
        user = await stage.user()
        await stage.replica()
        done = await stage.task(user)
        await stage.ended(done)
        await stage.provider.hold("edits")
        calling = await stage.task(user)
        await stage.provider.arrived("edits", 2)
        waiting = await stage.task(user)
        cancelled = [await stage.clients.cancel(user, task) for task in (waiting, calling, calling, done)]
        assert cancelled == [200, 200, 200, 409]
        assert (await stage.row(waiting))["status"] == "cancelled"
        await stage.provider.release("edits")
        facts = await stage.settled()
        assert [task.status for task in facts.tasks] == ["completed", "cancelled", "cancelled"]
        assert [(step.step, step.state) for step in facts.steps if step.task_id == calling] == [("redraw", "done")]


async def test_19_a_provider_that_hangs(site: Site) -> None:
    """`timeout` at the deadline."""
    async with Stage.open(site, task_timeout=2, call_timeout=60) as stage:
        await stage.replica()
        await stage.provider.fail("edits", "hang")
        row = await stage.ended(await stage.task())
        assert row["error_code"] == "timeout"
        assert (row["completed_at"] - row["started_at"]).total_seconds() >= 2
        await stage.settled()


async def test_20_sigterm_under_load(site: Site) -> None:
    """It exits within the grace time, and no attempt is charged; a call that is answered by then is not repeated."""

    async def stopped(grace: float, *, answered: bool) -> Facts:
        async with Stage.open(site, workers=2, shutdown_grace=grace, call_timeout=10) as stage:
            await stage.provider.hold("edits")
            replica = await stage.replica()
            tasks = [await stage.task() for _ in range(4)]
            await stage.provider.arrived("edits", 2)
            replica.program.send(signal.SIGTERM)
            await replica.program.said(r"service\.stopping")
            if answered:
                await stage.provider.release("edits")
            assert await replica.program.ended(seconds=grace + 20) == 0  # with time for what is closed after
            rows = [await stage.row(task) for task in tasks]
            assert [(row["status"], row["attempts"]) for row in rows] == [("pending", 0)] * 4
            if not answered:
                await stage.provider.release("edits")
            await stage.replica()
            return await stage.settled()

    in_time, too_late = await asyncio.gather(stopped(9, answered=True), stopped(0.5, answered=False))
    assert _statuses(in_time) == _statuses(too_late) == {"completed": 4}
    assert _billed(in_time) == {"redraw": 4, "write": 4}
    assert sum(step.ambiguous for step in too_late.steps) == 2


async def test_21_blocked_past_the_lease(site: Site) -> None:
    """The gate refuses the next paid call to a process that has lost its lease without noticing."""
    async with Stage.open(site) as stage:
        blocked = await stage.replica(crash_at="before-gate:2:STOP")
        ordering = stage.ordering()
        await until(lambda: blocked.program.frozen, "it is frozen at the gate")
        await stage.replica()
        await stage.ended(await ordering)
        blocked.program.send(signal.SIGCONT)
        await blocked.program.said(r"task\.lease_lost")
        facts = await stage.settled()
        assert Counter(call.step for call in facts.calls) == {"redraw": 1, "write": 1}


async def test_22_one_user_queues_a_thousand(site: Site) -> None:
    """Another user's only task starts next, and the cap holds across replicas."""
    async with Stage.open(site, call_timeout=20) as stage:
        many, one = await stage.user(), await stage.user()
        await stage.replica(workers=0)
        await _multiply(stage, await stage.task(many), 999)
        await stage.provider.hold("edits")
        await asyncio.gather(stage.replica(workers=2), stage.replica(workers=2))
        await stage.provider.arrived("edits", 2)
        lonely = await stage.task(one)
        await stage.provider.arrived("edits", 3)
        assert (await stage.row(lonely))["status"] == "processing"
        await stage.provider.release("edits")
        await _answered(stage, "write", 8)
        await _run(stage, "DELETE FROM tasks WHERE status = 'pending'")
        facts = await stage.settled()
        assert max(sample.running.get((many, "enhancement"), 0) for sample in facts.samples) == 2


async def test_23_one_key_fifty_times(site: Site) -> None:
    """One row, one id, one original."""
    async with Stage.open(site) as stage:
        order = Order(await stage.user())
        await asyncio.gather(stage.replica(), stage.replica())
        answers = await asyncio.gather(*(stage.clients.post(order) for _ in range(50)))
        assert {(status, body["id"]) for status, body in answers} == {(202, answers[0][1]["id"])}
        facts = await stage.settled()
        assert len(facts.tasks) == 1
        assert len([path for path in facts.files if "/originals/" in path]) == 1


async def test_24_clients_that_never_read(site: Site) -> None:
    """They are dropped, what waits for them is bounded, and others get everything."""
    async with Stage.open(site) as stage:
        user = await stage.user()
        server = await stage.replica(workers=0)
        task = await stage.task(user)
        deaf = [await _deaf(stage, user, task) for _ in range(100)]
        before = psutil.Process(server.program.pid).memory_info().rss
        await _speak(stage, task, events=60, size=8000)
        await until_found(lambda: _dropped(stage, 100), "all of them are dropped")
        assert psutil.Process(server.program.pid).memory_info().rss - before < 64_000_000
        await stage.replica()
        facts = await stage.settled()
        for connection in deaf:
            connection.close()
        assert (facts.tasks[0].status, facts.tasks[0].attempts) == ("completed", 1)


async def test_25_two_versions_of_one_name(site: Site) -> None:
    """The new one adopts what the old one still works on; the fence decides, and the old one's result is used."""
    async with Stage.open(site, lease=30, call_timeout=25) as stage:
        await stage.provider.hold("edits")
        old = await stage.replica("the-same")
        task = await stage.task()
        await stage.provider.arrived("edits")
        await stage.replica("the-same")
        await stage.until(task, lambda row: row["fence"] > 1, "is adopted")
        await stage.provider.release("edits")
        await old.program.said(r"task\.lease_lost")
        facts = await stage.settled()
        assert facts.tasks[0].status == "completed"
        assert _billed(facts) == {"redraw": 1, "write": 1}


async def _killed(stage: Stage, point: str, *, name: str = "", video: bool = False) -> Facts:
    """A task whose process dies at that point, and another process that goes on."""
    dying = await stage.replica(name, crash_at=point)
    ordering = stage.ordering(video=video)
    assert await dying.program.ended() == -signal.SIGKILL
    await stage.replica(name)
    await ordering
    return await stage.settled()


def _statuses(facts: Facts) -> Counter[str]:
    return Counter(task.status for task in facts.tasks)


def _billed(facts: Facts) -> Counter[str]:
    return Counter(call.step for call in facts.calls if call.billed)


def _orders(facts: Facts) -> int:
    """How many videos were ordered, each of which was billed."""
    assert len(facts.calls) == _billed(facts)["render"]
    return len(facts.calls)


def _step(facts: Facts, name: str) -> StepRow:
    [found] = [step for step in facts.steps if step.step == name]
    return found


async def _answered(stage: Stage, step: str, count: int) -> None:
    await until(lambda: len(stage.provider.calls(step)) >= count, f"{count} answers to {step}")


async def _run(stage: Stage, statement: str, *arguments: object) -> None:
    async with evidence.connected(stage.url) as connection:
        await connection.execute(statement, *arguments)


async def _multiply(stage: Stage, task_id: int, times: int) -> None:
    """More tasks like this one, without the uploads."""
    await _run(
        stage,
        """
        INSERT INTO tasks (user_id, kind, input, max_attempts)
        SELECT user_id, kind, input || jsonb_build_object(
            'key', 'key-' || n, 'user_description', 'order-' || lpad(to_hex(n), 12, '0')), max_attempts
        FROM tasks, generate_series(1, $2) AS n WHERE id = $1
        """,
        task_id,
        times,
    )


async def _deaf(stage: Stage, user_id: int, task_id: int) -> socket.socket:
    """A client that asks for a stream and never reads it."""
    host, _, port = stage.clients.address().removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, int(port)))
    token = stage.clients.headers(user_id)["Authorization"]
    request = f"GET {API}/{task_id}/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n"
    await loop.sock_sendall(connection, request.encode())
    return connection


async def _dropped(stage: Stage, count: int) -> bool:
    _, text = await stage.clients.get("/metrics")
    return f"enhancer_streams_dropped_total {count}.0" in text


async def _speak(stage: Stage, task_id: int, *, events: int, size: int) -> None:
    """Long events of a task that waits, committed and then published, as a worker would."""
    async with Redis.from_url(stage.site.valkey.url) as redis:
        for seq in range(1, events + 1):
            told = {"progress": 0, "message": "x" * size, "status": "processing", "timestamp": time.time()}
            await _run(stage, "UPDATE tasks SET last_seq = $2 WHERE id = $1", task_id, seq)
            await _run(stage, "INSERT INTO task_events VALUES ($1, $2, $3)", task_id, seq, encode(told))
            await redis.publish(f"enhancement:{task_id}", json.dumps(told | {"seq": seq}))
