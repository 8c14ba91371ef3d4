"""
The copywriter: what was measured on the picture and what the user wrote, put into scenes.

No fact is added to the user's own. Lines are chosen by the picture's mood and by a hash of words and colours, so that
two products sound different and the same order gives the same script again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from enhancer import crafts, imaging
from enhancer.domain.scripts import Scene
from enhancer.errors import InvalidImage, ProviderRefused, UnsupportedImage
from enhancer.providers import OnWords, Script, ScriptBrief
from enhancer.providers.studio import words
from enhancer.providers.studio.chinese import CHINESE
from enhancer.providers.studio.copy import Copy
from enhancer.providers.studio.english import ENGLISH
from enhancer.providers.studio.looks import Level, Look, look

CUTS = {4: (2, 2), 8: (2, 4, 2), 12: (2, 4, 3, 3)}  # seconds of each scene
FILLED = 0.39  # at least this part of a scene is spoken, where a line allows: less is an awkward silence
PACE = 0.04  # seconds between two sentences that are watched being written
CAPTION_SECONDS = 4  # a caption is read faster than it would be said


class StudioScripts:
    """The offline studio's scripts, see providers.Scripts."""

    model = "offline-studio"
    billed = False
    longest_call = 0.0

    async def write(self, brief: ScriptBrief, on_words: OnWords | None = None) -> Script:
        """Measure the image and write; English, or Chinese for any language tag that begins with zh."""
        try:
            seen = await crafts.done(lambda: look(imaging.decode(brief.image)))
        except (InvalidImage, UnsupportedImage) as error:
            raise ProviderRefused("The offline studio cannot read this image.") from error
        written = compose(seen, brief.description, brief.duration, brief.language)
        if on_words:
            for end in re.finditer(r" \| |\n|$", written.script):  # what is seen, then what is said
                on_words(written.script[: end.start()])
                await asyncio.sleep(PACE)
        return written


def compose(seen: Look, description: str, duration: int, language: str) -> Script:
    """A script of exactly `duration` seconds and the analysis; the same for the same arguments."""
    copy = CHINESE if language.replace("_", "-").lower().split("-")[0] == "zh" else ENGLISH
    writer = _Writer(copy, seen, words.clauses(description), description)
    return Script("\n".join(map(str, writer.scenes(duration))), _analysis(copy, seen), tokens=0)


@dataclass(frozen=True, slots=True)
class _Writer:
    copy: Copy
    look: Look
    clauses: list[str]
    description: str

    def scenes(self, duration: int) -> list[Scene]:
        """Hook, product, close; in the shortest film the product is the hook, in the longest it gets a second look."""
        cuts = CUTS.get(duration, (duration,))
        parts = {1: [self._product], 2: [self._product, self._close], 3: [self._hook, self._product, self._close]}
        chosen = parts.get(len(cuts), [self._hook, self._product, self._detail, self._close])
        starts = [sum(cuts[:index]) for index in range(len(cuts))]
        return [
            Scene(start, start + seconds, *part(seconds))
            for start, seconds, part in zip(starts, cuts, chosen, strict=True)
        ]

    def _hook(self, seconds: int) -> tuple[str, str]:
        return self._opening(), self._pick("hook", self.copy.hooks[self.look.mood], seconds)

    def _product(self, seconds: int) -> tuple[str, str]:
        """The user's words when they can be said in time; else they are shown, and a line of ours is said."""
        first = seconds < 3
        seen = self._opening() if first else self._pick("product", self.copy.products, place=self._place())
        phrase = self._lead(seconds)
        if phrase:
            return seen, self._pick("phrase", self._phrases(phrase), seconds, phrase=phrase)
        if self.clauses:
            short = words.shortened(self.clauses[0], CAPTION_SECONDS) or self.clauses[0]
            seen += self.copy.caption.format(caption=words.caption(short))
        plain = self.copy.hooks[self.look.mood] if first else self.copy.plain
        return seen, self._pick("plain", plain + (self.copy.colour_plain if self.look.accent else ()), seconds)

    def _detail(self, seconds: int) -> tuple[str, str]:
        seen = self._pick("surface", self.copy.surfaces)
        more = next((found for clause in self._rest() if (found := words.shortened(clause, seconds))), None)
        if more:
            return seen, words.sentence(more)
        return seen, self._pick("detail", self.copy.details[self.look.mood], seconds)

    def _close(self, seconds: int) -> tuple[str, str]:
        closes = self.copy.closes if seconds < 3 else self.copy.long_closes
        return self._pick("ending", self.copy.endings), self._pick("close", closes, seconds)

    def _opening(self) -> str:
        tones = _tones(self.copy, self.look)
        return self._pick("opening", self.copy.openings[self.look.orientation], tones=tones)

    def _phrases(self, phrase: str) -> tuple[str, ...]:
        nouns = self.copy.nouns if words.is_noun_phrase(phrase) else ()
        return self.copy.phrases + nouns + (self.copy.colour_phrases if self.look.accent else ())

    def _lead(self, seconds: float) -> str | None:
        return next((found for clause in self.clauses[:2] if (found := words.shortened(clause, seconds))), None)

    def _rest(self) -> Sequence[str]:
        """The clauses that `_product` has left over."""
        lead = self._lead(CUTS[12][1])
        for index, clause in enumerate(self.clauses[:2]):
            if lead and clause.startswith(lead):
                return [*words.after(clause, lead), *self.clauses[index + 1 :]]
        return self.clauses[1:]

    def _place(self) -> str:
        return _place(self.copy, self.look)

    def _pick(self, part: str, lines: Sequence[str], seconds: float | None = None, **given: str) -> str:
        """One of the lines, filled in; with `seconds`, one that can be said in them, see FILLED."""
        filled = [self._fill(line, **given) for line in lines]
        if seconds is not None:
            fitting = [line for line in filled if words.seconds_to_say(line) <= seconds] or [min(filled, key=len)]
            filled = [line for line in fitting if words.seconds_to_say(line) >= FILLED * seconds] or fitting
        key = "\n".join((part, self.description, *self.look.palette))
        digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest()
        return filled[int.from_bytes(digest, "big") % len(filled)]

    def _fill(self, line: str, *, phrase: str = "", **given: str) -> str:
        names = [self.copy.colours[name] for name in self.look.palette]
        return line.format(
            sentence=words.sentence(phrase),
            continued=words.continued(phrase),
            colour=self.copy.colours[self.look.accent or self.look.palette[0]],
            colours=self.copy.pair.format(*names[:2]) if len(names) > 1 else names[0],
            detail=self.copy.sharpness[self.look.sharpness],
            **given,
        )


def _analysis(copy: Copy, seen: Look) -> str:
    """What was measured, one finding a line, and what would make the next photo better."""
    width, height = seen.size
    return "\n".join(
        (
            copy.frame.format(
                orientation=copy.orientations[seen.orientation], width=width, height=height, place=_place(copy, seen)
            ),
            copy.palette.format(palette=copy.separator.join(copy.colours[name] for name in seen.palette)),
            copy.light.format(tones=_tones(copy, seen), contrast=copy.contrast[seen.contrast]),
            copy.focus[seen.sharpness],
            copy.advice[_weakness(seen)],
            copy.origin,
        )
    )


def _weakness(seen: Look) -> str:
    """What to improve first (a key of Copy.advice)."""
    if seen.sharpness is Level.LOW:
        return "sharpness"
    if seen.light is Level.LOW:
        return "light"
    if abs(seen.focus[0] - 0.5) > 0.2:
        return "place"
    return "contrast" if seen.contrast is Level.LOW else "good"


def _tones(copy: Copy, seen: Look) -> str:
    tone = "warm" if seen.warmth > 9 else "cool" if seen.warmth < -6 else "neutral"
    return copy.tones[tone, seen.light]


def _place(copy: Copy, seen: Look) -> str:
    return copy.places[(seen.focus[0] > 0.4) + (seen.focus[0] > 0.6)]
