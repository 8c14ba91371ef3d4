"""The studio's film maker, module by module: typesetting, gaze, storyboard, camera, the frames, the file."""

from __future__ import annotations

import configparser
import io
import itertools
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from enhancer import clips, imaging
from enhancer.domain.images import Size
from enhancer.providers import VideoBrief
from enhancer.providers.studio import film
from enhancer.providers.studio.film import camera
from enhancer.providers.studio.film.cutting import Film
from enhancer.providers.studio.film.encoder import encode
from enhancer.providers.studio.film.gaze import Region, gaze
from enhancer.providers.studio.film.planes import Planes
from enhancer.providers.studio.film.storyboard import LONGEST, RATE, shots
from enhancer.providers.studio.film.typesetting import Setting, Weight, fit, legible
from tests.conftest import photo

# a machine under load may take its time for an example
examples = settings(deadline=None, max_examples=25)

SHAPES = [(1280, 720), (720, 1280), (1024, 1024)]
ENGLISH = """\
[0:00-0:02] A cup on a wooden table. | Some colours feel like home.
[0:02-0:04] The whole picture. | Make it yours."""
CHINESE = """\
[0:00-0:02] 木桌上的杯子。 | 山坡上的晨光，新鲜采摘的春茶。
[0:02-0:04] 完整的画面。 | 喜欢，就带走它。"""
# Devanagari, for which there is no typeface: the same film without a word
SILENT = """\
[0:00-0:02] मेज पर एक प्याला। | घर जैसे रंग।
[0:02-0:04] पूरी तस्वीर। | इसे अपना बनाइए।"""


def brief(prompt: str = ENGLISH, size: Size = (1280, 720), name: str = "coffee.png", duration: int = 4) -> VideoBrief:
    return VideoBrief(imaging.fit(photo(name), size), prompt, size, duration, "en")


def set_in(text: str, *, room: Size = (700, 240), largest: int = 64, smallest: int = 30, lines: int = 3) -> Setting:
    return fit(text, room, largest=largest, smallest=smallest, most_lines=lines)


# typesetting

latin = st.text("abcdefghijklmnopqrstuvwxyzÄÖéñ ,.!?'-–“”0123456789", min_size=1, max_size=200)
cyrillic = st.text("абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ ,.!", min_size=1, max_size=80)
chinese = st.lists(
    st.tuples(
        st.text("春茶山坡上的晨光新鲜采摘手工炒制香气清持久喜欢就带走它", min_size=1, max_size=9),
        st.sampled_from("，。！？、："),
    ),
    min_size=1,
    max_size=8,
).map(lambda parts: "".join(phrase + mark for phrase, mark in parts))
rooms = st.tuples(st.integers(260, 1000), st.integers(90, 400))


@examples
@given(st.one_of(latin, cyrillic, chinese), rooms, st.sampled_from(Weight))
def test_a_setting_never_leaves_its_room(text: str, room: Size, weight: Weight) -> None:
    text = legible(text)
    if not text:
        return
    setting = fit(text, room, largest=64, smallest=30, most_lines=3, weight=weight)
    assert 1 <= len(setting.lines) <= 3
    assert setting.size[0] <= room[0]
    assert setting.size[1] <= room[1]
    assert all(mask.size == (setting.size[0], setting.leading) for mask in setting.masks())


@examples
@given(st.one_of(latin, chinese), rooms)
def test_no_word_is_lost_unless_an_ellipsis_says_so(text: str, room: Size) -> None:
    text = legible(text)
    if not text:
        return
    found, wanted = ("".join("".join(part).split()) for part in (set_in(text, room=room).lines, text))
    assert found == wanted or (found.endswith("…") and wanted.startswith(found[:-1]))


@examples
@given(chinese, st.integers(360, 900))
def test_chinese_lines_neither_begin_with_a_mark_nor_leave_one_alone(text: str, measure: int) -> None:
    broken = set_in(text, room=(measure, 2000), lines=50).lines
    assert "".join(broken) == text
    assert all(line[0] not in "，。！？、：" for line in broken)


def test_an_opening_mark_stays_with_what_it_opens() -> None:
    broken = set_in("这是我们的《春天第一茶》和（秋天的）茶", room=(200, 2000), lines=50).lines
    assert all(line[-1] not in "《（" for line in broken)


def test_lines_end_evenly_instead_of_leaving_a_word_alone() -> None:
    setting = set_in("A strong espresso in a red cup, every morning", room=(640, 400))
    widths = [len(line) for line in setting.lines]
    assert min(widths) > 0.6 * max(widths)


def test_chinese_is_broken_after_a_comma_where_that_fits() -> None:
    assert set_in("喜欢，就带走它。", room=(420, 400)).lines == ("喜欢，", "就带走它。")


def test_a_long_word_makes_the_type_smaller_before_it_is_split() -> None:
    setting = set_in("Donaudampfschifffahrtsgesellschaft", room=(700, 200))
    assert len(setting.lines) == 1
    assert setting.type_size < 64


def test_what_is_too_long_ends_in_an_ellipsis() -> None:
    setting = set_in("word " * 200, room=(300, 120))
    assert setting.lines[-1].endswith("…")


@pytest.mark.parametrize(
    "text",
    ["Crème brûlée à 3 €", "Žluťoučký kůň", "Zażółć gęślą jaźń", "Đậm đà hương vị", "Ελληνικός καφές", "Крепкий кофе",
     "İyi günler", "浓缩咖啡", "濃縮咖啡與紅茶", "朝のコーヒーをどうぞ", "新款 Espresso 上市"],
)  # fmt: skip
def test_these_languages_are_set_in_type(text: str) -> None:
    assert legible(text) == text
    blank = set_in(" ".join("\N{NO-BREAK SPACE}"), room=(700, 240)).masks()
    assert not any(mask.getbbox() for mask in blank)
    assert all(mask.getbbox() for mask in set_in(text).masks())


@pytest.mark.parametrize(
    "text", ["घर जैसे रंग", "قهوة قوية", "กาแฟเข้ม", "진한 커피", "קפה חזק", "Strong кофе 진한", "", "✨🔥", "—"]
)
def test_what_no_typeface_has_is_left_out(text: str) -> None:
    assert legible(text) == ""


def test_markup_emoji_and_invisible_signs_are_left_out_of_words() -> None:
    assert legible("**Fresh** coffee ☕\ufe0f, now\u200b!\n[cut]") == "Fresh coffee , now! cut"


# gaze


def test_the_gaze_finds_a_product_wherever_it_stands() -> None:
    for x, y, radius, ground, colour in [
        (0.25, 0.3, 80, (230, 225, 215), (180, 30, 30)),
        (0.75, 0.7, 90, (20, 30, 50), (240, 200, 60)),
        (0.85, 0.5, 60, (128, 128, 128), (90, 120, 150)),
        (0.15, 0.8, 70, (250, 250, 250), (30, 30, 30)),
    ]:
        found = gaze(disc(x, y, radius, ground, colour)).product
        assert found.share_of(around(x, y, radius)) > 0.95
        assert found.center == pytest.approx((x, y), abs=0.05)
        assert (found.right - found.left) * (found.bottom - found.top) < 0.12


def test_the_gaze_prefers_the_product_to_a_textured_ground() -> None:
    noise = np.random.default_rng(1).integers(90, 140, (720, 1280, 3), np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
    ImageDraw.Draw(image).rectangle((820, 200, 1000, 520), fill=(210, 40, 40))
    found = gaze(image).product
    assert found.share_of(Region(820 / 1280, 200 / 720, 1000 / 1280, 520 / 720)) > 0.9
    assert found.center[0] == pytest.approx(0.71, abs=0.06)


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("coffee.png", Region(0.3, 0.02, 0.68, 0.7)),  # the cup
        ("chelsea.png", Region(0.32, 0.25, 0.74, 0.85)),  # eyes and nose
        ("rocket.jpg", Region(0.48, 0.35, 0.53, 0.95)),  # the rocket, less its tip
    ],
)
def test_the_gaze_comes_to_rest_on_what_the_photo_is_of(name: str, product: Region) -> None:
    found = gaze(imaging.decode(imaging.fit(photo(name), (1280, 720))))
    assert found.product.share_of(product) > 0.85
    assert found.salience.sum() == pytest.approx(1)


def test_where_nothing_stands_out_the_gaze_rests_in_the_middle() -> None:
    assert gaze(Image.new("RGB", (640, 360), (40, 90, 60))).product.center == pytest.approx((0.5, 0.5), abs=0.02)


def disc(x: float, y: float, radius: int, ground: tuple[int, int, int], colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (1280, 720), ground)
    left, top = x * 1280, y * 720
    ImageDraw.Draw(image).ellipse((left - radius, top - radius, left + radius, top + radius), fill=colour)
    return image


def around(x: float, y: float, radius: int) -> Region:
    return Region(x - radius / 1280, y - radius / 720, x + radius / 1280, y + radius / 720)


# storyboard


def test_the_scenes_of_a_script_are_the_shots() -> None:
    first, last = shots(ENGLISH, 4)
    assert (first.start, first.end, first.words, first.card) == (0, 48, "Some colours feel like home.", False)
    assert (last.start, last.end, last.words, last.card) == (48, 96, "Make it yours.", True)


def test_where_nothing_is_said_what_is_seen_is_read() -> None:
    first, _ = shots("[0:00-0:02] A red cup.\n[0:02-0:04] It steams. | Make it yours.", 4)
    assert (first.words, first.spoken) == ("A red cup.", False)


def test_directions_are_not_read_by_those_who_watch() -> None:
    first, _ = shots("[0:00-0:02] The camera glides over a red cup.\n[0:02-0:04] It steams. | Make it yours.", 4)
    assert first.words == ""
    for prompt in (
        "A short advertisement of the product in the picture: the camera moves slowly towards it.",
        "图中产品的一段广告短片：镜头缓缓推近产品。",
        "Slow zoom, cinematic lighting, 4k",
    ):
        assert [shot.words for shot in shots(prompt, 4)] == ["", ""]


def test_a_script_of_another_length_is_stretched() -> None:
    found = shots(ENGLISH, 12)
    assert [(shot.start, shot.end) for shot in found] == [(0, 144), (144, 288)]


@examples
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), latin), max_size=12),
    st.text(max_size=300),
    st.sampled_from((4, 8, 12)),
)
def test_whatever_the_prompt_the_shots_fill_the_film(
    timed: list[tuple[int, int, str]], text: str, duration: int
) -> None:
    lines = [f"[{a // 60}:{a % 60:02}-{b // 60}:{b % 60:02}] {words}" for a, b, words in timed]
    found = shots("\n".join([text, *lines]), duration)
    assert found[0].start == 0
    assert found[-1].end == duration * RATE
    assert all(before.end == after.start for before, after in itertools.pairwise(found))
    assert all(shot.frames > 0 and len(shot.words) <= LONGEST + 1 for shot in found)
    assert not any(shot.card for shot in found[:-1])


def test_a_prompt_without_scenes_is_given_shots_of_its_phrases() -> None:
    found = shots("A strong espresso in a red cup. Roasted in Rome! Taste it today.", 8)
    assert [shot.words for shot in found] == ["A strong espresso in a red cup.", "Roasted in Rome.", "Taste it today."]
    assert found[-1].card
    assert [shot.words for shot in shots("一杯浓郁的意式浓缩咖啡。", 4)] == ["", "一杯浓郁的意式浓缩咖啡。"]


def test_a_prompt_without_words_is_a_film_without_words() -> None:
    found = shots("  \n ✨ ", 4)
    assert [shot.words for shot in found] == ["", ""]
    assert not found[-1].card


# camera

places = st.floats(0, 0.88)


@examples
@given(places, places, st.floats(0.12, 1), st.floats(0.12, 1), st.floats(-0.1, 0.1), st.floats(-0.3, 1.3))
def test_the_camera_stays_within_the_picture_and_keeps_its_shape(
    left: float, top: float, width: float, height: float, shift: float, time: float
) -> None:
    product = Region(left, top, min(1.0, left + width), min(1.0, top + height))
    for move in camera.moves(product, 5, shift=shift):
        seen = move.at(time)
        assert min(seen.left, seen.top) >= 0
        assert max(seen.right, seen.bottom) <= 1 + 1e-9
        assert seen.right - seen.left == pytest.approx(seen.bottom - seen.top)
        assert seen.right - seen.left >= 1 / camera.CLOSEST - 0.15


def test_every_move_ends_with_the_whole_product_in_view_and_no_two_are_alike() -> None:
    product = Region(0.62, 0.5, 0.85, 0.8)
    moves = camera.moves(product, 4, shift=0.07)
    assert all(move.end.share_of(product) == pytest.approx(1) for move in moves)
    assert len({move.start.edges + move.end.edges for move in moves}) == 4


# frames


def luma(planes: Planes) -> NDArray[np.int16]:
    return np.asarray(planes.y).astype(np.int16)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("prompt", [ENGLISH, CHINESE])
def test_each_scene_shows_its_caption_within_the_margins_and_on_dark_ground(prompt: str, size: Size) -> None:
    film, silent = Film(brief(prompt, size)), Film(brief(SILENT, size))
    drawn, bare = luma(film.frame(30)), luma(silent.frame(30))
    rows, columns = np.nonzero((drawn > 225) & (abs(drawn - bare) > 25))
    assert len(rows) > 0.002 * drawn.size
    assert rows.min() >= 0.05 * size[1]
    assert rows.max() <= 0.95 * size[1]
    assert columns.min() >= 0.05 * size[0]
    assert columns.max() <= 0.95 * size[0]
    within = drawn[rows.min() : rows.max(), columns.min() : columns.max()]
    assert np.percentile(within, 40) < 120
    assert luma(film.frame(80)).mean() < luma(silent.frame(80)).mean()  # the end card is dark
    assert (luma(film.frame(80)) > 225).sum() > 0.002 * drawn.size


def test_captions_come_and_go() -> None:
    film, silent = Film(brief()), Film(brief(SILENT))
    assert np.array_equal(luma(film.frame(0)), luma(silent.frame(0)))
    white = [int((luma(film.frame(at)) - luma(silent.frame(at)) > 60).sum()) for at in (4, 9, 24)]
    assert white == sorted(white)
    assert white[0] < 0.2 * white[-1]


def test_a_caption_does_not_cover_a_product_that_leaves_it_room() -> None:
    for x, y in [(0.25, 0.75), (0.75, 0.75), (0.5, 0.25)]:
        image = disc(x, y, 110, (225, 220, 210), (170, 30, 30))
        order = replace(brief(), frame=imaging.encode_jpeg(image))
        film, silent = Film(order), Film(replace(order, prompt=SILENT))
        with_words, without = film.frame(30), silent.frame(30)
        written = (luma(with_words) > 225) & (luma(with_words) - luma(without) > 3)
        reddish = np.asarray(without.v.resize((1280, 720))) > 150
        assert written.any()
        assert not (written & reddish).any()


def test_the_camera_moves_in_every_frame() -> None:
    film = Film(brief(SILENT, (640, 360)))
    frames = [luma(film.frame(at)) for at in range(0, 40, 4)]
    assert all(abs(a - b).mean() > 0.3 for a, b in itertools.pairwise(frames))


def test_colours_are_stored_by_bt709() -> None:
    planes = Planes.of(Image.new("RGB", (16, 16), (200, 30, 40)))
    frame = av.VideoFrame.from_ndarray(planes.stored(), format="yuv420p").reformat(
        format="rgb24", src_colorspace="ITU709"
    )
    assert frame.to_ndarray()[8, 8] == pytest.approx((200, 30, 40), abs=3)


# the file


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return render(path)


def render(path: Path, size: Size = (320, 180)) -> Path:
    film, seen = Film(brief(size=size)), list[int]()
    encode(film, path, size, seen.append)
    assert seen == list(range(1, 97))
    return path


def test_the_file_is_what_was_ordered_and_plays_everywhere(rendered: Path) -> None:
    found = clips.check(rendered, size=(320, 180), duration=4)
    assert (found.size, found.frames) == ((320, 180), 96)
    assert found.seconds == pytest.approx(4.0)
    with av.open(str(rendered)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert stream.average_rate == RATE
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        assert len(container.streams) == 1


def test_its_index_comes_before_its_pictures(rendered: Path) -> None:
    data = rendered.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_the_same_order_gives_the_same_file(rendered: Path, tmp_path: Path) -> None:
    assert render(tmp_path / "again.mp4").read_bytes() == rendered.read_bytes()


def test_its_poster_is_a_picture_with_a_caption_or_the_card(rendered: Path) -> None:
    with Image.open(io.BytesIO(clips.poster(rendered))) as picture:
        assert picture.size == (320, 180)


def test_the_typefaces_are_packed_with_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(film.__file__).parents[4] / "setup.cfg")
    pattern = setup["options.package_data"]["enhancer.providers.studio.film"]
    packed = {path.name for path in Path(film.__file__).parent.glob(pattern)}
    assert {"Manrope-ExtraBold.ttf", "Manrope-Medium.ttf", "NotoSansSC-Bold.ttf"} <= packed
    assert {"OFL-manrope.txt", "OFL-noto-sans-sc.txt"} <= packed
    assert {name.replace(".ttf", ".signs.txt") for name in packed if name.endswith(".ttf")} <= packed
