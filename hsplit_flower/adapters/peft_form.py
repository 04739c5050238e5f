"""How a model's PEFT factors look, so that others are read and written in their way.

Whose tensors have another rank has the same adapter otherwise: the same keys, and a scale that
follows from the rank by the configuration's own rule. So one configuration says what the factors of
any client mean.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig
from torch import Tensor

from ..errors import AdapterError
from ..types import Start
from .low_rank import LowRank, saturated
from .peft_config import PeftSettings, PlainLora
from .peft_state import PREFIX, updates_of_peft
from .round_start import weight_generator
from .start import starting_point

FRESH_LENGTH = 3**-0.5
"""How long a row of LoRA's fresh ``A`` is, nearly: it is uniform in ``± 1/√in_features``."""

_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, kw_only=True, eq=False)
class PeftForm:
    """The keys of a model's factors in their order, their types, and what they mean at any rank.

    Attributes
    ----------
    dtypes
        Of the tensor under each key.
    ranks
        Of each weight, in the model that the form was taken from.
    config
        What PEFT says about the factors, as keys and values.
    """

    dtypes: Mapping[str, torch.dtype]
    ranks: Mapping[str, int]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], config: PeftSettings) -> "PeftForm":
        """The form of ``get_peft_model_state_dict(model)``.

        Raises
        ------
        AdapterError
            If the tensors are more or less than plain LoRA of this configuration.
        """
        updates_of_peft(state, config)
        if not state:
            raise AdapterError(
                "there are no factors: give ArrayRecord(get_peft_model_state_dict(model)), of a "
                "model that get_peft_model made"
            )
        values = config.to_dict() if isinstance(config, LoraConfig) else config  # type: ignore[no-untyped-call]
        return cls(
            dtypes={key: tensor.dtype for key, tensor in state.items()},
            ranks={_name(key): len(state[key]) for key in state if key.endswith(_A)},
            config=dict(values),
        )

    def ranks_of(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """The rank of each weight's factors in tensors of this form.

        Raises
        ------
        AdapterError
            If there are other keys than in the form, or an ``A`` is no matrix.
        """
        others = sorted(self.dtypes.keys() ^ state.keys())
        if others:
            where = "missing" if others[0] in self.dtypes else "not in the initial arrays"
            raise AdapterError(
                f"{len(others)} of its keys are other ones, as {others[0]!r}, which is {where}: "
                f"the {len(self.dtypes)} keys of the initial arrays are wanted; adapt the same "
                "modules"
            )
        for key in state:
            if state[key].ndim != 2 or 0 in state[key].shape:
                raise AdapterError(
                    f"{key!r} has the shape {list(state[key].shape)}: a matrix is wanted"
                )
        return {_name(key): len(tensor) for key, tensor in state.items() if key.endswith(_A)}

    def ranks_at(self, rank: int) -> dict[str, int]:
        """The rank of each weight where a client's configuration has another ``r``."""
        lora = PlainLora.of({**self.config, "r": rank}, "the PEFT configuration")
        return {name: lora.rank_of(name) for name in self.ranks}

    def updates_of(self, state: Mapping[str, Tensor]) -> dict[str, LowRank]:
        """The exact updates that PEFT makes of tensors of this form, whatever their ranks.

        Raises
        ------
        AdapterError
            If there are other keys, or what is no factor of a weight, or is not finite.
        """
        return updates_of_peft(state, self._config_at(self.ranks_of(state)))

    def state_of(
        self, updates: Mapping[str, LowRank], ranks: Mapping[str, int], *, seed: int
    ) -> dict[str, Tensor]:
        """Tensors of this form and of these ranks, for a client to go on with.

        They compute the leading directions of each update, rounded to the form's types. ``A`` is as
        large as LoRA's own at its start, so what a step changes does not depend on how little has
        been learnt of a direction. Where an update has fewer directions than the client, the others
        start as in LoRA: ``B`` zero, ``A`` random.

        Parameters
        ----------
        updates
            In canonical form.
        ranks
            Of each weight.
        seed
            Source of the random directions, together with the weight's name.
        """
        lora = PlainLora.of(self._config_at(ranks), "the PEFT configuration")
        factors = {
            name: _trainable(update, ranks[name], lora.scale_of(name), weight_generator(seed, name))
            for name, update in updates.items()
        }
        return {
            key: saturated(factors[_name(key)][key.endswith(_A)], dtype).contiguous()
            for key, dtype in self.dtypes.items()
        }

    def _config_at(self, ranks: Mapping[str, int]) -> dict[str, Any]:
        """The configuration with these ranks; of names that end alike, the longer comes first."""
        names = sorted(ranks, key=len, reverse=True)
        return {**self.config, "rank_pattern": {re.escape(name): ranks[name] for name in names}}


def _name(key: str) -> str:
    return key.removeprefix(PREFIX).removesuffix(_A).removesuffix(_B)


def _trainable(
    update: LowRank, rank: int, scale: float, generator: torch.Generator
) -> tuple[Float[Tensor, "out_features rank"], Float[Tensor, "rank in_features"]]:
    """``b`` and ``a`` of PEFT whose product, times ``scale``, is the head of the update."""
    head = update.head(rank)
    fresh = starting_point(
        update.head(0),
        rank=rank - head.rank,
        start=Start.RESTART,
        scale=1.0,
        generator=generator,
        factored_below=sys.maxsize,
    )
    b, a = head.b.double(), head.a.double()
    length = a.norm(dim=1) / FRESH_LENGTH
    return (
        torch.cat([b * length / scale, fresh.trainable_b.double()], dim=1),
        torch.cat([a / length[:, None], fresh.trainable_a.double()]),
    )
