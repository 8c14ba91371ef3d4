"""The copywriter: its form holds whatever people write, and it invents nothing."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from enhancer.domain.images import Format, Orientation, Size
from enhancer.domain.scripts import fits, scenes
from enhancer.errors import ProviderRefused
from enhancer.providers import Script, ScriptBrief, Scripts
from enhancer.providers.studio import StudioScripts, words
from enhancer.providers.studio.chinese import CHINESE
from enhancer.providers.studio.copy import Copy
from enhancer.providers.studio.english import ENGLISH
from enhancer.providers.studio.looks import QUIET, SWATCHES, Level, Look, Mood, look
from enhancer.providers.studio.scripts import CUTS, FILLED, compose

PHOTOS = Path(__file__).parents[1] / "photos"
WARM = Look(
    size=(1280, 720),
    palette=("terracotta", "dark brown", "cream"),
    accent="terracotta",
    mood=Mood.WARM,
    light=Level.MIDDLE,
    contrast=Level.HIGH,
    sharpness=Level.HIGH,
    warmth=20.0,
    focus=(0.5, 0.5),
)
LANGUAGES = ["en", "zh"]
DURATIONS = sorted(CUTS)

LOOKS = st.builds(
    Look,
    size=st.sampled_from([(1280, 720), (720, 1280), (1024, 1024)]),
    palette=st.lists(st.sampled_from(sorted(SWATCHES)), min_size=1, max_size=3, unique=True).map(tuple),
    accent=st.none() | st.sampled_from(sorted(SWATCHES.keys() - QUIET)),
    mood=st.sampled_from(Mood),
    light=st.sampled_from(Level),
    contrast=st.sampled_from(Level),
    sharpness=st.sampled_from(Level),
    warmth=st.floats(-60, 60),
    focus=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
HOSTILE = st.lists(
    st.sampled_from(
        [
            "[0:00-0:04]",
            "0:00-0:02 Forged scene | forged words",
            "\n[0:02-0:04] Forged",
            "｜",
            "|",
            "\r\n",
            "\u2028",
            "\x85",
            "\x00",
            "\ud800",
            "\u202e",
            "】【",
            "{sentence}",
            "{0}",
            "%s",
            "12:30-13:30",
            "coffee",
            "，",
            "的",
            "咖啡",
            "…",
            "“",
            ". ",
            " - ",
            "#",
            "<b>",
            "🎉",
            "https://example.com/0:00-0:02",
            "x" * 300,
            "字" * 300,
        ]
    ),
    max_size=12,
).map("".join)
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=200) | HOSTILE


def said(script: Script) -> list[str]:
    return [scene.said for scene in scenes(script.script)]


def spoken_too_long(script: Script) -> list[str]:
    found = scenes(script.script)
    return [scene.said for scene in found if words.seconds_to_say(scene.said) > scene.end - scene.start + 1e-9]


@given(TEXTS, st.sampled_from(DURATIONS), st.sampled_from(["en", "zh", "fr", "zh-TW", ""]), LOOKS)
@example("[0:00-0:04] Forged | words\n[0:04-0:08] more", 4, "en", WARM)
@example("{sentence}{colour!r}{0.__class__}", 12, "zh", WARM)
@settings(max_examples=400, deadline=None)
def test_whatever_people_write_the_scenes_fill_the_time(text: str, duration: int, language: str, seen: Look) -> None:
    made = compose(seen, text, duration, language)
    assert fits(made.script, duration)
    found = scenes(made.script)
    assert tuple(scene.end - scene.start for scene in found) == CUTS[duration]
    assert all(scene.seen and scene.said for scene in found)
    assert not spoken_too_long(made)
    assert made.script.count("|") == len(found) == len(made.script.splitlines())
    for text in (made.script, made.product_analysis):
        text.encode("utf-8")
        assert not [c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert made.tokens == 0


@pytest.mark.parametrize("duration", [1, 3, 5, 6, 30])
def test_another_duration_is_one_scene(duration: int) -> None:
    assert fits(compose(WARM, "A red cup", duration, "en").script, duration)


@pytest.mark.parametrize(("duration", "count"), [(4, 2), (8, 3), (12, 4)])
def test_a_longer_film_has_more_scenes(duration: int, count: int) -> None:
    assert len(scenes(compose(WARM, "A red cup", duration, "en").script)) == count


@pytest.mark.parametrize("language", ["zh", "zh-CN", "zh-Hans", "zh-TW", "ZH", "zh_CN", "zh-Hant-HK"])
def test_chinese_in_all_its_tags_is_chinese(language: str) -> None:
    assert re.search("[\u4e00-\u9fff]", compose(WARM, "", 4, language).script)


@pytest.mark.parametrize("language", ["en", "en-GB", "de", "fr-CA", "", "zhx", "chinese"])
def test_any_other_language_is_english(language: str) -> None:
    made = compose(WARM, "", 4, language)
    assert made == compose(WARM, "", 4, "en")
    assert made.script.isascii()


# the user's words


@pytest.mark.parametrize("duration", DURATIONS)
@pytest.mark.parametrize(
    ("text", "language", "phrase"),
    [
        ("Organic cotton cat bed", "en", "Organic cotton cat bed"),
        ("vintage lamp", "en", "intage lamp"),
        ("We repair old watches, with love and patience. Ask Tom.", "en", "We repair old watches"),
        ("red, white and blue mugs, made by Anna", "en", "ed, white and blue mugs"),
        ("iPhone case 🎉 $12.50!!", "en", "iPhone case $12.50"),
        ("手工陶瓷杯，采用传统工艺制作", "zh", "手工陶瓷杯"),
        ("手工陶瓷杯，采用传统工艺制作", "en", "手工陶瓷杯"),
        ("Bio-Honig aus dem Wald, vom Imker", "en", "Bio-Honig aus dem Wald"),
        ("<b>Fresh</b> #bread", "en", "Fresh bread"),
    ],
)
def test_the_product_is_named_in_the_users_words(text: str, language: str, phrase: str, duration: int) -> None:
    assert phrase in " ".join(said(compose(WARM, text, duration, language)))


def test_a_phrase_is_cut_where_it_stands_alone() -> None:
    long = "A lovely ceramic mug that keeps your coffee warm for hours and hours"
    assert "A lovely ceramic mug." in " ".join(said(compose(WARM, long, 4, "en"))).replace("a lovely", "A lovely")
    assert words.shortened("采用传统工艺手工制作的陶瓷咖啡杯", 2) == "陶瓷咖啡杯"
    assert words.shortened("Hand-roasted espresso from Lisbon, served in a red cup", 2.1) == (
        "Hand-roasted espresso from Lisbon"
    )
    assert words.shortened("a hand made mug of the kind one likes to hold", 1.5) is None


def test_what_cannot_be_said_in_time_is_shown() -> None:
    long = "Seventeen extraordinarily comfortable handcrafted garden chairs of weathered oak"
    made = compose(WARM, long, 4, "en")
    assert "Seventeen" not in " ".join(said(made))
    assert "Caption: Seventeen extraordinarily comfortable…" in made.script
    assert "字幕：" in compose(WARM, "字" * 100, 12, "zh").script


def test_the_longest_film_says_what_the_product_scene_left_over() -> None:
    assert "Open every day from 8:00." in said(
        compose(WARM, "Hand-roasted espresso. Open every day from 8:00.", 12, "en")
    )
    assert "送礼自用两相宜。" in said(compose(WARM, "手工陶瓷杯，采用传统工艺制作，送礼自用两相宜", 12, "zh"))


def test_a_sentence_is_not_introduced_as_a_thing() -> None:
    for text in ("We fix bikes", "This is our new soap", "Our menu is here", "It never leaks"):
        for palette in itertools.permutations(["red", "navy", "cream"]):
            seen = dataclasses.replace(WARM, palette=palette)
            assert not re.search(r"Introducing|Here it is|Meet|Look closer:", compose(seen, text, 8, "en").script)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  \n\t ", []),
        ("...!?", []),
        ("🎉🎉🎉", []),
        ("Tea. No. 5 blend! 2.5 l", ["Tea", "No. 5 blend", "2.5 l"]),
        ("Open 8:00-18:00\nCall us", ["Open", "Call us"]),
        ("see https://example.com/a,b now", ["see", "now"]),
        ("茶。好喝！真的", ["茶", "好喝", "真的"]),
        ("one – two — three", ["one", "two", "three"]),
        ("a|b｜c [d] {e}", ["a b c d e"]),
        ("nul\x00and\ud800bidi\u202eend", ["nul andbidiend"]),
    ],
)
def test_words_are_taken_apart_where_their_author_did(text: str, clauses: list[str]) -> None:
    assert words.clauses(text) == clauses


def test_speech_is_timed_by_words_and_signs() -> None:
    assert words.seconds_to_say("one two three four five") == 2
    assert words.seconds_to_say("九个字正好说两秒钟") == 2
    assert words.seconds_to_say("2.5 l, don't!") == pytest.approx(3 / 2.5)
    assert words.seconds_to_say("…!") == 0


# the copy


@pytest.mark.parametrize("copy", [ENGLISH, CHINESE])
def test_every_line_can_be_said_in_the_shortest_scene_of_its_part(copy: Copy) -> None:
    parts: list[tuple[float, tuple[str, ...]]] = [(2, lines) for lines in copy.hooks.values()]
    parts += [(3, lines) for lines in copy.details.values()]
    parts += [(2, copy.closes), (3, copy.long_closes), (4, copy.plain)]
    for seconds, lines in parts:
        assert len(set(lines)) == len(lines) >= 3
        assert not [line for line in lines if not FILLED * seconds <= words.seconds_to_say(line) <= seconds]


@pytest.mark.parametrize("copy", [ENGLISH, CHINESE])
def test_both_languages_can_say_everything(copy: Copy) -> None:
    assert copy.colours.keys() == SWATCHES.keys()
    assert copy.hooks.keys() == copy.details.keys() == set(Mood)
    assert copy.openings.keys() == copy.orientations.keys() == set(Orientation)
    assert copy.tones.keys() == set(itertools.product(("warm", "cool", "neutral"), Level))
    assert copy.sharpness.keys() == copy.contrast.keys() == copy.focus.keys() == set(Level)
    assert copy.advice.keys() == ENGLISH.advice.keys()


def test_the_copy_promises_nothing() -> None:
    """No price, discount, award, material, health, origin or scarcity that the user did not write."""
    claims = (
        r"\d|%|free|sale|discount|cheap|price|award|best|number one|organic|natural|health|cure|genuine|leather|cotton"
        r"|handmade|local|imported|last chance|limited|hurry|only|while stocks|guarantee|official|new\b"
        "|免费|折|优惠|特价|价格|最好|第一(?!眼)|冠军|获奖|有机|天然|健康|疗效|真皮|纯棉|手工|进口|产地|限量|仅剩|最后|抢购|保证|正品|全新"
    )
    for language, seen in itertools.product(LANGUAGES, _every_mood()):
        for duration in DURATIONS:
            for line in said(compose(seen, "", duration, language)):
                assert not re.search(claims, line, re.IGNORECASE), line


def _every_mood() -> list[Look]:
    names = sorted(SWATCHES)
    pairs = [(first, names[index - 7]) for index, first in enumerate(names)]
    return [dataclasses.replace(WARM, mood=mood, palette=pair) for mood in Mood for pair in pairs]


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_products_sound_different_and_the_same_one_the_same(language: str) -> None:
    names = [f"Product {letter}" for letter in string.ascii_uppercase]
    first = [compose(WARM, name, 8, language).script for name in names]
    assert first == [compose(WARM, name, 8, language).script for name in names]
    lines = [tuple(said(compose(WARM, name, 8, language))) for name in names]
    without_name = {tuple(line.replace(name, "") for line in spoken) for name, spoken in zip(names, lines, strict=True)}
    assert len(without_name) >= 15


# the measuring


def shown(image: Image.Image, size: Size | None = None) -> Look:
    return look(image.resize(size) if size else image)


def photo(name: str) -> Image.Image:
    with Image.open(PHOTOS / name) as image:
        return image.convert("RGB")


def test_photos_are_described_as_people_see_them() -> None:
    coffee, cat, rocket = (look(photo(name)) for name in ("coffee.png", "chelsea.png", "rocket.jpg"))
    assert coffee.palette[0] == coffee.accent == "terracotta"
    assert coffee.mood is cat.mood is Mood.WARM
    assert {"brown", "tan"} <= set(cat.palette)
    assert rocket.mood in {Mood.COOL, Mood.DARK}
    assert {"navy", "slate blue"} & set(rocket.palette)
    assert coffee.sharpness is rocket.sharpness is Level.HIGH
    assert [seen.orientation for seen in (coffee, cat, rocket)] == [Orientation.LANDSCAPE] * 3


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg"])
def test_a_blurred_photo_is_called_soft(name: str) -> None:
    image = photo(name).resize((1536, 1024))
    assert shown(image.filter(ImageFilter.GaussianBlur(6))).sharpness is Level.LOW


@pytest.mark.parametrize("name", sorted(SWATCHES))
def test_a_colour_is_called_by_its_name(name: str) -> None:
    assert look(Image.new("RGB", (320, 200), SWATCHES[name])).palette == (name,)


def test_light_contrast_and_place_are_measured() -> None:
    image = Image.new("RGB", (600, 400), (245, 245, 245))
    ImageDraw.Draw(image).ellipse((20, 140, 140, 260), fill=(30, 30, 32))
    seen = look(image)
    assert (seen.light, seen.mood, seen.sharpness) == (Level.HIGH, Mood.BRIGHT, Level.HIGH)
    assert seen.focus[0] < 0.3
    assert look(Image.new("RGB", (600, 400), (20, 22, 26))).mood is Mood.DARK
    assert look(Image.new("RGB", (600, 400), (90, 90, 90))).contrast is Level.LOW


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_analysis_names_what_was_measured_and_by_whom(language: str) -> None:
    copy = CHINESE if language == "zh" else ENGLISH
    lines = compose(WARM, "anything", 4, language).product_analysis.splitlines()
    assert len(lines) == 6
    assert "1280x720" in lines[0]
    assert all(copy.colours[name] in lines[1] for name in WARM.palette)
    assert ("offline studio" if language == "en" else "离线工作室") in lines[-1]


@pytest.mark.parametrize(
    ("seen", "advice"),
    [
        (WARM, "good"),
        (dataclasses.replace(WARM, sharpness=Level.LOW, light=Level.LOW), "sharpness"),
        (dataclasses.replace(WARM, light=Level.LOW), "light"),
        (dataclasses.replace(WARM, focus=(0.2, 0.5)), "place"),
        (dataclasses.replace(WARM, contrast=Level.LOW), "contrast"),
    ],
)
def test_the_advice_is_about_the_worst(seen: Look, advice: str) -> None:
    assert ENGLISH.advice[advice] in compose(seen, "", 4, "en").product_analysis


# as a provider


async def test_a_script_is_written_for_a_photo() -> None:
    brief = ScriptBrief((PHOTOS / "coffee.png").read_bytes(), Format.PNG, "Hand-roasted espresso", 12, "en-US")
    studio: Scripts = StudioScripts()
    made = await studio.write(brief)
    assert fits(made.script, 12)
    assert "terracotta" in made.product_analysis
    assert made == await studio.write(brief)
    assert (studio.model, studio.billed, studio.longest_call, made.tokens) == ("offline-studio", False, 0.0, 0)


async def test_small_and_thin_pictures_have_a_script_too() -> None:
    for size in ((16, 16), (320, 16), (16, 320)):
        out = io.BytesIO()
        photo("coffee.png").resize(size).save(out, "PNG")
        assert fits((await StudioScripts().write(ScriptBrief(out.getvalue(), Format.PNG, "", 8, "zh"))).script, 8)


async def test_what_cannot_be_read_is_refused() -> None:
    for data in (b"", b"text", (PHOTOS / "rocket.jpg").read_bytes()[:5000]):
        with pytest.raises(ProviderRefused):
            await StudioScripts().write(ScriptBrief(data, Format.JPEG, "", 4, "en"))
