"""A film from a brief: every frame of it, one after another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from enhancer import imaging
from enhancer.domain.images import Size
from enhancer.providers import VideoBrief
from enhancer.providers.studio.film import camera, captions
from enhancer.providers.studio.film.camera import Move
from enhancer.providers.studio.film.captions import Caption, Placed
from enhancer.providers.studio.film.card import Card, accent
from enhancer.providers.studio.film.gaze import Gaze, gaze
from enhancer.providers.studio.film.planes import BLACK, Colour, Mask, Planes
from enhancer.providers.studio.film.storyboard import RATE, Shot, shots
from enhancer.providers.studio.looks import look

FADE = 10  # frames that a cross-fade takes, half of them before the cut
_SHIFT = 0.07  # of the frame's height: how far the product makes way for captions
_VIGNETTE = 0.2  # of the light, lost in the corners


class Film:
    """A film that is cut and ready to be shown. Raises InvalidImage when the brief's picture cannot be read."""

    def __init__(self, brief: VideoBrief) -> None:
        image = imaging.decode(imaging.fit(brief.frame, brief.size))
        self.size = brief.size
        self.frames = brief.duration * RATE
        self._cut(image, shots(brief.prompt, brief.duration))

    def __iter__(self) -> Iterator[Planes]:
        """Each frame, drawn when it is asked for."""
        for number in range(self.frames):
            yield self.frame(number)

    def _cut(self, image: Image.Image, board: list[Shot]) -> None:
        seen, eye = look(image), gaze(image)
        photo, colour = Planes.of(image), accent(seen)
        outside = [shot for shot in board if not shot.card]
        places, paths = _arranged(outside, eye, self.size)
        vignette = _vignette(self.size)
        scenes: list[_Scene | Card] = [
            _Scene(photo, path, shot, _caption(place, shot, photo, path, colour), vignette)
            for shot, path, place in zip(outside, paths, places, strict=True)
        ]
        scenes += [Card(image, photo, seen, eye.product, shot.words, shot.frames) for shot in board if shot.card]
        self._scenes = list(zip(board, scenes, strict=True))

    def frame(self, number: int) -> Planes:
        """A frame of it, counted from 0; near a cut it shows two scenes."""
        index = next(index for index, (shot, _) in enumerate(self._scenes) if number < shot.end)
        shot, scene = self._scenes[index]
        picture = scene.draw(number - shot.start)
        since, left = number - shot.start, shot.end - number
        if since < FADE // 2 and index:
            before, other = self._scenes[index - 1]
            return other.draw(number - before.start).mixed(picture, _smooth((since + FADE / 2 + 0.5) / FADE))
        if left <= FADE // 2 and index + 1 < len(self._scenes):
            after, other = self._scenes[index + 1]
            return picture.mixed(other.draw(number - after.start), _smooth((FADE / 2 - left + 0.5) / FADE))
        return picture


class _Scene:
    """A shot of the photo: the camera's path, and a caption with what it stands on."""

    def __init__(
        self, photo: Planes, path: Move, shot: Shot, caption: tuple[Caption, Mask] | None, vignette: Mask
    ) -> None:
        self._photo, self._path, self._frames = photo, path, shot.frames
        self._caption, self._vignette = caption, vignette

    def draw(self, frame: int) -> Planes:
        """A frame of it; those shortly before and after it are seen while it is cross-faded."""
        picture = self._photo.view(self._path.at(frame / self._frames), self._photo.size)
        picture.y.paste(BLACK[0], (0, 0), self._vignette.fine)
        if self._caption:
            caption, scrim = self._caption
            strength = caption.strength(frame)
            if strength > 0:
                picture.paint(BLACK, scrim.faded(strength))
                caption.draw(picture, frame)
        return picture


def _arranged(outside: list[Shot], eye: Gaze, frame: Size) -> tuple[list[Placed | None], list[Move]]:
    """The captions, and the camera's paths with the product moved away from them."""
    places = captions.arranged(outside, eye, camera.moves(eye.product, len(outside), shift=0.0), frame)
    shift = next((-_SHIFT if place.top else _SHIFT for place in places if place), 0.0)
    return places, camera.moves(eye.product, len(outside), shift=shift)


def _caption(
    place: Placed | None, shot: Shot, photo: Planes, path: Move, colour: Colour
) -> tuple[Caption, Mask] | None:
    if place is None:
        return None
    behind = photo.view(path.at(0.5), photo.size)
    return Caption(place, shot.frames, colour), captions.scrim(place, photo.size, behind)


def _vignette(size: Size) -> Mask:
    y, x = np.ogrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    dark = np.clip((np.hypot(x, y) - 0.75) / (np.sqrt(2) - 0.75), 0, 1) ** 2 * _VIGNETTE * 255
    return Mask.of(Image.fromarray(dark.astype(np.uint8)))


def _smooth(part: float) -> float:
    part = min(max(part, 0.0), 1.0)
    return part * part * (3 - 2 * part)
