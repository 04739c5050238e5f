import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from hsplit_flower.data import encode_examples, load_examples, parse_meaning
from hsplit_flower.data.restaurants import DEFAULT_SIZES, generate
from hsplit_flower.errors import DataError

SPLITS = ("train", "dev", "test")


def digest() -> str:
    lines = (f"{e.meaning}\n{e.reference}\n" for split in SPLITS for e in generate(split, 500))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_default_sizes() -> None:
    assert {split: len(generate(split)) for split in SPLITS} == DEFAULT_SIZES


def test_splits_share_no_meaning_even_across_seeds() -> None:
    meanings = {
        split: {e.meaning for seed in (0, 1) for e in generate(split, 3000, seed=seed)}
        for split in SPLITS
    }
    assert not meanings["train"] & meanings["dev"]
    assert not meanings["train"] & meanings["test"]
    assert not meanings["dev"] & meanings["test"]


def test_another_process_makes_the_same_text() -> None:
    script = "from tests.data.test_restaurants import digest; print(digest())"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == digest()


def test_every_python_makes_the_same_text() -> None:
    """Changes with the grammar alone: then take the new digest over."""
    assert digest()[:16] == "bbf6ba374b1cb050"


def test_fewer_examples_are_the_first_of_more() -> None:
    assert generate("dev", 50) == generate("dev")[:50]


def test_another_seed_makes_other_examples() -> None:
    assert generate("train", 50, seed=1) != generate("train", 50, seed=2)


def test_meanings_and_references_hardly_repeat() -> None:
    examples = generate("train")
    assert len({e.meaning for e in examples}) > 0.99 * len(examples)
    assert len({e.reference for e in examples}) > 0.99 * len(examples)


def test_every_meaning_has_a_name_and_two_attributes_or_more() -> None:
    counts = set()
    for example in generate("train", 1000):
        attributes = parse_meaning(example.meaning)
        assert attributes[0][0] == "name" and len(dict(attributes)) == len(attributes)
        assert attributes[0][1] in example.reference
        counts.add(len(attributes))
    assert counts == set(range(3, 9))


def test_text_keeps_to_characters_the_built_in_base_knows() -> None:
    for split in SPLITS:
        for example in generate(split):
            assert example.reference.isascii()
            assert not set("|=_*~#[]") & set(example.reference)


def test_examples_fit_the_built_in_base(tokenizer: PreTrainedTokenizerBase) -> None:
    lengths = [len(e) for e in encode_examples(generate("dev"), tokenizer, max_length=256)]
    assert max(lengths) <= 200


def test_nothing_is_taken_from_e2e(shared_data: Path) -> None:
    theirs = [e for split in SPLITS for e in load_examples(str(shared_data / "e2e"), split)]
    ours = [e for split in SPLITS for e in generate(split)]
    assert not {e.reference for e in theirs} & {e.reference for e in ours}
    names = {dict(parse_meaning(m))["name"] for m in {e.meaning for e in theirs}}
    assert not names & {dict(parse_meaning(e.meaning))["name"] for e in ours}


@pytest.mark.parametrize("wrong", [{"num_examples": 0}, {"num_examples": -1}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="wanted one example or more"):
        generate("train", **wrong)


def test_unknown_split_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(DataError, match=r"'valid'; wanted one of \['train', 'dev', 'test'\]"):
        generate("valid")
