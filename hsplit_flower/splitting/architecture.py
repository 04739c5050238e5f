"""Where the parts of a Hugging Face causal decoder are, found by running it, not by its name.

The model is built on the meta device (no memory, no arithmetic) and run once with hooks. What runs
before the first block is the entry (embeddings), what runs after the last is the exit (norm, head),
and the blocks must be a plain list through which one hidden state passes. A model that is built
otherwise is refused with the reason.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.pytorch_utils import Conv1D

from ..errors import SplitError, UnsupportedModelError
from ..types import Span, Weight


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The parts of one decoder by their dotted paths.

    ``entry`` and ``exit`` list the modules with parameters of their own that run before the first
    and after the last block; a tied head shares its parameter with a module of the entry, and a
    transposed model stores its matrices as ``[in_features, out_features]``.
    """

    model_type: str
    blocks: str
    num_blocks: int
    embedding: str
    entry: tuple[str, ...]
    exit: tuple[str, ...]
    weights: tuple[Weight, ...]
    hidden_size: int
    vocabulary_size: int
    max_positions: int | None
    is_tied: bool
    is_transposed: bool
    blocks_return_tuple: bool

    def check_cut(self, cut: int) -> None:
        """Refuse a cut that leaves no block on the client, or that the model does not have.

        Raises
        ------
        SplitError
            If ``cut`` is not in ``[1, num_blocks]``: raw embeddings never leave a client.
        """
        if not 1 <= cut <= self.num_blocks:
            raise SplitError(
                f"cut {cut} is out of range: a {self.model_type} of {self.num_blocks} blocks "
                f"can be cut at 1 to {self.num_blocks}"
            )

    def weights_in(self, span: Span) -> tuple[Weight, ...]:
        """The adaptable weights of the blocks in ``span``."""
        return tuple(weight for weight in self.weights if weight.block in span)


def causal_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The causal language model class of a configuration, as ``AutoModelForCausalLM`` picks it.

    Raises
    ------
    UnsupportedModelError
        If transformers has none: an encoder, an encoder-decoder, or remote code.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise unsupported(config, "it is an encoder-decoder; a decoder-only model is wanted")
    try:
        found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        raise unsupported(
            config, "transformers has no causal language model for it (remote code is not run)"
        ) from None
    family: type[PreTrainedModel] = found
    return family


def build_empty(config: PretrainedConfig) -> PreTrainedModel:
    """The whole model on the meta device: names and shapes without memory.

    Eager attention, because the other kinds look into the mask's values to choose a kernel.
    """
    family = causal_class(config)
    try:
        with torch.device("meta"):
            model = family._from_config(
                copy.deepcopy(config), attn_implementation="eager", dtype=torch.bfloat16
            )
    except Exception as error:
        raise unsupported(
            config, f"{family.__name__} cannot be built from its configuration ({error})"
        ) from error
    return model.eval()  # type: ignore[no-any-return]


def read_architecture(config: PretrainedConfig) -> Architecture:
    """Find the parts of the model that ``config`` describes.

    Raises
    ------
    UnsupportedModelError
        Naming the model type and what keeps it from being split.
    """
    return describe(build_empty(config))


def describe(model: PreTrainedModel) -> Architecture:
    """The parts of a model that is already built on the meta device."""
    config = model.config
    text_config = config.get_text_config()
    path, blocks = _find_blocks(model, text_config)
    order, returns_tuple = _run_order(model, path, blocks)
    first, last = order.index(f"{path}.0"), order.index(f"{path}.{len(blocks) - 1}")
    outside = [
        name
        for name, module in model.named_modules()
        if not _is_within(name, path) and _has_own_parameters(module)
    ]
    unused = [name for name in outside if name not in order]
    if unused:
        raise unsupported(config, f"its modules {unused} do not run with a plain input")
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings()
    if head is None:
        raise unsupported(config, "it has no output head")
    return Architecture(
        model_type=str(config.model_type),
        blocks=path,
        num_blocks=len(blocks),
        embedding=next(name for name, module in model.named_modules() if module is embedding),
        entry=tuple(name for name in outside if order.index(name) < first),
        exit=tuple(name for name in outside if order.index(name) > last),
        weights=tuple(_find_weights(path, blocks)),
        hidden_size=int(text_config.hidden_size),
        vocabulary_size=int(head.weight.shape[0]),
        max_positions=getattr(text_config, "max_position_embeddings", None),
        is_tied=head.weight is embedding.weight,
        is_transposed=any(isinstance(module, Conv1D) for module in blocks.modules()),
        blocks_return_tuple=returns_tuple,
    )


def unsupported(config: PretrainedConfig, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"a model of type {config.model_type!r} cannot be split: {reason}")


def _find_blocks(model: PreTrainedModel, config: PretrainedConfig) -> tuple[str, nn.ModuleList]:
    wanted = getattr(config, "num_hidden_layers", None)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == wanted
    ]
    if not found:
        raise unsupported(config, f"no plain list of its {wanted} blocks was found")
    # A mixture of experts may hold lists of the same length inside its blocks: take the outermost.
    path, blocks = min(found, key=lambda item: item[0].count("."))
    rivals = [name for name, _ in found if name != path and not _is_within(name, path)]
    if rivals:
        raise unsupported(config, f"it has several lists of {wanted} modules: {[path, *rivals]}")
    _refuse_shared_parameters(config, path, blocks)
    return path, blocks


def _refuse_shared_parameters(config: PretrainedConfig, path: str, blocks: nn.ModuleList) -> None:
    owner: dict[int, int] = {}
    for index, block in enumerate(blocks):
        for parameter in block.parameters():
            if owner.setdefault(id(parameter), index) != index:
                raise unsupported(
                    config, f"blocks {owner[id(parameter)]} and {index} share weights"
                )


def _run_order(model: PreTrainedModel, path: str, blocks: nn.ModuleList) -> tuple[list[str], bool]:
    """Run the empty model once; give its module names in the order they were entered."""
    order: list[str] = []
    passed: list[Any] = []
    returned: list[Any] = []
    sources: list[Any] = []

    def enter(name: str) -> Any:
        return lambda module, args: order.append(name)

    def block_enters(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = [*args[1:], *kwargs.values()] if args else list(kwargs.values())
        passed.append((args[0] if args else None, list(_tensors(rest))))

    def block_leaves(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        returned.append(output)
        # Cut the graph here: what the exit computes must come from this hidden state alone.
        return _cut_loose(output) if module is blocks[-1] else None

    def embedded(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        sources.append(output)

    handles = [m.register_forward_pre_hook(enter(n)) for n, m in model.named_modules() if n]
    for block in blocks:
        handles.append(block.register_forward_pre_hook(block_enters, with_kwargs=True))
        handles.append(block.register_forward_hook(block_leaves))
    handles.append(model.get_input_embeddings().register_forward_hook(embedded))
    tokens = torch.ones(1, 4, dtype=torch.long, device="meta")
    try:
        with torch.enable_grad():
            mask = torch.ones_like(tokens)
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    except Exception as error:
        raise unsupported(model.config, f"it does not run on an empty input ({error})") from error
    finally:
        for handle in handles:
            handle.remove()
    wanted = [f"{path}.{index}" for index in range(len(blocks))]
    if [name for name in order if name in set(wanted)] != wanted:
        raise unsupported(model.config, "its blocks do not run once each, in order")
    outputs = [output[0] if isinstance(output, tuple) else output for output in returned]
    _check_chain(model.config, passed, outputs)
    _check_exit(model.config, logits, [*sources, *outputs[:-1]])
    for index, (_, others) in enumerate(passed):
        if any(other is tokens or other.requires_grad for other in others):
            raise unsupported(
                model.config,
                f"block {index} also reads something that is computed from the tokens, which the "
                "worker does not have",
            )
    return order, isinstance(returned[0], tuple)


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


def _find_weights(path: str, blocks: nn.ModuleList) -> Iterator[Weight]:
    for index, block in enumerate(blocks):
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear):
                out_features, in_features = module.weight.shape
            elif isinstance(module, Conv1D):
                in_features, out_features = module.weight.shape
            else:
                continue
            yield Weight(
                name=f"{path}.{index}.{name}",
                block=index,
                in_features=in_features,
                out_features=out_features,
            )


def _tensors(values: list[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(list(value))


def _has_own_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")
