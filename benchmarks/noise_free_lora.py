"""`NoiseFreeLoRA` in `FedAvg`'s place: what the mean of factors gets wrong, and what it costs.

Five clients with unequal data train a whole llama-tiny with PEFT's LoRA; messages are Flower's, all
in this process. Each strategy has the best learning rate of a small grid on the first seed. Errors
are relative Frobenius norms over all weights, against the float64 sum of what was really sent and
trained. `FedAvg` begins every round anew with what it made, so its error is that of one round; that
of `NoiseFreeLoRA` is of all rounds together.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import median
from typing import Any, Final

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from benchmarks.harness import Benchmark, Detail, Figure, Settings, Target
from benchmarks.tools.threads import ThreadGrid
from benchmarks.trial import Examples, base_model, perplexity
from hsplit_flower import NoiseFreeLoRA
from hsplit_flower.data import batches

FEDAVG, OURS, UNEQUAL = "FedAvg", "NoiseFreeLoRA", "NoiseFreeLoRA, ranks 2 to 16"
RANK, ALPHA = 8, 16
UNEQUAL_RANKS: Final = (2, 4, 8, 8, 16)
LEARNING_RATES: Final = (8e-3, 16e-3)
LONGEST = 192
EXACT: Final = Target("<=", 1e-6)

State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One strategy, its learning rate and its seed."""

    strategy: str
    learning_rate: float
    seed: int
    num_rounds: int
    local_steps: int
    batch_size: int
    evaluation_examples: int

    @property
    def ranks(self) -> Sequence[int]:
        """Of the clients."""
        return UNEQUAL_RANKS if self.strategy == UNEQUAL else (RANK,) * len(UNEQUAL_RANKS)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Dev perplexity after each round, and errors.

    ``of_sum`` and ``of_change`` are of a round, relative to all that was learnt and to what the
    round adds.
    """

    curve: Sequence[float]
    of_sum: Sequence[float] = ()
    of_change: Sequence[float] = ()
    whole: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What the clients of a round were sent, by node, and what they sent back with its weight."""

    sent: dict[int, State] = field(default_factory=dict)
    trained: dict[int, tuple[float, State]] = field(default_factory=dict)


class WatchedGrid(ThreadGrid):
    """A grid that remembers what crossed it, round by round; one client at a time trains."""

    def __init__(self, app: ClientApp, num_clients: int) -> None:
        super().__init__(app, {node: {} for node in range(num_clients)}, num_threads=1)
        self.exchanges: list[Exchange] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        there = list(messages)
        back = list(super().send_and_receive(there, timeout=timeout))
        if there:
            self.exchanges.append(_exchange(there, back))
        return back


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Tune each strategy, repeat it over the seeds, and compare."""
    plain = Run(
        strategy=FEDAVG,
        learning_rate=LEARNING_RATES[0],
        seed=settings.seeds[0],
        num_rounds=2 if settings.quick else 4,
        local_steps=2 if settings.quick else 4,
        batch_size=4,
        evaluation_examples=16 if settings.quick else 40,
    )
    rates = LEARNING_RATES[:1] if settings.quick else LEARNING_RATES
    outcomes: dict[str, list[Outcome]] = {}
    for name in (FEDAVG, OURS, UNEQUAL):
        tuning = {
            rate: outcome(replace(plain, strategy=name, learning_rate=rate)) for rate in rates
        }
        best = min(tuning, key=lambda rate: tuning[rate].curve[-1])
        tuned = replace(plain, strategy=name, learning_rate=best)
        outcomes[name] = [outcome(replace(tuned, seed=seed)) for seed in settings.seeds]
        curves = {f"{rate:g}": list(tuning[rate].curve) for rate in rates}
        yield Detail(name=f"{name}: by learning rate", value={"best": best, "curves": curves})
        yield Detail(name=f"{name}: by seed", value=[list(o.curve) for o in outcomes[name]])
        yield Figure.of_repeats(
            f"{name}: perplexity", [o.curve[-1] for o in outcomes[name]], "perplexity"
        )
        yield from _errors(name, outcomes[name])
    for name in (OURS, UNEQUAL):
        pairs = zip(outcomes[name], outcomes[FEDAVG], strict=True)
        ratios = [ours.curve[-1] / theirs.curve[-1] for ours, theirs in pairs]
        yield Figure.of_repeats(f"{name} / {FEDAVG}", ratios, "1")


def _errors(name: str, outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    if name != FEDAVG:
        yield Figure.of_repeats(
            f"{name}: error of the sum", [o.whole for o in outcomes], "1", target=EXACT
        )
        return
    for what, errors in (
        ("a round's error, of the sum", [median(o.of_sum) for o in outcomes]),
        ("a round's error, of the change", [median(o.of_change) for o in outcomes]),
    ):
        yield Figure.of_repeats(f"{name}: {what}", errors, "1")


@cache
def outcome(run: Run) -> Outcome:
    """Train, and hold what came of it against the float64 sums."""
    examples = examples_of(run.seed, run.evaluation_examples)
    model, curve = model_of(RANK, run.seed), list[float]()
    results: list[State] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        results.append(arrays.to_torch_state_dict())
        set_peft_model_state_dict(model, dict(results[-1]))
        curve.append(perplexity(model, examples.dev, examples.pad_id))
        return MetricRecord({"perplexity": curve[-1]})

    # Apart from the model, into which every round's result is loaded.
    initial = {key: factor.clone() for key, factor in get_peft_model_state_dict(model).items()}
    strategy = strategy_of(run, model.peft_config["default"])
    with WatchedGrid(client_app(run, examples), len(run.ranks)) as grid:
        strategy.start(grid, ArrayRecord(initial), num_rounds=run.num_rounds, evaluate_fn=evaluate)
    if isinstance(strategy, NoiseFreeLoRA):
        exact = products(initial)
        for exchange in grid.exchanges:
            change = change_of(exchange)
            exact = {name: exact[name] + change[name] for name in exact}
        updates = strategy.updates.items()
        got = {name: update.b.double() @ update.a.double() for name, update in updates}
        return Outcome(curve=curve, whole=_distance(got, exact) / _norm(exact))
    of_sum, of_change = [], []
    for before, exchange, after in zip(results, grid.exchanges, results[1:], strict=False):
        change, start = change_of(exchange), products(before)
        exact = {name: start[name] + change[name] for name in start}
        distance = _distance(products(after), exact)
        of_sum.append(distance / _norm(exact))
        of_change.append(distance / _norm(change))
    return Outcome(curve=curve, of_sum=of_sum, of_change=of_change)


@cache
def examples_of(seed: int, evaluation_examples: int) -> Examples:
    """What the clients have, and what is measured on."""
    return Examples.load(
        model="llama-tiny",
        dataset="restaurants",
        num_clients=len(UNEQUAL_RANKS),
        seed=seed,
        evaluation_examples=evaluation_examples,
        max_length=LONGEST,
    )


def strategy_of(run: Run, config: LoraConfig) -> FedAvg:
    """The strategy that a run is of: one differs from the other by its name and its config."""
    if run.strategy == FEDAVG:
        return FedAvg(fraction_evaluate=0.0)
    ranks = dict(enumerate(run.ranks))
    return NoiseFreeLoRA(fraction_evaluate=0.0, peft_config=config, client_ranks=ranks)


def client_app(run: Run, examples: Examples) -> ClientApp:
    """Clients as FlowerTune's are: load the factors, train, send them back."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        node = context.node_id
        model = model_of(run.ranks[node], run.seed)
        state = message.content.array_records["arrays"].to_torch_state_dict()
        set_peft_model_state_dict(model, state)
        server_round = int(message.content.config_records["config"]["server-round"])  # type: ignore[arg-type]
        part = examples.parts[node]
        loss = train_steps(model, run, part, examples.pad_id, seed=(run.seed, server_round, node))
        arrays = ArrayRecord(dict(get_peft_model_state_dict(model)))
        metrics = MetricRecord({"train_loss": loss, "num-examples": len(part)})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def train_steps(
    model: Any, run: Run, part: Sequence[Any], pad_id: int, *, seed: Sequence[int]
) -> float:
    """A client's round; its last loss."""
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=run.learning_rate, weight_decay=0.0)
    model.train()
    loss = 0.0
    for batch in batches(part, run.batch_size, steps=run.local_steps, seed=seed, pad_id=pad_id):
        output = model(**batch, use_cache=False).loss
        output.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = float(output.detach())
    return loss


def model_of(rank: int, seed: int) -> Any:
    """The base with fresh LoRA on its queries and values."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"])
    return get_peft_model(base_model("llama-tiny"), config)


def products(state: State) -> dict[str, Tensor]:
    """``s B A`` of each weight, in float64."""
    names = {key.partition(".lora_")[0] for key in state}
    found = {}
    for name in sorted(names):
        b, a = (state[f"{name}.lora_{kind}.weight"].double() for kind in "BA")
        found[name.removeprefix("base_model.model.")] = ALPHA / len(a) * b @ a
    return found


def change_of(exchange: Exchange) -> dict[str, Tensor]:
    """``Σ_i p_i (s_i B_i A_i − s_i B⁰_i A⁰_i)`` of each weight, in float64."""
    total = sum(weight for weight, _ in exchange.trained.values())
    change: dict[str, Tensor] = {}
    for node, (weight, state) in exchange.trained.items():
        start = products(exchange.sent[node])
        for name, product in products(state).items():
            step = weight / total * (product - start[name])
            change[name] = change[name] + step if name in change else step
    return change


def _exchange(there: Iterable[Message], back: Iterable[Message]) -> Exchange:
    exchange = Exchange()
    for message in there:
        state = message.content.array_records["arrays"].to_torch_state_dict()
        exchange.sent[message.metadata.dst_node_id] = state
    for reply in back:
        weight = float(reply.content.metric_records["metrics"]["num-examples"])  # type: ignore[arg-type]
        state = reply.content.array_records["arrays"].to_torch_state_dict()
        exchange.trained[reply.metadata.src_node_id] = weight, state
    return exchange


def _norm(matrices: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(matrix.square().sum()) for matrix in matrices.values()))


def _distance(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    return _norm({name: got[name] - wanted[name] for name in wanted})


BENCHMARK = Benchmark(
    name="noise-free-lora",
    summary="NoiseFreeLoRA against FedAvg on a whole model: perplexity, and errors of the sum.",
    measure=measure,
    seeds=(0, 1, 2),
)
