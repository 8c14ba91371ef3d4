"""
Captions set in type: a typeface that has every sign, lines broken well, a size at which they fit.

Lines are broken where their ends come out most even. Chinese and Japanese may break between any two signs, but not
before a closing mark or after an opening one (kinsoku), and best after a comma. Scripts without a typeface here are
not set at all: no caption is better than a row of boxes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from enhancer.domain.images import Size

_FONTS = Path(__file__).parent / "fonts"
_LEADING = 1.22  # distance of base lines, in type sizes; Chinese needs a little more
_CJK_LEADING = 1.34

_CJK = r"\u2e80-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
_PIECE = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
_PHRASE = re.compile(r"[^、。，．：；？！…—]+[、。，．：；？！…—”」』）》】]*|[、。，．：；？！…—]+")
_WORTH_A_PHRASE = 0.76  # of the largest size: what it may cost not to break Chinese within a phrase
_IS_CJK = re.compile(rf"[{_CJK}]")
# what may not begin a line, and what may not end one: JIS X 4051 and GB/T 15834, as far as captions need them
_NOT_FIRST = frozenset(
    "、。，．・：；？！…‥—～ー）】』」》〉〕］｝’”%％‰℃°,.:;?!)]}»›·々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"
)
_NOT_LAST = frozenset("（【『「《〈〔［｛‘“([{«‹¥￥$€£#＃")
_RESTS = frozenset("、。，．：；？！…—,.:;?!")
_RAGGED = 3.0  # what a line's emptiness costs, squared
_MID_PHRASE = 0.6  # what breaking Chinese within a phrase costs
_SPLIT_WORD = 4.0  # what breaking a word that would fit on a line of its own costs


class Weight(Enum):
    """Which cut of a typeface."""

    HEAVY = "heavy"
    MEDIUM = "medium"


_FILES: dict[Weight, tuple[str, ...]] = {
    Weight.HEAVY: ("Manrope-ExtraBold.ttf", "NotoSansSC-Bold.ttf"),
    Weight.MEDIUM: ("Manrope-Medium.ttf", "NotoSansSC-Bold.ttf"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Lines of type: the file and size of their typeface, their distance, and the room they take (pixels)."""

    lines: tuple[str, ...]
    file: str
    type_size: int
    leading: int
    size: Size

    def masks(self) -> list[Image.Image]:
        """For each line its ink (L, 255 where it is), all as wide as `size` and one `leading` high."""
        font = _font(self.file, self.type_size)
        return [self._mask(line, font) for line in self.lines]

    def _mask(self, line: str, font: ImageFont.FreeTypeFont) -> Image.Image:
        mask = Image.new("L", (self.size[0], self.leading))
        ascent, descent = font.getmetrics()
        place = (_bearing(line, font), (self.leading - ascent - descent) // 2)
        ImageDraw.Draw(mask).text(place, line, fill=255, font=font)
        return mask


def legible(text: str) -> str:
    """
    The text as it can be set: on one line, without markup, emoji and invisible signs.

    Empty when no typeface here has all of its letters.
    """
    text = unicodedata.normalize("NFC", text).replace("\ufe0f", "")  # asks for an emoji's coloured form
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] in "LMNPSZ")
    text = re.sub(r"[*_`~^|<>\\{}\[\]=]+|^[#\s]+", " ", text)
    covered = _covered(Weight.HEAVY, text)
    if any(unicodedata.category(c)[0] in "LMN" for c in text if c not in covered):
        return ""
    text = " ".join("".join(c for c in text if c in covered).split())
    return text if any(c.isalnum() for c in text) else ""


@lru_cache(maxsize=128)
def fit(
    text: str, room: Size, *, largest: int, smallest: int, most_lines: int, weight: Weight = Weight.HEAVY
) -> Setting:
    """
    Set a legible text into `room`, as large as it goes; what does not fit even at the `smallest` size is cut off.

    `largest`, `smallest`: type sizes, pixels. The setting is never larger than the room.
    """
    file = _file(weight, text)
    sizes = range(largest, smallest, -2)
    phrases = _phrases(text) if _IS_CJK.search(text) else []
    for size in sizes if phrases else []:
        if size < largest * _WORTH_A_PHRASE or max(map(_font(file, size).getlength, phrases)) > room[0] - 2:
            continue
        setting = _set(text, file, size, room[0], phrases)
        if setting.size[1] <= room[1] and len(setting.lines) <= most_lines:
            return setting
    for size in sizes:
        setting = _set(text, file, size, room[0])
        if setting.size[1] <= room[1] and len(setting.lines) <= most_lines and not _splits(setting, text):
            return setting
    return _cut(text, file, smallest, room, most_lines)


def lines(text: str, measure: float, font: ImageFont.FreeTypeFont, phrases: Sequence[str] = ()) -> list[str]:
    """
    The text in lines no longer than `measure` pixels, their ends as even as can be.

    The fewest lines that hold it; among those, the break that costs least (total-fit, as Knuth and Plass have it).
    `phrases`: those of the text, if it is to be broken only between them.
    """
    units = [(phrase, False) for phrase in phrases] or _unbreakable(text)
    pieces = _pieces(units, measure, font)
    if not pieces:
        return []
    fewest = len(_greedy(pieces, measure))
    best: list[tuple[int, float, int]] = [(0, 0.0, 0)]  # lines, cost, where the last line began
    for end in range(1, len(pieces) + 1):
        best.append(min(_endings(pieces, end, best, measure, fewest)))
    cuts, end = [], len(pieces)
    while end:
        cuts.append((best[end][2], end))
        end = best[end][2]
    return [_joined(pieces[start:end]) for start, end in reversed(cuts)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not broken: `text`, whether a space stands before it, its width, and what a break before it costs."""

    text: str
    spaced: bool
    width: float
    space: float
    cost: float


def _pieces(units: Sequence[tuple[str, bool]], measure: float, font: ImageFont.FreeTypeFont) -> list[_Piece]:
    space = font.getlength(" ")
    pieces: list[_Piece] = []
    for word, spaced in units:
        before = pieces[-1].text[-1] if pieces else ""
        cost = _MID_PHRASE if not spaced and before not in _RESTS else 0.0
        for index, part in enumerate(_parts(word, measure, font)):
            width = font.getlength(part)
            pieces.append(_Piece(part, spaced and not index, width, space, _SPLIT_WORD if index else cost))
    return pieces


def _phrases(text: str) -> list[str]:
    """A text cut after its commas and stops; empty when a space stands there, as in Latin text."""
    found = _PHRASE.findall(text)
    return [] if any(phrase != phrase.strip() for phrase in found) else found


def _unbreakable(text: str) -> list[tuple[str, bool]]:
    """The words and signs of a text, with what must stay with them; and whether a space stood before."""
    found: list[tuple[str, bool]] = []
    end = 0
    for match in _PIECE.finditer(text):
        piece, spaced = match[0], match.start() > end
        end = match.end()
        if found and not spaced and (piece[0] in _NOT_FIRST or found[-1][0][-1] in _NOT_LAST):
            found[-1] = (found[-1][0] + piece, found[-1][1])
        else:
            found.append((piece, spaced))
    return found


def _parts(word: str, measure: float, font: ImageFont.FreeTypeFont) -> list[str]:
    """A word; one that is longer than a line in parts that are not."""
    if font.getlength(word) <= measure:
        return [word]
    parts, start = [], 0
    for end in range(1, len(word) + 1):
        if font.getlength(word[start:end]) > measure and end - start > 1:
            parts.append(word[start : end - 1])
            start = end - 1
    return [*parts, word[start:]]


def _greedy(pieces: Sequence[_Piece], measure: float) -> list[float]:
    """The widths of the lines when each takes as much as it can."""
    widths = [pieces[0].width]
    for piece in pieces[1:]:
        wider = widths[-1] + piece.width + piece.space * piece.spaced
        if wider <= measure:
            widths[-1] = wider
        else:
            widths.append(piece.width)
    return widths


def _endings(
    pieces: Sequence[_Piece], end: int, best: Sequence[tuple[int, float, int]], measure: float, fewest: int
) -> list[tuple[int, float, int]]:
    """Every way to let a line end before piece `end`: the lines so far, their cost, where the line begins."""
    found: list[tuple[int, float, int]] = []
    width = 0.0
    for start in range(end - 1, -1, -1):
        piece = pieces[start]
        width += piece.width
        if width > measure and start < end - 1:
            break
        count, cost, _ = best[start]
        emptiness = max(0.0, 1 - width / measure)
        ragged = _RAGGED * emptiness**2 * (fewest > 1)
        found.append((count + 1, cost + ragged + piece.cost * (start > 0), start))
        width += piece.space * piece.spaced
    return found


def _joined(pieces: Sequence[_Piece]) -> str:
    return pieces[0].text + "".join(" " * piece.spaced + piece.text for piece in pieces[1:])


def _set(text: str, file: str, type_size: int, measure: int, phrases: Sequence[str] = ()) -> Setting:
    font = _font(file, type_size)
    leading = round(type_size * (_CJK_LEADING if _IS_CJK.search(text) else _LEADING))
    broken = tuple(lines(text, measure - 2, font, phrases))  # a pixel on each side for ink that leans out
    return Setting(broken, file, type_size, leading, (_width(broken, font), leading * len(broken)))


def _width(broken: Sequence[str], font: ImageFont.FreeTypeFont) -> int:
    return max((int(font.getlength(line)) + 2 for line in broken), default=0)


def _bearing(line: str, font: ImageFont.FreeTypeFont) -> int:
    """How far a line is moved so that its ink begins at the edge, in optical line with the others."""
    return 1 - int(font.getbbox(line)[0]) if not _IS_CJK.match(line) else 0


def _splits(setting: Setting, text: str) -> bool:
    """Whether a word is broken; a smaller size may spare it."""
    return len(" ".join(setting.lines).split()) > len(text.split()) and not _IS_CJK.search(text)


def _cut(text: str, file: str, type_size: int, room: Size, most_lines: int) -> Setting:
    """As many lines as there is room for, with an ellipsis when that is not all."""
    setting = _set(text, file, type_size, room[0])
    count = max(1, min(most_lines, room[1] // setting.leading))
    if len(setting.lines) <= count:
        return setting
    font = _font(file, type_size)
    kept = list(setting.lines[:count])
    kept[-1] = _shortened(kept[-1], room[0] - 2, font)
    return Setting(tuple(kept), file, type_size, setting.leading, (_width(kept, font), setting.leading * count))


def _shortened(line: str, measure: int, font: ImageFont.FreeTypeFont) -> str:
    while line and font.getlength(line + "…") > measure:
        line = line[:-1]
    return line.rstrip(" ,.;:、，。；：-–—") + "…"


def _file(weight: Weight, text: str) -> str:
    """The first typeface that has all of the text."""
    return next((file for file in _FILES[weight] if set(text) <= _signs(file)), _FILES[weight][-1])


def _covered(weight: Weight, text: str) -> frozenset[str]:
    """The signs of the typeface that has the most of the text's letters."""
    letters = [c for c in text if unicodedata.category(c)[0] in "LMN"]
    return max((_signs(file) for file in _FILES[weight]), key=lambda signs: sum(c in signs for c in letters))


@cache
def _signs(file: str) -> frozenset[str]:
    """Every sign that a typeface has, from the table that was made with it."""
    return frozenset((_FONTS / file.replace(".ttf", ".signs.txt")).read_text("utf-8").rstrip("\n"))


@lru_cache(maxsize=64)
def _font(file: str, type_size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONTS / file), type_size)
