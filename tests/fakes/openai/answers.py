"""What a working provider answers."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from PIL import Image, ImageEnhance, ImageOps

from tests.fakes.openai.checks import Order

IMAGE_TOKENS = 1800  # of every edit
CHAT_TOKENS = 650  # of every completion

_LINES = {
    "en": [
        ("A slow push-in as warm light moves across it.", "Look closer."),
        ("The focus glides to a detail of its surface.", "Made for quiet moments."),
        ("A gentle arc around it, its shadow wandering along.", "Every day, a little better."),
        ("The camera comes to rest on the whole product.", "Make it yours."),
    ],
    "zh": [
        ("镜头缓缓推近，暖光掠过表面。", "再靠近一点。"),
        ("焦点移到表面的细节。", "为安静的时刻而生。"),
        ("镜头轻轻环绕，影子随之移动。", "每天好一点。"),
        ("镜头停在完整的产品上。", "把它带回家。"),
    ],
}
_ANALYSIS = {
    "en": "A single product, upright and well lit, with a smooth surface and a calm ground behind it.",
    "zh": "一件直立的产品，光线柔和，表面光滑，背景安静。",
}


def redrawn(order: Order) -> bytes:
    """The photo that came in, at the size and in the format that were asked for, a little brighter."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(order.image))).convert("RGB")
    image = ImageOps.fit(image, _size(order), Image.Resampling.BICUBIC)
    image = ImageEnhance.Brightness(ImageEnhance.Color(image).enhance(1.1)).enhance(1.05)
    return _encoded(image, order)


def preview(data: bytes, order: Order) -> bytes:
    """The same picture before it is finished: coarse."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return _encoded(image.reduce(16).resize(image.size, Image.Resampling.BILINEAR), order)


def images(data: bytes, order: Order, *, usage: bool) -> dict[str, Any]:
    """The body of an edit's answer."""
    size = _size(order)
    answer: dict[str, Any] = {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": order.fields.get("output_format", "png"),
        "quality": order.fields.get("quality", "high"),
        "size": f"{size[0]}x{size[1]}",
        "data": [{"b64_json": base64.b64encode(data).decode()}],
    }
    return answer | ({"usage": image_usage()} if usage else {})


def image_events(data: bytes, order: Order, *, usage: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a streamed edit."""
    shared = {key: value for key, value in images(data, order, usage=False).items() if key not in {"data", "created"}}
    shared["created_at"] = int(time.time())
    count = int(order.fields.get("partial_images", "0"))
    part = base64.b64encode(preview(data, order)).decode() if count else ""
    for index in range(count):
        yield "image_edit.partial_image", {"b64_json": part, "partial_image_index": index} | shared
    done = {"b64_json": base64.b64encode(data).decode()} | shared
    yield "image_edit.completed", done | ({"usage": image_usage()} if usage else {})


def image_usage() -> dict[str, Any]:
    details = {"image_tokens": 250, "text_tokens": 150}
    return {
        "input_tokens": 400,
        "input_tokens_details": details,
        "output_tokens": IMAGE_TOKENS - 400,
        "total_tokens": IMAGE_TOKENS,
    }


def written(order: Order, script: str | None) -> str:
    """What a model says: JSON as the schema wants it, with a script in the form that was asked for."""
    language = _language(order.text)
    known = {"script": script or scenes(_duration(order.text), language), "product_analysis": _ANALYSIS[language]}
    if not order.schema:
        return known["script"]
    return json.dumps(_filled(order.schema, known), ensure_ascii=False)


def scenes(duration: int, language: str) -> str:
    """A script that fills `duration` seconds."""
    count = max(1, min(4, duration, duration // 4 + 1))
    edges = [duration * scene // count for scene in range(count + 1)]
    spoken = [*_LINES[language][: count - 1], _LINES[language][-1]]
    timed = zip(pairwise(edges), spoken, strict=True)
    return "\n".join(f"[0:{start:02}-0:{end:02}] {seen} | {said}" for (start, end), (seen, said) in timed)


def completion(order: Order, content: str | None, **over: Any) -> dict[str, Any]:
    """The body of a completion; `over` replaces parts of its message or its choice."""
    message = {"role": "assistant", "content": content, "refusal": over.get("refusal")}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": over.get("finish_reason", "stop")}
    return _head(order, "chat.completion") | {"choices": [choice], "usage": chat_usage()}


def completion_events(order: Order, content: str, *, usage: bool) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed completion."""
    head = _head(order, "chat.completion.chunk")
    yield head | {"choices": [_delta({"role": "assistant", "content": "", "refusal": None})]}
    for word in re.findall(r"\s*\S{1,12}", content):
        yield head | {"choices": [_delta({"content": word})]}
    yield head | {"choices": [_delta({}) | {"finish_reason": "stop"}]}
    if usage:
        yield head | {"choices": [], "usage": chat_usage()}


def chat_usage() -> dict[str, int]:
    return {"prompt_tokens": CHAT_TOKENS - 150, "completion_tokens": 150, "total_tokens": CHAT_TOKENS}


def _head(order: Order, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-stand-in", "object": kind, "created": int(time.time()), "model": order.model}


def _delta(delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


def _filled(schema: Mapping[str, Any], known: Mapping[str, str], name: str = "") -> Any:
    match schema["type"]:
        case "object":
            return {key: _filled(value, known, key) for key, value in schema["properties"].items()}
        case "array":
            return []
        case "string":
            return known.get(name, "text")
        case kind:
            return {"integer": 0, "number": 0, "boolean": False, "null": None}[kind]


def _encoded(image: Image.Image, order: Order) -> bytes:
    out = io.BytesIO()
    image.save(out, order.fields.get("output_format", "png").upper())
    return out.getvalue()


def _size(order: Order) -> tuple[int, int]:
    width, _, height = order.fields.get("size", "auto").partition("x")
    return (int(width), int(height)) if height else (1024, 1024)


def _duration(text: str) -> int:
    found = re.search(r"Duration: (\d+) seconds", text)
    return int(found[1]) if found else 4


def _language(text: str) -> str:
    found = re.search(r"Language: (\w+)", text)
    return found[1].lower() if found and found[1].lower() in _LINES else "en"
