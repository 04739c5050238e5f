"""What a model costs, by running one block of each kind on tensors without memory.

The configuration is enough: nothing is downloaded and nothing is allocated. Autograd itself says
what a block keeps, and the operations that run say how many floating point operations there are, so
no formula is written for any family. Blocks that are alike are taken to keep and compute as much as
the first of them; bytes of weights are counted block by block. A block that looks at its numbers,
as a mixture of experts does, is run on random ones: that takes the memory and the time of one
block.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import PretrainedConfig, PreTrainedModel

from ..errors import UnsupportedModelError
from ..metrics import next_labels
from ..splitting import (
    Architecture,
    Half,
    MasksAreFull,
    Parts,
    build_empty,
    once_a_configuration,
    read_architecture,
)
from ..splitting.quantisation import quantisation_of, quantise_empty_, skipped_modules
from ..types import Span, Weight
from .adapter_activations import with_dropout
from .block_kinds import block_calls, first_alike
from .block_pass import BlockCall, BlockPass, run_block
from .metering import LiveBytes, SavedBytes
from .model_costs import (
    FLOAT32_BYTES,
    ModelCosts,
    PassCosts,
    SavedInput,
    Workload,
    sent_as,
)

logger = logging.getLogger(__name__)

# Either 16-bit type gives the same bytes.
DTYPES = {2: torch.bfloat16, 4: torch.float32}


def trace_costs(config: PretrainedConfig, workload: Workload) -> ModelCosts:
    """The costs of the model that ``config`` describes, at one workload.

    Raises
    ------
    UnsupportedModelError
        If the model cannot be split, or its block cannot be traced.
    """
    # However hidden states are sent, the same is computed.
    traced = _trace(config, replace(workload, wire_dtype_bytes=FLOAT32_BYTES))
    return sent_as(traced, workload.wire_dtype_bytes)


@once_a_configuration
def _trace(config: PretrainedConfig, workload: Workload) -> ModelCosts:
    model = build_empty(config)
    architecture = read_architecture(config)
    quantisation = quantisation_of(config, workload.quantised)
    # As it is trained: dropout keeps a mask. The frozen weights keep nothing.
    nn.Module.to(model, DTYPES[workload.dtype_bytes])
    model.requires_grad_(False).train()
    if quantisation is not None:
        workload = replace(workload, quantised=quantisation.kind)
        skipped = skipped_modules(model, quantisation)
        quantise_empty_(model, quantisation, DTYPES[workload.dtype_bytes], skipped=skipped)
    try:
        blocks = _trace_blocks(model, architecture, workload)
        head = _trace_head(model, architecture, workload)
    except Exception as error:
        raise UnsupportedModelError(
            f"what a {architecture.model_type} costs cannot be found out: its block or head runs "
            "neither on tensors without memory nor on random numbers "
            f"({type(error).__name__}: {error})"
        ) from error
    numbers = workload.num_tokens * architecture.hidden_size
    costs = ModelCosts(
        workload=workload,
        model_type=architecture.model_type,
        blocks=architecture.blocks,
        weights=architecture.weights,
        entry_bytes=_bytes_of(model.get_submodule(path) for path in architecture.entry),
        exit_bytes=_bytes_of(model.get_submodule(path) for path in architecture.exit),
        tied_bytes=_bytes_of([model.get_input_embeddings()] if architecture.is_tied else []),
        block_bytes=tuple(
            _bytes_of([block]) for block in model.get_submodule(architecture.blocks).children()
        ),
        passes=blocks.passes,
        shared_bytes=blocks.shared_bytes,
        given_bytes=blocks.given_bytes,
        head=head,
        hidden_bytes=float(numbers * workload.dtype_bytes),
        wire_hidden_bytes=workload.sent_bytes(numbers),
    )
    return with_dropout(costs) if workload.has_dropout else costs


def _bytes_of(modules: Iterable[nn.Module]) -> float:
    return float(
        sum(
            tensor.nbytes
            for module in modules
            for tensor in [*module.parameters(), *module.buffers()]
        )
    )


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """Costs of each block, the bytes that all blocks keep together, and those they are given."""

    passes: tuple[PassCosts, ...]
    shared_bytes: float
    given_bytes: float


def _trace_blocks(
    model: PreTrainedModel, architecture: Architecture, workload: Workload
) -> _Blocks:
    calls = block_calls(model, architecture, workload)
    kinds = first_alike(calls)
    passes: dict[int, PassCosts] = {}
    shared: dict[int, int] = {}
    given: dict[int, int] = {}
    for index in sorted(set(kinds)):
        prefix = f"{architecture.blocks}.{index}."
        weights = {
            weight.name.removeprefix(prefix): weight
            for weight in architecture.weights_in(Span(start=index, stop=index + 1))
        }
        eager, chosen, scored = _trace_block(model, calls[index], weights, workload.attention)
        passes[index] = _costs_of(eager, chosen, scored)
        shared.update(chosen.shared)
        given.update(chosen.given)
    return _Blocks(
        passes=tuple(passes[index] for index in kinds),
        shared_bytes=float(sum(shared.values())),
        given_bytes=float(sum(given.values())),
    )


def _trace_block(
    model: PreTrainedModel, call: BlockCall, weights: Mapping[str, Weight], attention: str
) -> tuple[BlockPass, BlockPass, BlockPass]:
    """The passes of `_run_as_asked`, on tensors without memory or else on random numbers."""
    try:
        with _unheard("torch._subclasses.fake_tensor"):
            return _run_as_asked(model, call, weights, attention)
    except Exception as error:
        logger.warning(
            "a block of %s cannot be traced without memory (%s): it is run once on random numbers, "
            "%.3g GB of weights; memory so predicted was within 10 %% of what was measured for "
            "mixtures of experts, and holds for tokens that are spread as evenly",
            model.config.model_type,
            str(error).split("\n")[0],
            _bytes_of([call.block]) / 1e9,
        )
        return _run_as_asked(model, call, weights, attention, is_real=True)


def _costs_of(eager: BlockPass, chosen: BlockPass, scored: BlockPass) -> PassCosts:
    return PassCosts(
        saved_bytes=float(sum(chosen.kept.values()) - sum(chosen.shared.values())),
        saved_inputs=tuple(_saved_inputs(scored)),
        layer_inputs_bytes=float(
            sum(size for key, size in scored.layer_inputs.items() if key not in scored.kept)
        ),
        working_bytes=float(chosen.working_bytes),
        scoring_bytes=float(scored.working_bytes),
        # The counter does not know every fused kernel; what these compute is the same.
        forward_flops=float(eager.forward_flops),
        backward_flops=float(eager.backward_flops),
    )


def _run_as_asked(
    model: PreTrainedModel,
    call: BlockCall,
    weights: Mapping[str, Weight],
    attention: str,
    *,
    is_real: bool = False,
) -> tuple[BlockPass, BlockPass, BlockPass]:
    """The block's pass with eager attention and with this kind, and with it while scored."""
    run = partial(run_block, call, weights, is_real=is_real)
    with _set_in(model, "_experts_implementation", "eager"):
        eager = run()
    if attention != "eager":
        try:
            with _set_in(model, "_attn_implementation", "sdpa"):
                return (
                    eager,
                    run(has_boolean_mask=True),
                    run(has_boolean_mask=True, is_scored=True),
                )
        except ValueError:
            # No fused kernel has Gemma 2's soft cap: such a family always runs eagerly.
            pass
    return eager, run() if is_real else eager, run(is_scored=True)


@contextmanager
def _set_in(model: PreTrainedModel, name: str, value: str) -> Iterator[None]:
    """Have a model's configuration say so for a while."""
    before = getattr(model.config, name, None)
    setattr(model.config, name, value)
    try:
        yield
    finally:
        setattr(model.config, name, before)


@contextmanager
def _unheard(name: str) -> Iterator[None]:
    """Keep a library's logger quiet about what is expected here."""
    there = logging.getLogger(name)
    before, there.disabled = there.disabled, True
    try:
        yield
    finally:
        there.disabled = before


def _saved_inputs(block_pass: BlockPass) -> Iterator[SavedInput]:
    """The inputs that only adapters keep, with the weights that read each."""
    readers: dict[int, set[str]] = {}
    sizes: dict[int, int] = {}
    for path, record in block_pass.kept_by_adapter.items():
        for key, size in record.items():
            if key not in block_pass.kept:
                readers.setdefault(key, set()).add(path)
                sizes[key] = size
    for key, paths in readers.items():
        yield SavedInput(
            weights=frozenset(paths),
            saved_bytes=float(sizes[key]),
            is_copy=key not in block_pass.layer_inputs,
        )


def _trace_head(
    model: PreTrainedModel, architecture: Architecture, workload: Workload
) -> PassCosts:
    """Costs of norm, head and loss, forward and backward."""
    blocks = architecture.num_blocks
    parts = Parts(embeddings=False, span=Span(start=blocks, stop=blocks), head=True)
    half = Half(model, architecture, parts)
    hidden = _meta(workload, architecture.hidden_size, dtype=model.dtype).requires_grad_()
    labels = _meta(workload, dtype=torch.long)
    mask = torch.ones_like(labels)
    held = [*model.parameters(), *model.buffers()]
    saved = SavedBytes(ignore=[*held, hidden])
    live = LiveBytes(ignore=[*held, hidden, labels, mask])
    # The counter takes operations apart: what the meter sees must come first.
    with FlopCounterMode(display=False) as counter, live:
        with saved.recording():
            with MasksAreFull():
                logits = half.logits(hidden, mask, start=blocks)
            # As the metrics' loss does it.
            predicting = logits.flatten(0, 1).float()
            targets = next_labels(labels)
            loss = functional.cross_entropy(predicting, targets.flatten())
            del predicting
        forward_flops, saved_bytes = counter.get_total_flops(), saved.total_bytes
        saved.forget()
        loss.backward()
        flops = counter.get_total_flops()
    return PassCosts(
        saved_bytes=float(saved_bytes),
        working_bytes=float(max(0, live.peak_bytes - saved_bytes)),
        forward_flops=float(forward_flops),
        backward_flops=float(flops - forward_flops),
    )


def _meta(workload: Workload, *width: int, dtype: torch.dtype) -> torch.Tensor:
    shape = (workload.batch_size, workload.sequence_length, *width)
    return torch.ones(shape, dtype=dtype, device="meta")
