"""Rotary frequencies that are chosen by the longest row: nobody's depend on whom it runs with."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.settings import SessionSpec
from hsplit_flower.splitting import (
    Architecture,
    Half,
    Parts,
    load_half,
    read_architecture,
)
from hsplit_flower.types import Labels
from hsplit_flower.wire.messages import Forward, LastHidden, Loss
from hsplit_flower.worker import Stage
from hsplit_flower.worker.session import Session
from tests.every_family import EVERY_FAMILY, class_of, small_config
from tests.families import FAMILIES, IGNORED, NUM_BLOCKS, fields, random_model, save
from tests.tolerances import assert_same

STEADY, MOST = 8, 32
FAR_APART = [16.0, 8.0]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": (
        "phi3",
        {
            "max_position_embeddings": MOST,
            "original_max_position_embeddings": STEADY,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.0],
                "long_factor": FAR_APART,
                "original_max_position_embeddings": STEADY,
                "factor": 4.0,
            },
        },
    ),
    "dynamic": (
        "llama",
        {
            "max_position_embeddings": STEADY,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        },
    ),
}
# Shorter and longer ones, and each after one that is longer; the last two may share a pass.
LENGTHS = [9, 30, 8, 12, 7, 30, 8]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, settings = KINDS[request.param]
    family = FAMILIES[name]
    config = replace(family, settings=family.settings | settings).config()
    return save(random_model(config), tmp_path_factory.mktemp(request.param) / "model")


def _architecture(folder: Path) -> Architecture:
    return read_architecture(AutoModelForCausalLM.from_pretrained(folder).config)


def _wanted(folder: Path, batch: dict[str, Tensor]) -> float:
    """The loss of a model that has seen nothing else."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return float(model(**batch, use_cache=False).loss)


@functools.cache
def _batch(length: int) -> dict[str, Tensor]:
    return fields("right", seed=length, seq=length)


def _request(client: Half, length: int, labels: Labels, *, train: bool) -> Forward:
    batch = _batch(length)
    with torch.no_grad():
        hidden = client.embed(batch["input_ids"], batch["attention_mask"])
    return Forward(
        step=1,
        hidden=hidden,
        labels=batch["labels"] if labels is Labels.SERVER else None,
        attention_mask=batch["attention_mask"],
        train=train,
    )


def _halves(folder: Path) -> tuple[Half, Stage]:
    stage = Stage(load_half(str(folder), Parts.of_worker(1, NUM_BLOCKS)))
    stage.load_update({})
    return load_half(str(folder), Parts.of_client(1, keeps_labels=True)), stage


@pytest.mark.parametrize("labels", Labels)
def test_a_loss_is_that_of_a_model_that_sees_the_batch_alone(folder: Path, labels: Labels) -> None:
    client, stage = _halves(folder)
    asked = []
    for number, length in enumerate(LENGTHS):
        spec = SessionSpec(client=number, cut=1, labels=labels, train=False)
        asked.append((stage.open(spec), _request(client, length, labels, train=False)))
    for length, reply in zip(LENGTHS, stage.handle_together(asked), strict=True):
        batch = _batch(length)
        if isinstance(reply, LastHidden):
            logits = client.logits(reply.hidden, None, start=NUM_BLOCKS)
            loss = client.model.loss_function(logits, batch["labels"], logits.shape[-1]).item()
        else:
            assert isinstance(reply, Loss)
            loss = reply.loss_sum / reply.num_tokens
        assert loss == pytest.approx(_wanted(folder, batch), rel=1e-5)


def test_gradients_are_those_of_a_worker_that_has_seen_nothing_else(folder: Path) -> None:
    client, stage = _halves(folder)
    spec = SessionSpec(client=0, cut=1)
    requests = [_request(client, length, Labels.SERVER, train=True) for length in LENGTHS]
    replies = stage.handle_together([(stage.open(spec), request) for request in requests])
    for request, reply in zip(requests, replies, strict=True):
        _, fresh = _halves(folder)
        alone = fresh.handle(fresh.open(spec), request)
        assert isinstance(reply, Loss)
        assert isinstance(alone, Loss)
        assert_same(reply.gradient, alone.gradient, "gradient")


def test_the_frequencies_do_make_a_difference(folder: Path) -> None:
    """Or nothing here could fail: rows of 8 beside more padding have another loss."""
    batch = _batch(STEADY)
    padded = {
        name: pad(one, (0, 8), value=IGNORED if name == "labels" else 0)
        for name, one in batch.items()
    }
    assert abs(_wanted(folder, batch) - _wanted(folder, padded)) > 1e-4


def test_rows_may_be_as_long_as_the_frequencies_stretch(folder: Path) -> None:
    found = _architecture(folder)
    assert (found.steady_length, found.max_positions) == (STEADY, MOST)


@pytest.mark.long
@pytest.mark.parametrize("model_type", EVERY_FAMILY)
def test_no_familys_numbers_depend_on_neighbours_or_on_padding(
    model_type: str, tmp_path: Path
) -> None:
    config = small_config(model_type)
    try:
        num_blocks = read_architecture(config).num_blocks
    except UnsupportedModelError as refused:
        pytest.skip(f"it cannot be split: {str(refused)[:80]}")
    folder = str(save(random_model(config, kind=class_of(config)), tmp_path / "model"))
    client = load_half(folder, Parts.of_client(1, keeps_labels=False))
    stage = Stage(load_half(folder, Parts.of_worker(1, num_blocks)))
    stage.load_update({})
    requests = [_request(client, length, Labels.SERVER, train=False) for length in (9, 14, 23)]
    alone = [stage.handle(_open(stage), request) for request in requests]
    together = stage.handle_together([(_open(stage), request) for request in requests])
    padded = stage.handle(_open(stage), _with_more_padding(requests[0], 14))
    for got, wanted in zip([*together, padded], [*alone, alone[0]], strict=True):
        assert isinstance(got, Loss)
        assert isinstance(wanted, Loss)
        assert got.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)


def _open(stage: Stage) -> Session:
    return stage.open(SessionSpec(client=0, cut=1, train=False))


def _with_more_padding(request: Forward, length: int) -> Forward:
    assert request.labels is not None
    assert request.attention_mask is not None
    return replace(
        request,
        hidden=pad(request.hidden, (0, 0, 0, length)),
        labels=pad(request.labels, (0, length), value=IGNORED),
        attention_mask=pad(request.attention_mask, (0, length)),
    )
