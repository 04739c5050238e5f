"""What ``hsplit evaluate`` is asked for."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..settings import Chat, Training


@dataclass(frozen=True, kw_only=True)
class BeamOptions:
    """How a text is sought.

    Attributes
    ----------
    num_beams
        Texts that are followed at a time; 1 takes the likeliest token each time.
    length_penalty
        Texts compete by log-likelihood divided by length to this power.
    no_repeat_ngram
        So many tokens in a row occur once at most, the prompt included; 0 allows all.
    max_new_tokens
        Longest text.
    """

    num_beams: int = 10
    length_penalty: float = 0.8
    no_repeat_ngram: int = 4
    max_new_tokens: int = 100

    def __post_init__(self) -> None:
        least = {"--beam": (self.num_beams, 1), "--no-repeat-ngram": (self.no_repeat_ngram, 0)}
        least["--max-new-tokens"] = (self.max_new_tokens, 1)
        problems = [
            f"{option} is {value}: {bound} or more is wanted"
            for option, (value, bound) in least.items()
            if value < bound
        ]
        if not math.isfinite(self.length_penalty):
            problems.append(f"--length-penalty is {self.length_penalty}: a number is wanted")
        if problems:
            raise ConfigError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class EvaluationOrder:
    """A command line of it.

    Attributes
    ----------
    adapter
        A PEFT adapter's folder, or a run's.
    model, prompt
        The base and the prompt format; None takes what adapter or run say.
    personal
        Folder of a client's own adapter on top; None for none.
    dataset, split, num_examples
        What is read; at most so many inputs of it. A split of None is the first of its kind.
    chat, training
        How conversations are read, and how long they may be, as far as it is said; what is not is
        as in the adapter's run.
    beam
        How texts are sought.
    batch_size, device
        Inputs at a time, and where; None takes the GPU if there is one.
    out
        Folder for texts and scores; None takes one in the adapter's or the run's.
    with_metrics
        Whether texts are scored.
    """

    adapter: Path
    dataset: str
    split: str | None = None
    model: str | None = None
    prompt: str | None = None
    personal: Path | None = None
    num_examples: int | None = None
    chat: Chat = field(default_factory=Chat)
    training: Training = field(default_factory=Training)
    beam: BeamOptions = field(default_factory=BeamOptions)
    batch_size: int = 16
    device: str | None = None
    out: Path | None = None
    with_metrics: bool = True

    @property
    def says_how_to_read(self) -> bool:
        """Whether anything is said that is of conversations alone."""
        return bool(self.chat.model_fields_set or self.training.model_fields_set)

    def folder_of(self, split: str) -> Path:
        """Where texts and scores go."""
        return self.out or self.adapter / f"evaluation-{split}"
