"""Settings of training: what is refused, all of it at once."""

import math

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Client, Link, Model, RunSettings, Training
from hsplit_flower.types import Labels, ScaleRule, Scaling, Start


def test_defaults() -> None:
    training = Training(batch_size=4, sequence_length=32)
    assert (training.labels, training.start) == (Labels.SERVER, Start.CONTINUE)


@pytest.mark.parametrize("rule", ScaleRule)
def test_the_scale_follows_from_alpha_and_rule(rule: ScaleRule) -> None:
    wanted = Scaling(alpha=8.0, rule=rule)
    assert Training(lora_alpha=8.0, scale_rule=rule.value).scaling == wanted


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Training(
            batch_size=0,
            sequence_length=-1,
            learning_rate=math.inf,
            lora_alpha=math.nan,
            weight_decay=-0.1,
            micro_batch_size=-1,
        )
    for name in (
        "batch_size",
        "sequence_length",
        "learning_rate",
        "lora_alpha",
        "weight_decay",
        "micro_batch_size",
    ):
        assert f"{name} must be" in str(caught.value)
    assert "learning_rate must be a positive number, got inf" in str(caught.value)


@pytest.mark.parametrize(
    ("group", "values", "said"),
    [
        (
            Link,
            {"step_timeout_seconds": 0.0, "in_flight": 0},
            ["step_timeout_seconds", "in_flight"],
        ),
        (Client, {"cached_halves": -1}, ["cached_halves"]),
        (Model, {"dtype": "int4"}, ["dtype"]),
    ],
)
def test_what_else_a_run_is_told_is_refused_in_its_own_group(
    group: type, values: dict[str, object], said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        group(**values)
    assert all(f"{name} must be" in str(caught.value) for name in said)


def test_a_type_that_no_model_has_is_told_which_there_are() -> None:
    wanted = r"dtype must be one of 'float32', 'bfloat16', 'float16', 'nf4', 'int8', got 'int4'"
    with pytest.raises(ConfigError, match=wanted):
        Model(dtype="int4")


def test_what_a_base_computes_in_is_its_dtype_unless_it_is_quantised() -> None:
    assert (Model().quantised, Model().computes_in) == ("", "float32")
    assert (Model(dtype="nf4").quantised, Model(dtype="nf4").computes_in) == ("nf4", "bfloat16")
    assert Model(dtype="int8", computing_dtype="float32").computes_in == "float32"
    with pytest.raises(
        ConfigError, match="computing-dtype is 'float16': a base of dtype 'float32'"
    ):
        Model(computing_dtype="float16")


@pytest.mark.parametrize("noise", ["hidden", "gradient"])
def test_no_norm_is_told_to_the_worker_where_there_is_noise(noise: str) -> None:
    link = Link(**{f"{noise}_noise": 0.5, f"{noise}_clip_norm": 1.0})
    with pytest.raises(ConfigError, match="no noise of link covers: set one of them to 0"):
        RunSettings(training=Training(max_gradient_norm=1.0), link=link)
    RunSettings(training=Training(), link=link)


def test_epochs_are_so_many_steps_over_a_clients_own_examples() -> None:
    training = Training(batch_size=4, gradient_accumulation_steps=2)
    assert training.steps_of(80, epochs=1.0) == 10
    assert training.steps_of(81, epochs=1.0) == 11
    assert training.steps_of(80, epochs=0.25) == 3
    assert training.steps_of(1, epochs=0.1) == 1
