"""What a server of this shape would refuse: orders are read and checked here."""

from __future__ import annotations

import re

from aiohttp import BodyPartReader, web

from tests.fakes.openai.checks import Order, Refused, picture

SECONDS = {"4", "8", "12"}
FIELDS = {"prompt", "model", "seconds", "size"}
MAX_PROMPT = 32_000  # characters


async def order(request: web.Request) -> Order:
    """POST /v1/videos, multipart. The reference has to be an image of exactly the size that is ordered."""
    if not request.content_type.startswith("multipart/"):
        raise Refused(400, "The stand-in takes multipart/form-data.")
    fields, reference = await _parts(request)
    for name in ("prompt", "seconds", "size"):
        if not fields.get(name):
            message = f"Missing required parameter: '{name}'."
            raise Refused(400, message, code="missing_required_parameter", param=name)
    if len(fields["prompt"]) > MAX_PROMPT:
        raise Refused(400, "The prompt is too long.", code="string_above_max_length", param="prompt")
    if fields["seconds"] not in SECONDS:
        raise Refused(400, f"Invalid value: '{fields['seconds']}'.", code="invalid_value", param="seconds")
    if reference is None:
        raise Refused(400, "input_reference file is required", param="input_reference")
    if fields["size"] != f"{reference[0]}x{reference[1]}":
        message = "Inpaint image must match the requested width and height"
        raise Refused(400, message, code="invalid_value", param="input_reference")
    return Order(fields.get("model", ""), fields)


async def _parts(request: web.Request) -> tuple[dict[str, str], tuple[int, int] | None]:
    fields: dict[str, str] = {}
    reference = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or not part.name or part.name in fields:
            raise Refused(400, "A part without a name, or one that comes twice.")
        data = bytes(await part.read())
        if part.name == "input_reference":
            if not part.filename:
                raise Refused(400, "input_reference has no file name.", param="input_reference")
            mime = part.headers.get("Content-Type", "application/octet-stream")
            reference = picture(data, mime, "input_reference").size
            fields["input_reference"] = f"{part.filename} {mime} {reference[0]}x{reference[1]}"
        elif part.name in FIELDS:
            fields[part.name] = data.decode()
        else:
            raise Refused(400, f"Unknown parameter: '{part.name}'.", code="unknown_parameter", param=part.name)
    _check_size(fields.get("size", ""))
    return fields, reference


def _check_size(size: str) -> None:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
    if size and (match is None or int(match[1]) % 2 or int(match[2]) % 2):
        raise Refused(400, f"Invalid size '{size}'.", code="invalid_value", param="size")
