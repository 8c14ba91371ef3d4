from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from enhancer import clips
from enhancer.errors import ProviderBadAnswer, SetupError
from tests.movies import RED, movie

SIZE = (320, 180)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return movie(tmp_path_factory.mktemp("movies") / "good.mp4")


def test_a_good_video_is_measured(good: Path) -> None:
    found = clips.check(good, size=SIZE, duration=4)
    assert (found.size, found.frames) == (SIZE, 96)
    assert found.seconds == pytest.approx(4.0)


@pytest.mark.parametrize(("frames", "rate"), [(97, 24), (120, 30), (81, 20), (65, 16), (90, 24), (240, 60)])
def test_what_models_really_deliver_for_four_seconds_passes(frames: int, rate: int, tmp_path: Path) -> None:
    found = clips.check(movie(tmp_path / "v.mp4", frames=frames, rate=rate), size=SIZE, duration=4)
    assert found.frames == frames
    assert found.seconds == pytest.approx(frames / rate)


def test_a_side_of_another_block_size_passes_and_is_told(tmp_path: Path) -> None:
    assert clips.check(movie(tmp_path / "v.mp4", size=(320, 176)), size=SIZE, duration=4).size == (320, 176)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"size": (180, 320)}, "180x320, not 320x180"),
        ({"size": (320, 160)}, "320x160"),
        ({"frames": 1}, "0.0 s long"),
        ({"frames": 72}, "3.0 s long"),
        ({"frames": 240}, "long, not 4 s"),
        ({"frames": 40, "rate": 10}, "10.0 frames a second"),
        ({"form": "matroska"}, "not an MP4"),
    ],
)
def test_another_video_than_the_one_ordered_is_a_bad_answer(
    given: dict[str, int], complaint: str, tmp_path: Path
) -> None:
    path = movie(tmp_path / "v.mp4", **given)  # type: ignore[arg-type]
    with pytest.raises(ProviderBadAnswer, match=complaint):
        clips.check(path, size=SIZE, duration=4)


def test_it_is_not_read_further_than_a_right_one_goes(tmp_path: Path) -> None:
    path = movie(tmp_path / "v.mp4", frames=400)
    with pytest.raises(ProviderBadAnswer, match=r"4\.6 s long"):
        clips.check(path, size=SIZE, duration=4)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_a_bad_answer(good: Path, kept: float, tmp_path: Path) -> None:
    data = good.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ProviderBadAnswer):
        clips.check(cut, size=SIZE, duration=4)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_file_whose_index_comes_first_is_missed_at_its_end_too(good: Path, kept: float, tmp_path: Path) -> None:
    data = moov_first(good.read_bytes())
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data)
    assert clips.check(cut, size=SIZE, duration=4).frames == 96
    cut.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ProviderBadAnswer):
        clips.check(cut, size=SIZE, duration=4)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_damage_in_the_middle_is_found(good: Path, place: float, tmp_path: Path) -> None:
    data = bytearray(good.read_bytes())
    at = int(len(data) * place)
    data[at : at + 400] = bytes(400)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    with pytest.raises(ProviderBadAnswer):
        clips.check(bad, size=SIZE, duration=4)


@pytest.mark.parametrize("data", [b"", b"<html>502 Bad Gateway</html>", b"\0\0\0\x18ftypmp42" + bytes(400)])
def test_what_is_no_video_is_a_bad_answer(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(data)
    for look in (lambda: clips.check(path, size=SIZE, duration=4), lambda: clips.poster(path)):
        with pytest.raises(ProviderBadAnswer):
            look()


def test_a_missing_file_is_not_the_providers_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        clips.check(tmp_path / "none.mp4", size=SIZE, duration=4)


def test_the_poster_shows_the_video_as_large_as_it_is_and_in_its_colours(good: Path) -> None:
    with Image.open(io.BytesIO(clips.poster(good))) as picture:
        assert (picture.format, picture.size) == ("JPEG", SIZE)
        pixel = picture.getpixel((10, 170))
    assert isinstance(pixel, tuple)
    assert max(abs(a - b) for a, b in zip(pixel, RED, strict=True)) <= 6


def test_the_poster_is_not_a_black_frame(tmp_path: Path) -> None:
    with Image.open(io.BytesIO(clips.poster(movie(tmp_path / "v.mp4", black=50)))) as picture:
        assert picture.convert("L").histogram()[200:] != [0] * 56


def test_the_thumbnail_is_small(good: Path) -> None:
    data = clips.thumbnail(clips.poster(good), side=160)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 90))
    assert len(data) < 8_000


def test_without_pyav_one_line_says_what_to_install(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clips.available()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SetupError, match=r"pip install 'enhancer\[video\]'"):
        clips.check(good, size=SIZE, duration=4)


def moov_first(data: bytes) -> bytes:
    """The same MP4 with its index before its pictures, the offsets in it moved accordingly."""
    atoms, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        atoms.append(data[at : at + length])
        at += length
    moov = bytearray(next(atom for atom in atoms if atom[4:8] == b"moov"))
    table = moov.index(b"stco")
    for entry in range(int.from_bytes(moov[table + 8 : table + 12], "big")):
        place = table + 12 + 4 * entry
        moov[place : place + 4] = (int.from_bytes(moov[place : place + 4], "big") + len(moov)).to_bytes(4, "big")
    rest = [atom for atom in atoms if atom[4:8] != b"moov"]
    return b"".join([rest[0], bytes(moov), *rest[1:]])
