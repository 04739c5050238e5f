"""A preset says what nobody else has said, whoever asks for it."""

from typing import Any

import pytest

from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import GROUPS, Model, Planning, RunSettings, Settings, Training, setting
from hsplit_flower.settings.presets import PRESETS, Preset
from hsplit_flower.settings.reading import keys_of, read


class App(Settings):
    """A key that a preset knows, and one that it does not."""

    local_steps: int = setting(3, "Steps.")
    dataset: str = setting("here", "Texts.")


def _read(values: dict[str, Any]) -> tuple[App, RunSettings]:
    made = read({"": App, **GROUPS}, values)
    app = made.pop("")
    assert isinstance(app, App)
    return app, RunSettings(**made)


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_is_one_that_may_be_set(name: str) -> None:
    known = keys_of({"": App, **GROUPS})
    app, run = _read({"training.preset": name})
    for key, value in PRESETS[name].values.items():
        group, _, _ = key.rpartition(".")
        assert getattr(getattr(run, group) if group else app, known[key].name) == value, key


def test_what_is_said_holds_and_an_empty_text_says_nothing() -> None:
    told = {
        "training.preset": "flowertune",
        "training.learning-rate": 1e-3,
        "training.lora-dropout": "",
        "local-steps": 4,
        "planning.max-rank": 16,
        "model.dtype": "float32",
    }
    app, run = _read(told)
    assert (app.local_steps, app.dataset) == (4, "here")
    assert (run.training.learning_rate, run.training.lora_dropout) == (1e-3, 0.075)
    assert (run.planning.max_rank, run.model.dtype) == (16, "float32")
    # A default that is said is said, too.
    assert _read(told | {"training.batch-size": 16})[1].training.batch_size == 16


def test_a_strategy_fills_its_groups_in_the_same_way() -> None:
    training = Training(preset="flowertune", lora_alpha=8.0)
    run = RunSettings.of("m", training, {"planning": Planning(max_cut=2)})
    assert (run.training.lora_alpha, run.training.learning_rate) == (8.0, 5e-5)
    assert (run.planning.max_cut, run.planning.max_rank) == (2, 32)
    assert run.model.name == "m"
    assert run.replace(training=run.training.replace(seed=3)).training.lora_dropout == 0.075
    plain = RunSettings.of(Model(name="m"), Training(), {})
    assert plain.training == Training() and plain.planning == Planning()


@pytest.mark.parametrize(("found", "dtype"), [(object(), "nf4"), (None, "float32")])
def test_the_base_is_of_four_bits_where_that_is_installed(
    found: object, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsplit_flower.settings.presets.find_spec", lambda name: found)
    assert _read({"training.preset": "flowertune"})[1].model.dtype == dtype
    assert Preset(source="", values={}).chosen() == {}


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"training\.preset = 'lora': one of 'lora-e2e'"):
        _read({"training.preset": "lora"})
