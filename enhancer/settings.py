"""All settings, read once from the environment or a `.env` file."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from enhancer.errors import SetupError


class Settings(BaseSettings):
    """
    One frozen value for the whole process.

    A field is the environment variable of the same name in capitals. An empty variable counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    # where things are kept
    data_dir: Path = Field(Path("data"), description="Folder of the embedded servers and of the secret key")
    database_url: SecretStr | None = Field(None, description="PostgreSQL; not set: an embedded one in DATA_DIR")
    redis_url: SecretStr | None = Field(None, description="Redis or Valkey; not set: an embedded one")
    upload_dir: Path | None = Field(None, description="Folder of originals and results; not set: DATA_DIR/uploads")
    storage_url: str | None = Field(None, description="Object store for the files, such as s3://bucket/folder")
    database_pool: int = Field(10, ge=2, le=200, description="PostgreSQL connections at most")

    # how it is reached
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one")
    base_url: str | None = Field(None, description="Address in links; not set: http://HOST:PORT")
    secret_key: SecretStr | None = Field(
        None, min_length=32, description="Signs tokens and links; not set: made once and kept in DATA_DIR"
    )
    secret_key_previous: SecretStr | None = Field(
        None, min_length=32, description="The key before: what it signed stays valid until it expires"
    )
    token_lifetime: int = Field(7 * 86400, ge=60, description="Account tokens are valid for this long, seconds")
    link_lifetime: int = Field(7 * 86400, ge=60, description="Links to files are valid for this long, seconds")
    trust_proxy: str | None = Field(
        None, description="Believe X-Forwarded-For of so many proxies before us, or of those in these networks"
    )
    cors_origins: str | None = Field(
        None, description="Pages of these origins may call, such as https://shop.example, with commas between"
    )
    max_upload_mb: int = Field(25, ge=1, le=200, description="Largest photo accepted, MB (10^6 bytes)")
    max_image_megapixels: int = Field(100, ge=1, le=500, description="Largest photo accepted, millions of pixels")
    max_streams: int = Field(10_000, ge=1, description="Open streams at most")
    user_stream_limit: int = Field(1000, ge=0, description="Open streams of one user at most; 0: no limit")
    address_stream_limit: int = Field(2000, ge=0, description="Open streams of one address at most; 0: no limit")
    user_request_limit: int = Field(6000, ge=0, description="Requests of one user a minute; 0: no limit")
    address_request_limit: int = Field(
        3000, ge=0, description="Requests a minute of one address without a valid token; 0: no limit"
    )
    user_upload_limit: int = Field(600, ge=0, description="Uploads of one user a minute; 0: no limit")
    address_upload_limit: int = Field(1200, ge=0, description="Uploads of one address a minute; 0: no limit")
    account_login_limit: int = Field(10, ge=0, description="Sign-ins tried for one account a minute; 0: no limit")
    address_login_limit: int = Field(30, ge=0, description="Sign-ins tried by one address a minute; 0: no limit")
    sync_wait: float = Field(120, ge=0, le=3600, description="The synchronous call waits this long, seconds")

    # the models
    openai_api_key: SecretStr | None = Field(None, description="Not set: the offline studio does the work")
    openai_base_url: str | None = Field(None, description="Another server of the same shape; not set: OpenAI")
    image_model: str = Field("gpt-image-2.5-flare", description="Image model")
    script_model: str = Field("gpt-6-luna", description="Language model; it must see images")
    image_quality: Literal["low", "medium", "high", "auto"] = Field("high", description="Asked of the image model")
    image_format: Literal["jpeg", "png", "webp"] = Field("jpeg", description="Asked of the image model")
    video_base_url: str | None = Field(
        None, description="A server of OpenAI's /videos shape; not set: videos are rendered here"
    )
    video_api_key: SecretStr | None = Field(None, description="Of the video server; not set: it asks for none")
    video_model: str | None = Field(None, description="Video model; not set: the one that the video server runs")
    call_timeout: float = Field(300, ge=1, description="A call of a model may take this long, seconds")

    # the work
    replica: str | None = Field(None, description="Name of this process among replicas; not set: host name and port")
    workers: int = Field(4, ge=0, le=256, description="Enhancements worked on at once; 0: this process only serves")
    video_workers: int = Field(4, ge=0, le=256, description="Videos worked on at once, beside the other tasks")
    user_running_limit: int = Field(
        2, ge=1, description="Tasks of one kind and user worked on at once, over all replicas"
    )
    user_pending_limit: int = Field(100, ge=1, description="Waiting tasks of one user at most")
    queue_limit: int = Field(10_000, ge=1, description="Waiting tasks of all users at most")
    task_timeout: float = Field(600, gt=0, description="Time limit of an enhancement, seconds")
    video_timeout: float = Field(1800, gt=0, description="Time limit of a video, seconds")
    max_retries: int = Field(3, ge=0, le=20, description="Further attempts after a failure that may pass")
    retry_delay: float = Field(2, gt=0, description="Pause before the first retry, seconds; doubled each time")
    lease: float = Field(60, gt=0, description="A worker that is silent for this long loses its task, seconds")
    poll_interval: float = Field(1, gt=0, description="Look for waiting tasks this often, seconds")
    shutdown_grace: float = Field(25, ge=0, description="Running calls may finish for this long at a stop, seconds")
    ambiguous_calls: Literal["repeat-once", "hold"] = Field(
        "repeat-once", description="What follows a paid call whose outcome cannot be known"
    )

    retention_days: float = Field(
        90, ge=0, description="Finished tasks go after so many days, with their files; 0: never"
    )

    log_format: Literal["text", "json"] = Field("text", description="How log lines look")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged")

    @property
    def uploads(self) -> Path:
        """The local folder of originals and results."""
        return self.upload_dir or self.data_dir / "uploads"

    @property
    def public_url(self) -> str:
        """The address that links begin with, without a slash at its end."""
        return (self.base_url or f"http://{_reachable(self.host)}:{self.port}").rstrip("/")

    @property
    def replica_name(self) -> str:
        """Two replicas on one machine listen on two ports, so the port tells them apart."""
        return self.replica or f"{socket.gethostname()}:{self.port}"

    @property
    def max_upload_bytes(self) -> int:
        """MAX_UPLOAD_MB in bytes."""
        return self.max_upload_mb * 1_000_000


def load(**overrides: object) -> Settings:
    """
    Read the settings; `overrides` go before the environment, except those that are None.

    Raises SetupError with one line that names each setting that is wrong, never its value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise SetupError(f"Settings that cannot be used: {wrong}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The file .env cannot be read ({type(error).__name__})") from None


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
