"""Rounds of clients that each train a whole model with PEFT's LoRA: exact sums instead of means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from logging import INFO, WARNING
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from ..adapters import LowRank, PeftSettings
from ..adapters.peft_config import PlainLora
from ..aggregation import ClientUpdate
from ..aggregation.lora_sum import LoraSum, SentFactors
from ..errors import AdapterError, ConfigError, NonFiniteError
from .peft_replies import PeftReply, whole_numbers

Ranks = Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Offer:
    """What clients of the same ranks are sent in a round, and Flower's record of it."""

    factors: SentFactors
    arrays: ArrayRecord


class PeftStrategy(FedAvg):
    """`FedAvg` whose clients send PEFT's factors, of which the server keeps the exact sum.

    Parameters
    ----------
    *args, **kwargs
        Those of `FedAvg`, with the same meaning.
    peft_config
        Of the server's model: ``model.peft_config["default"]``, or a mapping with the keys of an
        ``adapter_config.json``. A client of another rank has the same configuration otherwise.
    client_ranks
        The ``r`` of clients by node id, where it is another than the server's and known before they
        have answered. It may grow while the run goes on.
    seed
        Source of the directions that are trained anew where less was learnt than there is room for.
    """

    def __init__(
        self,
        *args: Any,
        peft_config: PeftSettings,
        client_ranks: Mapping[int, int] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        PlainLora.of(peft_config, "peft_config")
        self.peft_config = peft_config
        self.client_ranks = {} if client_ranks is None else client_ranks
        self.seed = seed
        self._lora: LoraSum | None = None
        self._global: _Offer | None = None
        self._offers: dict[frozenset[tuple[str, int]], _Offer] = {}
        self._seen_ranks: dict[int, Ranks] = {}
        self._sent: dict[int, SentFactors] = {}

    @property
    def updates(self) -> dict[str, LowRank]:
        """All that was learnt so far, exactly, by weight: also what clients have no room for.

        `export_adapter` writes it. The arrays that a round gives are the part of it that fits the
        server's own rank.

        Raises
        ------
        ConfigError
            Before the first round.
        """
        return {name: total.canonical() for name, total in self._known().sums.items()}

    def summary(self) -> None:
        """Log what `FedAvg` logs, and the scale of the factors."""
        super().summary()
        lora = PlainLora.of(self.peft_config, "peft_config")
        rule = "alpha / sqrt(r)" if lora.is_rank_stabilised else "alpha / r"
        log(INFO, "\t└──> LoRA: r %d, alpha %g, scale %s", lora.rank, lora.alpha, rule)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of `FedAvg`, each with the factors of its client's own rank."""
        self._go_on_from(arrays)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        offers = self._fill(messages, server_round)
        self._sent = {node: offer.factors for node, offer in offers.items()}
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of `FedAvg`, each with the factors of its client's own rank."""
        self._go_on_from(arrays)
        messages = list(super().configure_evaluate(server_round, arrays, config, grid))
        self._fill(messages, server_round)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The head of the exact sum, as large as the server's own adapter, and `FedAvg`'s metrics.

        A client whose reply cannot be used is left out, and the log says why. Where none can, there
        are neither arrays nor metrics, and the next round starts where this one did.
        """
        valid, _ = self._check_and_log_replies(replies, is_train=True, validate=False)
        valid = sorted(valid, key=lambda reply: reply.metadata.src_node_id)
        read = [(reply.content, self._read(reply, server_round)) for reply in valid]
        kept = [(content, reply) for content, reply in read if reply is not None]
        if not kept:
            return None, None
        weights = whole_numbers([weight for _, (weight, _) in kept])
        clients = [
            replace(update, num_examples=weight)
            for weight, (_, (_, update)) in zip(weights, kept, strict=True)
        ]
        self._take(self._known(), clients, server_round)
        contents = [content for content, _ in kept]
        return self._offered().arrays, self.train_metrics_aggr_fn(contents, self.weighted_by_key)

    def _go_on_from(self, arrays: ArrayRecord) -> None:
        """Begin anew with these arrays, unless they are those of the round before."""
        if self._global is not None and (
            arrays is self._global.arrays or arrays == self._global.arrays
        ):
            return
        if self._global is not None:
            log(
                WARNING,
                "%s begins anew: it is given other arrays than it gave last, and what it kept "
                "beside those is dropped",
                type(self).__name__,
            )
        state = arrays.to_torch_state_dict()
        self._lora = LoraSum.starting_from(state, self.peft_config)
        factors = SentFactors.of(state, self._lora.form)
        self._global = _Offer(factors=factors, arrays=arrays)
        self._offers = {frozenset(self._lora.form.ranks.items()): self._global}

    def _fill(self, messages: Iterable[Message], server_round: int) -> dict[int, _Offer]:
        """Give each message the factors of its client; what each client is given."""
        offers = {}
        for message in messages:
            node = message.metadata.dst_node_id
            offers[node] = self._offer(self._ranks_of(node), server_round)
            records = {**message.content, self.arrayrecord_key: offers[node].arrays}
            message.content = RecordDict(records)
        return offers

    def _offer(self, ranks: Ranks, server_round: int) -> _Offer:
        key = frozenset(ranks.items())
        if key not in self._offers:
            known = self._known()
            if any(ranks[name] > known.room[name] for name in ranks):
                self._lora = known = known.with_room(self._widest(ranks))
            factors = known.sent(ranks, seed=hash((self.seed, server_round)))
            arrays = ArrayRecord(dict(factors.state))
            self._offers[key] = _Offer(factors=factors, arrays=arrays)
        return self._offers[key]

    def _ranks_of(self, node: int) -> Ranks:
        """Those that it answered with, or else those that were declared, or else the server's."""
        form = self._known().form
        if node in self._seen_ranks:
            return self._seen_ranks[node]
        return form.ranks_at(self.client_ranks[node]) if node in self.client_ranks else form.ranks

    def _widest(self, ranks: Ranks) -> Ranks:
        """The largest rank of each weight that these have, or somebody who has answered."""
        every = [self._known().room, ranks, *self._seen_ranks.values()]
        return {name: max(each[name] for each in every) for name in ranks}

    def _read(self, message: Message, server_round: int) -> tuple[float, ClientUpdate] | None:
        """The weight of a reply and what is in it; None if it cannot be used, which is logged."""
        node, form = message.metadata.src_node_id, self._known().form
        try:
            if node not in self._sent:
                raise AdapterError("it was sent nothing in this round")
            reply = PeftReply.read(message.content, form, self.weighted_by_key)
            update = reply.as_update(self._sent[node])
            self._seen_ranks[node] = reply.ranks
            reply.check_start(self._sent[node], form)
        except (AdapterError, NonFiniteError) as error:
            # The clients of `FedAvg` are asked nothing, so that its node is all that is known.
            told = "The client of node %d is left out of round %d: %s"
            log(WARNING, told, node, server_round, error)
            return None
        return reply.weight, update

    def _take(self, known: LoraSum, clients: list[ClientUpdate], server_round: int) -> None:
        """Add what clients trained, and make what those of the server's ranks are sent of it."""
        self._lora = known.plus(clients, common=self._offered().factors.updates)
        self._offers = {}
        self._global = self._offer(known.form.ranks, server_round)
        share = self._lora.held_back_share(self._global.factors.updates)
        log(
            INFO,
            "aggregate_train: Added up %d clients exactly; %.2g %% of it has no room in rank %d "
            "and is kept for later rounds",
            len(clients),
            100 * share,
            max(known.form.ranks.values()),
        )

    def _known(self) -> LoraSum:
        if self._lora is None:
            raise ConfigError(
                f"{type(self).__name__} knows no adapter before its first round: call start(grid, "
                "initial_arrays, …) first"
            )
        return self._lora

    def _offered(self) -> _Offer:
        assert self._global is not None
        return self._global
