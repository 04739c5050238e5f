"""What a PEFT configuration says about factors, if they are plain LoRA on an unchanged base.

PEFT gives a module the update ``s · B A`` with ``s = alpha / r``, or ``alpha / √r`` where it is
rank-stabilised; ``r`` and ``alpha`` may differ from module to module by patterns. Everything else
that a configuration can ask for either says nothing about the update or makes it another kind:
those of the first kind are listed, and the rest is refused by name, also what later versions of
PEFT may add.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from peft import LoraConfig

from ..errors import AdapterError

Number = TypeVar("Number", int, float)
PeftSettings = LoraConfig | Mapping[str, Any]
"""PEFT's own value, or what is in an ``adapter_config.json``."""

_NUMBERS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights")
_WITHOUT_EFFECT = (
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",  # of an initialisation, as the other three: init_lora_weights says which it was
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "ensure_weight_tying",  # of embeddings, whose factors have other names and are refused
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "merge_weights",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
)
_NOT_PLAIN = {
    "alora_invocation_tokens": "aLoRA acts only on the tokens after its invocation",
    "arrow_config": "Arrow divides every token among several adapters",
    "bias": "biases were trained beside the factors",
    "enable_lora": "only parts of a fused layer are adapted",
    "kasa_config": "KaSA takes the smallest singular values out of the base's weights",
    "layer_replication": "the model has other blocks than its base",
    "lora_bias": "biases were trained beside the factors",
    "megatron_config": "it is for Megatron's parallel layers",
    "modules_to_save": "whole modules were trained beside the factors",
    "monteclora_config": "MonteCLoRA draws what it adds while it trains",
    "target_parameters": "tensors that are no linear layer's weight are adapted",
    "trainable_token_indices": "rows of the embedding were trained beside the factors",
    "use_bdlora": "BD-LoRA's factors are blocks on a diagonal",
    "use_dora": "DoRA gives the sum of weight and update another length",
    "use_qalora": "QA-LoRA averages groups of inputs before its factors",
    "velora_config": "VeLoRA has a gradient of its own, and tensors for it",
}
_INSTEAD = (
    "merge it into its base with PEFT's merge_and_unload() and give that as the model, or train "
    "plain LoRA without it"
)
_BASE_UNCHANGED = ("eva", "gaussian", "mica", "orthogonal")
_BASE_CHANGED = ("corda", "lora_ga", "olora", "pissa")
_CONVERSION = (
    "the base's weights were changed by what the factors began with, and the adapter means nothing "
    "on the base as it is. PEFT makes plain LoRA of it: save_pretrained(…, "
    "path_initial_model_for_weight_conversion=FOLDER), with FOLDER the adapter as it was before "
    "its first step, saved with init_lora_weights=True"
)


@dataclass(frozen=True, kw_only=True)
class PlainLora:
    """The rank of each weight's factors, and what their product is multiplied by."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    is_rank_stabilised: bool

    @classmethod
    def of(cls, config: PeftSettings, what: str) -> "PlainLora":
        """What a configuration means; ``what`` is how errors call it.

        Raises
        ------
        AdapterError
            Naming every key for which it is not plain LoRA on an unchanged base, or one of whose
            value no scale can be made.
        """
        values = _values(config, what)
        if found := list(_more_than_plain(values)):
            listed = "".join(f"\n  - {each}" for each in found)
            raise AdapterError(f"{what} is not plain LoRA on an unchanged base:{listed}")
        stabilised = values.get("use_rslora", False)
        if not isinstance(stabilised, bool):
            raise AdapterError(f"{what}: use_rslora is {stabilised!r}, true or false is wanted")
        return cls(
            rank=_rank(values.get("r"), f"{what}: r"),
            alpha=_alpha(values.get("lora_alpha"), f"{what}: lora_alpha"),
            rank_pattern={
                pattern: _rank(value, f"{what}: rank_pattern of {pattern!r}")
                for pattern, value in _pattern(values, "rank_pattern", what).items()
            },
            alpha_pattern={
                pattern: _alpha(value, f"{what}: alpha_pattern of {pattern!r}")
                for pattern, value in _pattern(values, "alpha_pattern", what).items()
            },
            is_rank_stabilised=stabilised,
        )

    def rank_of(self, name: str) -> int:
        """The rank that PEFT gives a weight's factors."""
        return _matching(self.rank_pattern, name, self.rank)

    def scale_of(self, name: str) -> float:
        """``alpha / r`` or ``alpha / √r``, which PEFT multiplies a weight's product by."""
        alpha, rank = _matching(self.alpha_pattern, name, self.alpha), self.rank_of(name)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank


def _values(config: PeftSettings, what: str) -> Mapping[str, Any]:
    """Its keys and values, if it is one of LoRA."""
    values = config if isinstance(config, Mapping) else None
    if isinstance(config, LoraConfig):
        values = config.to_dict()  # type: ignore[no-untyped-call]
    if values is None:
        raise AdapterError(
            f"{what} is a {type(config).__name__}: a LoraConfig, or a mapping with the keys of an "
            "adapter_config.json, is wanted"
        )
    if values.get("peft_type") != "LORA":
        raise AdapterError(
            f"{what} is not plain LoRA: its peft_type is {values.get('peft_type')!r}, 'LORA' is "
            f"wanted; of another kind of adapter, {_INSTEAD}"
        )
    return values


def _more_than_plain(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key that asks for more than ``s · B A`` on the base as it is."""
    if reason := _why_not_initialised_so(values.get("init_lora_weights", True)):
        yield reason
    for key, value in values.items():
        if key in _NUMBERS or key in _WITHOUT_EFFECT or _is_off(value):
            continue
        if key == "bias" and value == "none":
            continue
        reason = _NOT_PLAIN.get(key, "what this key means is not known here")
        yield f"{key} is {_short(value)}: {reason}; {_INSTEAD}"


def _is_off(value: Any) -> bool:
    """Whether a key asks for nothing, as those that a version of PEFT adds do by default."""
    return value is None or (isinstance(value, bool | str | list | tuple | dict) and not value)


def _why_not_initialised_so(value: Any) -> str:
    """Why factors that began so do not belong to the base as it is; empty if they do."""
    got = f"init_lora_weights is {_short(value)}"
    if value is None or isinstance(value, bool):
        return ""
    kind = value.lower() if isinstance(value, str) else ""
    if kind in _BASE_UNCHANGED:
        return ""
    if kind.startswith(_BASE_CHANGED):
        return f"{got}: {_CONVERSION}"
    if kind.startswith("loftq"):
        return f"{got}: the adapter belongs to weights that LoftQ has quantised; {_INSTEAD}"
    known = ", ".join(map(repr, _BASE_UNCHANGED))
    return (
        f"{got}: not known here; true, false, {known} leave the base as it is. If not, {_INSTEAD}"
    )


def _rank(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AdapterError(f"{what} is {_got(value)}, a whole number of 1 or more is wanted")
    return value


def _alpha(value: Any, what: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise AdapterError(f"{what} is {_got(value)}, a finite number is wanted")


def _pattern(values: Mapping[str, Any], key: str, what: str) -> Mapping[str, Any]:
    """A mapping from regular expressions of weights' names."""
    patterns = values.get(key)
    if patterns is None:
        return {}
    if not isinstance(patterns, Mapping):
        raise AdapterError(
            f"{what}: {key} is {_short(patterns)}, a mapping from names or regular expressions to "
            "numbers is wanted"
        )
    for pattern in patterns:
        try:
            re.compile(_tail(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            raise AdapterError(
                f"{what}: {key} has {pattern!r}, which is no regular expression ({error})"
            ) from error
    return patterns


def _matching(patterns: Mapping[str, Number], name: str, default: Number) -> Number:
    """The value that PEFT gives a module: the first pattern that matches a tail of its name."""
    for pattern, value in patterns.items():
        if re.match(_tail(pattern), name):
            return value
    return default


def _tail(pattern: str) -> str:
    return rf"(.*\.)?({pattern})$"


def _got(value: Any) -> str:
    return "missing" if value is None else _short(value)


def _short(value: Any) -> str:
    """As it is written, but for the many entries of a long one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
