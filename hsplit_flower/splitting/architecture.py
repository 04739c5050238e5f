"""Where the parts of a Hugging Face causal decoder are, found by running it, not by its name.

The model is built on the meta device (no memory, no arithmetic) and run once with hooks. What runs
before the first block is the entry (embeddings), what runs after the last is the exit (norm, head),
and the blocks must be a plain list through which one hidden state passes. A model that is built
otherwise is refused with the reason.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import signature

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import SplitError
from ..types import Span, Weight
from .adaptable import is_adaptable
from .dry_run import dry_run
from .empty_model import unsupported
from .rotary import max_positions, steady_length


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The parts of one decoder by their dotted paths.

    ``entry`` and ``exit`` list the modules with parameters of their own that run before the first
    and after the last block; a tied head shares its parameter with a module of the entry, and a
    transposed model stores its matrices as ``[in_features, out_features]``. ``weights`` are the
    linear layers that PEFT puts an adapter on, ``inputs`` what the model's own forward takes, by
    name; ``towers`` are for images and sounds, and no half holds them. Blocks give tuples of
    ``tuple_length`` values, the hidden state first; None says that they give it alone. In rows of
    up to ``steady_length`` tokens rotary frequencies are the same whatever the length; None says
    that they always are.
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
    tuple_length: int | None
    inputs: frozenset[str]
    steady_length: int | None
    towers: tuple[str, ...] = ()

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

    def has_positions(self, length: int) -> bool:
        """Whether a sequence may be so long."""
        return self.max_positions is None or length <= self.max_positions

    def weights_in(self, span: Span) -> tuple[Weight, ...]:
        """The adaptable weights of the blocks in ``span``."""
        return tuple(weight for weight in self.weights if weight.block in span)


def find_parts(model: PreTrainedModel) -> Architecture:
    """The parts of a model on the meta device.

    Raises
    ------
    UnsupportedModelError
        Naming the model type and what keeps it from being split.
    """
    config = model.config
    text_config = config.get_text_config()
    path, blocks = _find_blocks(model, text_config)
    run = dry_run(model, path, blocks)
    order = run.order
    first, last = order.index(f"{path}.0"), order.index(f"{path}.{len(blocks) - 1}")
    outside = [
        name
        for name, module in model.named_modules()
        if not _is_within(name, path) and _has_own_parameters(module)
    ]
    unused = [name for name in outside if name not in order]
    # A model of several kinds of input has a configuration for its text.
    if unused and text_config is config:
        raise unsupported(config, f"its modules {unused} do not run with a plain input")
    outside = [name for name in outside if name in order]
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise unsupported(config, "it has no output head")
    return Architecture(
        model_type=str(config.model_type),
        blocks=path,
        num_blocks=len(blocks),
        embedding=next(name for name, module in model.named_modules() if module is embedding),
        entry=tuple(name for name in outside if order.index(name) < first),
        exit=tuple(name for name in outside if order.index(name) > last),
        weights=tuple(
            weight
            for weight in _find_weights(path, blocks)
            # A layer of a family's own, such as a router: an adapter adds to one output.
            if weight.name not in run.several_outputs and _is_adaptable(config, path, weight)
        ),
        hidden_size=int(text_config.hidden_size),
        vocabulary_size=int(head.weight.shape[0]),
        max_positions=max_positions(text_config),
        is_tied=head.weight is embedding.weight,
        is_transposed=any(isinstance(module, Conv1D) for module in blocks.modules()),
        tuple_length=run.tuple_length,
        inputs=frozenset(signature(type(model).forward).parameters) - {"self"},
        steady_length=steady_length(text_config),
        towers=_towers(unused, order),
    )


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
    if config is not model.config:
        # A tower may have as many: take those beside the embeddings of text.
        found = [(name, blocks) for name, blocks in found if _is_within(name, _text_model(model))]
        path, blocks = min(found or [(path, blocks)], key=lambda item: item[0].count("."))
    rivals = [name for name, _ in found if name != path and not _is_within(name, path)]
    if rivals:
        raise unsupported(config, f"it has several lists of {wanted} modules: {[path, *rivals]}")
    _refuse_shared_parameters(config, path, blocks)
    return path, blocks


def _text_model(model: PreTrainedModel) -> str:
    """Dotted path of what the embedding of tokens is in."""
    embedding = model.get_input_embeddings()
    path = next(name for name, module in model.named_modules() if module is embedding)
    return str(path.rpartition(".")[0])


def _towers(unused: Iterable[str], order: Iterable[str]) -> tuple[str, ...]:
    """The largest modules in which nothing ran that hold these: towers rather than their layers."""
    ran = {outer for name in order for outer in _paths_to(name)}
    found = [next(path for path in _paths_to(name) if path not in ran) for name in unused]
    return tuple(dict.fromkeys(found))


def _paths_to(name: str) -> Iterator[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``."""
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _refuse_shared_parameters(config: PretrainedConfig, path: str, blocks: nn.ModuleList) -> None:
    owner: dict[int, int] = {}
    for index, block in enumerate(blocks):
        for parameter in block.parameters():
            if owner.setdefault(id(parameter), index) != index:
                raise unsupported(
                    config, f"blocks {owner[id(parameter)]} and {index} share weights"
                )


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


def _is_adaptable(config: PretrainedConfig, path: str, weight: Weight) -> bool:
    """Blocks are alike in this: one is asked about."""
    inside = weight.name.removeprefix(f"{path}.{weight.block}.")
    return is_adaptable(str(config.model_type), f"{path}.0.{inside}")


def _has_own_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")
