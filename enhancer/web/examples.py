"""Realistic requests, answers and events, for the documentation."""

from __future__ import annotations

from collections.abc import Mapping

Example = Mapping[str, object]

_BASE = "https://ads.example.com"
_TASK = f"{_BASE}/api/v1/ai/enhance-and-script/1"
_IMAGE = f"{_BASE}/uploads/user_1/enhanced/enhanced_k3Vw9xPqLr2T.jpg?token=eyJhbGciOi..."
_THUMBNAIL = f"{_BASE}/uploads/user_1/enhanced/thumbnail_k3Vw9xPqLr2T.jpg?token=eyJhbGciOi..."
_SCRIPT = (
    "[0:00-0:02] Steam rises from a red cup in the morning sun. | Some mornings need more.\n"
    "[0:02-0:04] A hand lifts the cup; the light catches the crema. | Strong. Smooth. Yours."
)
_ANALYSIS = "A red ceramic cup of espresso with a dense crema, shot from the side on a wooden counter."
_REJECTED = "The provider's safety system rejected the image or the description."

_ORDER: Example = {"user_description": "A strong espresso in a red cup", "duration": 4, "language": "en"}

_SHORT_PENDING: Example = {
    "id": 1,
    "status": "pending",
    "progress": 0,
    "message": "",
    "enhanced_image_url": None,
    "script": None,
    "product_analysis": None,
    "tokens_used": 0,
    "processing_time": None,
    "error_message": None,
    "error_code": None,
    "updated_at": "2026-03-01T09:30:00.120000Z",
    "queue_position": 3,
    "eta_seconds": 42.5,
}

SHORT_PROCESSING: Example = {
    **_SHORT_PENDING,
    "queue_position": None,
    "eta_seconds": 14.2,
    "status": "processing",
    "progress": 30,
    "message": "🎨 Enhancing image with gpt-image-2.5-flare...",
    "processing_time": 0.412,
    "updated_at": "2026-03-01T09:30:00.541000Z",
}

SHORT_COMPLETED: Example = {
    **_SHORT_PENDING,
    "queue_position": None,
    "eta_seconds": None,
    "status": "completed",
    "progress": 100,
    "message": "🎉 Enhancement completed successfully!",
    "enhanced_image_url": _IMAGE,
    "script": _SCRIPT,
    "product_analysis": _ANALYSIS,
    "tokens_used": 1250,
    "processing_time": 15.5,
    "updated_at": "2026-03-01T09:30:15.629000Z",
}

SHORT_FAILED: Example = {
    **SHORT_PROCESSING,
    "eta_seconds": None,
    "status": "failed",
    "message": _REJECTED,
    "processing_time": 4.2,
    "error_message": _REJECTED,
    "error_code": "provider_rejected_image",
    "updated_at": "2026-03-01T09:30:04.329000Z",
}

SHORT_CANCELLED: Example = {
    **SHORT_PROCESSING,
    "eta_seconds": None,
    "status": "cancelled",
    "message": "🛑 Cancelled",
    "updated_at": "2026-03-01T09:30:07.003000Z",
}

CALLS: Example = {
    "calls": [
        {
            "step": "redraw",
            "model": "gpt-image-2.5-flare",
            "billed": True,
            "outcome": "done",
            "usage": {"total_tokens": 890},
            "started_at": "2026-03-01T09:30:00.541000Z",
            "finished_at": "2026-03-01T09:30:09.417000Z",
        }
    ]
}

_WHOLE: Example = {
    "user_id": 1,
    "original_image_path": "/uploads/user_1/originals/original_k3Vw9xPqLr2T.jpg",
    **_ORDER,
    "image_model": "gpt-image-2.5-flare",
    "script_model": "gpt-6-luna",
    "created_at": "2026-03-01T09:30:00.120000Z",
    "completed_at": None,
    "thumbnail_url": None,
    "status_url": f"{_TASK}/status",
    "stream_url": f"{_TASK}/stream?token=eyJhbGciOi...",
}

TASK_PENDING: Example = {**_SHORT_PENDING, **_WHOLE}
TASK_PROCESSING: Example = {**SHORT_PROCESSING, **_WHOLE}
TASK_COMPLETED: Example = {
    **SHORT_COMPLETED,
    **_WHOLE,
    "completed_at": SHORT_COMPLETED["updated_at"],
    "thumbnail_url": _THUMBNAIL,
}
TASKS: Example = {"items": [TASK_COMPLETED], "next_cursor": None}

EVENTS: Mapping[str, Example] = {
    "running": {
        "progress": 50,
        "message": "✅ Image enhanced (1536x1024)",
        "status": "processing",
        "queue_position": None,
        "eta_seconds": 6.8,
        "timestamp": 1772357409.417,
    },
    "completed": {
        "progress": 100,
        "message": "🎉 Enhancement completed successfully!",
        "status": "completed",
        "enhanced_image_url": _IMAGE,
        "script": _SCRIPT,
        "product_analysis": _ANALYSIS,
        "timestamp": 1772357415.629,
    },
    "failed": {
        "progress": -1,
        "status": "failed",
        "error": _REJECTED,
        "error_code": "provider_rejected_image",
        "timestamp": 1772357404.329,
    },
    "cancelled": {
        "progress": 50,
        "message": "🛑 Cancelled",
        "status": "cancelled",
        "timestamp": 1772357407.003,
    },
}

_VIDEO = f"{_BASE}/api/v1/videos/2"
_CLIP = f"{_BASE}/uploads/user_1/videos/%s_Wm2uVq8ZtC1r.%s?token=eyJhbGciOi..."
_OVERLOADED = "The provider accepted the order and could not carry it out."

VIDEO_ORDER: Example = {"enhancement_id": 1}
VIDEO_PROMPT: Example = {
    "enhancement_id": 1,
    "prompt": "Steam rises from the cup; the camera circles it.",
    "duration": 8,
}

VIDEO_PENDING: Example = {
    "id": 2,
    "user_id": 1,
    "enhancement_id": 1,
    "prompt": _SCRIPT,
    "duration": 4,
    "language": "en",
    "status": "pending",
    "step": 0,
    "progress": 0,
    "message": "",
    "video_url": None,
    "thumbnail_url": None,
    "poster_url": None,
    "width": None,
    "height": None,
    "video_model": "wan-3",
    "queue_position": 1,
    "eta_seconds": 88.0,
    "error_message": None,
    "error_code": None,
    "processing_time": None,
    "created_at": "2026-03-01T09:31:00.120000Z",
    "updated_at": "2026-03-01T09:31:00.120000Z",
    "completed_at": None,
    "status_url": _VIDEO,
    "stream_url": f"{_VIDEO}/stream?token=eyJhbGciOi...",
}

VIDEO_PROCESSING: Example = {
    **VIDEO_PENDING,
    "queue_position": None,
    "eta_seconds": 31.5,
    "status": "processing",
    "step": 5,
    "progress": 62,
    "message": "🎬 Rendering video... 62%",
    "width": 1280,
    "height": 720,
    "processing_time": 41.3,
    "updated_at": "2026-03-01T09:31:41.541000Z",
}

VIDEO_COMPLETED: Example = {
    **VIDEO_PROCESSING,
    "eta_seconds": None,
    "status": "completed",
    "step": 9,
    "progress": 100,
    "message": "🎉 Video completed successfully!",
    "video_url": _CLIP % ("video", "mp4"),
    "thumbnail_url": _CLIP % ("thumbnail", "jpg"),
    "poster_url": _CLIP % ("poster", "jpg"),
    "processing_time": 75.5,
    "updated_at": "2026-03-01T09:32:15.629000Z",
    "completed_at": "2026-03-01T09:32:15.629000Z",
}

VIDEOS: Example = {"items": [VIDEO_COMPLETED], "next_cursor": None}

VIDEO_FAILED: Example = {
    **VIDEO_PROCESSING,
    "eta_seconds": None,
    "status": "failed",
    "message": _OVERLOADED,
    "error_message": _OVERLOADED,
    "error_code": "provider_refused",
    "completed_at": "2026-03-01T09:31:41.541000Z",
}

VIDEO_CANCELLED: Example = {
    **VIDEO_PROCESSING,
    "status": "cancelled",
    "message": "🛑 Cancelled",
    "completed_at": "2026-03-01T09:31:41.541000Z",
}

VIDEO_ORDERS: Example = {
    "calls": [
        {
            "step": "render",
            "model": "wan-3",
            "billed": True,
            "outcome": "done",
            "usage": {},
            "started_at": "2026-03-01T09:31:00.541000Z",
            "finished_at": "2026-03-01T09:32:15.417000Z",
        }
    ]
}

VIDEO_EVENTS: Mapping[str, Example] = {
    "running": {
        "step": 5,
        "progress": 62,
        "message": "🎬 Rendering video... 62%",
        "status": "processing",
        "timestamp": 1772357501.541,
    },
    "completed": {
        "step": 9,
        "progress": 100,
        "message": "🎉 Video completed successfully!",
        "status": "completed",
        "video_url": _CLIP % ("video", "mp4"),
        "thumbnail_url": _CLIP % ("thumbnail", "jpg"),
        "poster_url": _CLIP % ("poster", "jpg"),
        "timestamp": 1772357535.629,
    },
    "failed": {
        "step": -1,
        "progress": 62,
        "status": "failed",
        "error": _OVERLOADED,
        "error_code": "provider_refused",
        "timestamp": 1772357501.541,
    },
    "cancelled": {
        "step": 5,
        "progress": 62,
        "message": "🛑 Cancelled",
        "status": "cancelled",
        "timestamp": 1772357501.541,
    },
}

LOGIN: Example = {"email": "you@example.com", "password": "correct horse battery staple"}
TOKEN: Example = {"access_token": "eyJhbGciOi...", "token_type": "bearer", "expires_in": 604800}

ALIVE: Example = {"status": "ok"}
READY: Example = {"status": "ready", "postgresql": "ok", "redis": "ok", "storage": "ok"}
WITHOUT_REDIS: Example = {**READY, "redis": "unreachable"}
NOT_READY: Example = {**READY, "status": "not ready", "postgresql": "unreachable"}

SEVERAL: Example = {"tasks": ["enhancement:1", "video:2"]}
SEVERAL_LINK: Example = {
    "stream_url": f"{_BASE}/api/v1/events?tasks=enhancement:1,video:2&token=eyJhbGciOi...",
}
SEVERAL_EVENTS: Mapping[str, Example] = {
    "an enhancement's": {**EVENTS["running"], "task": "enhancement:1"},
    "a video's": {
        "step": 5,
        "progress": 62,
        "message": "🎬 Rendering video... 62%",
        "status": "processing",
        "timestamp": 1772357410.2,
        "task": "video:2",
    },
}
