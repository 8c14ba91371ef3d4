"""The form of the copy tables: english.py and chinese.py hold one each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enhancer.domain.images import Orientation
from enhancer.providers.studio.looks import Level, Mood

Lines = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """
    Everything the studio can say in one language.

    What is said claims nothing of the product but what can be seen on its picture; facts come from the user's words.
    In braces: the user's phrase as a `sentence` or `continued` after a colon; `colour`, `colours`, `tones`, `place`,
    `detail` as they were measured; `caption`.
    """

    # said, by the scene's part; each fits the shortest scene of its part at words.WORDS_A_SECOND
    hooks: Mapping[Mood, Lines]
    phrases: Lines
    nouns: Lines  # for a phrase that is not a sentence itself
    colour_phrases: Lines  # for a picture with a striking colour
    plain: Lines  # when there are no words to use
    colour_plain: Lines
    details: Mapping[Mood, Lines]
    closes: Lines
    long_closes: Lines

    # seen
    openings: Mapping[Orientation, Lines]
    products: Lines
    surfaces: Lines
    endings: Lines
    caption: str

    # the words for what was measured
    colours: Mapping[str, str]
    pair: str
    tones: Mapping[tuple[str, Level], str]
    places: tuple[str, str, str]
    sharpness: Mapping[Level, str]

    # the analysis
    orientations: Mapping[Orientation, str]
    frame: str
    palette: str
    separator: str
    light: str
    contrast: Mapping[Level, str]
    focus: Mapping[Level, str]
    advice: Mapping[str, str]
    origin: str
