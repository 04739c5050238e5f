"""``hsplit plan``: who would get which cut and ranks, without training anything."""

import json
from dataclasses import replace

from ..errors import ConfigError, InfeasibleBudgetError
from ..settings import Aggregation, Link, Planning, Simulation, Training, Worker
from .field_option import OtherDefault
from .model_offer import MODEL
from .options import Chosen, Offer, Options
from .plan_question import PlanQuestion

EPILOG = (
    "Not counted: that gradients may be sent in another type than hidden states "
    "(link.wire-gradient-type), what evaluation sends, and that micro-batches take less memory, "
    "which the first step of a round does not: it is sent whole."
)

OPTIONS = Options(
    replace(
        MODEL,
        defaults={"dtype": OtherDefault(value=None, reason="what the model's config.json says")},
    ),
    Offer(
        group=Simulation,
        fields=("fleet",),
        defaults={
            "fleet": OtherDefault(
                value="heterogeneous", reason="a plan needs devices, and no machine is asked here"
            )
        },
    ),
    Offer(
        group=Training,
        fields=("batch_size", "micro_batch_size", "sequence_length", "labels", "seed"),
        names={
            "batch_size": ("--batch-size", "--batch"),
            "sequence_length": ("--sequence-length", "--seq"),
        },
    ),
    Offer(group=Link, fields=("wire_type", "in_flight")),
    Offer(
        group=Worker,
        fields=("checkpointing",),
        names={"checkpointing": ("--worker-checkpointing",)},
    ),
    Offer(group=Aggregation, fields=("mean_rank",)),
    Offer(
        group=Planning,
        # Without what decides when a run plans anew.
        fields=(
            "target_modules",
            "min_cut",
            "max_cut",
            "makespan_slack",
            "max_rank",
            "rank_unit",
            "gain_base",
            "worker_session_rank",
            "checkpointing",
        ),
    ),
    Offer(
        group=PlanQuestion,
        names={
            "num_server_rounds": ("--num-server-rounds", "--rounds"),
            "local_steps": ("--local-steps", "--steps"),
            "exact": ("--json",),
        },
    ),
)


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Say who would get which cut and ranks, and what the run would take.

    Plans a run of a fleet: cuts, ranks, memory, seconds and bytes of every client in the first
    round and in the last, of a round and of the run, what holds them up, what a client lacks that
    cannot take part, and what other settings would bring. Of the model only config.json is read.
    Nothing is known of the importance of weights, which a run learns in its first round. Exit
    status 1 if nobody fits, or not the worker; then the tables say how much it needs.
    """
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .make_plan import make_report
    from .plan_report import as_json
    from .plan_tables import print_tables

    settings, question = chosen.run_settings(), chosen[PlanQuestion]
    try:
        report = make_report(settings, question)
    except ConfigError as error:
        raise ConfigError(OPTIONS.spoken(str(error))) from error
    if question.exact:
        print(json.dumps(as_json(report), indent=2))
    else:
        print_tables(report)
    if report.worker_lacks:
        raise InfeasibleBudgetError(report.worker_lacks)
