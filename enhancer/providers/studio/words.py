"""
The user's words, made ready to be spoken: cleaned, cut at the ends of phrases, timed.

Nothing is reworded. A phrase is used as it was written, or a part of it that can stand alone, or not at all.
"""

from __future__ import annotations

import re
import unicodedata

WORDS_A_SECOND = 2.5  # of English in an unhurried advertisement: 150 a minute
SIGNS_A_SECOND = 4.5  # of Chinese, Japanese or Korean: 270 a minute

_CJK = (
    r"\u2e80-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
_CJK_SIGN = re.compile(f"[{_CJK}]")
_WORD = re.compile(rf"[^\W{_CJK}]+(?:['’.,:/-][^\W{_CJK}]+)*")
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>\n]{0,200}>", re.IGNORECASE)
_TIME_CODE = re.compile(r"\d+\s*:\s*\d\d(?:\s*:\s*\d\d)?\s*[-–—~至到]+\s*\d+\s*:\s*\d\d(?:\s*:\s*\d\d)?")
_MARKUP = re.compile(r"[\[\]{}<>|｜¦\\^`~*_#=\"“”„«»「」『』【】〔〕…]+")
_CLAUSE_END = re.compile(
    r"[\n。！？；;•·!?]+|(?<!\bNo)(?<!\bSt)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bvs)\.(?=\s|$)|\s[-–—]+\s|——"
)
_PART_END = re.compile(r"[，、]|[,:](?=\s)|：")
_EDGES = " \t,.:;!?-–—~'’()，。、；：！？（）&+/"
# a noun phrase is whole before one of these, unless it ends as those below do
_CONNECTOR = re.compile(
    r"\s+(?=(?:that|which|who|where|with|without|for|from|but|because|when|while)\s)", re.IGNORECASE
)
_DANGLING = re.compile(
    r"(?:ed|ing|made|sewn|grown|and|or|a|an|the|is|are|was|were|of|to|in|on|at|by|as|not|only|very|so|than)$",
    re.IGNORECASE,
)
_CLAIM = re.compile(
    r"(?:we|i|it|this|that|these|those|they|you|he|she|there|here)\b|.*\b(?:is|are|was|were|has|have|will|can)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:A|An|The|Our|My|Your|Some)(?=\s)")


def clauses(text: str) -> list[str]:
    """What was written, in clauses as the author ended them; what cannot be spoken is left out."""
    text = _LINK.sub("\n", _printable(text))
    text = _MARKUP.sub(" ", _TAG.sub(" ", _TIME_CODE.sub("\n", text)))
    found = (re.sub(r"\s+", " ", clause).strip(_EDGES) for clause in _CLAUSE_END.split(text))
    return [clause for clause in found if seconds_to_say(clause)]


def seconds_to_say(text: str) -> float:
    """How long it takes to speak; a long word counts as several."""
    words = sum(max(1.0, len(word) / 12) for word in _WORD.findall(text))
    return words / WORDS_A_SECOND + len(_CJK_SIGN.findall(text)) / SIGNS_A_SECOND


def shortened(clause: str, seconds: float) -> str | None:
    """As much of a clause as can be spoken in time and stands alone; None when no part of it does."""
    if seconds_to_say(clause) <= seconds:
        return clause
    heads = [clause[: end.start()].strip(_EDGES) for end in _PART_END.finditer(clause)]
    nouns = [clause[: end.start()].strip(_EDGES) for end in _CONNECTOR.finditer(clause)]
    nouns = [noun for noun in nouns if not _DANGLING.search(noun)]
    tails = [clause[end.end() :].strip(_EDGES) for end in re.finditer("的", clause)]  # in Chinese the noun comes last
    return next((part for part in [*heads[::-1], *nouns[::-1], *tails] if _speakable(part, seconds)), None)


def after(clause: str, head: str) -> list[str]:
    """What follows the head of a clause, when that ended at a comma."""
    rest = clause[len(head) :]
    if not _PART_END.match(rest):
        return []
    rest = re.sub(r"^(?:and|or|&)\s", "", rest.strip(_EDGES), flags=re.IGNORECASE)
    return [rest] if seconds_to_say(rest) else []


def is_noun_phrase(phrase: str) -> bool:
    """Whether "Introducing: ..." can stand before it; a guess that prefers no."""
    return not _CLAIM.match(phrase)


def sentence(phrase: str) -> str:
    """With a full stop of its script and, unless its first word has capitals of its own, a capital letter."""
    first = phrase.split(" ", 1)[0]
    if first == first.lower():
        phrase = phrase[:1].upper() + phrase[1:]
    return _stopped(phrase)


def continued(phrase: str) -> str:
    """As it goes on after a colon: with a full stop, an article in lower case."""
    return _stopped(_ARTICLE.sub(lambda match: match[0].lower(), phrase))


def caption(clause: str, signs: int = 48) -> str:
    """At most so many characters, cut between words where there are spaces."""
    if len(clause) <= signs:
        return clause
    cut = clause[:signs].rsplit(" ", 1)[0] if " " in clause[signs // 2 : signs] else clause[:signs]
    return cut.strip(_EDGES) + "…"


def _stopped(phrase: str) -> str:
    return phrase + ("。" if _CJK_SIGN.match(phrase[-1:]) else ".")


def _speakable(part: str, seconds: float) -> bool:
    return 0.4 <= seconds_to_say(part) <= seconds


def _printable(text: str) -> str:
    """Line ends as \\n; without control characters, lone surrogates, emoji and marks that turn the writing around."""
    text = "\n".join(text.splitlines())
    return "".join(c if _kept(c) else " " if unicodedata.category(c) in {"Cc", "Zs"} else "" for c in text)


def _kept(character: str) -> bool:
    if character in "\n °№™®©":
        return True
    category = unicodedata.category(character)
    return category[0] in "LNP" or category in {"Mc", "Sc", "Sm"} or (category == "Mn" and character != "\ufe0f")
