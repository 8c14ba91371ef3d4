"""How log lines look: text for people, JSON for collectors."""

from __future__ import annotations

import json
import logging
import sys
import time

from enhancer.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings, *, level: str | None = None) -> None:
    """Log to stderr; `level` goes before LOG_LEVEL."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("enhancer").setLevel(level or settings.log_level)


class TextFormatter(logging.Formatter):
    """A task's life reads as its watchers see it; other events are their name and their fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, then a traceback if there is one."""
        fields = _fields(record)
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        if "text" in fields:
            where = f"[{fields.get('kind')} {fields.get('task')}]"
            body = f"{where} {fields.get('progress', ''):>3}% {fields['text']}"
            if code := fields.get("error_code"):
                body += f" ({code})"
        else:
            body = " ".join([record.getMessage(), *(f"{name}={value}" for name, value in fields.items())])
        line = f"{clock} {record.levelname:<7} {' '.join(body.splitlines())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since 1970), level, logger, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
