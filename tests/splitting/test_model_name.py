"""What a model's name stands for, and what is said of one that stands for nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Checkpoint, load_tokenizer, locate
from hsplit_flower.splitting.model_name import check_name

ROOT = Path(__file__).resolve().parents[2]
WANTED = (
    "A folder with config.json and safetensors (model.safetensors, or model.safetensors.index.json "
    "and its shards), the id of a model on the hub (owner/name), or a built-in model (llama-tiny) "
    "is wanted"
)

ASK = """
import time

from hsplit_flower.errors import UnsupportedModelError
from hsplit_flower.splitting import Checkpoint, load_tokenizer
for ask in (Checkpoint(source="someone/a-model").config, lambda: load_tokenizer("someone/a-model")):
    began = time.monotonic()
    try:
        ask()
    except UnsupportedModelError as error:
        print(f"{time.monotonic() - began:.3f} {error}")
"""


def test_the_built_in_base_is_found_by_its_name(llama_tiny: Path) -> None:
    assert Path(locate("llama-tiny")) == llama_tiny


def test_other_names_are_left_as_they_are(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == str(tmp_path)
    assert locate("someone/a-model") == "someone/a-model"
    assert not Checkpoint(source="someone/a-model").is_local


@pytest.mark.parametrize("name", ["llama-tiny", "someone/a-model", "gpt2", "llama-2-7b"])
def test_a_name_that_may_be_one_is_let_pass(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("llama-tinny", "there is none, did you mean 'llama-tiny'?"),
        ("LLaMA-tiny", "did you mean 'llama-tiny'?"),
        ("./nowhere", f"there is no folder {Path('nowhere').absolute()}"),
        ("/no/where", "there is no folder /no/where"),
        ("no/such/folder", "there is no folder"),
        ("no such thing", "it is no folder, and the hub has no ids of this form"),
        ("someone/a-model", "it is not in the local cache, and HF_HUB_OFFLINE forbids"),
        ("", "the name is empty"),
        ("hf://someone/a-model", "give model.name = 'someone/a-model'."),
        (
            "hf://models/someone/a-model@v1",
            "give model.name = 'someone/a-model' and model.revision = 'v1'",
        ),
    ],
)
def test_a_name_that_is_nothing_is_refused_with_what_is_wanted(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        Checkpoint(source=name).config()
    message = str(caught.value)
    assert message.startswith(f"no usable model configuration at {name!r}: ")
    assert reason in message
    assert message.endswith(WANTED)


def test_a_folder_is_told_what_it_lacks_and_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"no config\.json, it is empty"):
        Checkpoint(source=str(tmp_path)).config()
    (tmp_path / "snapshots").mkdir()
    with pytest.raises(UnsupportedModelError, match="is a cache of the hub, it holds snapshots: g"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "snapshots").rmdir()
    for name in "fedcba":
        (tmp_path / name).touch()
    with pytest.raises(
        UnsupportedModelError, match=r"no config\.json, it holds a, b, c, d, e and more\."
    ):
        load_tokenizer(str(tmp_path))
    with pytest.raises(UnsupportedModelError, match="it is a file, and the folder that holds it"):
        Checkpoint(source=str(tmp_path / "a")).config()


def test_a_hub_that_is_not_reached_is_asked_once() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=ROOT,
            env=environment | {"HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    answers = done.stdout.splitlines()
    assert len(answers) == 2
    for seconds, _, message in (answer.partition(" ") for answer in answers):
        assert "not in the local cache, and the hub was not reached" in message
        # The hub's library alone waits for 23 seconds between its attempts.
        assert float(seconds) < 10.0
    assert "Retry" not in done.stderr
