"""Settings of training: what is refused, all of it at once."""

import math
from dataclasses import replace

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import PlanSettings, Training
from hsplit_flower.settings.training import following
from hsplit_flower.types import Labels, Start, WireType
from hsplit_flower.worker.hosting import WorkerSettings


def test_defaults() -> None:
    training = Training(batch_size=4, sequence_length=32)
    assert (training.labels, training.start) == (Labels.SERVER, Start.CONTINUE)
    assert training.hidden_type is WireType.FLOAT32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_hidden_states_have_the_models_own_type_on_the_wire(dtype: str) -> None:
    training = Training(batch_size=4, sequence_length=32, dtype=dtype)
    assert training.hidden_type.value == dtype
    assert replace(training, wire_type=WireType.INT8).hidden_type is WireType.INT8


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Training(
            batch_size=0,
            sequence_length=-1,
            learning_rate=math.inf,
            lora_alpha=math.nan,
            dtype="int8",
            step_timeout_seconds=0.0,
            weight_decay=-0.1,
            micro_batch_size=-1,
            in_flight=0,
            cached_halves=-1,
        )
    for name in (
        "batch_size",
        "sequence_length",
        "learning_rate",
        "lora_alpha",
        "step_timeout_seconds",
        "weight_decay",
        "micro_batch_size",
        "in_flight",
        "cached_halves",
    ):
        assert f"{name} must be" in str(caught.value)
    assert "dtype must be one of ['float32', 'bfloat16', 'float16'], got 'int8'" in str(
        caught.value
    )


def test_other_settings_follow_the_run() -> None:
    wanted = {"labels": Labels.CLIENT, "start": Start.RESTART}
    assert following(PlanSettings(), **wanted) == PlanSettings(**wanted)
    assert following(PlanSettings(labels=Labels.CLIENT), **wanted) == PlanSettings(**wanted)
    worker = WorkerSettings(model="a", num_threads=2)
    assert following(worker, model="a", dtype="bfloat16").num_threads == 2


def test_other_settings_that_contradict_the_run_are_named() -> None:
    said = (
        "model is 'a' in the WorkerSettings and 'b' in the run; "
        "dtype is 'float16' in the WorkerSettings and 'bfloat16' in the run"
    )
    with pytest.raises(ConfigError, match=said):
        following(WorkerSettings(model="a", dtype="float16"), model="b", dtype="bfloat16")
