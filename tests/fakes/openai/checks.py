"""What OpenAI would refuse: requests are read and checked here."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web
from PIL import Image, UnidentifiedImageError

IMAGE_TYPES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
MAX_IMAGE = 50_000_000  # bytes

EDIT_FIELDS = {
    "image", "image[]", "mask", "prompt", "model", "n", "size", "quality", "output_format", "output_compression",
    "background", "input_fidelity", "partial_images", "stream", "user", "safety_identifier",
}  # fmt: skip
EDIT_CHOICES = {
    "quality": {"low", "medium", "high", "auto"},
    "output_format": {"png", "jpeg", "webp"},
    "input_fidelity": {"low", "high"},
    "stream": {"true", "false"},
    "partial_images": {"0", "1", "2", "3"},
}
SIZES = {"1024x1024", "1536x1024", "1024x1536", "auto"}
CHAT_FIELDS = {"model", "messages", "response_format", "stream", "stream_options", "max_completion_tokens", "store"}


class Refused(Exception):
    """An answer in OpenAI's form for errors."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def response(self) -> web.Response:
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return web.json_response({"error": error}, status=self.status)


@dataclass(frozen=True, slots=True)
class Order:
    """A request that was found right. `fields` is for the log, the rest for the answer."""

    model: str
    fields: Mapping[str, str]
    image: bytes = b""
    text: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


async def edit(request: web.Request) -> Order:
    """POST /v1/images/edits, multipart."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "images.edit takes multipart/form-data.")
    fields, images = await _parts(request)
    model = _needed(fields, "model")
    _needed(fields, "prompt")
    _known(fields, EDIT_FIELDS)
    for name, choices in EDIT_CHOICES.items():
        if name in fields and fields[name] not in choices:
            raise Refused(400, f"Invalid value for {name}.", code="invalid_value", param=name)
    if "partial_images" in fields and fields.get("stream") != "true":
        message = "'partial_images' is only supported when 'stream' is true."
        raise Refused(400, message, code="invalid_value", param="partial_images")
    _check_fidelity(model, fields)
    _check_size(model, fields.get("size", "auto"))
    if not images:
        raise Refused(400, "Missing required parameter: 'image'.", code="missing_required_parameter", param="image")
    if len(fields["prompt"]) > 32_000:
        raise Refused(400, "The prompt is too long.", code="string_above_max_length", param="prompt")
    return Order(model, fields, image=images[0])


async def chat(request: web.Request) -> Order:
    """POST /v1/chat/completions, JSON."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    model = _needed(body, "model")
    for name in ("temperature", "max_tokens"):
        if name in body:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise Refused(400, message, code="unsupported_parameter", param=name)
    _known(body, CHAT_FIELDS)
    if body.get("stream_options") is not None and body.get("stream") is not True:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(400, message, param="stream_options")
    text, images = _spoken(body.get("messages"))
    schema = _schema(body.get("response_format"))
    fields = {"text": text, "stream": str(body.get("stream", False)).lower()}
    fields |= {f"image {number}": f"{len(data)} bytes" for number, data in enumerate(images)}
    fields["usage"] = str((body.get("stream_options") or {}).get("include_usage", False)).lower()
    return Order(model, fields, text=text, schema=schema, image=images[0] if images else b"")


async def model(request: web.Request) -> Order:
    """GET /v1/models/{model}."""
    return Order(request.match_info["model"], {})


async def unknown(request: web.Request) -> Order:
    """Any other address."""
    raise Refused(404, f"Invalid URL ({request.method} {request.path})")


def picture(data: bytes, mime: str, param: str) -> Image.Image:
    """A decoded image whose bytes are what its type says."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        raise Refused(400, "Invalid image file or mode.", code="invalid_image_file", param=param) from None
    if IMAGE_TYPES.get(mime) != image.format:
        message = f"Unsupported mimetype ('{mime}') for the image. It is {image.format}."
        raise Refused(400, message, code="unsupported_file_mimetype", param=param)
    return image


async def _parts(request: web.Request) -> tuple[dict[str, str], list[bytes]]:
    fields: dict[str, str] = {}
    images: list[bytes] = []
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Refused(400, "A part without a name.")
        data = bytes(await part.read())
        if part.name not in {"image", "image[]", "mask"}:
            fields[part.name] = data.decode()
            continue
        if not part.filename:
            raise Refused(400, f"{part.name} has no file name.", param=part.name)
        if len(data) > MAX_IMAGE:
            raise Refused(413, "The image is too large.", param=part.name)
        mime = part.headers.get("Content-Type", "application/octet-stream")
        size = picture(data, mime, part.name).size
        fields[part.name] = f"{part.filename} {mime} {size[0]}x{size[1]}"
        images.append(data)
    return fields, images


def _check_fidelity(model: str, fields: Mapping[str, str]) -> None:
    if "input_fidelity" in fields and not model.startswith(("gpt-image-1.5", "gpt-image-1-mini")):
        message = f"The model '{model}' does not support the 'input_fidelity' parameter."
        raise Refused(400, message, code="invalid_input_fidelity_model", param="input_fidelity")


def _check_size(model: str, size: str) -> None:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if size in SIZES or (match and model.startswith("gpt-image-2") and _free_size(int(match[1]), int(match[2]))):
        return
    raise Refused(400, f"Invalid size '{size}'.", code="invalid_value", param="size")


def _free_size(width: int, height: int) -> bool:
    whole = width % 16 == 0 and height % 16 == 0
    return whole and 1 / 3 <= width / height <= 3 and 655_360 <= width * height <= 3840 * 2160


def _spoken(messages: object) -> tuple[str, list[bytes]]:
    """All text of the messages, and all images."""
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "Missing required parameter: 'messages'.", param="messages")
    texts, images = [], []
    for part in _content(messages):
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                images.append(_data_url(url))
            case _:
                raise Refused(400, "Invalid content.", code="invalid_value", param="messages")
    return "\n".join(texts), images


def _content(messages: list[Any]) -> Iterator[object]:
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in {"system", "developer", "user", "assistant"}:
            raise Refused(400, "Invalid role.", code="invalid_value", param="messages")
        content = message.get("content")
        yield from content if isinstance(content, list) else [{"type": "text", "text": content}]


def _data_url(url: str) -> bytes:
    match = re.match(r"data:(image/\w+);base64,", url)
    if match is None:
        raise Refused(400, "The stand-in takes images as data URLs.", code="invalid_image_url", param="messages")
    try:
        data = base64.b64decode(url[match.end() :], validate=True)
    except binascii.Error:
        raise Refused(400, "Invalid base64 image_url.", code="invalid_base64", param="messages") from None
    picture(data, match[1], "messages")
    return data


def _schema(given: object) -> Mapping[str, Any]:
    """The schema of a strict json_schema; {} when the answer is to be plain text."""
    match given:
        case None | {"type": "text"}:
            return {}
        case {"type": "json_schema", "json_schema": {"name": str(name), "strict": True, "schema": dict(schema)}}:
            named = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
            if named and _strict(schema):
                return schema
    raise Refused(400, "Invalid schema for response_format.", code="invalid_schema", param="response_format")


def _strict(schema: Mapping[str, Any]) -> bool:
    """Strict mode: objects are closed and need every property."""
    if schema.get("type") != "object":
        return bool(schema.get("type"))
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(properties)
    return closed and all(_strict(value) for value in properties.values())


def _needed(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, str) or not value:
        message = f"Missing required parameter: '{name}'."
        raise Refused(400, message, code="missing_required_parameter", param=name)
    return value


def _known(fields: Mapping[str, Any], known: set[str]) -> None:
    for name in fields:
        if name not in known:
            raise Refused(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
