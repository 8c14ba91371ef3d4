"""What is known of an image without looking at its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Size = tuple[int, int]
"""Width and height, pixels."""


class Format(StrEnum):
    """The formats that are accepted and made; the value is the one that `IMAGE_FORMAT` and models use."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"

    @property
    def mime(self) -> str:
        """Such as image/jpeg."""
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        """Of file names, without a dot."""
        return "jpg" if self is Format.JPEG else self.value


class Orientation(StrEnum):
    """How an image stands, EXIF rotation applied."""

    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"

    @classmethod
    def of(cls, size: Size) -> Orientation:
        """Sides within 5 % of each other count as square."""
        width, height = size
        if max(size) <= 1.05 * min(size):
            return cls.SQUARE
        return cls.LANDSCAPE if width > height else cls.PORTRAIT

    @property
    def model_size(self) -> Size:
        """What the image model is asked for."""
        return {"landscape": (1536, 1024), "portrait": (1024, 1536), "square": (1024, 1024)}[self.value]

    @property
    def video_size(self) -> Size:
        """What a video needs; a square image keeps the model's size."""
        return {"landscape": (1280, 720), "portrait": (720, 1280), "square": (1024, 1024)}[self.value]


@dataclass(frozen=True, slots=True)
class Photo:
    """An image that was opened: its format by its bytes and its upright size (EXIF rotation applied)."""

    format: Format
    size: Size

    @property
    def orientation(self) -> Orientation:
        """See Orientation.of."""
        return Orientation.of(self.size)
