"""
What is shown when, and what is read meanwhile: a prompt becomes shots.

The scenes of a script are taken as they are timed. A prompt without scenes is cut into phrases, which are given the
shots of an advertisement of that length. What directs the camera is not for those who watch, and never read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from enhancer.domain import scripts
from enhancer.domain.scripts import Scene
from enhancer.providers.studio import words
from enhancer.providers.studio.film.typesetting import legible

RATE = 24  # frames a second
CUTS = {4: (2, 2), 8: (3, 3, 2), 12: (3, 3, 3, 3)}  # seconds of the shots of a prompt without scenes
LONGEST = 140  # signs of a caption; more cannot be read in a scene's time
# what is meant for whoever makes the film and not for who watches it
_DIRECTION = re.compile(
    r"\b(?:camera|zoom\w*|pan(?:s|ning)?|tilts?|dolly|push[- ]in|shots?|close-?up|footage|cinematic|video|film|clip|"
    r"advert\w*|commercial|lighting|frame|render\w*|fps|4k|pull back|hold on)\b"
    r"|镜头|画面|推近|拉远|特写|广告|短片|视频|光线|构图",
    re.IGNORECASE,
)
_SHORTEST = RATE // 2  # frames; a scene that is shorter than this is not seen as one


@dataclass(frozen=True, slots=True)
class Shot:
    """
    From frame `start` to before frame `end`: the photo, or at the film's end the `card`.

    `words` are read meanwhile, "" for none; `spoken`: they are what the script says, not what it shows.
    """

    start: int
    end: int
    words: str
    spoken: bool = True
    card: bool = False

    @property
    def frames(self) -> int:
        """How many."""
        return self.end - self.start


def shots(prompt: str, duration: int) -> list[Shot]:
    """The shots of a film of `duration` seconds, without a gap; the last is the end card if it has words."""
    found = _timed(scripts.scenes(prompt), duration * RATE) or _phrased(prompt, duration)
    if len(found) > 1 and found[-1].words:
        last = found[-1]
        found[-1] = Shot(last.start, last.end, last.words, last.spoken, card=True)
    return found


def _timed(scenes: list[Scene], frames: int) -> list[Shot]:
    """A shot a scene; a script of another length is stretched, one out of order is put in order."""
    scenes = sorted((scene for scene in scenes if scene.end > scene.start), key=lambda scene: scene.start)
    if not scenes:
        return []
    scale = frames / max(scene.end for scene in scenes)
    edges = [0] + [round(scene.start * scale) for scene in scenes[1:]] + [frames]
    found: list[Shot] = []
    for scene, start, end in zip(scenes, edges, edges[1:], strict=False):
        if end - start >= _SHORTEST or len(scenes) == 1:
            found.append(Shot(start, end, _caption(scene.said or _shown(scene.seen)), spoken=bool(scene.said)))
        elif found:
            before = found[-1]
            found[-1] = Shot(before.start, end, before.words, before.spoken)
    return [Shot(0, found[0].end, found[0].words, found[0].spoken), *found[1:]] if found else []


def _phrased(prompt: str, duration: int) -> list[Shot]:
    """Phrases of a prompt, in their order, one a shot; the first shot is silent when there is one phrase fewer."""
    cuts = CUTS.get(duration, (duration,))
    edges = [0]
    for seconds in cuts:
        edges.append(edges[-1] + seconds * RATE)
    clauses = [clause for clause in words.clauses(prompt) if not _DIRECTION.search(clause)]
    phrases = [phrase for clause in clauses if (phrase := _phrase(clause))][: len(cuts)]
    captions = [""] * (len(cuts) - len(phrases)) + phrases
    return [Shot(start, end, text) for start, end, text in zip(edges, edges[1:], captions, strict=False)]


def _shown(seen: str) -> str:
    """What a scene shows, when that is not only how it is filmed."""
    return "" if _DIRECTION.search(seen) else seen


def _phrase(clause: str) -> str:
    short = words.shortened(clause, words.seconds_to_say(clause) if len(clause) <= 60 else 5) or clause
    return _caption(words.sentence(words.caption(short, 72)) if not short.endswith("…") else short)


def _caption(text: str) -> str:
    text = legible(text)
    if len(text) <= LONGEST:
        return text
    return words.caption(text, LONGEST)
