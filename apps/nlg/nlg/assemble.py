"""From the run-config to the strategy and the evaluation; what cannot work is said here."""

import os
from collections.abc import Callable

from flwr.app import ArrayRecord, MetricRecord

from hsplit_flower.cli.worker import TOKEN_VARIABLE
from hsplit_flower.errors import ConfigError
from hsplit_flower.planning import ReplanSettings
from hsplit_flower.server import ServerEvaluation
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.settings.device import GIGABYTE
from hsplit_flower.simulation.disturbances import Disturbances, budget_changes
from hsplit_flower.strategies import HSplitLoRA
from hsplit_flower.transport.channel import ChannelSettings
from hsplit_flower.transport.remote_worker import RemoteWorker
from hsplit_flower.types import Labels, ScaleRule, Start, WireType
from hsplit_flower.worker.hosting import WorkerHandle, WorkerSettings
from hsplit_flower.worker.pool import PoolSettings
from nlg import task
from nlg.run_config import RunConfig


def strategy_of(config: RunConfig) -> HSplitLoRA:
    """HSplitLoRA as the run-config sets it."""
    return HSplitLoRA(
        config.model,
        Training(
            batch_size=config.batch_size,
            sequence_length=config.max_length,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            lora_alpha=config.lora_alpha,
            scale_rule=ScaleRule(config.scale_rule),
            labels=Labels(config.labels),
            start=Start(config.start),
            seed=config.seed,
            revision=config.revision,
            dtype=config.dtype,
            attention=config.attention,
            wire_type=WireType(config.wire_type) if config.wire_type else None,
            wire_gradient_type=(
                WireType(config.wire_gradient_type) if config.wire_gradient_type else None
            ),
            micro_batch_size=config.micro_batch_size,
            in_flight=config.in_flight,
            cached_halves=config.cached_halves,
            max_message_bytes=config.max_message_mb * 2**20,
            step_timeout_seconds=config.step_timeout,
        ),
        planning=PlanSettings(
            min_cut=config.min_cut, max_rank=config.max_rank, rank_unit=config.rank_unit
        ),
        replanning=ReplanSettings(
            drift_threshold=config.drift_threshold, cooldown_rounds=config.drift_cooldown
        ),
        fleet=config.fleet or None,
        disturbances=Disturbances(
            unavailable=config.unavailable,
            budget_changes=budget_changes(config.budget_changes),
            seed=config.seed,
        ),
        enforce_budgets=config.enforce_budgets,
        lease_card_bytes=config.lease_card_gb * GIGABYTE or None,
        worker_session_rank=config.worker_session_rank or None,
        worker=_worker(config),
        global_rank_cap=config.global_rank_cap or None,
        server_momentum=config.server_momentum,
        fraction_train=config.fraction_train,
        fraction_evaluate=config.fraction_evaluate,
        min_train_nodes=config.min_train_nodes,
        min_evaluate_nodes=config.min_train_nodes,
        min_available_nodes=config.min_available_nodes,
    )


def evaluation_of(
    config: RunConfig,
) -> Callable[[int, ArrayRecord], MetricRecord | None] | None:
    """The server's evaluation on its dev set, if it is wanted."""
    if not config.server_evaluation:
        return None
    task.encoded_dev(config)  # says at once what is wrong with it
    return ServerEvaluation(
        config.model,
        lambda: task.evaluation_batches(config),
        revision=config.revision,
        dtype=config.dtype,
        attention=config.attention,
    )


def _worker(config: RunConfig) -> WorkerHandle | WorkerSettings | PoolSettings:
    if config.worker_address:
        limits = ChannelSettings(
            max_message_bytes=config.max_message_mb * 2**20,
            step_timeout_seconds=config.step_timeout,
        )
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise ConfigError(
                f"worker-address = {config.worker_address!r}: the token of that worker's operator "
                f"is wanted in {TOKEN_VARIABLE}, in the environment that the SuperLink was started "
                "in; set it there and start the SuperLink again"
            )
        return RemoteWorker(config.worker_address, token, limits)
    settings = WorkerSettings(
        model=config.model,
        host=config.worker_host,
        advertised_host=config.worker_advertised_host,
        port=config.worker_port,
        num_threads=config.worker_threads,
        session_timeout_seconds=config.session_timeout,
    )
    if config.worker == "ray":
        return PoolSettings(
            worker=settings, num_workers=config.num_workers, ray_address=config.ray_address
        )
    return settings
