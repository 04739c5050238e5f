"""What a client that trains a whole model with LoRA sends home, and whether it can be used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.app import RecordDict

from ..adapters import LowRank
from ..adapters.peft_form import PeftForm
from ..aggregation import ClientUpdate, check_client
from ..aggregation.lora_sum import SentFactors
from ..errors import AdapterError

_FINEST = 2**40
"""Weights that are no whole numbers are told apart to this part of the largest."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PeftReply:
    """The weight of a client in the mean, the ranks of its factors, and the updates that they are.

    The weight is the number of its examples, or whatever else the strategy's key names.
    """

    weight: float
    ranks: Mapping[str, int]
    updates: Mapping[str, LowRank]

    @classmethod
    def read(cls, content: RecordDict, form: PeftForm, weighted_by_key: str) -> "PeftReply":
        """What Flower's `FedAvg` takes: one ArrayRecord, and one MetricRecord with the weight.

        Raises
        ------
        AdapterError
            Naming what is missing, or no factors of this form.
        """
        arrays, metrics = content.array_records, content.metric_records
        if len(arrays) != 1 or len(metrics) != 1:
            raise AdapterError(
                f"it sent {len(arrays)} ArrayRecords and {len(metrics)} MetricRecords: one of each "
                "is wanted"
            )
        weight = next(iter(metrics.values())).get(weighted_by_key)
        if not isinstance(weight, int | float) or not (math.isfinite(weight) and weight > 0):
            raise AdapterError(
                f"its {weighted_by_key!r} is {weight!r}: a number above 0 is wanted; a client "
                "without examples has nothing to train on"
            )
        try:
            state = next(iter(arrays.values())).to_torch_state_dict()
        except (TypeError, ValueError) as error:
            raise AdapterError(f"its arrays cannot be read: {error}") from error
        ranks = form.ranks_of(state)
        return cls(weight=float(weight), ranks=ranks, updates=form.updates_of(state))

    def as_update(self, sent: SentFactors) -> ClientUpdate:
        """It beside what it started from, which is what it was sent (`check_start`).

        Its weight is 1 until those of all are known as whole numbers (`whole_numbers`).

        Raises
        ------
        AdapterError, NonFiniteError
            If it does not fit the adapter, see `check_client`.
        """
        update = ClientUpdate(num_examples=1, trained=self.updates, initial=sent.updates)
        check_client(update, sent.updates)
        return update

    def check_start(self, sent: SentFactors, form: PeftForm) -> None:
        """Refuse a client of which it is not known what it started from.

        One that has another rank than what it was sent cannot have loaded that. If the product of
        what it was sent is zero, it started from zero whatever it did.

        Raises
        ------
        AdapterError
            If that is not so.
        """
        ranks = form.ranks_of(sent.state)
        for name, rank in self.ranks.items():
            if rank != ranks[name] and sent.updates[name].rank:
                raise AdapterError(
                    f"it has rank {rank} for {name!r} and was sent rank {ranks[name]}, so what it "
                    "started from is not known: it is sent its own rank from now on, and that rank "
                    "may be told beforehand with client_ranks"
                )


def whole_numbers(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the same proportions; as they are, where they are whole already."""
    if all(weight == int(weight) and weight < _FINEST for weight in weights):
        return [int(weight) for weight in weights]
    largest = max(weights)
    return [max(1, round(weight / largest * _FINEST)) for weight in weights]
