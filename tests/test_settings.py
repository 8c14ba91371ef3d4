from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from enhancer import settings
from enhancer.errors import SetupError
from enhancer.settings import Settings

SECRETS = ("database_url", "redis_url", "secret_key", "openai_api_key", "video_api_key")
SECRET = "swordfish-swordfish-swordfish-swordfish"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and an environment in which no setting is set."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    return tmp_path


def complaint() -> str:
    """What is said about settings that cannot be used."""
    with pytest.raises(SetupError) as refused:
        settings.load()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_in_a_phrase(name: str) -> None:
    description = Settings.model_fields[name].description
    assert description
    assert not description.endswith(".")
    assert "\n" not in description


def test_every_setting_has_a_default() -> None:
    assert settings.load() == Settings()
    assert [name for name, field in Settings.model_fields.items() if field.is_required()] == []


def test_the_names_that_other_programs_use_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "DATABASE_URL": "postgresql://db",
        "REDIS_URL": "redis://redis",
        "BASE_URL": "https://example.com",
        "UPLOAD_DIR": "/srv/uploads",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = settings.load()
    assert found.database_url is not None
    assert found.redis_url is not None
    assert found.database_url.get_secret_value() == "postgresql://db"
    assert found.redis_url.get_secret_value() == "redis://redis"
    assert (found.base_url, found.upload_dir) == ("https://example.com", Path("/srv/uploads"))


@pytest.mark.parametrize("name", ["PORT", "port", "Port"])
def test_a_variable_is_the_setting_in_capitals_or_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "9000")
    assert settings.load().port == 9000


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert settings.load() == Settings.model_construct()


def test_a_file_of_settings_is_read(folder: Path) -> None:
    (folder / ".env").write_text('# ours\nPORT=9000\nBASE_URL="https://example.com"\nWORKERS=\nNOT_OURS=1\n')
    found = settings.load()
    assert (found.port, found.base_url, found.workers) == (9000, "https://example.com", 4)


def test_arguments_go_before_variables_and_those_before_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("PORT=9000\nHOST=file\nWORKERS=7\n")
    monkeypatch.setenv("PORT", "9001")
    monkeypatch.setenv("HOST", "variable")
    found = settings.load(port=9002, host=None)
    assert (found.port, found.host, found.workers) == (9002, "variable", 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", SECRET),
        ("WORKERS", "-1"),
        ("LEASE", "-0.25"),
        ("LEASE", "nan"),
        ("SECRET_KEY", SECRET[:31]),
        ("LOG_FORMAT", SECRET),
        ("AMBIGUOUS_CALLS", "repeat-twice"),
        ("IMAGE_FORMAT", "GIF"),
        ("DATABASE_POOL", "1"),
    ],
)
def test_a_wrong_value_is_told_by_name_and_never_shown(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    said = complaint()
    assert f"{name}: " in said
    assert value not in said


def test_all_that_is_wrong_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("WORKERS=many\n")
    monkeypatch.setenv("PORT", "first")
    said = complaint()
    assert "PORT: " in said
    assert "WORKERS: " in said


def test_a_wrong_argument_is_told_like_a_variable() -> None:
    with pytest.raises(SetupError, match="PORT: "):
        settings.load(port=-1)


def test_a_file_that_is_no_text_is_told(folder: Path) -> None:
    (folder / ".env").write_bytes(b"BASE_URL=https://m\xfcnchen.example\n")
    assert ".env" in complaint()


@pytest.mark.skipif(os.geteuid() == 0, reason="opt-in: as a plain user; root may read everything")
def test_a_file_that_may_not_be_read_is_told(folder: Path) -> None:
    (folder / ".env").write_text("PORT=9000\n")
    (folder / ".env").chmod(0)
    assert ".env" in complaint()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name.upper(), f"postgresql://user:{SECRET}@host/db")
    found = settings.load()
    for shown in (repr(found), str(found), str(found.model_dump()), found.model_dump_json()):
        assert SECRET not in shown


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        settings.load().port = 1  # type: ignore[misc]


def test_files_lie_in_the_data_folder_unless_a_folder_is_named() -> None:
    assert settings.load(data_dir="/srv/data").uploads == Path("/srv/data/uploads")
    assert settings.load(data_dir="/srv/data", upload_dir="/mnt").uploads == Path("/mnt")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("enhancer.example", "http://enhancer.example:8000"),
    ],
)
def test_links_begin_where_the_service_is_reached(host: str, url: str) -> None:
    assert settings.load(host=host).public_url == url


def test_a_given_address_goes_before_host_and_port() -> None:
    assert settings.load(base_url="https://example.com/ads/").public_url == "https://example.com/ads"


def test_replicas_on_one_machine_have_names_of_their_own() -> None:
    names = {settings.load(port=port).replica_name for port in (8000, 8001)}
    assert len(names) == 2
    assert settings.load(replica="left").replica_name == "left"


def test_megabytes_are_millions_of_bytes() -> None:
    assert settings.load(max_upload_mb=25).max_upload_bytes == 25_000_000
