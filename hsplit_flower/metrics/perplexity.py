"""Loss and perplexity per token of a causal language model.

Sum and count travel; the ratio is taken once, by whoever reads it. A mean of means would weigh
short batches and small clients too much.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from ..errors import DataError
from ..types import IGNORED_LABEL


@dataclass(frozen=True, kw_only=True)
class TokenLoss:
    """A summed negative log-likelihood and the number of tokens it is of.

    Adds up over batches and clients; ``sum(losses, TokenLoss())`` starts from nothing.
    """

    loss_sum: float = 0.0
    """Nats."""
    num_tokens: int = 0

    def __post_init__(self) -> None:
        if self.num_tokens < 0:
            raise ValueError(f"num_tokens must be zero or more, got {self.num_tokens}")

    def __add__(self, other: "TokenLoss") -> "TokenLoss":
        return TokenLoss(
            loss_sum=self.loss_sum + other.loss_sum, num_tokens=self.num_tokens + other.num_tokens
        )

    @property
    def mean(self) -> float:
        """Nats per token.

        Raises
        ------
        DataError
            If there are no tokens.
        """
        if self.num_tokens == 0:
            raise DataError("no token has a label, so there is no mean loss; wanted at least one")
        return self.loss_sum / self.num_tokens

    @property
    def perplexity(self) -> float:
        """``exp(mean)``: among how many equally likely tokens the model in effect chooses.

        Infinite where the mean is too large for a float.
        """
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf


def summed_token_loss(
    logits: Float[Tensor, "batch seq vocab"],
    labels: Int[Tensor, "batch seq"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """The summed cross entropy of every label under the logits one position before it.

    ``-sum_t log softmax(logits[t])[labels[t + 1]]`` over the labels that are not -100. Computed in
    float32 whatever the logits' dtype, and differentiable; divide by `count_label_tokens` for the
    loss that Hugging Face models return. With smoothing ``ε`` the target of each is
    ``1 − ε + ε / vocab`` of the label and ``ε / vocab`` of every other token (Szegedy et al. 2016,
    arXiv 1512.00567, section 7).
    """
    return cross_entropy(
        logits.flatten(0, 1).float(),
        next_labels(labels).flatten(),
        ignore_index=IGNORED_LABEL,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def next_labels(labels: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
    """What each position is to predict: the label after it, none after the last one.

    The labels are shifted, not the logits: a slice of these would be copied, there and back.
    """
    return pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)


def label_targets(labels: Int[Tensor, "batch seq"]) -> Int[Tensor, " target"]:
    """The labels that are predicted: those that are not -100, after the first position."""
    following = next_labels(labels)
    return following[following != IGNORED_LABEL]


def count_label_tokens(labels: Int[Tensor, "batch seq"]) -> int:
    """How many labels a loss is of (`label_targets`)."""
    return label_targets(labels).numel()


def token_loss(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]
) -> TokenLoss:
    """The loss of these logits as numbers that travel; formula in `summed_token_loss`."""
    return TokenLoss(
        loss_sum=float(summed_token_loss(logits, labels)), num_tokens=count_label_tokens(labels)
    )
