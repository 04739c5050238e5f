"""Rotary frequencies that depend on how long the rows of a pass are.

Two kinds of scaling do. With *longrope* all rows of a pass get other frequencies if the longest is
longer than the model was first trained for. With *dynamic* scaling they change with each length
beyond the configured one, and are kept for later rows until much shorter ones come. A row's numbers
must depend neither on what shares a pass with it nor on what came before.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig

LONG, DYNAMIC = "longrope", "dynamic"


def steady_length(config: PretrainedConfig) -> int | None:
    """Up to which length of a row frequencies are the same for all; None where they always are.

    Parameters
    ----------
    config
        Of the text model.
    """
    lengths = []
    for parameters in _parameters(config):
        kind = _kind(parameters)
        if kind == LONG:
            lengths.append(int(parameters["original_max_position_embeddings"]))
        elif DYNAMIC in kind:
            lengths.append(int(config.max_position_embeddings))
    return min(lengths, default=None)


def max_positions(config: PretrainedConfig) -> int | None:
    """How long a row may be; None where nothing is said.

    What a model of dynamic scaling says is the length from which on its frequencies are stretched,
    up to ``factor`` times that.
    """
    configured: int | None = getattr(config, "max_position_embeddings", None)
    factors = [p.get("factor") or 1.0 for p in _parameters(config) if DYNAMIC in _kind(p)]
    return int(configured * max(factors)) if configured and factors else configured


class DynamicRotaries:
    """The rotary embeddings of a model that remember how long the rows were.

    Parameters
    ----------
    model
        A half or a whole one.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = _of_kind(model, DYNAMIC)

    def forget(self) -> None:
        """Make them what they were before any row was seen."""
        for module in self._modules:
            for name in _ending(vars(module), "max_seq_len_cached"):
                setattr(module, name, module.original_max_seq_len)
            for name in _ending([*vars(module), *module._buffers], "original_inv_freq"):
                current = name.replace("original_", "")
                original = getattr(module, name).to(getattr(module, current).device)
                module.register_buffer(current, original, persistent=False)


def fix_frequencies(model: nn.Module) -> None:
    """Let an empty model keep the frequencies of short rows: its tensors have no lengths to ask."""
    for module in _of_kind(model, DYNAMIC):
        kinds = module.rope_type
        if isinstance(kinds, dict):
            module.rope_type = dict.fromkeys(kinds, "default")
        else:
            module.rope_type = "default"


def _of_kind(model: nn.Module, kind: str) -> list[Any]:
    return [each for each in model.modules() if kind in str(getattr(each, "rope_type", ""))]


def _parameters(config: PretrainedConfig) -> Iterator[Mapping[str, Any]]:
    """What is said of rotary embeddings, of each kind of layer where they differ."""
    said = getattr(config, "rope_parameters", None) or {}
    kinds = [each for each in said.values() if isinstance(each, Mapping)]
    yield from kinds or [said]


def _kind(parameters: Mapping[str, Any]) -> str:
    return str(parameters.get("rope_type") or parameters.get("type") or "")


def _ending(names: Any, ending: str) -> list[str]:
    return [name for name in names if name.endswith(ending)]
