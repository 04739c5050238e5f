"""The card says what was done, in a form that the hub reads, and nothing about the machine."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hsplit_flower.reports import CardFacts, model_card
from hsplit_flower.reports.model_card import merged_card, public_name

FACTS = CardFacts(
    base_model="owner/base",
    revision="5f0c",
    method_title="HSplitLoRA",
    method_source="Lin et al., arXiv 2505.02795",
    num_rounds=3,
    num_clients=5,
    dataset="owner/examples",
    recipe={"learning-rate": 8e-3, "optimizer": "adamw", "alpha": None},
    adapter_rank=16,
    adapter_bytes=1_234_567,
    perplexity_before=10.789,
    perplexity_after=1.6112,
    dropped_energy=3e-5,
)


def card(**changes: Any) -> str:
    return model_card(replace(FACTS, **changes))


def test_the_hub_reads_what_it_is_for() -> None:
    data = ModelCard(card()).data.to_dict()
    assert data["base_model"] == "owner/base"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "text-generation"
    assert data["datasets"] == ["owner/examples"]
    assert {"lora", "federated-learning", "split-learning"} <= set(data["tags"])


@pytest.mark.parametrize(
    "said",
    [
        "HSplitLoRA (Lin et al., arXiv 2505.02795)",
        "hsplit-flower 0.",
        "owner/base, revision 5f0c",
        "| data | owner/examples |",
        "3 rounds, with 5 clients",
        "| learning-rate | 0.008 |",
        "| optimizer | adamw |",
        "| rank | 16,",
        "| size | 1.235 MB |",
        "| perplexity of the base | 10.79 |",
        "| perplexity with the adapter | 1.611 |",
        "| share of what was learnt that is held back | 0.003 % |",
        'AutoModelForCausalLM.from_pretrained("owner/base", revision="5f0c")',
        "PeftModel.from_pretrained(base,",
    ],
)
def test_what_was_done_is_said(said: str) -> None:
    assert said in card()


def test_settings_that_are_not_set_are_not_listed() -> None:
    assert "alpha |" not in card()
    assert "| setting |" not in card(recipe={})


def test_what_was_not_measured_is_not_made_up() -> None:
    text = card(perplexity_before=None, perplexity_after=None, dropped_energy=0.0)
    assert text.count("| not measured |") == 2
    assert "No examples were set aside" in text
    assert "held back | none |" in text
    assert "not a finite number" in card(perplexity_after=math.inf)


def test_one_is_no_plural() -> None:
    assert "1 round, with 1 client in" in card(num_rounds=1, num_clients=1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("llama-tiny", "llama-tiny"),
        ("owner/base", "owner/base"),
        ("/home/somebody/models/base", "base"),
        ("/home/somebody/models/base/", "base"),
        ("~/models/base", "base"),
        ("./base", "base"),
        ("../models/base", "base"),
        ("models/of/mine/base", "base"),
        (r"C:\Users\somebody\base", "base"),
        ("https://example.org/data/e2e.csv", "e2e.csv"),
        ("", ""),
    ],
)
def test_a_path_is_told_by_its_last_part(name: str, told: str) -> None:
    assert public_name(name) == told


def test_a_folder_here_is_no_id_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("secret/base") == "base"
    assert public_name(".") == tmp_path.name


def test_no_path_of_the_machine_is_in_a_card() -> None:
    text = card(
        base_model="/home/somebody/base",
        dataset="/home/somebody/e2e.csv",
        recipe={"adapter": "/home/somebody/former", "prompt": "{mr} /no/think\\n{ref}"},
    )
    assert "somebody" not in text
    assert "| data | e2e.csv |" in text
    assert "| adapter | former |" in text
    assert "{mr} /no/think" in text, "a prompt is no path"
    data = ModelCard(text).data.to_dict()
    assert data["base_model"] == "base"
    assert "datasets" not in data


@pytest.mark.parametrize("name", ['a"b', "a: b # c", "- a", "a|b", "a\nb", "ö", "{{ 1 }}", "'a'"])
def test_any_name_is_taken_as_it_is(name: str) -> None:
    text = card(base_model=name, dataset=name, recipe={name: name})
    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert head is not None
    assert yaml.safe_load(head[1])["base_model"] == name
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)


def test_a_built_in_base_is_loaded_from_where_it_is() -> None:
    text = card(base_model="llama-tiny", revision="")
    assert 'from_pretrained(locate("llama-tiny"))' in text
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    compile(code, "card", "exec")
    compile(re.findall(r"```python\n(.*?)```", card(), re.DOTALL)[0], "card", "exec")


@pytest.mark.parametrize(
    ("base", "revision", "told"),
    [
        ("owner/base", "0123456789abcdef", "| revision of the base | 0123456789abcdef |"),
        ("/home/jan/base", "", "| revision of the base | not known: no commit of a hub's model |"),
    ],
)
def test_a_merged_model_says_of_which_revision_its_base_is(
    base: str, revision: str, told: str
) -> None:
    text = merged_card(base, revision, "HSplitLoRA")
    assert told in text and "jan" not in text
    assert ModelCard(text).data.to_dict()["base_model"] == base.rpartition("/home/jan/")[2]
