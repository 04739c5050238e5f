"""What a trial's last model writes for the test split, scored as ``hsplit evaluate`` scores it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from transformers import GenerationConfig

from benchmarks.study.arms import CENTRAL_RANK, CENTRALISED, HETEROGENEOUS, ROOM
from benchmarks.study.results import FOLDER
from benchmarks.study.run import Look, Study
from benchmarks.trial import (
    Curve,
    Examples,
    Setting,
    base_model,
    centralised,
    examples_of,
    perplexity,
    rounds,
)
from benchmarks.trial.whole_model import global_model
from hsplit_flower.cli.beam_search import BeamSearch
from hsplit_flower.cli.evaluated_split import EvaluatedSplit, read_split
from hsplit_flower.cli.evaluation_order import BeamOptions
from hsplit_flower.metrics import NlgItem, nlg_scores
from hsplit_flower.splitting import load_tokenizer

SCORES: Final = FOLDER / "scores.jsonl"
# Greedy, as eleven models write the whole split; the command's ten beams take ten times as long.
DECODING: Final = BeamOptions(num_beams=1, max_new_tokens=64)
# The batches decide a text by rounding only.
INPUTS_AT_A_TIME: Final = 32
DIGITS: Final = 5


def scores_of(setting: Setting, most_inputs: int | None = None) -> Curve:
    """One row: the five scores, and what they are of.

    The trial is trained again, as only its curve was kept; ``dev_perplexity`` is what that curve
    ends with. Without a number of inputs all of the test split are written for.
    """
    examples = Examples.load(**examples_of(setting))
    model = last_model(setting, examples)
    tokenizer = load_tokenizer(setting.model)
    split = read_split(
        setting.dataset,
        "test",
        tokenizer,
        style="plain",
        max_length=setting.training.sequence_length,
        most_inputs=most_inputs,
    )
    texts = written(BeamSearch(model, tokenizer, DECODING), split)
    items = [NlgItem(hypothesis=texts[key], references=split.references[key]) for key in texts]
    found = {
        **asdict(nlg_scores(items)),
        "dev_perplexity": perplexity(model, examples.dev, examples.pad_id),
    }
    first = next(iter(split.references))
    return [
        {
            **{name: round(value, DIGITS) for name, value in found.items()},
            "inputs": len(texts),
            "references": split.num_references,
            "empty": sum(not text for text in texts.values()),
            "decoding": asdict(DECODING),
            "first_input": first,
            "first_text": texts[first],
        }
    ]


def last_model(setting: Setting, examples: Examples) -> Any:
    """The whole model after a trial's last round, with all that was learnt in its weights."""
    if setting.method.name == CENTRALISED.name:
        everything = [example for part in examples.parts for example in part]
        model = centralised(setting, everything, examples.pad_id, CENTRAL_RANK).merge_and_unload()
    else:
        for one in rounds(setting, examples):
            state = one.state
        model = global_model(base_model(setting.model), state)
    # What a model's folder says of decoding would fill what the search leaves open.
    model.generation_config = GenerationConfig()
    return model.eval()


def written(search: BeamSearch, split: EvaluatedSplit) -> dict[str, str]:
    """A text for each input."""
    texts = dict[str, str]()
    for batch in split.input_batches(INPUTS_AT_A_TIME):
        found = search.texts([split.prompts[text] for text in batch])
        texts |= zip(batch, found, strict=True)
    return {text: texts[text] for text in split.references}


def scored_settings(study: Study, look: Look) -> dict[str, Setting]:
    """By method: with room, on unequal devices, the first seed, at the method's best rate."""
    asked = study.asked(study.tuned(look), ROOM, HETEROGENEOUS)
    return {name: setting for (name, seed), setting in asked if seed == study.seeds[0]}


def kept_scores(path: Path = SCORES) -> dict[str, dict[str, Any]]:
    """The rows of a file by method; none where there is no file yet."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    trials = map(json.loads, lines)
    return {trial["setting"]["method"]: trial["curve"][-1] for trial in trials}
