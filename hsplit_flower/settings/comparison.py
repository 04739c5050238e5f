"""How far one client is believed, by what the others of its round bring."""

from typing import Literal

from .fields import setting
from .group import Settings


class Comparison(Settings):
    """What is done about a client whose change, or whose claim, is out of all proportion.

    A median is the lower one, of two clients that of the smaller.
    """

    clip_above: float = setting(
        2.0,
        "A client's change of a weight is shortened to so many times the median of the round where "
        "it is longer; 0 shortens nothing.",
        ge=0,
    )
    refuse_above: float = setting(
        10.0,
        "A client is left out of a round of three or more if its change of a block is longer than "
        "so many times the median; 0 leaves nobody out.",
        ge=0,
    )
    examples_above: float = setting(
        10.0,
        "A client counts as at most so many times the median of the round's examples, whatever it "
        "says; 0 believes what it says.",
        ge=0,
    )
    selection: Literal["all", "krum", "multi-krum"] = setting(
        "all",
        "Whose changes are used: all, the one nearest to the others (krum), or all but as many as "
        "may be malicious (multi-krum).",
    )
    num_malicious_nodes: int = setting(
        1, "How many clients of a round may be malicious, which krum and multi-krum assume.", ge=0
    )
