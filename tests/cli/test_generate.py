"""``hsplit generate``: it writes what transformers writes, and answers line by line."""

import io
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from hsplit_flower.adapters import export_adapter, import_adapter
from hsplit_flower.cli import main
from hsplit_flower.cli.conversation import turn_ids
from hsplit_flower.cli.generate import NOTHING_WRITTEN
from hsplit_flower.client.goes_on_top import OnTopOf
from hsplit_flower.data.chat import Message
from hsplit_flower.splitting import Parts, load_half
from hsplit_flower.transport import remote_worker
from tests.cli.evaluating import write_adapter
from tests.transport.parties import issued
from tests.workers import OPERATOR_TOKEN, running_worker_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # PEFT asks for it
)
PROMPT = "The name of the place"
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("learnt") / "adapter", size=0.05)


@torch.no_grad()
def written(base: Path, ids: list[int], adapter: Path | None = None, **options: Any) -> str:
    """What transformers writes."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(5)
    rows = torch.tensor([ids])
    out = model.eval().generate(
        input_ids=rows, attention_mask=torch.ones_like(rows), max_new_tokens=12, **options
    )
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)  # type: ignore[no-any-return]


def generated(capsys: pytest.CaptureFixture[str], *more: object) -> str:
    arguments = ["generate", "--max-new-tokens", "12", "--device", "cpu", *map(str, more)]
    assert main(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        ((), {"do_sample": False}),
        (("--num-beams", 3), {"do_sample": False, "num_beams": 3}),
        (
            ("--temperature", 0.7, "--top-p", 0.9, "--top-k", 20, "--seed", 5),
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 20},
        ),
    ],
    ids=["greedy", "beams", "drawn"],
)
def test_texts_are_those_of_transformers(
    typed: tuple[object, ...],
    options: dict[str, Any],
    adapter: Path,
    llama_tiny: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = AutoTokenizer.from_pretrained(llama_tiny)(PROMPT)["input_ids"]
    text = generated(capsys, PROMPT, "--adapter", adapter, *typed)
    assert text.rstrip("\n") == written(llama_tiny, ids, adapter, **options).rstrip("\n")


def test_the_adapter_changes_what_is_written(
    adapter: Path, llama_tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = generated(capsys, PROMPT, "--model", llama_tiny)
    assert bare != generated(capsys, PROMPT, "--adapter", adapter)


def test_a_turn_is_answered_with_all_that_was_said(
    llama_tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is it?\n\nAnd now?\n"))
    shown = generated(capsys, "--chat")
    first = [Message(role="user", content="Who is it?")]
    answer = written(llama_tiny, turn_ids(tokenizer, first), do_sample=False)
    said = [*first, Message(role="assistant", content=answer.strip())]
    said.append(Message(role="user", content="And now?"))
    second = written(llama_tiny, turn_ids(tokenizer, said), do_sample=False)
    assert shown == f"{answer}\n{second}\n"


@torch.no_grad()
def test_where_nothing_is_written_it_says_what_may_be_wanted(
    llama_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a model for which the likeliest token after the prompt is the one that ends a text."""
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    ended: Any = AutoModelForCausalLM.from_pretrained(llama_tiny, dtype=torch.float32)
    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]])
    last = ended(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
    ended.config.tie_word_embeddings = False
    ended.lm_head.weight = torch.nn.Parameter(torch.zeros_like(ended.lm_head.weight))
    ended.lm_head.weight[tokenizer.eos_token_id] = last
    shutil.copytree(llama_tiny, tmp_path / "base")
    ended.save_pretrained(tmp_path / "base")
    for base, is_empty in ((llama_tiny, False), (tmp_path / "base", True)):
        capsys.readouterr()
        assert main(["generate", PROMPT, "--model", str(base), "--device", "cpu"]) == 0
        told = capsys.readouterr()
        assert (NOTHING_WRITTEN in told.err, not told.out.strip()) == (is_empty, is_empty)


def test_at_a_terminal_it_says_what_is_waited_for_and_nowhere_else(
    llama_tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (PROMPT, "--model", llama_tiny)
    generated(capsys, *asked)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["generate", *map(str, asked), "--max-new-tokens", "1"]) == 0
    assert capsys.readouterr().err == f"hsplit: loading {llama_tiny} …\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_line_that_is_no_text_is_told(
    errors: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"Caf\xe9?\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", lines)
    assert main(["generate", "--chat", "--device", "cpu"]) == 1
    assert "standard input is no UTF-8 text: convert it" in capsys.readouterr().err


@pytest.mark.long
def test_a_reader_who_has_enough_ends_it_silently(llama_tiny: Path) -> None:
    command = [sys.executable, "-m", "hsplit_flower.cli", "generate", PROMPT, "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_conversation_is_put_in_the_tokenizer_s_template(llama_tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_tiny)
    messages = [Message(role="user", content="Hello")]
    plain = tokenizer.decode(turn_ids(tokenizer, messages), skip_special_tokens=True)
    assert plain == "User: Hello\nAssistant:"
    tokenizer.chat_template = TEMPLATE
    own = tokenizer.decode(turn_ids(tokenizer, messages))
    assert own == "<user>Hello\n<assistant>"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ((), "a prompt is wanted"),
        (("Hello", "--chat"), "a prompt is wanted"),
        (("Hello", "--top-p", "0"), "--top-p is 0.0: a positive number of at most 1 is wanted"),
        (
            ("Hello", "--num-beams", "2", "--temperature", "1"),
            "--num-beams = 2 and --temperature = 1: several texts are followed, or tokens are",
        ),
        (("caf\udce9",), "the prompt is no UTF-8 text"),
        (("Hello", "--device", "tpu"), "--device is 'tpu'"),
        (("Hello", "--adapter", "nowhere"), "nowhere has no adapter_config.json"),
        (("word " * 600,), "the model has 256 positions for prompt and text"),
    ],
)
def test_what_cannot_be_written_is_said(
    typed: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", *typed]) == 1
    assert says in capsys.readouterr().err


def test_with_a_worker_the_same_is_written(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(OPERATOR_TOKEN, encoding="utf-8")
    with running_worker_of(load_half("llama-tiny", Parts.of_worker(1, 8))) as running:
        running.worker.load_update(import_adapter(adapter))
        there = ("--worker", running.address, "--token-file", token, "--cut", 2)
        for how in ((), ("--temperature", 0.7, "--seed", 5)):
            split = generated(capsys, PROMPT, "--adapter", adapter, *how, *there)
            assert split == generated(capsys, PROMPT, "--adapter", adapter, *how)
        short = ("--adapter", adapter, "--context-tokens", 2)
        assert main(["generate", PROMPT, *map(str, (*short, *there))]) == 1
        assert "tokens, and --context-tokens is 2, for prompt and text: give more" in (
            capsys.readouterr().err
        )
        assert main(["generate", PROMPT, *map(str, there)]) == 1
        assert "and this device no adapter" in capsys.readouterr().err


def test_what_keeps_it_from_a_worker_is_said_in_the_words_of_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_worker, "LOOK_SECONDS", 0.5)
    token, authority = tmp_path / "token", issued(tmp_path, "authority")
    token.write_text(OPERATOR_TOKEN, encoding="utf-8")
    with running_worker_of(load_half("llama-tiny", Parts.of_worker(7, 8))) as running:
        there = ["--worker", running.address, "--token-file", str(token)]
        assert main(["generate", PROMPT, *there, "--ssl-ca-certfile", authority.certfile]) == 1
    says = "answers without TLS, and TLS is wanted: start it with ssl-certfile and ssl-keyfile ("
    told = capsys.readouterr().err
    assert says in told and "or say --insecure where everybody on the network" in told


def test_an_adapter_of_its_own_is_on_top_whole_and_with_a_worker(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = import_adapter(adapter)
    own = {name: one.scale(-3.0) for name, one in updates.items() if block_of(name) < 2}
    both = {name: one + own[name] if name in own else one for name, one in updates.items()}
    for folder, content in (("own", own), ("both", both)):
        export_adapter(content, tmp_path / folder, base_model="llama-tiny", is_transposed=False)
    wanted = generated(capsys, PROMPT, "--adapter", tmp_path / "both")
    asked = (PROMPT, "--adapter", adapter, "--personal-adapter", tmp_path / "own")
    assert generated(capsys, *asked) == wanted != generated(capsys, *asked[:3])
    token = tmp_path / "token"
    token.write_text(OPERATOR_TOKEN, encoding="utf-8")
    with running_worker_of(load_half("llama-tiny", Parts.of_worker(1, 8))) as running:
        running.worker.load_update(updates)
        there = ("--worker", running.address, "--token-file", token, "--cut", 2)
        assert generated(capsys, *asked, *there) == wanted
    assert main(["generate", PROMPT, *map(str, asked[3:])]) == 1
    assert "and --adapter is missing" in capsys.readouterr().err


def test_an_adapter_of_its_own_on_top_of_another_is_refused_whole_and_with_a_worker(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = import_adapter(adapter)
    own = {name: one for name, one in updates.items() if block_of(name) < 2}
    others = {name: one.scale(2.0) for name, one in updates.items()}
    for folder, content in (("right", updates), ("wrong", others), ("unknown", None)):
        note = OnTopOf.of(content, own, server_round=4).notes() if content is not None else {}
        export_adapter(
            own, tmp_path / folder, base_model="llama-tiny", is_transposed=False, notes=note
        )
    token = tmp_path / "token"
    token.write_text(OPERATOR_TOKEN, encoding="utf-8")
    asked = ["generate", PROMPT, "--max-new-tokens", "1", "--device", "cpu", "--adapter", adapter]
    with running_worker_of(load_half("llama-tiny", Parts.of_worker(1, 8))) as running:
        running.worker.load_update(updates)
        there = ("--worker", running.address, "--token-file", token, "--cut", 2)
        for how in ((), there):
            for folder, status, says in (
                ("right", 0, ""),
                ("wrong", 1, "the global adapter after round 4 of its run, and the one in"),
                ("unknown", 0, "does not note which adapter it was trained on top of"),
            ):
                typed = (*asked, "--personal-adapter", tmp_path / folder, *how)
                assert main(list(map(str, typed))) == status
                told = capsys.readouterr().err
                assert says in told and (says or "on top of" not in told)


def block_of(name: str) -> int:
    return int(name.split(".")[2])
