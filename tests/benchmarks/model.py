"""
A model that answers at once: it reads a request to its end and sends what was packed before.

    python -m tests.benchmarks.model      prints its address

So light that it is not what is measured; it checks nothing, which tests/fakes/openai does for the tests.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path

from PIL import Image

PHOTO = Path(__file__).parent.parent / "photos" / "coffee.png"
SIZE = (1536, 1024)
SCRIPT = "[0:00-0:02] Steam rises from a red cup. | Morning, made better.\n[0:02-0:04] The cup turns. | Yours."


def drawn(kind: str) -> bytes:
    """The image that the model draws, as jpeg or png."""
    out = io.BytesIO()
    Image.open(PHOTO).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(out, kind.upper(), quality=95)
    return out.getvalue()


def _images(kind: str) -> bytes:
    return _answer({"created": 0, "data": [{"b64_json": base64.b64encode(drawn(kind)).decode()}], "usage": _USAGE})


def _completion() -> bytes:
    content = json.dumps({"product_analysis": "A red cup on a wooden table.", "script": SCRIPT})
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _answer(
        {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": _USAGE}
    )


def _answer(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)


_USAGE = {
    "input_tokens": 400,
    "output_tokens": 250,
    "prompt_tokens": 400,
    "completion_tokens": 250,
    "total_tokens": 650,
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await _head(reader):
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = await reader.readexactly(length)
            if b"/images/" in head.partition(b"\r\n")[0]:
                writer.write(_JPEG if b"jpeg" in body[:4000] + body[-4000:] else _PNG)
            else:
                writer.write(_CHAT)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).lower()
    except asyncio.IncompleteReadError:
        return b""


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _JPEG, _PNG, _CHAT = _images("jpeg"), _images("png"), _completion()
    asyncio.run(_main())
