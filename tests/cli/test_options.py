"""Options are what settings' fields say, and settings are what was typed."""

import inspect
import re
from typing import Any

import pytest

from hsplit_flower.cli import data, evaluate, generate, plan, worker
from hsplit_flower.cli.field_option import FieldOption, OtherDefault
from hsplit_flower.cli.options import Offer, Options
from hsplit_flower.errors import ConfigError
from hsplit_flower.settings import Link, Model, Planning, RunSettings, Training, Worker
from hsplit_flower.types import Labels, WireType

OPTIONS = Options(
    Offer(group=Model, fields=("name",), names={"name": ("--model",)}, required=("name",)),
    Offer(group=Planning, fields=("target_modules", "max_rank", "rank_unit", "checkpointing")),
    Offer(
        group=Training,
        fields=("batch_size", "labels"),
        names={"batch_size": ("--batch-size", "--batch")},
    ),
    Offer(group=Link, fields=("wire_type", "step_timeout_seconds")),
    Offer(
        group=Worker,
        fields=("port",),
        defaults={"port": OtherDefault(value=8600, reason="somebody must find it")},
    ),
)


def option_of(offer: Offer, name: str) -> FieldOption:
    return next(each for each in offer.options() if each.field.name == name)


def test_what_is_not_typed_is_left_to_the_field():
    chosen = OPTIONS.read({"model": "llama-tiny"})
    assert chosen[Model].name == "llama-tiny"
    assert chosen[Training] == Training() and chosen[Planning] == Planning()
    assert not chosen[Training].model_fields_set
    assert chosen[Worker].port == 8600


def test_what_is_typed_becomes_settings_of_a_run():
    typed = {
        "model": "llama-tiny",
        "target_modules": "q_proj, v_proj",
        "checkpointing": False,
        "batch_size": 4,
        "labels": "client",
        "wire_type": "int8",
        "port": 0,
    }
    assert OPTIONS.read(typed).run_settings() == RunSettings(
        model=Model(name="llama-tiny"),
        planning=Planning(target_modules=("q_proj", "v_proj"), checkpointing=False),
        training=Training(batch_size=4, labels=Labels.CLIENT),
        link=Link(wire_type=WireType.INT8),
        worker=Worker(port=0),
    )


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"rank_unit": 0}, "--rank-unit is 0: 1 or more is wanted"),
        ({"rank_unit": 20}, "--rank-unit must be between 1 and --max-rank, got 20 and 16"),
        ({"port": 65536}, "--port is 65536: a port from 0 to 65535 is wanted"),
        ({"step_timeout_seconds": float("nan")}, "--step-timeout-seconds is nan: a positive"),
        (
            {"rank_unit": 0, "max_rank": 0, "batch_size": 0, "port": -1},
            "the command line has 4 problems:\n"
            "  - --max-rank is 0: 1 or more is wanted\n"
            "  - --rank-unit is 0: 1 or more is wanted\n"
            "  - --batch-size is 0: 1 or more is wanted\n"
            "  - --port is -1: a port from 0 to 65535 is wanted",
        ),
    ],
)
def test_everything_that_is_wrong_is_said_at_once_as_it_is_typed(typed: dict[str, Any], says: str):
    with pytest.raises(ConfigError) as error:
        OPTIONS.read({"model": "llama-tiny", **typed})
    assert str(error.value).startswith(says)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("training.batch-size is 9: too many", "--batch-size is 9: too many"),
        ("model.name is wrong", "--model is wrong"),
        ("max_rank must be 3", "--max-rank must be 3"),
        ("port = 70000: too high", "--port = 70000: too high"),
        ("training.batch-sizes of a port", "training.batch-sizes of a port"),
        ("simulation.fleet is not offered", "simulation.fleet is not offered"),
        ("as worker.port in the run-config, or else", "as --port, or else"),
        ("with worker.host in the run-config", "with worker.host in the run-config"),
    ],
)
def test_the_library_is_heard_in_the_words_of_options(text: str, spoken: str):
    assert OPTIONS.spoken(text) == spoken


def test_a_default_that_differs_is_told_with_its_reason():
    port = option_of(worker.OPTIONS.offers[1], "port")
    assert port.other is not None
    assert "default: 8600" in port.help and port.other.reason in port.help
    assert "default: 0" not in port.help


@pytest.mark.parametrize("options", [plan.OPTIONS, worker.OPTIONS])
def test_an_option_says_its_fields_sentence_unit_limits_and_default(options: Options):
    for offer in options.offers:
        for option in offer.options():
            field = option.field
            assert option.help.startswith(field.description) and field.description
            assert field.unit in option.help
            is_number = {int, float} & {type(field.default)}
            assert not is_number or field.wanted in option.help
            assert option.is_required or "default: " in option.help


@pytest.mark.parametrize("options", [generate.OPTIONS, data.OPTIONS, evaluate.OPTIONS])
def test_a_command_that_trains_nothing_does_not_speak_of_training(options: Options):
    told = {one.names[0]: one.help for offer in options.offers for one in offer.options()}
    of_training = r"ServerApp|SuperLink|instructions|gradient|labels|plans|batch-size"
    assert not {name: text for name, text in told.items() if re.search(of_training, text)}


def test_a_sentence_of_the_commands_own_takes_the_place_of_the_fields():
    (offer,) = [one for one in generate.OPTIONS.offers if one.group is Worker]
    assert "writer-token-file" in option_of(offer, "operator_token_file").help
    assert option_of(offer, "ssl_keyfile").help.startswith("File of the key of that certificate")


def test_a_secret_is_no_option_unless_it_is_named():
    assert "operator_token" not in [each.field.name for each in Offer(group=Worker).options()]


def test_no_two_options_have_one_name():
    twice = Options(Offer(group=Planning), Offer(group=Worker))  # both have checkpointing
    with pytest.raises(ValueError, match="checkpointing"):
        twice.command(lambda chosen: None)


def test_a_command_runs_with_what_was_typed():
    heard: list[int] = []
    command = OPTIONS.command(lambda chosen: heard.append(chosen[Training].batch_size))
    assert "batch_size" in inspect.signature(command).parameters
    command(model="llama-tiny", batch_size=3)
    assert heard == [3]
