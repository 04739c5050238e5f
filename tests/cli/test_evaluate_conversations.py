"""``hsplit evaluate`` on conversations: perplexity of what is held out, masked as in training."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hsplit_flower.adapters import LowRank, export_adapter, import_adapter
from hsplit_flower.cli import main
from hsplit_flower.data import batches
from hsplit_flower.data.chat import encode_conversations, held_out_split, load_conversations
from hsplit_flower.server import ServerEvaluation
from hsplit_flower.types import IGNORED_LABEL
from tests.cli.evaluating import report, write_adapter
from tests.server.past_runs import write_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT asks for it
)
ASKED, ANSWER = "Where is the mill?", "It is at the river, beside the house."
KINDS: dict[str, dict[str, Any]] = {
    "messages": {
        "messages": [
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": ANSWER},
        ]
    },
    "prompt": {"prompt": ASKED, "completion": ANSWER},
    "instruction": {"instruction": ASKED, "output": ANSWER},
    "text": {"text": f"User: {ASKED}\nAssistant: {ANSWER}"},
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("learnt") / "adapter")


def file_of(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(adapter: Path, dataset: object, *more: object) -> list[str]:
    given = ("--adapter", adapter, "--dataset", dataset, "--device", "cpu", *more)
    return ["evaluate", *map(str, given)]


def measured(capsys: pytest.CaptureFixture[str], *given: Any) -> str:
    assert main(command(*given)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *given: Any) -> str:
    assert main(command(*given)) == 1
    output = capsys.readouterr()
    assert not output.out
    return output.err


def perplexity(adapter: Path, examples: Any) -> float:
    """As the app's server computes it."""
    app = ServerEvaluation("llama-tiny", partial(batches, examples, 4, pad_id=0), device="cpu")
    return app.evaluate(import_adapter(adapter)).perplexity


def test_what_is_held_out_is_measured_and_told(
    adapter: Path, llama_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a table, and in a file that says of what it is."""
    more = ("--held-out-share", 0.02, "--sequence-length", 150, "--out", tmp_path)
    told = measured(capsys, adapter, "help-desk", *more)
    rows = load_conversations("help-desk")
    held_out = held_out_split(rows, 0.02)[1]
    encoded = encode_conversations(
        held_out, AutoTokenizer.from_pretrained(llama_tiny), max_length=150
    )
    found = report(tmp_path)
    assert found["perplexity"] == pytest.approx(perplexity(adapter, encoded.examples), rel=1e-4)
    assert found["num-tokens"] == encoded.counts.num_learnt_tokens
    assert (found["num-rows"], found["num-chosen"]) == (len(rows), len(held_out))
    assert 0 < found["num-measured"] == len(encoded.examples) < len(held_out)
    assert found["settings"]["learn"] == "answers" and found["metrics"] is None
    header, _, figures = told.splitlines()[:3]
    assert header.split() == ["perplexity", "nats", "a", "token", "tokens", "rows"]
    assert figures.split()[0] == f"{found['perplexity']:.4f}"
    assert f"held-out: {len(held_out)} rows, of about 0.02 of all {len(rows)}, which" in told
    assert f"too long: {found['num-long']} rows with more than 150 tokens, left out" in told
    assert "BLEU, NIST, METEOR, ROUGE-L and CIDEr are not computed" in told


def test_answers_are_measured_alike_in_whatever_columns_they_are(
    adapter: Path, llama_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And as whoever masks the words before the answer by hand; of a text all is measured."""
    found = {}
    for kind, row in KINDS.items():
        file = file_of(tmp_path / f"{kind}.jsonl", row)
        measured(capsys, adapter, file, "--split", "all", "--out", tmp_path / kind)
        found[kind] = report(tmp_path / kind)
    (whole,) = encode_conversations(
        load_conversations(str(tmp_path / "text.jsonl")),
        AutoTokenizer.from_pretrained(llama_tiny),
        max_length=100,
    ).examples
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    before = len(tokenizer(KINDS["text"]["text"].removesuffix(ANSWER).rstrip())["input_ids"])
    masked = type(whole)(
        input_ids=whole.input_ids,
        labels=(*(IGNORED_LABEL,) * before, *whole.labels[before:]),
    )
    by_hand = perplexity(adapter, [masked])
    for kind in ("messages", "prompt", "instruction"):
        assert found[kind]["perplexity"] == pytest.approx(by_hand, rel=1e-4)
        assert found[kind]["num-tokens"] == len(whole) - before < found["text"]["num-tokens"]
    assert found["text"]["perplexity"] == pytest.approx(perplexity(adapter, [whole]), rel=1e-4)


def test_rows_are_read_as_the_adapter_s_run_read_them_unless_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", base="llama-tiny")
    write_adapter(run / "adapter")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["chat"] = {"learn": "everything", "columns": ["prompt=q", "completion=a"]}
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    file = file_of(tmp_path / "own.jsonl", {"q": ASKED, "a": ANSWER}, {"q": ANSWER, "a": ASKED})
    assert f"report: {run / 'evaluation-held-out'}" in measured(capsys, run, file)
    found = report(run / "evaluation-held-out")
    assert found["num-chosen"] == 1, "one of two is held out"
    assert found["settings"]["sequence-length"] == 160
    assert found["settings"]["learn"] == "everything"
    everything = found["num-tokens"]
    measured(capsys, run, file, "--learn", "answers")
    assert 0 < report(run / "evaluation-held-out")["num-tokens"] < everything


@pytest.mark.long
def test_a_client_s_own_adapter_is_measured_on_top(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = import_adapter(adapter)
    own: dict[str, LowRank] = {
        name: one.scale(-3.0) for name, one in updates.items() if name.split(".")[2] in "01"
    }
    both = {name: one + own[name] if name in own else one for name, one in updates.items()}
    for folder, content in (("own", own), ("both", both)):
        export_adapter(content, tmp_path / folder, base_model="llama-tiny", is_transposed=False)
    file = file_of(tmp_path / "rows.jsonl", KINDS["prompt"])
    found = []
    for at, (global_one, *more) in enumerate(
        [(adapter,), (adapter, "--personal-adapter", tmp_path / "own"), (tmp_path / "both",)]
    ):
        out = tmp_path / str(at)
        measured(capsys, global_one, file, "--split", "all", "--out", out, *more)
        found.append(report(out))
    alone, on_top, composed = (one["perplexity"] for one in found)
    assert on_top == pytest.approx(composed, rel=1e-5)
    assert on_top != pytest.approx(alone, rel=1e-3)
    assert found[0]["settings"]["adapter"] != found[1]["settings"]["adapter"]


@pytest.mark.parametrize(
    ("dataset", "more", "says"),
    [
        ("help-desk", ("--split", "test"), "--split is 'test': held-out or all is wanted"),
        ("help-desk", ("--prompt", "plain"), "--prompt is 'plain': conversations are written in"),
        ("help-desk", ("--beam", 3), "none is written for conversations: leave them out"),
        ("help-desk", ("--sequence-length", 500), "the base has 256 positions"),
        ("help-desk", ("--held-out-share", 1), "--held-out-share is 1.0: a number between 0"),
        ("gone.jsonl", (), "gone.jsonl cannot be read"),
        ("restaurants", ("--learn", "answers"), "'restaurants' holds inputs with references"),
        ("restaurants", ("--split", "all"), "'restaurants' holds inputs with references"),
    ],
)
def test_what_does_not_go_together_is_said_and_nothing_is_written(
    dataset: str,
    more: tuple[object, ...],
    says: str,
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert says in refused(capsys, adapter, dataset, "--out", tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()
