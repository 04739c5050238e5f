"""The built-in conversations: a town's help desk, made by a small grammar of our own.

They are made anew from a seed wherever they are needed. Every choice is made with
`random.Random.random`, the only method whose stream Python promises to keep.
"""

from collections.abc import Iterator
from random import Random

from ...errors import DataError
from ..grammar import pick
from .conversation import ASSISTANT
from .row import Row

NUM_ROWS = 2000
MOST_QUESTIONS = 3

_OFFICES = ("harbour", "old town", "north bank", "castle hill", "market", "garden quarter")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_HOURS = ("eight", "nine", "ten", "noon", "two", "four")
_GREETINGS = ("Hello. ", "Good morning. ", "Hi, ", "", "", "")
_CLOSINGS = ("", "", " Is there anything else?", " You are welcome to call us, too.")

# Of each topic: things that are asked about, questions, and answers.
_TOPICS = {
    "opening hours": (
        ("the library", "the swimming pool", "the town museum", "the recycling yard"),
        ("When does {thing} open on {day}?", "Is {thing} open on {day}?"),
        (
            "On {day} {thing} is open from {hour}.",
            "{Thing} opens at {hour} on {day}.",
        ),
    ),
    "fees": (
        ("a library card", "a parking permit", "a market stall", "a fishing licence"),
        ("How much is {thing}?", "What does {thing} cost for a year?"),
        (
            "{Thing} costs {number} crowns a year.",
            "The fee for {thing} is {number} crowns, and half of it for students.",
        ),
    ),
    "repairs": (
        ("the street lamp", "the fountain", "the bench by the river", "the bus shelter"),
        ("{Thing} near us is broken.", "Who repairs {thing}?"),
        (
            "Thank you for telling us. {Thing} will be repaired on {day}.",
            "Our workshop looks after {thing}. Somebody will come on {day} at {hour}.",
        ),
    ),
    "bookings": (
        ("the town hall", "a tennis court", "the music room", "a garden plot"),
        ("Can I book {thing} for {day}?", "Is {thing} free on {day}?"),
        (
            "Yes, {thing} is free on {day} from {hour}. Shall I book it for you?",
            "I am sorry, {thing} is taken on {day}. The next free day is {other_day}.",
        ),
    ),
    "lost things": (
        ("an umbrella", "a blue bag", "a set of keys", "a bicycle helmet"),
        ("I lost {thing} on {day}.", "Has anybody found {thing}?"),
        (
            "We do have {thing} here. Please collect it on {day} before {hour}.",
            "Nobody has brought {thing} yet. We keep what is found for {number} days.",
        ),
    ),
}
_FOLLOWING = ("And ", "One more question: ", "Thank you. ")


def rows(num_rows: int = NUM_ROWS, *, seed: int = 0) -> Iterator[Row]:
    """Conversations as the rows of a file: ``messages``, ``topic`` and ``office``.

    Parameters
    ----------
    num_rows
        How many.
    seed
        Which sample of the grammar's conversations is drawn; every machine draws the same.

    Raises
    ------
    DataError
        If there is to be no row, or the seed is negative.
    """
    if num_rows < 1 or seed < 0:
        raise DataError(
            "wanted one conversation or more and a seed of zero or more, got "
            f"num_rows={num_rows} and seed={seed}"
        )
    rng = Random(seed)
    for number in range(1, num_rows + 1):
        office, topic = pick(_OFFICES, rng), pick(tuple(_TOPICS), rng)
        values = {"messages": _messages(office, topic, rng), "topic": topic, "office": office}
        yield Row(values=values, place=f"help-desk, row {number}")


def _messages(office: str, topic: str, rng: Random) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": f"You answer for the {office} office."}]
    for turn in range(1 + int(rng.random() * MOST_QUESTIONS)):
        question, answer = _exchange(topic, rng)
        opening = pick(_FOLLOWING, rng) if turn else pick(_GREETINGS, rng)
        if opening.endswith((", ", "And ", ": ")):
            question = question[0].lower() + question[1:]
        messages.append({"role": "user", "content": opening + question})
        messages.append({"role": ASSISTANT, "content": answer + pick(_CLOSINGS, rng)})
    return messages


def _exchange(topic: str, rng: Random) -> tuple[str, str]:
    """A question and its answer, about the same thing on the same day."""
    things, questions, answers = _TOPICS[topic]
    thing, day = pick(things, rng), pick(_DAYS, rng)
    said = {
        "thing": thing,
        "Thing": thing[0].upper() + thing[1:],
        "day": day,
        "other_day": pick(tuple(other for other in _DAYS if other != day), rng),
        "hour": pick(_HOURS, rng),
        "number": str(5 * (1 + int(rng.random() * 12))),
    }
    return pick(questions, rng).format(**said), pick(answers, rng).format(**said)
