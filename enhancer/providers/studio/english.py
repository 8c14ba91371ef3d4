"""The studio's copy in English."""

from __future__ import annotations

from enhancer.domain.images import Orientation
from enhancer.providers.studio.copy import Copy
from enhancer.providers.studio.looks import SWATCHES, Level, Mood

ENGLISH = Copy(
    hooks={
        Mood.VIVID: ("Now that is colour.", "Hard to scroll past.", "Colour worth stopping for.", "Eyes here, please."),
        Mood.WARM: (
            "Feel that warmth?",
            "Warm at first sight.",
            "Some colours feel like home.",
            "Come a little closer.",
        ),
        Mood.COOL: ("Cool. Calm. Clear.", "Take a breath. Look.", "Fresh at first glance.", "Slow down a second."),
        Mood.DARK: ("Look a little closer.", "Quiet entrance, big presence.", "Let your eyes adjust.", "Wait for it."),
        Mood.BRIGHT: ("Hello, bright side.", "Clean. Light. Lovely.", "Let the light in.", "Well, hello there."),
        Mood.CALM: (
            "Simple, and hard to forget.",
            "Good things speak softly.",
            "Take a second look.",
            "Here is something nice.",
        ),
    },
    phrases=("{sentence}", "{sentence} Take a good look.", "{sentence} Worth a closer look.", "{sentence} Right here."),
    nouns=(
        "Introducing: {continued}",
        "Here it is: {continued}",
        "Meet the star: {continued}",
        "Look closer: {continued}",
    ),
    colour_phrases=("{sentence} Just look at that {colour}.", "{sentence} And that {colour}!"),
    plain=("Take your time. Have a good look.", "The closer you look, the better.", "Some things need no big words."),
    colour_plain=("Just look at that {colour}.", "That {colour} says it all.", "All eyes on the {colour}."),
    details={
        Mood.VIVID: ("Bold, and happy about it.", "Hard to look away, isn't it?", "The colour does the talking."),
        Mood.WARM: ("That glow does the talking.", "The kind of warm you notice.", "Warm tones, good company."),
        Mood.COOL: ("Calm looks good from here.", "Clear lines, cool head.", "Easy on the eyes."),
        Mood.DARK: ("Watch the light find its edges.", "Less light, more drama.", "The quiet ones get noticed."),
        Mood.BRIGHT: ("So much light, so little fuss.", "Nothing in the way.", "Clear as day."),
        Mood.CALM: ("Nothing shouts. Everything fits.", "Easy on the eyes.", "Just right, as it is."),
    },
    closes=("Make it yours.", "Find yours today.", "Come and see.", "Ask for yours today.", "Yours? Say the word."),
    long_closes=(
        "Like what you see? Make it yours.",
        "See something you like? Come and see.",
        "Like it? Then come and find yours.",
        "Seen enough? Come and find yours.",
    ),
    openings={
        Orientation.LANDSCAPE: (
            "Slow pan from left to right: {colours}, {tones}.",
            "The whole picture, drifting closer: {colours}, {tones}.",
        ),
        Orientation.PORTRAIT: (
            "Slow tilt from bottom to top: {colours}, {tones}.",
            "The whole picture, rising slowly: {colours}, {tones}.",
        ),
        Orientation.SQUARE: (
            "Slow push in: {colours}, {tones}.",
            "The whole picture, easing closer: {colours}, {tones}.",
        ),
    },
    products=("Move in to the {place} of the picture; {detail}.", "Close-up, {place} of the frame; {detail}."),
    surfaces=("Glide along the {colour} parts.", "Very close: {colours}.", "Drift slowly across the {colour} parts."),
    endings=("Pull back to the whole picture and hold, with room for a name and logo.", "Hold on the whole picture."),
    caption=" Caption: {caption}",
    colours={name: name for name in SWATCHES},
    pair="{} and {}",
    tones={
        ("warm", Level.LOW): "deep, warm tones",
        ("warm", Level.MIDDLE): "warm tones",
        ("warm", Level.HIGH): "bright, warm tones",
        ("cool", Level.LOW): "deep, cool tones",
        ("cool", Level.MIDDLE): "cool tones",
        ("cool", Level.HIGH): "bright, cool tones",
        ("neutral", Level.LOW): "deep, quiet tones",
        ("neutral", Level.MIDDLE): "balanced tones",
        ("neutral", Level.HIGH): "bright, clean tones",
    },
    places=("left", "centre", "right"),
    sharpness={Level.LOW: "soft focus", Level.MIDDLE: "the details come into view", Level.HIGH: "crisp detail"},
    orientations={
        Orientation.LANDSCAPE: "landscape",
        Orientation.PORTRAIT: "portrait",
        Orientation.SQUARE: "square",
    },
    frame="A {orientation} picture, {width}x{height} pixels; the eye goes to the {place}.",
    palette="Main colours: {palette}.",
    separator=", ",
    light="Light: {tones}, {contrast}.",
    contrast={
        Level.LOW: "gentle contrast",
        Level.MIDDLE: "medium contrast",
        Level.HIGH: "strong contrast",
    },
    focus={
        Level.LOW: "Sharpness: soft; keep the motion wide rather than close.",
        Level.MIDDLE: "Sharpness: good enough for gentle close-ups.",
        Level.HIGH: "Sharpness: crisp; close-ups work.",
    },
    advice={
        "sharpness": "For the next photo: rest the camera on something and tap the product to focus.",
        "light": "For the next photo: go near a window or add a lamp; the picture is on the dark side.",
        "contrast": "For the next photo: try a darker or lighter backdrop, so that the product stands out more.",
        "place": "For the next photo: put the product nearer the middle, so that every format can be cropped from it.",
        "good": "For the next photo: keep this light, and leave some empty space beside the product for text.",
    },
    origin="Measured on the picture by the offline studio itself; no language model was asked.",
)
