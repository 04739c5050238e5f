"""The built-in data set: invented restaurants, described by a small grammar of our own.

It is made anew from a seed wherever it is needed, and so travels nowhere and needs no network.
"""

from collections.abc import Iterator
from random import Random
from zlib import crc32

from ..errors import DataError
from .example import Example, write_meaning
from .grammar import pick, realise

DEFAULT_SIZES = {"train": 6000, "dev": 600, "test": 600}

_SPLIT_OF_TENTH = ("train",) * 8 + ("dev", "test")
_MIN_OPTIONAL_ATTRIBUTES = 2
_KEEP_PROBABILITY = 0.65

_COLOURS = (
    "Copper", "Crooked", "Velvet", "Hollow", "Amber", "Wandering", "Silver", "Painted", "Quiet",
    "Merry", "Rusty", "Little", "Laughing", "Winter", "Broken", "Sleeping", "Crimson", "Lucky",
)  # fmt: skip
_THINGS = (
    "Heron", "Kettle", "Lantern", "Anchor", "Orchard", "Teapot", "Badger", "Windmill", "Spoon",
    "Chimney", "Compass", "Barrel", "Magpie", "Ladder", "Pepper Pot", "Sailor", "Fiddle", "Hearth",
)  # fmt: skip
_OWNERS = ("Marlow", "Agnes", "Old Tobias", "Henrietta", "Barnaby", "Rosalind", "Captain Finch")
_ROOMS = ("Table", "Kitchen", "Corner", "Parlour", "Cellar")
_NAMES = tuple(f"The {colour} {thing}" for colour in _COLOURS for thing in _THINGS) + tuple(
    f"{owner}'s {room}" for owner in _OWNERS for room in _ROOMS
)
_OPTIONAL_ATTRIBUTES = {
    "kind": ("tavern", "bistro", "tea room", "canteen", "wine bar", "bakery", "inn"),
    "food": ("Persian", "Greek", "Welsh", "Danish", "Turkish", "Moroccan", "Austrian", "Mexican"),
    "price": ("cheap", "fair", "costly"),
    "rating": ("poor", "good", "excellent"),
    "area": (
        "old town", "harbour", "market square", "north bank", "garden quarter", "castle hill",
    ),
    "family-friendly": ("yes", "no"),
    "near": (
        "Saddler's Bridge", "Elm Street Station", "the Tern Theatre", "the Clock Tower",
        "Wickham Library", "the Rose Hotel", "Fuller's Mill", "the Corn Exchange",
        "Lady Anne's School", "the Botanic Garden", "Tollgate Market", "the Lighthouse",
    ),
}  # fmt: skip


def generate(split: str, num_examples: int | None = None, *, seed: int = 0) -> list[Example]:
    """The first `num_examples` examples of one split; every call and machine gives the same.

    A meaning belongs to one split alone, by a checksum of its text. So splits never share a
    meaning, whatever their sizes and seeds.

    Parameters
    ----------
    split
        ``"train"``, ``"dev"`` or ``"test"``.
    num_examples
        How many; by default 6000, 600 and 600.
    seed
        Which sample of the grammar's sentences is drawn.

    Raises
    ------
    DataError
        If the split is unknown, or the number or the seed is negative.
    """
    if split not in DEFAULT_SIZES:
        raise DataError(f"unknown split {split!r}; wanted one of {list(DEFAULT_SIZES)}")
    size = DEFAULT_SIZES[split] if num_examples is None else num_examples
    if size < 1 or seed < 0:
        raise DataError(
            f"wanted one example or more and a seed of zero or more, got num_examples={size} "
            f"and seed={seed}"
        )
    examples = _examples(split, Random(seed))
    return [next(examples) for _ in range(size)]


def _examples(split: str, rng: Random) -> Iterator[Example]:
    while True:
        attributes = _draw_attributes(rng)
        meaning = write_meaning(attributes.items())
        if _SPLIT_OF_TENTH[crc32(meaning.encode()) % 10] == split:
            yield Example(meaning=meaning, reference=realise(attributes, rng))


def _draw_attributes(rng: Random) -> dict[str, str]:
    while True:
        kept = [key for key in _OPTIONAL_ATTRIBUTES if rng.random() < _KEEP_PROBABILITY]
        if len(kept) >= _MIN_OPTIONAL_ATTRIBUTES:
            break
    attributes = {"name": pick(_NAMES, rng)}
    return attributes | {key: pick(_OPTIONAL_ATTRIBUTES[key], rng) for key in kept}
