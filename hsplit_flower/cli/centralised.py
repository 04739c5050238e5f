"""``hsplit centralised``: LoRA on one machine that has all texts, to compare a run with."""

from typing import Literal

from ..settings import Planning, Settings, Training, setting
from .model_offer import MODEL
from .options import Chosen, Offer, Options


class Job(Settings):
    """What is trained besides the recipe, and where the result goes."""

    dataset: str = setting(
        "restaurants",
        "restaurants (built in), a folder of mr,ref CSVs as E2E has them, or a hub id.",
    )
    prompt: Literal["plain", "brackets"] = setting("plain", "How a meaning is written.")
    rank: int = setting(16, "Of every weight's adapter.", ge=1)
    steps: int = setting(100, "Optimizer steps.", ge=1)
    evaluation_examples: int = setting(
        500, "At most so many dev examples for the perplexity before and after.", ge=1
    )
    device: str = setting("", "Where the model runs, as cpu or cuda; empty takes a GPU if any.")
    out: str = setting(
        "",
        "Folder for settings, metrics and adapter; empty makes one in outputs, named by the time.",
    )


OPTIONS = Options(
    MODEL,
    Offer(group=Job),
    Offer(
        group=Training,
        fields=(
            "preset",
            "learning_rate",
            "schedule",
            "warmup_steps",
            "final_learning_rate",
            "weight_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "gradient_accumulation_steps",
            "lora_dropout",
            "label_smoothing",
            "max_gradient_norm",
            "lora_alpha",
            "scale_rule",
            "batch_size",
            "sequence_length",
            "seed",
        ),
    ),
    Offer(group=Planning, fields=("target_modules",)),
)


@OPTIONS.command
def command(chosen: Chosen) -> None:
    """Train LoRA on one machine that has all texts.

    What no method that keeps texts apart is expected to pass: plain LoRA on the whole model and the
    whole training split, with the recipe of a run. Leaves a folder as a run does; a run is compared
    fairly when this takes its clients' steps, and as many examples a step as all of them together.
    """
    # These bring torch, for which neither help nor a mistyped option need wait.
    from .make_centralised import make_centralised

    run = chosen.run_settings()
    make_centralised(chosen[Job], run.model, run.training, run.planning)
