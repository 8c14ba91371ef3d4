"""
The architecture that the seeds describe: FastAPI, Celery, synchronous SQLAlchemy, one Redis subscription a client.

    uvicorn seeds:app          the service
    celery -A seeds:celery     the workers

Written from the description, as such programs are usually written, and without mistakes on purpose. Configured by
DATABASE_URL, REDIS_URL, UPLOAD_DIR, OPENAI_BASE_URL and IMAGE_EXTENSION (png as described, or jpg).
"""

from __future__ import annotations

import asyncio
import base64
import enum
import io
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import jwt
import redis
import redis.asyncio as aioredis
from celery import Celery
from celery.signals import worker_process_init
from fastapi import Depends, FastAPI, File, Form, Header, HTTPException, UploadFile
from fastapi.responses import StreamingResponse
from openai import OpenAI
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict
from sqlalchemy import DateTime, Enum, Float, Integer, String, Text, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

DATABASE_URL = os.environ["DATABASE_URL"]
REDIS_URL = os.environ["REDIS_URL"]
BASE_URL = os.environ.get("BASE_URL", "http://localhost:8000")
UPLOAD_DIR = Path(os.environ.get("UPLOAD_DIR", "uploads"))
SECRET_KEY = os.environ.get("SECRET_KEY", "k" * 32)
IMAGE_MODEL = os.environ.get("IMAGE_MODEL", "gpt-image-2.5-flare")
SCRIPT_MODEL = os.environ.get("SCRIPT_MODEL", "gpt-6-luna")
EXTENSION = os.environ.get("IMAGE_EXTENSION", "png")

engine = create_engine(DATABASE_URL, pool_size=10, max_overflow=20, pool_pre_ping=True)
SessionLocal = sessionmaker(bind=engine, autoflush=False)
celery = Celery("seeds", broker=REDIS_URL, backend=REDIS_URL)
celery.conf.update(task_serializer="json", result_expires=3600, worker_prefetch_multiplier=1, task_acks_late=True)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class EnhancementStatus(enum.StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class EnhancementTask(Base):
    __tablename__ = "enhancement_tasks"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, index=True)
    user_id: Mapped[int] = mapped_column(Integer, index=True)
    original_image_path: Mapped[str] = mapped_column(String(500))
    user_description: Mapped[str | None] = mapped_column(Text)
    duration: Mapped[int] = mapped_column(Integer, default=4)
    language: Mapped[str] = mapped_column(String(35), default="en")
    enhanced_image_url: Mapped[str | None] = mapped_column(String(500))
    script: Mapped[str | None] = mapped_column(Text)
    product_analysis: Mapped[str | None] = mapped_column(Text)
    status: Mapped[EnhancementStatus] = mapped_column(
        Enum(EnhancementStatus), default=EnhancementStatus.PENDING, index=True
    )
    error_message: Mapped[str | None] = mapped_column(Text)
    tokens_used: Mapped[int] = mapped_column(Integer, default=0)
    processing_time: Mapped[float | None] = mapped_column(Float)
    created_at: Mapped[datetime] = mapped_column(DateTime, default=lambda: datetime.now(UTC))
    updated_at: Mapped[datetime] = mapped_column(
        DateTime, default=lambda: datetime.now(UTC), onupdate=lambda: datetime.now(UTC)
    )
    completed_at: Mapped[datetime | None] = mapped_column(DateTime)


class EnhancementTaskResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    original_image_path: str
    status: EnhancementStatus
    created_at: datetime


class EnhancementTaskStatusResponse(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    status: EnhancementStatus
    enhanced_image_url: str | None
    script: str | None
    tokens_used: int
    processing_time: float | None
    error_message: str | None
    updated_at: datetime


Base.metadata.create_all(bind=engine)


@worker_process_init.connect
def forget_connections(**_: object) -> None:
    """A forked worker must not use its parent's."""
    engine.dispose(close=False)


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


def get_current_user(token: str | None = None, authorization: str | None = Header(None)) -> int:
    given = token or (authorization or "").removeprefix("Bearer ")
    try:
        return int(jwt.decode(given, SECRET_KEY, algorithms=["HS256"], options={"verify_aud": False})["sub"])
    except jwt.PyJWTError as error:
        raise HTTPException(401) from error


@app.post("/api/v1/ai/enhance-and-script-async", status_code=202, response_model=EnhancementTaskResponse)
async def create(
    file: UploadFile = File(),
    user_description: str = Form(""),
    duration: int = Form(4),
    language: str = Form("en"),
    user_id: int = Depends(get_current_user),
    db: Session = Depends(get_db),
) -> EnhancementTask:
    content = await file.read()
    folder = UPLOAD_DIR / f"user_{user_id}" / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"original_{uuid.uuid4().hex}{Path(file.filename or '').suffix}"
    path.write_bytes(content)
    task = EnhancementTask(
        user_id=user_id,
        original_image_path=str(path),
        user_description=user_description,
        duration=duration,
        language=language,
    )
    db.add(task)
    db.commit()
    db.refresh(task)
    process_enhancement_task.delay(task.id)
    return task


@app.get("/api/v1/ai/enhance-and-script/{task_id}/status", response_model=EnhancementTaskStatusResponse)
def status(task_id: int, user_id: int = Depends(get_current_user), db: Session = Depends(get_db)) -> EnhancementTask:
    return own_task(db, task_id, user_id)


@app.get("/api/v1/ai/enhance-and-script/{task_id}/stream")
async def stream(task_id: int, user_id: int = Depends(get_current_user)) -> StreamingResponse:
    with SessionLocal() as db:  # as a dependency it would hold a connection for as long as the stream
        own_task(db, task_id, user_id)

    async def events() -> AsyncIterator[str]:
        client = aioredis.from_url(REDIS_URL, decode_responses=True)
        pubsub = client.pubsub()
        await pubsub.subscribe(f"enhancement:{task_id}")
        yield ": connected\n\n"
        try:
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is None:
                    continue
                yield f"data: {message['data']}\n\n"
                if json.loads(message["data"]).get("status") in {"completed", "failed"}:
                    break
        finally:
            with suppress(asyncio.CancelledError):
                await pubsub.unsubscribe()
                await pubsub.aclose()
                await client.aclose()

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"},
    )


def own_task(db: Session, task_id: int, user_id: int) -> EnhancementTask:
    task = db.query(EnhancementTask).filter_by(id=task_id, user_id=user_id).first()
    if task is None:
        raise HTTPException(404, "Task not found")
    return task


class SSELogger:
    def __init__(self, task_id: int, channel_prefix: str) -> None:
        self.redis = redis.from_url(REDIS_URL, decode_responses=True)
        self.channel = f"{channel_prefix}:{task_id}"

    def publish(self, progress: int, message: str, status: str = "processing", **more: object) -> None:
        data = {"progress": progress, "message": message, "status": status, **more, "timestamp": time.time()}
        self.redis.publish(self.channel, json.dumps(data, ensure_ascii=False))

    def publish_error(self, error: str) -> None:
        data = {"progress": -1, "status": "failed", "error": error, "timestamp": time.time()}
        self.redis.publish(self.channel, json.dumps(data, ensure_ascii=False))

    def close(self) -> None:
        self.redis.close()


@celery.task(name="process_enhancement_task", bind=True, max_retries=3)
def process_enhancement_task(self, task_id: int) -> None:
    logger = SSELogger(task_id, channel_prefix="enhancement")
    db = SessionLocal()
    began = time.time()
    task = db.get(EnhancementTask, task_id)
    try:
        if task.status is EnhancementStatus.COMPLETED:  # a task that was delivered twice
            return
        task.status = EnhancementStatus.PROCESSING
        db.commit()
        logger.publish(5, "🚀 Enhancement task started")
        enhance(task, logger)
        logger.publish(95, "💾 Saving results...")
        task.status = EnhancementStatus.COMPLETED
        task.processing_time = time.time() - began
        task.completed_at = datetime.now(UTC)
        db.commit()
        logger.publish(
            100,
            "🎉 Enhancement completed successfully!",
            "completed",
            enhanced_image_url=task.enhanced_image_url,
            script=task.script,
        )
    except Exception as error:
        db.rollback()
        task.status = EnhancementStatus.FAILED
        task.error_message = str(error)
        db.commit()
        logger.publish_error(str(error))
        raise self.retry(exc=error, countdown=60) from error
    finally:
        db.close()
        logger.close()


def enhance(task: EnhancementTask, logger: SSELogger) -> None:
    client = OpenAI()
    logger.publish(10, "📖 Reading original image...")
    content = Path(task.original_image_path).read_bytes()
    logger.publish(15, f"✅ Image loaded ({len(content) / 1e6:.2f}MB)")
    logger.publish(20, "📐 Detecting image orientation...")
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    landscape = image.width >= image.height
    logger.publish(25, f"✅ Orientation: {'landscape' if landscape else 'portrait'} ({image.width}x{image.height})")
    logger.publish(30, f"🎨 Enhancing image with {IMAGE_MODEL}...")
    png = io.BytesIO(content)
    png.name = Path(task.original_image_path).name
    answer = client.images.edit(
        model=IMAGE_MODEL,
        image=png,
        prompt=f"Enhance this product photo. {task.user_description}",
        size="1536x1024" if landscape else "1024x1536",
        extra_body={"output_format": "jpeg" if EXTENSION == "jpg" else "png"},
    )
    drawn = base64.b64decode(answer.data[0].b64_json)
    enhanced = Image.open(io.BytesIO(drawn)).convert("RGB")
    logger.publish(50, f"✅ Image enhanced ({enhanced.width}x{enhanced.height})")
    logger.publish(55, "📐 Resizing for video requirements...")
    fitted = ImageOps.fit(enhanced, (1280, 720) if landscape else (720, 1280), Image.Resampling.LANCZOS)
    logger.publish(60, f"✅ Image resized for video ({fitted.width}x{fitted.height})")
    logger.publish(65, "💾 Saving enhanced image...")
    folder = UPLOAD_DIR / f"user_{task.user_id}" / "enhanced"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"dalle_enhanced_{uuid.uuid4().hex}.{EXTENSION}"
    fitted.save(path, **({"quality": 92} if EXTENSION == "jpg" else {}))
    task.enhanced_image_url = f"{BASE_URL}/uploads/user_{task.user_id}/enhanced/{path.name}"
    logger.publish(70, "✅ Enhanced image saved")
    logger.publish(75, f"🤖 Generating advertising script with {SCRIPT_MODEL}...")
    packed = base64.b64encode(path.read_bytes()).decode()
    mime = "image/jpeg" if EXTENSION == "jpg" else "image/png"
    written = client.chat.completions.create(
        model=SCRIPT_MODEL,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": f"Write a {task.duration} s script. {task.user_description}"},
                    {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{packed}"}},
                ],
            }
        ],
    )
    task.script = written.choices[0].message.content
    task.tokens_used = written.usage.total_tokens if written.usage else 0
    logger.publish(90, f"✅ Script generated ({len(task.script)} characters)")
