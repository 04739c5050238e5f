"""One half of a decoder: the modules it keeps, and how they are run.

A half is the family's own model class with the other half's modules taken out. `Parts` says what
is kept; ``Half`` runs any span of the blocks it holds, from token ids or from a hidden state that
came over the wire, to a hidden state or to logits.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from ..errors import SplitError
from ..types import Span
from .architecture import Architecture
from .boundary import AbsentEmbedding, Checkpointed, Inlet, Outlet, Passthrough, Reached
from .checkpoint import Checkpoint
from .empty_model import causal_class
from .kept_keys import CACHE, new_cache, seen_in
from .parts import Parts
from .quantisation import numbers_text
from .rotary import DynamicRotaries


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a half is run on: token ids, or a hidden state, with the mask and positions of both.

    With a ``cache`` these are the tokens after those in it, and the mask is of both.
    """

    input_ids: Tensor | None = None
    hidden: Tensor | None = None
    mask: Tensor | None = None
    positions: Tensor | None = None
    cache: Cache | None = None

    def arguments(self, span: Span) -> dict[str, Any]:
        """As the model's forward takes it; a key is left out that not every family's takes."""
        named: dict[str, Any] = {"attention_mask": self.mask, "use_cache": False}
        if self.cache is not None:
            named |= {CACHE: seen_in(self.cache, span), "use_cache": True}
        if self.hidden is None:
            named["input_ids"] = self.input_ids
        else:
            # Stands in for embeddings while masks and positions are made; replaced at the inlet.
            # Not the hidden state itself: some families scale their embeddings in place.
            named["inputs_embeds"] = torch.zeros_like(self.hidden)
        if self.positions is not None:
            named["position_ids"] = self.positions
        return named


def absent_modules(architecture: Architecture, parts: Parts) -> frozenset[str]:
    """The dotted paths that a half does not hold.

    With a tied head the embedding table *is* the head's matrix: who holds one holds both.
    """
    absent = {
        f"{architecture.blocks}.{index}"
        for index in range(architecture.num_blocks)
        if index not in parts.span
    } | set(architecture.towers)
    if not parts.embeddings:
        absent.update(architecture.entry)
        if architecture.is_tied and parts.head:
            absent.discard(architecture.embedding)
    if not parts.head:
        absent.update(architecture.exit)
    return frozenset(absent)


def half_class(
    config: PretrainedConfig, architecture: Architecture, parts: Parts
) -> type[PreTrainedModel]:
    """The family's model class, less the modules that this half does not hold.

    It has the family's own name and module, by which transformers looks up weight conversions, and
    loads through ``from_pretrained`` like the original.
    """
    family = causal_class(config)
    absent = absent_modules(architecture, parts)

    def build(self: PreTrainedModel, config: PretrainedConfig, *args: object) -> None:
        family.__init__(self, config, *args)
        take_out(self, absent)
        kept = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        tied = getattr(self, "all_tied_weights_keys", None) or {}
        self.all_tied_weights_keys = {
            target: source for target, source in tied.items() if {target, source} <= kept
        }

    return type(family.__name__, (family,), {"__init__": build, "__module__": family.__module__})


def take_out(model: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """Put stand-ins in the place of a model's modules; give those, without what lay inside them."""
    taken: dict[str, nn.Module] = {}
    # What holds a module comes before it.
    for path in sorted(paths, key=lambda each: each.split(".")):
        if not any(path.startswith(f"{outer}.") for outer in taken):
            taken[path] = model.get_submodule(path)
            model.set_submodule(path, _stand_in(taken[path]))
    return taken


def _stand_in(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Embedding):
        return AbsentEmbedding(module.embedding_dim)
    return Passthrough(replaced=module)


class Half:
    """A loaded half that runs spans of its blocks.

    Parameters
    ----------
    model
        The model with the other half's modules taken out, or a whole one.
    architecture
        Where the parts are.
    parts
        What ``model`` holds.
    quantised
        What the matrices of its linear layers are quantised to; empty where they are not.
    checkpoint
        What it was loaded from; None where it came from memory.

    Attributes
    ----------
    checkpointing
        Whether blocks keep nothing but their input for the backward pass, which then runs each of
        them once more. Gradients are the same.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        architecture: Architecture,
        parts: Parts,
        *,
        quantised: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.checkpointing = False
        self.quantised = quantised
        self.checkpoint = checkpoint
        self.model = model
        self.architecture = architecture
        self.parts = parts
        self._rotaries = DynamicRotaries(model)
        self._owner_path, _, self._list_name = architecture.blocks.rpartition(".")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the hidden states, and of all that is not quantised."""
        floating = (one.dtype for one in self.model.parameters() if one.is_floating_point())
        return next(floating)

    @property
    def matrix_dtype(self) -> torch.dtype:
        """Type of what the linear layers of its blocks store."""
        if not self.quantised:
            return self.dtype
        return torch.int8 if self.quantised == "int8" else torch.uint8

    @property
    def numbers(self) -> str:
        """What it computes with, as it is told to others: ``float32``, or ``nf4 in bfloat16``."""
        return numbers_text(str(self.dtype).removeprefix("torch."), self.quantised)

    def new_cache(self) -> Cache:
        """Where runs of this half keep keys and values; empty. A model without any is refused."""
        return new_cache(self.model, self.architecture.inputs)

    def block(self, index: int) -> nn.Module:
        """The block of this index in the whole model."""
        return self.model.get_submodule(f"{self.architecture.blocks}.{index}")

    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seen"] | None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
        *,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Hidden state after the last block of this half, from token ids.

        ``position_ids`` are the model's own where they are not given. Where they are, and no mask
        is, documents in a row are kept apart, as transformers does it. With a ``cache`` the tokens
        follow those in it, whose mask comes before theirs, and are added to it.
        """
        self._require(self.parts.embeddings, "embeddings")
        given = Given(input_ids=input_ids, mask=attention_mask, positions=position_ids, cache=cache)
        return self._run(self.parts.span, given, to_logits=False)

    def hidden(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        attention_mask: Int[Tensor, "batch seen"] | None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
        *,
        start: int,
        stop: int | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """Hidden state before block ``stop``, from the one before block ``start``.

        Without ``stop``, that after the last block of this half. ``cache`` is as for `embed`.
        """
        span = self._span_from(start, stop)
        if not len(span):
            return hidden
        given = Given(hidden=hidden, mask=attention_mask, positions=position_ids, cache=cache)
        return self._run(span, given, to_logits=False)

    def logits(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        *,
        start: int,
    ) -> Float[Tensor, "batch seq vocabulary"]:
        """Logits from the hidden state before block ``start``.

        ``start`` is the number of blocks where the hidden state is the last one: then only norm
        and head run, whichever blocks this half holds.
        """
        self._require(self.parts.head, "head")
        last = self.architecture.num_blocks
        span = Span(start=last, stop=last) if start == last else self._span_from(start)
        return self._run(span, Given(hidden=hidden, mask=attention_mask), to_logits=True)

    def logits_of(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocabulary"]:
        """Logits from token ids, for a half that is the whole model."""
        self._require(self.parts == Parts.whole(self.architecture.num_blocks), "whole model")
        given = Given(input_ids=input_ids, mask=attention_mask, positions=position_ids)
        return self._run(self.parts.span, given, to_logits=True)

    def _span_from(self, start: int, stop: int | None = None) -> Span:
        held = self.parts.span
        stop = held.stop if stop is None else stop
        if not held.start <= start <= stop <= held.stop:
            raise SplitError(
                f"this half holds blocks [{held.start}, {held.stop}), "
                f"it cannot run from {start} to {stop}"
            )
        return Span(start=start, stop=stop)

    def _require(self, is_there: bool, what: str) -> None:
        if not is_there:
            raise SplitError(f"this half does not hold the {what}: {self.parts}")

    def _run(self, span: Span, given: Given, *, to_logits: bool) -> Tensor:
        self._rotaries.forget()
        with self._walk(span, given.hidden, to_logits=to_logits):
            try:
                output = self.model(**given.arguments(span))
            except Reached as reached:
                return reached.hidden
        return output.logits  # type: ignore[no-any-return]

    @contextmanager
    def _walk(self, span: Span, hidden: Tensor | None, *, to_logits: bool) -> Iterator[None]:
        """Let the model's forward walk ``span`` only; the held list is put back afterwards."""
        owner = self.model.get_submodule(self._owner_path)
        held: nn.ModuleList = getattr(owner, self._list_name)
        length = self.architecture.tuple_length
        walk: list[nn.Module] = list(held)
        if self.checkpointing:
            for index in range(span.start, span.stop):
                walk[index] = Checkpointed(walk[index])
        if hidden is not None:
            for index in range(span.start - 1):
                walk[index] = Passthrough(tuple_length=length, replaced=walk[index])
            last = span.start - 1
            walk[last] = Inlet(hidden, tuple_length=length, replaced=walk[last])
        if not to_logits:
            walk[span.stop - 1] = Outlet(walk[span.stop - 1])
        setattr(owner, self._list_name, nn.ModuleList(walk))
        try:
            yield
        finally:
            setattr(owner, self._list_name, held)
