"""What somebody who runs the worker reads from what he is sent, knowing the public base.

Inputs are found by search: of all tokens of the vocabulary, the one whose hidden state, after the
tokens before it, is nearest to what came. It is asked token by token, each with the true ones
before it, so a figure is of one token whose past is known; where noise makes errors, guessing from
guessed tokens does worse. The guess may count what the language model itself expects, ``log p``
beside ``−‖h − c‖² / 2 s²``, which is Bayes' rule for noise of deviation ``s``.

Labels are found from what a client sends that keeps them: the gradient of the last hidden state is
a function of the public norm and head, of the last hidden states, which the worker has made, and of
the label: of all labels, the one whose gradient is nearest.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MOST_CANDIDATES = 512


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Of one place in a text: the token, what each would look like at every cut, what is expected.

    ``states`` are by cut, ``[vocabulary, hidden]``; ``log_probability`` is the model's own.
    """

    token: int
    states: dict[int, Float[Tensor, "vocabulary hidden"]]
    log_probability: Float[Tensor, " vocabulary"]


@torch.no_grad()
def candidates(model: Any, ids: Int[Tensor, " seq"], cuts: list[int]) -> list[Candidates]:
    """Of every place of a text but the first, before which there is nothing to expect it from."""
    everything = torch.arange(model.config.vocab_size)
    expected = model(ids[None], use_cache=False).logits[0].log_softmax(-1)
    found = []
    for place in range(1, len(ids)):
        states: dict[int, list[Tensor]] = {cut: [] for cut in cuts}
        for some in everything.split(_MOST_CANDIDATES):
            # What comes before is the same for all of them and run once.
            before = model.model(ids[None, :place], use_cache=True).past_key_values
            before.batch_repeat_interleave(len(some))
            told = model.model(some[:, None], past_key_values=before, output_hidden_states=True)
            for cut in cuts:
                states[cut].append(told.hidden_states[cut][:, -1].clone())
        found.append(
            Candidates(
                token=int(ids[place]),
                states={cut: torch.cat(each) for cut, each in states.items()},
                log_probability=expected[place - 1],
            )
        )
    return found


def nearest(
    seen: Float[Tensor, " hidden"],
    states: Float[Tensor, "vocabulary hidden"],
    log_probability: Float[Tensor, " vocabulary"],
    deviation: float,
) -> tuple[int, int]:
    """The token by distance alone, and by what is expected too, for noise of this deviation."""
    squares = (states - seen).double().square().sum(dim=1)
    by_distance = int(squares.argmin())
    if not deviation:
        return by_distance, by_distance
    return by_distance, int((log_probability - squares / (2 * deviation**2)).argmax())


def label_gradients(
    model: Any, last: Float[Tensor, " hidden"]
) -> tuple[Float[Tensor, "vocabulary hidden"], Float[Tensor, " vocabulary"]]:
    """``∂ loss / ∂ h`` of a last hidden state for every label, and what the head expects.

    ``J (p − e_y) W`` with the Jacobian ``J`` of the final norm.
    """
    norm, head = model.model.norm, model.lm_head.weight.detach()
    jacobian = torch.autograd.functional.jacobian(norm, last)
    with torch.no_grad():
        expected = (norm(last) @ head.T).log_softmax(-1)
        mean = expected.exp() @ head
        return (mean[None] - head) @ jacobian, expected


def nearest_label(
    seen: Float[Tensor, " hidden"], gradients: Float[Tensor, "vocabulary hidden"]
) -> int:
    """The label whose gradient points most nearly where the one that came does.

    Its length is left out: it depends on how many tokens a step has.
    """
    directions = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return int((directions @ seen).argmax())
