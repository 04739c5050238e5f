"""One run of an empty model: the order of its modules, and what passes between its blocks.

All that passes must be one hidden state from block to block, and from the last block to the head:
nothing else is sent. What else a block gives may be there as long as nobody reads it.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle
from transformers import PretrainedConfig, PreTrainedModel

from .empty_model import MasksAreFull, unsupported


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What is known of a model after one run.

    Attributes
    ----------
    order
        Its modules' names, in the order in which they were entered.
    several_outputs
        Names of the modules that gave something else than one tensor.
    tuple_length
        How many values its blocks give in a tuple; None where they give the hidden state alone.
    """

    order: tuple[str, ...]
    several_outputs: frozenset[str]
    tuple_length: int | None


class _Beside(TorchDispatchMode):
    """Whether any operation reads what a block gave beside its hidden state."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.block_of: dict[int, int] = {}
        self.read: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = map(id, _tensors([args, kwargs]))
        self.read.update(self.block_of[each] for each in given if each in self.block_of)
        return func(*args, **(kwargs or {}))


@dataclass(kw_only=True)
class _Record:
    """What a run did: modules entered, what blocks were passed and returned, and embeddings."""

    order: list[str] = field(default_factory=list)
    several_outputs: set[str] = field(default_factory=set)
    passed: list[tuple[Any, list[Tensor]]] = field(default_factory=list)
    returned: list[Any] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    beside: _Beside = field(default_factory=_Beside)


def dry_run(model: PreTrainedModel, path: str, blocks: nn.ModuleList) -> DryRun:
    """Run the empty model once.

    Raises
    ------
    UnsupportedModelError
        If it does not run, or if more than one hidden state passes between its blocks.
    """
    record = _Record()
    handles = _watch(model, blocks, record)
    tokens = torch.ones(1, 4, dtype=torch.long, device="meta")
    try:
        with torch.enable_grad(), MasksAreFull(), record.beside:
            mask = torch.ones_like(tokens)
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    except Exception as error:
        raise unsupported(model.config, f"it does not run on an empty input ({error})") from error
    finally:
        for handle in handles:
            handle.remove()
    wanted = [f"{path}.{index}" for index in range(len(blocks))]
    if [name for name in record.order if name in set(wanted)] != wanted:
        raise unsupported(model.config, "its blocks do not run once each, in order")
    outputs = [output[0] if isinstance(output, tuple) else output for output in record.returned]
    _check_chain(model.config, record.passed, outputs)
    if record.beside.read:
        raise unsupported(
            model.config,
            f"what block {min(record.beside.read)} gives beside its hidden state is read after it, "
            "and nothing but the hidden state is sent",
        )
    _check_exit(model.config, logits, [*record.sources, *outputs[:-1]])
    for index, (_, others) in enumerate(record.passed):
        if any(other is tokens or other.requires_grad for other in others):
            raise unsupported(
                model.config,
                f"block {index} also reads something that is computed from the tokens, which the "
                "worker does not have",
            )
    first = record.returned[0]
    return DryRun(
        order=tuple(record.order),
        several_outputs=frozenset(record.several_outputs),
        tuple_length=len(first) if isinstance(first, tuple) else None,
    )


def _watch(model: PreTrainedModel, blocks: nn.ModuleList, record: _Record) -> list[RemovableHandle]:
    """Write down what the model's run does, until the handles are removed."""

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        record.order.append(name)

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            record.several_outputs.add(name)

    def block_enters(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = [*args[1:], *kwargs.values()] if args else list(kwargs.values())
        record.passed.append((args[0] if args else None, _tensors(rest)))

    def block_leaves(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            _, others = record.passed[-1]
            made = (one for one in _tensors(output[1:]) if not any(one is each for each in others))
            record.beside.block_of |= {id(one): len(record.returned) for one in made}
        record.returned.append(output)
        # Cut the graph here: what the exit computes must come from this hidden state alone.
        return _cut_loose(output) if module is blocks[-1] else None

    def embedded(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        record.sources.append(output)

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_pre_hook(partial(enter, name)) for name, module in named]
    handles += [module.register_forward_hook(partial(leave, name)) for name, module in named]
    for block in blocks:
        handles.append(block.register_forward_pre_hook(block_enters, with_kwargs=True))
        handles.append(block.register_forward_hook(block_leaves))
    handles.append(model.get_input_embeddings().register_forward_hook(embedded))
    return handles


def _cut_loose(output: Any) -> Any:
    if isinstance(output, tuple):
        return (_cut_loose(output[0]), *output[1:])
    return output.detach().requires_grad_() if isinstance(output, Tensor) else output


def _check_exit(config: PretrainedConfig, logits: Tensor, sources: list[Tensor]) -> None:
    """The logits must depend on the last hidden state, and on no embedding or earlier block."""
    known = [source for source in sources if source.requires_grad]
    if not known:
        return
    found = torch.autograd.grad(logits, known, torch.empty_like(logits), allow_unused=True)
    if any(gradient is not None for gradient in found):
        raise unsupported(config, "its head also reads something else than the last block's output")


def _check_chain(config: PretrainedConfig, passed: list[Any], outputs: list[Any]) -> None:
    """One hidden state must be all that passes from block to block: it is all that is sent."""
    wanted = config.get_text_config().hidden_size
    for index, ((hidden, others), output) in enumerate(zip(passed, outputs, strict=True)):
        if not isinstance(hidden, Tensor) or not isinstance(output, Tensor):
            raise unsupported(config, f"block {index} does not take and give one hidden state")
        if hidden.ndim != 3 or hidden.shape[-1] != wanted:
            raise unsupported(
                config,
                f"block {index} takes a hidden state of shape {list(hidden.shape)}, "
                f"[batch, seq, {wanted}] is wanted",
            )
        if index and hidden is not outputs[index - 1]:
            raise unsupported(
                config, f"the input of block {index} is not block {index - 1}'s output"
            )
        if any(other is earlier for other in others for earlier in outputs[:index]):
            raise unsupported(config, f"block {index} also reads an earlier block's output")


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
