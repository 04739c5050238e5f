"""The grammar of the built-in restaurant data: attributes in, one to four sentences out.

An opening sentence introduces the place and says some attributes; follow-up sentences say the rest,
one or two at a time. Good and bad news are joined by "but", news of one kind by "and". Every choice
is made with `random.Random.random`, the only method whose stream Python promises to keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

_NAMELESS_KIND = "eating house"
_TONES = {
    ("price", "cheap"): 1,
    ("price", "costly"): -1,
    ("rating", "poor"): -1,
    ("rating", "good"): 1,
    ("rating", "excellent"): 1,
    ("family-friendly", "yes"): 1,
    ("family-friendly", "no"): -1,
}
_ADJECTIVES = {
    ("price", "cheap"): ("cheap", "inexpensive"),
    ("price", "fair"): ("fairly priced", "moderately priced"),
    ("price", "costly"): ("costly", "expensive"),
    ("rating", "poor"): ("poorly rated", "little loved"),
    ("rating", "good"): ("well liked", "well rated"),
    ("rating", "excellent"): ("excellent", "highly praised"),
}
_PREDICATES = {
    ("price", "cheap"): ("is cheap", "charges very little", "keeps its prices low"),
    ("price", "fair"): ("has fair prices", "asks neither much nor little"),
    ("price", "costly"): ("is rather costly", "asks a high price"),
    ("rating", "poor"): ("is poorly rated", "has disappointed most of its guests"),
    ("rating", "good"): ("has a good name", "is well rated by its guests"),
    ("rating", "excellent"): ("is rated excellent", "is praised by everyone who goes there"),
    ("family-friendly", "yes"): ("welcomes children", "is a good choice for the whole family"),
    ("family-friendly", "no"): ("is not a place for children", "would rather not seat families"),
}
_FOOD_PREDICATES = ("serves {} food", "cooks {} dishes", "offers {} cooking")
_AREA_PHRASES = {
    "old town": "in the old town",
    "harbour": "at the harbour",
    "market square": "on the market square",
    "north bank": "on the north bank",
    "garden quarter": "in the garden quarter",
    "castle hill": "on castle hill",
}
_NEAR_PHRASES = ("near {}", "close to {}", "not far from {}")
_OPENINGS = (
    "{name} is {phrase}{place}",
    "there is {phrase} called {name}{place}",
    "{name}, {phrase}{place}, is open to all comers",
)
_PLACED_OPENINGS = (
    "{place}, you will find {name}, {phrase}",
    "{place}, there is {phrase} called {name}",
)
_FOOD_OPENINGS = (
    "for {food} food, try {name}, {phrase}{place}",
    "if you long for {food} dishes, {name} is {phrase}{place} that has them",
)


@dataclass(frozen=True, kw_only=True)
class _Clause:
    """Part of a sentence, and whether it is good news (1), bad news (-1) or neither (0)."""

    text: str
    tone: int


def pick(options: Sequence[T], rng: Random) -> T:
    """One of the options, each as likely as the others."""
    return options[int(rng.random() * len(options))]


def shuffled(items: Sequence[T], rng: Random) -> list[T]:
    """The items in random order."""
    return [
        item for _, item in sorted(((rng.random(), item) for item in items), key=lambda p: p[0])
    ]


def realise(attributes: Mapping[str, str], rng: Random) -> str:
    """Sentences that say every attribute once; which of the many that could be is up to `rng`.

    Parameters
    ----------
    attributes
        Values by attribute: ``name`` always, any of ``kind``, ``food``, ``price``, ``rating``,
        ``area``, ``family-friendly``, ``near``.
    """
    left = dict(attributes)
    name, noun = left.pop("name"), left.pop("kind", _NAMELESS_KIND)
    opening = _opening(name, noun, left, rng)
    clauses = [_predicate(key, left[key], rng) for key in shuffled(sorted(left), rng)]
    return " ".join([_sentence(opening), *_follow_ups(noun, clauses, rng)])


def _opening(name: str, noun: str, left: dict[str, str], rng: Random) -> str:
    """The first sentence; takes out of `left` what it says."""
    food = left.pop("food") if "food" in left and rng.random() < 0.25 else None
    phrase = _noun_phrase(noun, left, rng)
    place = _place(left, rng)
    if food is not None:
        template = pick(_FOOD_OPENINGS, rng)
        return template.format(food=food, name=name, phrase=phrase, place=_after_space(place))
    if place and rng.random() < 0.4:
        return pick(_PLACED_OPENINGS, rng).format(name=name, phrase=phrase, place=place)
    return pick(_OPENINGS, rng).format(name=name, phrase=phrase, place=_after_space(place))


def _noun_phrase(noun: str, left: dict[str, str], rng: Random) -> str:
    keys = [key for key in ("rating", "price") if key in left and rng.random() < 0.4]
    adjectives = []
    for key in keys:
        said = (key, left.pop(key))
        adjectives.append(_Clause(text=pick(_ADJECTIVES[said], rng), tone=_TONES.get(said, 0)))
    words = [_join(adjectives)] if adjectives else []
    if "food" in left and rng.random() < 0.5:
        words.append(left.pop("food"))
    text = " ".join([*words, noun])
    return f"{'an' if text[0].lower() in 'aeio' else 'a'} {text}"


def _place(left: dict[str, str], rng: Random) -> str:
    phrases = []
    if "area" in left and rng.random() < 0.6:
        phrases.append(_AREA_PHRASES[left.pop("area")])
    if "near" in left and rng.random() < 0.6:
        phrases.append(pick(_NEAR_PHRASES, rng).format(left.pop("near")))
    return ", ".join(phrases)


def _predicate(key: str, value: str, rng: Random) -> _Clause:
    if key == "food":
        return _Clause(text=pick(_FOOD_PREDICATES, rng).format(value), tone=0)
    if key == "area":
        return _Clause(text=f"lies {_AREA_PHRASES[value]}", tone=0)
    if key == "near":
        return _Clause(text=f"is {pick(_NEAR_PHRASES, rng).format(value)}", tone=0)
    return _Clause(text=pick(_PREDICATES[key, value], rng), tone=_TONES.get((key, value), 0))


def _follow_ups(noun: str, clauses: Sequence[_Clause], rng: Random) -> list[str]:
    sentences, start = [], 0
    while start < len(clauses):
        stop = start + (2 if rng.random() < 0.6 else 1)
        subject = pick(("it", f"the {noun}"), rng)
        sentences.append(_sentence(f"{subject} {_join(clauses[start:stop])}"))
        start = stop
    return sentences


def _join(clauses: Sequence[_Clause]) -> str:
    if len(clauses) == 1:
        return clauses[0].text
    first, second = clauses
    word = "but" if first.tone * second.tone < 0 else "and"
    return f"{first.text} {word} {second.text}"


def _after_space(text: str) -> str:
    return f" {text}" if text else ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
