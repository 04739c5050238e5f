"""Evaluating the whole model on the server, for Flower's ``evaluate_fn``."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, MetricRecord
from torch import Tensor

from ..adapters import Active, AdapterBank, LowRank, from_state_dict
from ..batches import checked
from ..metrics import TokenLoss, token_loss
from ..settings import Model
from ..splitting import Half, Parts, floating_dtype, load_half, read_architecture
from ..splitting.checkpoint import Checkpoint
from ..splitting.whole_weights import load_weights_


class ServerEvaluation:
    """Loss and perplexity of the whole model with the global adapter; an ``evaluate_fn``.

    Parameters
    ----------
    model
        The base, as the strategy has it. It is loaded whole: use it where the server may hold the
        model and has examples of its own.
    make_batches
        Gives a fresh pass over the server's examples, batches as clients have them: mappings with
        ``input_ids``, ``attention_mask`` and ``labels``.
    device
        Where it runs; by default the GPU if there is one.

    Attributes
    ----------
    half
        The whole model as one half.
    """

    def __init__(
        self,
        model: str | Model,
        make_batches: Callable[[], Iterable[Mapping[str, Any]]],
        *,
        device: str | None = None,
    ) -> None:
        base = Model(name=model) if isinstance(model, str) else model
        revision = base.revision or None
        architecture = read_architecture(Checkpoint(source=base.name, revision=revision).config())
        self.half: Half = load_half(
            base.name,
            Parts.whole(architecture.num_blocks),
            revision=revision,
            dtype=floating_dtype(base.computes_in),
            quantised=base.quantised,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
            attention=base.attention or None,
        )
        self._bank = AdapterBank(self.half.model, [weight.name for weight in architecture.weights])
        self._make_batches = make_batches

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord:
        """Evaluate the adapter in ``arrays``, or the parameters, where these are trained."""
        tensors: Mapping[str, Tensor] = arrays.to_torch_state_dict()
        if tensors and not any(".lora_" in key for key in tensors):
            load_weights_(self.half.model, {key: one.float() for key, one in tensors.items()})
            tensors = {}
        loss = self.evaluate(from_state_dict(tensors))
        return MetricRecord(
            {"loss": loss.mean, "perplexity": loss.perplexity, "num-tokens": loss.num_tokens}
        )

    @torch.no_grad()
    def evaluate(self, updates: Mapping[str, LowRank]) -> TokenLoss:
        """Summed loss over the examples' labelled tokens.

        Raises
        ------
        DataError
            If a batch is not what the model takes: it is checked as clients' are.
        """
        half, device = self.half, self.half.device
        half.model.eval()
        terms = {
            name: [(update.b.to(device), update.a.to(device), 1.0)]
            for name, update in updates.items()
        }
        total = TokenLoss()
        with self._bank.activate(Active(terms=terms)):
            for given in checked(self._make_batches(), half.architecture, is_training=False):
                batch = given.to(device)
                logits = half.logits_of(batch.input_ids, batch.attention_mask, batch.position_ids)
                total += token_loss(logits, batch.labels)
        return total
