"""What a model's class calls the tensors of a checkpoint, whatever its files call them.

Transformers' loader renames what it reads: a prefix is there or not, old names stand for new ones,
several tensors become one. Tensors that it leaves out are none of the model's.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from transformers import PretrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from .empty_model import build_empty
from .reading import describe

# Of bitsandbytes: what stands beside a weight of 8 bits has its layer's name, not the weight's.
_BESIDE: Final = ("SCB",)
_MOST_ENDINGS: Final = 3


class TensorNames:
    """The names that the model of a configuration has for its tensors.

    Parameters
    ----------
    config
        Of the whole model.
    is_quantised
        Whether scales and the like stand beside the weights in its files.
    """

    def __init__(self, config: PretrainedConfig, *, is_quantised: bool = False) -> None:
        model = build_empty(config)
        # The towers of a model for images and text are read by nobody.
        has_towers = config.get_text_config() is not config
        self._towers = describe(model).towers if has_towers else ()
        self._known = model.state_dict()
        self._prefix = model.base_model_prefix
        self._is_quantised = is_quantised
        mapping = get_model_conversion_mapping(model)
        self._renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        self._converters = [one for one in mapping if isinstance(one, WeightConverter)]
        self.tied: Mapping[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})

    def of(self, key: str) -> str | None:
        """The model's name for a tensor that a checkpoint calls so; None if it has none for it."""
        name = self._plain(key) or (self._of_companion(key) if self._is_quantised else None)
        if name is None or any(name.startswith(f"{tower}.") for tower in self._towers):
            return None
        return name

    def _plain(self, key: str) -> str | None:
        name, source = self._renamed(key)
        if name not in self._known:
            return None
        # One of several that the loader makes into one, by its own name inside of its block.
        return name if source is None else f"{name}, of {_inside_block(key)}"

    def _renamed(self, key: str) -> tuple[str, str | None]:
        name, source = rename_source_key(
            key, self._renamings, self._converters, self._prefix, self._known
        )
        if name in self._known or key not in self._known:
            return name, source
        # As the loader does: it was not to be renamed.
        return rename_source_key(key, [], [], self._prefix, self._known)

    def _of_companion(self, key: str) -> str | None:
        """Of scales, by the weight that they belong to."""
        stem, _, ending = key.rpartition(".")
        if ending in _BESIDE and (weight := self._plain(f"{stem}.weight")):
            return f"{weight}.{ending}"
        for _ in range(_MOST_ENDINGS):
            if weight := self._plain(stem):
                return f"{weight}{key.removeprefix(stem)}"
            stem = stem.rpartition(".")[0]
        return None


def _inside_block(key: str) -> str:
    parts = key.split(".")
    numbered: Iterable[int] = (place for place, part in enumerate(parts) if part.isdecimal())
    return ".".join(parts[next(iter(numbered), -1) + 1 :])
