"""A round of a client that has the whole model: adapters are trained on it, or all its parameters.

Nothing is sent in a step, and no worker is there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..adapters import LowRank, SelfPruning, adamw
from ..batches import Batch
from ..devices.memory_budget import MemoryMeter
from ..errors import NonFiniteError
from ..metrics import TokenLoss, count_label_tokens, summed_token_loss
from ..settings import SessionSpec
from ..splitting import Half
from ..splitting.whole_weights import load_weights_, weights_of
from ..wire.instructions import WholeTraining
from .adapter_loop import AdapterLoop
from .round_loop import Outcome, RoundLoop


class WholeRound(RoundLoop):
    """Steps on the whole model, each with the mean loss over the tokens of its batches."""

    def _run(self, number: int, batches: Sequence[Batch], *, is_probe: bool) -> TokenLoss:
        total_tokens = sum(count_label_tokens(batch.labels) for batch in batches)
        loss = TokenLoss()
        for index, batch in enumerate(batches):
            self._masks.at(number, index)
            here = batch.to(self._half.device)
            loss_sum = self._loss_sum(here)
            value = float(loss_sum.detach())
            if not math.isfinite(value):
                raise NonFiniteError(f"the loss is {value}: lower the learning rate")
            if torch.is_grad_enabled():
                # Of the step, whatever the number of its batches.
                penalty = 0.0 if index else self._penalty()
                (loss_sum / total_tokens + penalty).backward()
            num_tokens = count_label_tokens(here.labels)
            loss += TokenLoss(loss_sum=value, num_tokens=num_tokens)
        return loss

    def _loss_sum(self, batch: Batch) -> Tensor:
        smoothing = self._spec.label_smoothing if torch.is_grad_enabled() else 0.0
        logits = self._half.logits_of(batch.input_ids, batch.attention_mask, batch.position_ids)
        return summed_token_loss(logits, batch.labels, label_smoothing=smoothing)

    def _penalty(self) -> Tensor | float:
        """What the method adds to the loss."""
        return 0.0


class AdapterRound(WholeRound, AdapterLoop):
    """Trains or evaluates adapters on the whole model.

    Parameters
    ----------
    half
        The whole model.
    updates
        The global update, as the method sends it. Emptied, as the round takes it over.
    spec
        The recipe, and the client's ranks.
    training
        What the method asks besides.
    meter
        Holds the round to a memory budget.
    """

    def __init__(
        self,
        half: Half,
        updates: dict[str, LowRank],
        spec: SessionSpec,
        training: WholeTraining,
        meter: MemoryMeter,
    ) -> None:
        super().__init__(half, updates, spec, meter, merges=training.merges)
        self._pruning = (
            SelfPruning(decay=training.tail_decay, penalty=training.tail_penalty)
            if training.tail_penalty
            else None
        )

    def _penalty(self) -> Tensor | float:
        if self._pruning is None or not self._trainables:
            return 0.0
        return self._pruning.penalty_of(self._trainables, self._spec.scaling)


class WeightRound(WholeRound):
    """Trains or evaluates all parameters of the model.

    Parameters
    ----------
    half
        The whole model.
    weights
        The parameters that it starts from; those of the base where none are given.
    spec
        The recipe.
    meter
        Holds the round to a memory budget.
    """

    def __init__(
        self, half: Half, weights: Mapping[str, Tensor], spec: SessionSpec, meter: MemoryMeter
    ) -> None:
        super().__init__(half, spec, meter)
        self._trains = spec.train
        self._has_changed = spec.train or bool(weights)
        load_weights_(half.model, weights)
        half.model.requires_grad_(spec.train)
        if spec.train:
            self._optimizer = adamw(self._parameters, spec)

    def release_half(self) -> bool:
        """Freeze the model again."""
        self._half.model.requires_grad_(False)
        self._half.checkpointing = False
        return not self._has_changed

    @property
    def _parameters(self) -> Sequence[nn.Parameter]:
        return list(self._half.model.parameters())

    def _with_trained(self, outcome: Outcome) -> Outcome:
        return replace(outcome, weights=weights_of(self._half.model))
