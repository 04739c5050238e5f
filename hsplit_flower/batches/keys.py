"""Which keys of a batch are taken, which change nothing, and which would: those are refused."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import DataError
from ..rows import names_told
from ..sizes import counted

REQUIRED = ("input_ids", "labels")
TAKEN = (*REQUIRED, "attention_mask", "position_ids")

# They say how a model answers, not what it computes.
HARMLESS = frozenset(
    {"use_cache", "return_dict", "output_attentions", "output_hidden_states", "logits_to_keep"}
)
# Models take it without naming it.
UNNAMED = frozenset({"seq_idx"})


def taken_keys(fields: Any, inputs: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """What of a batch is taken, and the names of what is ignored.

    Parameters
    ----------
    fields
        A batch, as the user makes it.
    inputs
        What the model's own forward takes by name: what it knows would change its numbers, and is
        not carried to the other half.

    Raises
    ------
    DataError
        Naming what is wanted and missing, or there and not carried.
    """
    if not isinstance(fields, Mapping):
        raise DataError(
            f"is a {type(fields).__name__}: a mapping that says which tensor is which is wanted, "
            f"such as a dict or a BatchEncoding with {_listed(TAKEN[:3])}"
        )
    # A collator that has nothing to say of a key may say None.
    given = {str(name): value for name, value in fields.items() if value is not None}
    wanted = [*REQUIRED, *(() if "position_ids" in given else ("attention_mask",))]
    if missing := [name for name in wanted if name not in given]:
        raise DataError(
            f"has no {missing} among its {counted(len(given), 'key')}: {wanted} are wanted",
            private_detail=names_told(given),
        )
    others = [name for name in given if name not in TAKEN]
    known = (set(inputs) | UNNAMED) - HARMLESS
    if refused := sorted(known.intersection(others)):
        raise DataError(
            f"has {_listed(refused)}, which would change what the model computes and is not "
            f"carried between its halves: leave it out, {_listed(TAKEN)} are taken"
        )
    if "position_ids" in given and "position_ids" not in known:
        raise DataError("has position_ids, and the model takes none: leave them out")
    return {name: given[name] for name in TAKEN if name in given}, sorted(others)


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
