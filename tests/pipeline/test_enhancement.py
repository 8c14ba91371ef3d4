"""The enhancement from its order to its result: what is told, kept, stored and sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from enhancer.domain.enhancements import EnhancementInput, EnhancementOutput
from enhancer.domain.scripts import fits
from enhancer.domain.tasks import Status, Task
from enhancer.settings import Settings
from enhancer.storage.database import Pool
from tests.conftest import photo
from tests.fakes.openai import CHAT_TOKENS, IMAGE_TOKENS, FakeOpenAI, faults
from tests.pipeline import pictures
from tests.pipeline.watching import ended, messages, points, reached, step_of, told, wish_end
from tests.pipeline.workshop import ALL_POINTS, Place, Start, order, with_models

PHOTOS: dict[str, tuple[Callable[[], bytes], tuple[int, int]]] = {
    "landscape JPEG": (pictures.landscape, (1280, 720)),
    "JPEG that lies on its side": (pictures.lying_portrait, (720, 1280)),
    "square WebP": (pictures.square_webp, (1024, 1024)),
    "PNG with transparency": (pictures.transparent_png, (1280, 720)),
    "CMYK JPEG": (pictures.cmyk_jpeg, (1280, 720)),
    "PNG of 16 bits": (pictures.deep_png, (1280, 720)),
}


def input_of(task: Task) -> EnhancementInput:
    return EnhancementInput.model_validate(task.input)


def output_of(task: Task) -> EnhancementOutput:
    return EnhancementOutput.model_validate(task.output)


async def stored(place: Place, path: str | None) -> bytes:
    assert path is not None
    return await place.service.files.read(path)


def uploads(settings: Settings) -> set[str]:
    """The names of all files in the store, but for drafts, which go a little later."""
    folder = settings.uploads
    return {
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.parent.name != "previews"
    }


async def test_an_enhancement_in_the_offline_studio_tells_the_points_of_the_contract(
    enhancer: Place, pool: Pool
) -> None:
    task = await ended(pool, await order(enhancer, photo(), description="A cup of coffee"))
    script = output_of(task).script or ""
    assert await messages(pool, task) == [
        "🚀 Enhancement task started",
        "📖 Reading original image...",
        "✅ Image loaded (0.47MB)",
        "📐 Detecting image orientation...",
        "✅ Orientation: landscape (1280x720)",
        "🎨 Enhancing image with offline-studio...",
        "✅ Image enhanced (1536x1024)",
        "📐 Resizing for video requirements...",
        "✅ Image resized for video (1280x720)",
        "💾 Saving enhanced image...",
        "✅ Enhanced image saved",
        "🤖 Generating advertising script with offline-studio...",
        f"✅ Script generated ({len(script)} characters)",
        "💾 Saving results...",
        "🎉 Enhancement completed successfully!",
    ]
    assert await points(pool, task) == ALL_POINTS
    assert fits(script, 8)
    assert output_of(task).tokens_used == 0
    assert (output_of(task).image_model, output_of(task).script_model) == ("offline-studio", "offline-studio")


async def test_events_have_the_keys_of_the_contract_and_no_others(enhancer: Place, pool: Pool) -> None:
    task = await ended(pool, await order(enhancer))
    *running, last = await told(pool, task)
    assert {tuple(event) for event in running} == {
        ("progress", "message", "status", "queue_position", "eta_seconds", "timestamp")
    }
    assert {event["status"] for event in running} == {"processing"}
    assert list(last) == [
        "progress", "message", "status", "enhanced_image_url", "script", "product_analysis", "timestamp",
    ]  # fmt: skip
    times = [event["timestamp"] for event in [*running, last]]
    assert times == sorted(times)
    assert all(isinstance(at, float) for at in times)


async def test_the_row_says_what_the_last_event_says(enhancer: Place, pool: Pool) -> None:
    task = await ended(pool, await order(enhancer))
    events = await told(pool, task)
    output = output_of(task)
    assert (task.status, task.progress, task.message) == (Status.COMPLETED, 100, events[-1]["message"])
    assert task.last_seq == len(events) == 15
    assert (output.script, output.product_analysis) == (events[-1]["script"], events[-1]["product_analysis"])
    assert task.error_code is task.error_message is None
    assert task.completed_at is not None
    assert task.processing_time is not None
    assert 0 < task.processing_time < 20
    assert events[-1]["enhanced_image_url"].startswith(f"{enhancer.service.settings.public_url}/uploads/user_")


async def test_a_failed_enhancement_ends_with_its_error(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.moderated())
    place = await start(with_models(settings, openai))
    task = await ended(pool, await order(place))
    last = (await told(pool, task))[-1]
    sentence = "The provider's safety system rejected the image or the description."
    assert list(last) == ["progress", "status", "error", "error_code", "timestamp"]
    assert (last["progress"], last["status"], last["error"], last["error_code"]) == (
        -1,
        "failed",
        sentence,
        "provider_rejected_image",
    )
    assert (task.status, task.progress, task.message) == (Status.FAILED, 30, sentence)
    assert (task.error_code, task.error_message) == ("provider_rejected_image", sentence)


async def test_a_cancelled_enhancement_ends_at_the_progress_it_had(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    held = openai.hold("edits")
    place = await start(with_models(settings, openai))
    task = await order(place)
    await held.arrived()
    await wish_end(pool, task)
    held.release()
    task = await ended(pool, task)
    last = (await told(pool, task))[-1]
    assert list(last) == ["progress", "message", "status", "timestamp"]
    assert (last["progress"], last["message"], last["status"]) == (75, "🛑 Cancelled", "cancelled")
    assert (task.status, task.progress, task.message) == (Status.CANCELLED, 75, "🛑 Cancelled")
    assert task.error_code is task.error_message is None


async def test_messages_speak_the_language_of_the_task(enhancer: Place, pool: Pool) -> None:
    task = await ended(pool, await order(enhancer, language="zh-TW"))
    said = await messages(pool, task)
    assert said[:5] == [
        "🚀 图片增强任务已开始",
        "📖 正在读取原始图片…",
        "✅ 图片已加载（0.00MB）",
        "📐 正在检测图片方向…",
        "✅ 方向：横向（1280x720）",
    ]
    assert said[-1] == "🎉 图片增强已成功完成！"


async def test_what_is_published_is_what_is_stored_with_its_number(enhancer: Place, pool: Pool) -> None:
    heard: list[dict[str, Any]] = []
    bus = enhancer.service.bus
    # the task's number is known before it begins: the database is new
    stop = bus.listen("enhancement:1", lambda text: heard.append(json.loads(text)))
    assert await bus.confirmed("enhancement:1", seconds=60)
    task = await ended(pool, await order(enhancer))
    assert task.id == 1

    await reached(pool, task, lambda _: len(heard) == 15)
    assert heard == [{**event, "seq": seq} for seq, event in enumerate(await told(pool, task), 1)]
    stop()


async def test_results_are_stored_in_the_users_folders_and_nothing_else_is(enhancer: Place, pool: Pool) -> None:
    task = await ended(pool, await order(enhancer))
    user, key = enhancer.user.id, input_of(task).key
    assert uploads(enhancer.service.settings) == {
        f"user_{user}/originals/original_{key}.jpg",
        f"user_{user}/enhanced/model_{key}.jpg",
        f"user_{user}/enhanced/enhanced_{key}.jpg",
        f"user_{user}/enhanced/thumbnail_{key}.jpg",
    }
    assert await stored(enhancer, input_of(task).original) == pictures.landscape()


async def test_every_sort_of_photo_becomes_an_image_of_the_videos_size(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    place = await start(with_models(settings, openai))
    for make, size in PHOTOS.values():
        task = await ended(pool, await order(place, make()))
        assert task.status is Status.COMPLETED
        assert await points(pool, task) == ALL_POINTS
        image = pictures.opened(await stored(place, output_of(task).enhanced_path))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", size)
        asked = openai.calls_of("edits")[-1].fields["size"]
        assert asked == {(1280, 720): "1536x1024", (720, 1280): "1024x1536", (1024, 1024): "1024x1024"}[size]
        assert f"✅ Image enhanced ({asked})" in await messages(pool, task)


async def test_the_studio_takes_every_sort_of_photo(enhancer: Place, pool: Pool) -> None:
    orders = [await order(enhancer, make()) for make, _ in PHOTOS.values()]
    done = [await ended(pool, task) for task in orders]
    assert {task.status for task in done} == {Status.COMPLETED}
    sizes = [pictures.opened(await stored(enhancer, output_of(task).enhanced_path)).size for task in done]
    assert sizes == [size for _, size in PHOTOS.values()]


async def test_one_task_is_one_edit_and_one_chat(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    place = await start(with_models(settings, openai))
    task = await ended(pool, await order(place, description="A lamp that dims itself"))
    edit, chat = openai.calls
    assert (edit.kind, edit.model, edit.billed) == ("edits", "gpt-image-2.5-flare", True)
    assert (chat.kind, chat.model, chat.billed) == ("chat", "gpt-6-luna", True)
    assert edit.fields["image"] == "photo.jpg image/jpeg 96x64"
    assert "A lamp that dims itself" in edit.fields["prompt"]
    assert "A lamp that dims itself" in chat.fields["text"]
    assert chat.fields["image 0"] == f"{len(await stored(place, output_of(task).enhanced_path))} bytes"


async def test_tokens_are_the_sum_of_both_calls_and_models_are_recorded(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    place = await start(with_models(settings, openai, image_model="gpt-image-2.5-sunburst"))
    task = await ended(pool, await order(place))
    output = output_of(task)
    assert output.tokens_used == IMAGE_TOKENS + CHAT_TOKENS
    assert (output.image_model, output.script_model) == ("gpt-image-2.5-sunburst", "gpt-6-luna")
    assert "🎨 Enhancing image with gpt-image-2.5-sunburst..." in await messages(pool, task)
    assert (await step_of(pool, task, "redraw")).calls == (await step_of(pool, task, "write")).calls == 1
    usage = await pool.fetch("SELECT step, model, usage FROM task_steps ORDER BY step")
    assert [(row["step"], row["model"], row["usage"]["total_tokens"]) for row in usage] == [
        ("redraw", "gpt-image-2.5-sunburst", IMAGE_TOKENS),
        ("write", "gpt-6-luna", CHAT_TOKENS),
    ]


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
async def test_the_models_image_is_kept_byte_for_byte(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool, kind: str, extension: str
) -> None:
    answer = pictures.redrawn(kind=kind)
    openai.fail("edits", faults.image(base64.b64encode(answer).decode()))
    place = await start(with_models(settings, openai))
    task = await ended(pool, await order(place))
    assert task.status is Status.COMPLETED
    assert output_of(task).model_path == f"user_{place.user.id}/enhanced/model_{input_of(task).key}.{extension}"
    assert await stored(place, output_of(task).model_path) == answer
    assert (output_of(task).model_size, output_of(task).enhanced_size) == ((1536, 1024), (1280, 720))


async def test_a_model_that_answers_in_another_size_is_fitted_all_the_same(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool
) -> None:
    openai.fail("edits", faults.image(base64.b64encode(pictures.redrawn((400, 300))).decode()))
    place = await start(with_models(settings, openai))
    task = await ended(pool, await order(place))
    assert "✅ Image enhanced (400x300)" in await messages(pool, task)
    assert pictures.opened(await stored(place, output_of(task).enhanced_path)).size == (1280, 720)


async def test_where_and_with_what_a_photo_was_taken_stays_here(
    settings: Settings, openai: FakeOpenAI, start: Start, pool: Pool, sent: list[bytes]
) -> None:
    place = await start(with_models(settings, openai))
    original = pictures.lying_portrait()
    assert b"Spycam" in original
    await ended(pool, await order(place, original))
    [image] = sent
    assert b"Spycam" not in image
    assert b"Exif" not in image
    picture = pictures.opened(image)
    assert not picture.getexif()
    assert picture.size == (64, 96)


@pytest.fixture
def sent(openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The images of the edits that came in, which the stand-in's record has only as their sizes."""
    images: list[bytes] = []
    draw = openai._draw

    async def remember(arrived: Any) -> bytes:
        images.append(arrived.image)
        return await draw(arrived)

    monkeypatch.setattr(openai, "_draw", remember)
    return images
