"""What is found out from a model's configuration alone is found out once in a process."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from transformers import PretrainedConfig

Rest = ParamSpec("Rest")
Found = TypeVar("Found")

# A run knows one model at a few workloads; a command that looks at many models forgets the first.
MOST_KEPT = 32


def once_a_configuration(
    find: Callable[Concatenate[PretrainedConfig, Rest], Found],
) -> Callable[Concatenate[PretrainedConfig, Rest], Found]:
    """Have a function remember what it found for configurations that say the same.

    Strategy, worker, halves and evaluation of one process each ask for it. What is found must not
    be changed by who gets it, and all other arguments must be hashable. Errors are not remembered.
    """
    kept: dict[object, Found] = {}

    @wraps(find)
    def remembered(config: PretrainedConfig, /, *args: Rest.args, **kwargs: Rest.kwargs) -> Found:
        said = config.to_json_string(use_diff=False)
        key = (type(config), said, args, tuple(sorted(kwargs.items())))
        if key not in kept:
            found = find(config, *args, **kwargs)
            while len(kept) >= MOST_KEPT:
                kept.pop(next(iter(kept)), None)
            kept[key] = found
            return found
        return kept[key]

    return remembered
