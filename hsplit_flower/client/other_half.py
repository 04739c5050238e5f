"""The other half of a split model, reached over a stream: it is shown hidden states, and says what
the likely next tokens are. Which of them is taken is decided here.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import GenerationConfig

from ..adapters import LowRank, attach, take_starting_points
from ..adapters.attach import AS_IT_IS
from ..errors import AdapterError, CodecError
from ..splitting import Half
from ..transport.streams import Stream
from ..types import Start
from ..wire.next_tokens import Extend, NextTokens
from .split_model import Shown


class OtherHalf:
    """Asks a session that writes.

    Parameters
    ----------
    stream
        The exchange with it.
    vocabulary_size
        How many logits a token has.
    """

    def __init__(self, stream: Stream, vocabulary_size: int) -> None:
        self._stream = stream
        self._vocabulary_size = vocabulary_size
        self._num_steps = 0
        self._num_choices = 1

    def prepare(self, config: GenerationConfig) -> None:
        """Ask from now on for as many next tokens as a choice of this kind looks at."""
        self._num_choices = min(num_choices(config), self._vocabulary_size) or self._vocabulary_size

    def follow(self, shown: Shown) -> Tensor:
        """The logits of the token that follows each row, ``[batch, vocabulary]``.

        Raises
        ------
        TransportError
            If the worker cannot be reached, refuses, or answers something else.
        """
        self._num_steps += 1
        reply = self._stream.exchange(
            Extend(
                step=self._num_steps,
                hidden=shown.hidden,
                attention_mask=shown.mask if shown.begins else None,
                parents=None if shown.begins else shown.parents,
                begins=shown.begins,
                num_choices=self._num_choices,
            )
        )
        assert isinstance(reply, NextTokens)
        return all_logits(reply, self._vocabulary_size)


def num_choices(config: GenerationConfig) -> int:
    """How many of the likeliest tokens decide which is taken; 0 where all do.

    Of beams, transformers looks at the best ``max(2, 1 + ends)`` times their number, which may all
    be of one.
    """
    if config.do_sample:
        return int(config.top_k or 0)
    if not config.num_beams or config.num_beams == 1:
        return 1
    ends = config.eos_token_id
    num_ends = len(ends) if isinstance(ends, list) else int(ends is not None)
    return max(2, 1 + num_ends) * int(config.num_beams)


def all_logits(reply: NextTokens, vocabulary_size: int) -> Tensor:
    """Logits of the whole vocabulary of which some are known, and the sum of all.

    The others share what is left of the probability alike: each has less than any that is known,
    and those that are known have the probability that they had.

    Raises
    ------
    CodecError
        If tokens are not those of the vocabulary.
    """
    if reply.tokens is None:
        if reply.logits.shape[1] != vocabulary_size:
            raise CodecError(
                f"the worker sent {reply.logits.shape[1]} logits without their tokens: all "
                f"{vocabulary_size} are wanted then"
            )
        return reply.logits
    if bool(((reply.tokens < 0) | (reply.tokens >= vocabulary_size)).any()):
        raise CodecError(f"the worker named tokens that are not in [0, {vocabulary_size})")
    known = (reply.logits - reply.log_sum[:, None]).double().exp().sum(dim=1)
    num_others = max(vocabulary_size - reply.logits.shape[1], 1)
    others = (1 - known).clamp(min=0).log() - math.log(num_others) + reply.log_sum
    least = reply.logits.min(dim=1).values
    rest = torch.minimum(others.to(least.dtype), least)
    full = rest[:, None].repeat(1, vocabulary_size)
    return full.scatter(1, reply.tokens, reply.logits)


def attach_part(half: Half, updates: Mapping[str, LowRank]) -> None:
    """Put a global adapter's part onto a half, for good.

    Raises
    ------
    AdapterError
        If it names weights that the model does not have, or is of other shapes.
    """
    known = {weight.name for weight in half.architecture.weights}
    if unknown := sorted(set(updates) - known):
        raise AdapterError(f"the adapter is for weights that the model lacks: {unknown[:3]}")
    points = take_starting_points(
        half.architecture.weights_in(half.parts.span),
        dict(updates),
        {},
        start=Start.RESTART,
        scaling=AS_IT_IS,
        seed=0,
        dtype=half.matrix_dtype,
    )
    attach(half.model, points, scaling=AS_IT_IS)
