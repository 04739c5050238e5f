"""The digest of a base as text and back, and texts that stand for none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from hsplit_flower.errors import CodecError
from hsplit_flower.splitting import build_empty
from hsplit_flower.splitting.base_digest import UNREAD, BaseDigest, TensorDigest
from hsplit_flower.wire.base_text import base_from_text, base_to_text

NAMES = st.tuples(
    st.sampled_from(["", "layers.0.", "layers.1.", "layers.12."]),
    st.sampled_from(["a.weight", "a.bias", "b.weight"]),
)
# A shape, a type and a digest; without the last one it was not read.
READ = st.tuples(
    st.lists(st.integers(0, 2**31), max_size=3),
    st.sampled_from(["", "F32", "BF16"]),
    st.none() | st.integers(0, 2**32 - 1),
)
TEXT = base_to_text(
    BaseDigest(tensors={"a.0.weight": TensorDigest(shape=(3,), dtype="F32", digest="01234567")})
)


@given(st.dictionaries(NAMES, READ, min_size=1), st.sampled_from(["", "nf4"]), st.booleans())
def test_it_is_read_as_it_was_written(
    found: dict[tuple[str, str], tuple[list[int], str, int | None]],
    quantised: str,
    lists_all: bool,
) -> None:
    tensors = {
        "".join(name): UNREAD
        if number is None
        else TensorDigest(shape=tuple(shape), dtype=dtype, digest=f"{number:08x}")
        for name, (shape, dtype, number) in found.items()
    }
    base = BaseDigest(tensors=tensors, quantised=quantised, lists_all=lists_all)
    text = base_to_text(base)
    assert base_from_text(text) == base
    assert base_to_text(base_from_text(text)) == text


def test_nothing_is_an_empty_text() -> None:
    assert base_to_text(BaseDigest()) == ""
    assert base_from_text("") == BaseDigest()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["parts"]["a.0."].update(layout=1), "has 1 layouts, and none 1"),
        (lambda c: c["parts"]["a.0."].update(layout=-1), "has 1 layouts, and none -1"),
        (lambda c: c["parts"]["a.0."].update(digests="01234"), "1 tensors, and not as many"),
        (lambda c: c["layouts"][0][0][2].append(-4), "greater than or equal to 0"),
        (lambda c: c.pop("quantised"), "quantised"),
    ],
)
def test_a_text_that_stands_for_none_is_refused(change: object, told: str) -> None:
    form = json.loads(TEXT)
    change(form["content"])  # type: ignore[operator]
    with pytest.raises(CodecError, match=told):
        base_from_text(json.dumps(form))


def test_a_large_model_is_told_in_few_bytes() -> None:
    """Seven billion parameters in 32 blocks: layouts are said once."""
    names = build_empty(LlamaConfig(num_hidden_layers=32)).state_dict()
    tensors = {
        name: TensorDigest(shape=tuple(one.shape), dtype="BF16", digest="01234567")
        for name, one in names.items()
    }
    assert len(tensors) == 291
    assert len(base_to_text(BaseDigest(tensors=tensors))) < 6000
