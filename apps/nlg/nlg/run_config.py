"""The app's settings: every run-config key and what it means."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hsplit_flower.errors import ConfigError
from hsplit_flower.types import HIGHEST_PORT
from nlg.ranges import RANGES

DESCRIBED_IN = "nlg/run_config.py"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run-config as values; a field's key has dashes for underscores.

    Attributes
    ----------
    model
        ``llama-tiny`` (built in), a folder with ``config.json`` and safetensors, or a hub id.
    revision
        Commit, tag or branch of a hub model; empty for its main branch.
    dtype
        Type of the base model's weights; adapters are float32 always. Of the 16-bit types bfloat16
        has float32's range; float16 loses the smallest gradients, as the loss is not scaled.
    attention
        Attention implementation; empty leaves the choice to transformers.
    adapter
        Folder of a PEFT checkpoint to start from; empty starts from nothing.
    dataset
        ``restaurants`` (built in), a folder of ``mr,ref`` CSVs as E2E has them, or a hub id.
    partition
        How the training examples are divided among the clients: ``iid`` or ``dirichlet``.
    partition_by
        Attribute of the meaning whose shares differ between clients under ``dirichlet``.
    dirichlet_alpha
        Small is uneven.
    prompt
        ``plain`` (``name: The Mill; food: French``) or ``brackets`` (as the data set writes it).
    max_length
        Longest example in tokens, prompt and end token included; longer ones are left out.
    num_server_rounds
        Rounds of federated training.
    local_steps
        Optimizer steps of each client in each round.
    batch_size
        Examples in a step.
    learning_rate, weight_decay
        AdamW's, on both sides of the cut. The rate suits a tiny base; larger ones want less, GPT-2
        medium about 2e-4.
    lora_alpha, scale_rule
        What an adapter's product is multiplied by in training: ``lora-alpha`` divided by its rank
        (``lora``), by the root of its rank (``rslora``), or by nothing (``constant``).
    start
        What a round starts from: ``continue`` trains the leading directions of the global adapter,
        ``restart`` fresh ones on top of it.
    labels
        Who computes the loss, and so sees the labels: ``server`` or ``client``.
    seed
        Of partitions, batches and fresh adapters, and of what chance decides in a simulated fleet.
    fleet
        What simulated clients have: ``heterogeneous``, ``homogeneous``, ``paper-llama2-7b``,
        ``jetson-and-laptops``, the whole path of a ``.toml`` file, or a list of fractions of what
        the whole model needs (``0.25,0.5,1``) or of sizes (``4GB,8GB``). Empty asks each client's
        own machine and node config, as a deployment does.
    unavailable
        Probability that a device of the fleet is away in a round, on top of what its file says.
    budget_changes
        Whose memory changes when: ``3:2=0.5`` gives device 2 half its memory from round 3 on; more
        are separated by commas.
    enforce_budgets
        Whether a client that takes more than its memory is stopped, and planned lower.
    lease_card_gb
        For simulations: what clients share of each card's memory (GB of 10⁹ bytes); each leases
        from Ray, while it trains, the part of it that its own memory is. What the card has over
        must suffice for a worker and a server evaluation that are on it, too. 0 leases nothing.
    min_cut
        Fewest blocks on a client.
    max_rank, rank_unit
        Ranks are 0 and the multiples of the unit up to the maximum.
    worker_session_rank
        What a client's adapters may take on the worker, as the rank that it would give to every
        weight; more important weights get more. 0 shares the worker's memory.
    global_rank_cap
        Largest rank of the global adapter; 0 for none. What it cuts off is kept for later rounds.
    server_momentum
        How much of the round before each round also goes, from 0 to below 1: helps where steps are
        small or clients' data differ.
    drift_threshold, drift_cooldown
        Plan anew when importance has moved by more than the threshold, and not within so many
        rounds of the last time.
    fraction_train, fraction_evaluate
        Share of the connected nodes that train, and that evaluate, in a round.
    min_train_nodes, min_available_nodes
        Fewest nodes that must finish a round, or its evaluation, for it to count, and be connected
        before it starts.
    round_timeout
        Seconds after which a round goes on without the clients that have not answered. So long, and
        a week at most, a client may wait for its turn.
    server_evaluation
        Whether the server evaluates the whole model on the dev set after every round.
    evaluation_examples
        At most so many dev examples, for the server and for each client.
    worker
        Where the split worker runs: ``here``, in the ServerApp's process (unless it has an address
        of its own, see ``worker-address``), or ``ray``, as several processes on Ray, among which
        clients are spread.
    num_workers
        How many processes on Ray; 0 is one for each GPU, and one where there is none.
    ray_address
        Of the Ray cluster that they run on, in a deployment; empty is that of the environment
        variable RAY_ADDRESS, or a Ray that is started for the run. In a simulation they run on
        the one that simulates the clients.
    worker_address
        ``host:port`` of a split worker that runs on its own (``hsplit worker``), as the server and
        the clients reach it; its operator token is read from the environment variable
        HSPLIT_OPERATOR_TOKEN, which the SuperLink must have been started with. Empty starts a
        worker.
    worker_host, worker_advertised_host, worker_port
        Where that worker listens, what clients are told (empty: the same), and its port (0: a free
        one). On Ray, ``0.0.0.0`` without an advertised host lets workers run on all nodes, each
        under its node's address; further workers have the ports that follow the first one's.
    worker_threads, client_threads
        Threads that each process computes with; 0 leaves torch's own choice.
    wire_type
        Type of hidden states on the wire; empty is that of the base model's weights. ``int8`` is
        lossy: one byte a value and four a token.
    wire_gradient_type
        Type of their gradients; empty is the same.
    micro_batch_size
        Examples that a client sends at a time, while the gradients of a step add up; 0 for the
        whole batch.
    in_flight
        How many of them a client may have on the wire, unanswered.
    cached_halves
        How many loaded halves a client process keeps for later messages; 0 for none. Where the same
        process serves several clients, they share what they have in common. More than one needs
        ``enforce-budgets=false``: a budget is for one half.
    max_message_mb
        Largest message between client and worker, in MB of 2^20 bytes.
    step_timeout
        Seconds that a client waits for one answer of the worker, before each of five tries; and
        that the server waits for a worker of ``worker-address``.
    session_timeout
        Seconds of silence after which the worker drops a client from the round, counted while the
        client is in dialogue with it.
    output_dir, run_name
        The run leaves its files in ``output_dir/run_name``; an empty name is made from the time.
    """

    model: str
    revision: str
    dtype: str
    attention: str
    adapter: str
    dataset: str
    partition: str
    partition_by: str
    dirichlet_alpha: float
    prompt: str
    max_length: int
    num_server_rounds: int
    local_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    lora_alpha: float
    scale_rule: str
    start: str
    labels: str
    seed: int
    fleet: str
    unavailable: float
    budget_changes: str
    enforce_budgets: bool
    lease_card_gb: float
    min_cut: int
    max_rank: int
    rank_unit: int
    worker_session_rank: int
    global_rank_cap: int
    server_momentum: float
    drift_threshold: float
    drift_cooldown: int
    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_available_nodes: int
    round_timeout: float
    server_evaluation: bool
    evaluation_examples: int
    worker: str
    num_workers: int
    ray_address: str
    worker_address: str
    worker_host: str
    worker_advertised_host: str
    worker_port: int
    worker_threads: int
    client_threads: int
    wire_type: str
    wire_gradient_type: str
    micro_batch_size: int
    in_flight: int
    cached_halves: int
    max_message_mb: int
    step_timeout: float
    session_timeout: float
    output_dir: str
    run_name: str

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> "RunConfig":
        """Read Flower's run config.

        Raises
        ------
        ConfigError
            Naming every key that is unknown, missing, mistyped or out of range.
        """
        kinds = {field.name.replace("_", "-"): field.type for field in fields(cls)}
        problems = [
            f"unknown key {key!r}{_near(key, kinds)}"
            for key in sorted(set(run_config) - set(kinds))
        ]
        values: dict[str, Any] = {}
        for key, kind in kinds.items():
            if key not in run_config:
                problems.append(f"missing key {key!r}: {_name(kind)} is wanted")
                continue
            value, problem = _checked(key, run_config[key], kind)
            values[key.replace("-", "_")] = value
            if problem:
                problems.append(problem)
        if not problems:
            problems = _contradictions(values)
        if problems:
            raise ConfigError.listing("the run-config", problems)
        return cls(**values)


def _checked(key: str, value: Any, kind: Any) -> tuple[Any, str | None]:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        return value, f"{key} = {value!r}: {_name(kind)} is wanted"
    allowed = RANGES.get(key)
    if allowed is not None and not allowed.holds(value):
        return value, f"{key} = {value!r}: {allowed.wanted} is wanted"
    return value, None


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that do not go together."""
    is_on_ray = values["worker"] == "ray"
    problems = []
    if values["rank_unit"] > values["max_rank"]:
        problems.append(
            f"rank-unit = {values['rank_unit']}: at most max-rank, {values['max_rank']}, is wanted"
        )
    if is_on_ray and values["worker_address"]:
        problems.append(
            f'worker = "ray" and worker-address = {values["worker_address"]!r}: workers are '
            "started on Ray, or one that runs already is used; leave one of the two out"
        )
    highest = values["worker_port"] + max(values["num_workers"] - 1, 0)
    if values["worker_port"] and highest > HIGHEST_PORT:
        problems.append(
            f"worker-port = {values['worker_port']}: {values['num_workers']} workers have the "
            f"ports from there on, to {highest}, and {HIGHEST_PORT} is the highest"
        )
    if is_on_ray and values["lease_card_gb"] and not values["num_workers"]:
        problems.append(
            'worker = "ray" takes every card, and with lease-card-gb the clients want some, too: '
            "say with num-workers how many cards are the workers'"
        )
    problems += [
        f'{key.replace("_", "-")} = {values[key]!r}: means something with worker = "ray" only'
        for key in ("num_workers", "ray_address")
        if values[key] and not is_on_ray
    ]
    return problems


def _near(key: str, known: Mapping[str, Any]) -> str:
    if close := difflib.get_close_matches(key, known, n=1):
        return f", did you mean {close[0]!r}?"
    nearest = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
    return f"; the nearest are {', '.join(nearest)}, and {DESCRIBED_IN} describes all of them"


def _name(kind: Any) -> str:
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
