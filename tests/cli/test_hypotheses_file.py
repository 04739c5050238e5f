"""The file of texts: what is in it comes back, whatever the process died of."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsplit_flower.cli.hypotheses_file import HypothesesFile
from hsplit_flower.errors import ConfigError

SETTINGS = {"beam": 2, "prompt": "plain"}
TEXTS = {"name[A]": "A is an inn.\u2028Café\n", "name[B]": "", "name[C]": "C"}


@settings(deadline=None)
@given(kept=st.integers(min_value=0, max_value=400))
def test_what_is_cut_off_anywhere_goes_on(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    path = tmp_path_factory.mktemp("texts") / "hypotheses.jsonl"
    HypothesesFile(path, SETTINGS).add(TEXTS)
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    again = HypothesesFile(path, SETTINGS)
    there = {text for text in TEXTS if text in again}
    assert len(there) == max(0, whole[:kept].count(b"\n") - 1)
    again.add({text: own for text, own in TEXTS.items() if text not in there})
    assert path.read_bytes() == whole
    assert {text: HypothesesFile(path, SETTINGS)[text] for text in TEXTS} == TEXTS


def test_every_setting_that_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "hypotheses.jsonl"
    HypothesesFile(path, SETTINGS).add(TEXTS)
    with pytest.raises(ConfigError) as caught:
        HypothesesFile(path, {"beam": 10, "split": "dev"})
    for words in ("beam was 2 and is 10 now", "split was None", "prompt was 'plain' and is None"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"a thesis",
        b"\xff\xfe",
        b'{"settings": 3}\n',
        b'{"settings": {"beam": 2, "prompt": "plain"}}\nno text\n',
        b'{"settings": {"beam": 2, "prompt": "plain"}}\n{"input": "a"}\n',
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hypotheses.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is no file of texts of hsplit evaluate.*another --out"):
        HypothesesFile(path, SETTINGS)
    assert path.read_bytes() == content
