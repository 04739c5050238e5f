"""Real training steps of a half, measured: what predictions are held to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig

from hsplit_flower.adapters import (
    DropoutMasks,
    LowRank,
    adapter_optimizer,
    attach,
    take_starting_points,
)
from hsplit_flower.costs import Workload
from hsplit_flower.costs.metering import LiveBytes
from hsplit_flower.importance import probing
from hsplit_flower.metrics import summed_token_loss
from hsplit_flower.settings import Recipe, SessionSpec
from hsplit_flower.splitting import Half, Parts, build_half
from hsplit_flower.types import Labels, Scaling, Start, Weight
from tests.reference.planning import saved_storages

DTYPES = {2: torch.bfloat16, 4: torch.float32}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Bytes of one half while it was trained for two steps.

    ``peak_bytes`` counts resident weights, and everything that operations made.
    """

    saved_bytes: int
    peak_bytes: int


def measure_client(
    config: PretrainedConfig,
    workload: Workload,
    *,
    cut: int,
    ranks: Mapping[str, int],
    update_ranks: Mapping[str, int] | None = None,
    start: Start = Start.RESTART,
    labels: Labels = Labels.SERVER,
    is_scored: bool = False,
    dropout: float = 0.0,
) -> Measured:
    """Train a client's half on random tokens against a worker that answers with noise.

    The global update that it starts from is random, and counts from its arrival on.
    """
    half = build(config, workload, Parts.of_client(cut, keeps_labels=labels is Labels.CLIENT))
    weights = half.architecture.weights_in(half.parts.span)
    resident = [*half.model.parameters(), *half.model.buffers()]
    tokens, mask = a_batch(workload)
    masks = DropoutMasks(SessionSpec(client=0, cut=cut, lora_dropout=dropout))
    with LiveBytes(ignore=[*resident, tokens, mask]) as live:
        points = take_starting_points(
            weights,
            _updates(weights, update_ranks or {}),
            ranks,
            start=start,
            scaling=Scaling(alpha=2.0),
            seed=0,
            dtype=half.matrix_dtype,
        )
        trainables = attach(half.model, points, scaling=Scaling(alpha=2.0), masks=masks)
        optimizer = adapter_optimizer(trainables, Recipe(learning_rate=1e-3, weight_decay=0.0))
        assert optimizer is not None
        there_anyway = [*resident, *(factor for t in trainables.values() for factor in (t.b, t.a))]
        for step in range(2):
            # The first step scores, the second has the optimizer's moments.
            names = [weight.name for weight in weights] if is_scored and step == 0 else []
            masks.at(step + 1, 0)
            with probing(half.model, names):
                with saved_storages(there_anyway) as saved:
                    hidden = half.embed(tokens, mask)
                saved_bytes = sum(saved.values())
                if labels is Labels.CLIENT:
                    lose(half, tokens, mask, torch.randn_like(hidden))
                hidden.backward(torch.randn_like(hidden))
                del hidden
            optimizer.step()
            optimizer.zero_grad()
    return Measured(saved_bytes=saved_bytes, peak_bytes=live.peak_bytes + bytes_of(resident))


def _updates(weights: Iterable[Weight], update_ranks: Mapping[str, int]) -> dict[str, LowRank]:
    return {
        weight.name: LowRank(
            b=torch.randn(weight.out_features, rank), a=torch.randn(rank, weight.in_features)
        )
        for weight in weights
        if (rank := update_ranks.get(weight.name, 0))
    }


def lose(half: Half, tokens: Tensor, mask: Tensor, last: Tensor) -> None:
    """Loss and gradient of the last hidden state, as a client with labels computes them."""
    last.requires_grad_()
    logits = half.logits(last, mask, start=half.architecture.num_blocks)
    summed_token_loss(logits, tokens).backward()


def build(config: PretrainedConfig, workload: Workload, parts: Parts) -> Half:
    dtype = DTYPES[workload.dtype_bytes]
    half = build_half(config, parts, dtype=dtype, quantised=workload.quantised)
    half.model.config._attn_implementation = workload.attention
    half.model.train()
    return half


def a_batch(workload: Workload) -> tuple[Tensor, Tensor]:
    """Random tokens, and a mask that hides the end of the first row."""
    tokens = torch.randint(3, 60, (workload.batch_size, workload.sequence_length))
    mask = torch.ones_like(tokens)
    mask[0, -3:] = 0
    return tokens, mask


def bytes_of(tensors: list[Tensor]) -> int:
    """Bytes of the storages behind tensors, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
