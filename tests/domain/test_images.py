"""Sizes, orientations, formats."""

from __future__ import annotations

import pytest

from enhancer.domain.images import Format, Orientation, Photo, Size


@pytest.mark.parametrize(
    ("size", "orientation"),
    [
        ((1280, 720), Orientation.LANDSCAPE),
        ((720, 1280), Orientation.PORTRAIT),
        ((1000, 1000), Orientation.SQUARE),
        ((1050, 1000), Orientation.SQUARE),
        ((1000, 1050), Orientation.SQUARE),
        ((1051, 1000), Orientation.LANDSCAPE),
        ((1000, 1051), Orientation.PORTRAIT),
    ],
)
def test_sides_within_five_percent_are_square(size: Size, orientation: Orientation) -> None:
    assert Photo(Format.JPEG, size).orientation is orientation


def test_the_sizes_of_each_orientation_stand_as_the_orientation_does() -> None:
    for orientation in Orientation:
        assert Orientation.of(orientation.model_size) is orientation
        assert Orientation.of(orientation.video_size) is orientation


def test_formats_know_their_mime_and_extension() -> None:
    assert {(kind.value, kind.mime, kind.extension) for kind in Format} == {
        ("jpeg", "image/jpeg", "jpg"),
        ("png", "image/png", "png"),
        ("webp", "image/webp", "webp"),
    }
