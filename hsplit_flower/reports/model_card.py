"""The model card of an adapter: what it was trained on, how, with what result, how to load it.

And the shorter one of a base that an adapter was added to.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PureWindowsPath

from ..sizes import size_text
from ..splitting.model_name import BUILT_IN
from .markdown import rendered

TEMPLATE_FILE = "model_card.md"
MERGED_FILE = "merged_card.md"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says of an adapter.

    Attributes
    ----------
    base_model, revision
        What the adapter belongs to; a path is told by its last part.
    method_title, method_source
        The method's name, and where it is from.
    num_rounds
        Rounds that were completed.
    num_clients
        The most that trained in a round.
    dataset
        Its id on the hub or its path, of which the last part is told; empty if it has no name.
    recipe
        What training was set to, by the settings' names.
    adapter_rank, adapter_bytes
        Of the adapter as it is written.
    perplexity_before, perplexity_after
        Of the base alone, and with the adapter; None if it was not measured.
    dropped_energy
        The share of what was learnt, by squared size, that the adapter does not have.
    """

    base_model: str
    revision: str
    method_title: str
    method_source: str
    num_rounds: int
    num_clients: int
    dataset: str
    recipe: Mapping[str, object]
    adapter_rank: int
    adapter_bytes: int
    perplexity_before: float | None
    perplexity_after: float | None
    dropped_energy: float


def model_card(facts: CardFacts) -> str:
    """A Hugging Face model card in Markdown, with what the hub reads at its head."""
    dataset = public_name(facts.dataset)
    recipe = [
        (key, public_setting(v)) for key, v in facts.recipe.items() if v is not None and v != ""
    ]
    return rendered(
        TEMPLATE_FILE,
        measured=_measured,
        facts=facts,
        base=public_name(facts.base_model),
        is_built_in=facts.base_model in BUILT_IN,
        dataset=dataset,
        dataset_id=dataset if re.fullmatch(r"[\w.-]+/[\w.-]+", dataset) else "",
        recipe=recipe,
        size=size_text(facts.adapter_bytes),
        held_back=_share(facts.dropped_energy),
        version=version("hsplit-flower"),
    )


def merged_card(base_model: str, revision: str, method_title: str) -> str:
    """A card in Markdown for a base with an adapter in its weights.

    Parameters
    ----------
    base_model, revision
        What the adapter was added to; a path is told by its last part.
    method_title
        Of the method that trained the adapter.
    """
    return rendered(
        MERGED_FILE,
        base=public_name(base_model),
        revision=revision,
        method_title=method_title,
        version=version("hsplit-flower"),
    )


def public_name(name: str) -> str:
    """A name as others may read it: of a path of this machine only the last part."""
    if not _is_path(name):
        return name
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..", "~")]
    return parts[-1] if parts else Path(name).expanduser().resolve().name


def _is_path(name: str) -> bool:
    """Whether a name is a path, or something is under it here; ids have one slash at most."""
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        return True
    return "/" in name and os.path.exists(name)


def public_setting(value: object) -> str:
    """A setting's value; of a text, which may be a prompt, only what is surely a path is cut."""
    if not isinstance(value, str) or any(each.isspace() for each in value):
        return str(value)
    is_absolute = Path(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return public_name(value) if is_absolute or value.startswith("~/") else value


def _measured(perplexity: float | None) -> str:
    if perplexity is None:
        return "not measured"
    return f"{perplexity:.4g}" if math.isfinite(perplexity) else "not a finite number"


def _share(energy: float) -> str:
    """As a percentage; a share that is there is not told as none."""
    return "none" if energy <= 0 else f"{100 * energy:.2g} %"
