"""``hsplit plan``: what it prints, from a configuration alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsplit_flower.cli import main
from hsplit_flower.planning import Bottleneck
from hsplit_flower.types import Labels

# The public configuration of LLaMA-2-7B.
LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


@pytest.fixture
def llama_2_7b(tmp_path: Path) -> Path:
    folder = tmp_path / "llama-2-7b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_2_7B), encoding="utf-8")
    return folder


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "--json", *arguments]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_llama_2_7b_from_its_configuration_alone(
    llama_2_7b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("--dtype", "bfloat16", "--batch", "8", "--seq", "256")
    report = planned(capsys, "--model", str(llama_2_7b), "--fleet", "paper-llama2-7b", *settings)
    assert [file.name for file in llama_2_7b.iterdir()] == ["config.json"]
    assert len(report["clients"]) + len(report["left_out"]) == 5
    for client in report["clients"]:
        assert client["memory_bytes"] <= client["budget_bytes"]
        assert client["memory_bytes"] == pytest.approx(sum(client["memory"].values()))
        # Embeddings and blocks, two bytes a number.
        blocks = client["cut"] * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096)
        assert client["memory"]["weights_bytes"] == 2 * (32000 * 4096 + blocks)
        assert len(client["ranks"]) == 224
        seconds = client["seconds"]
        assert seconds["compute_seconds"] + seconds["link_seconds"] + seconds[
            "waiting_seconds"
        ] == pytest.approx(report["step_seconds"])
        assert client["wire_bytes"] == report["wire_up_bytes"] + report["wire_down_bytes"]
    assert report["bottleneck"] in [kind.value for kind in Bottleneck]
    assert report["worker"]["memory_bytes"] is None
    assert report["worker"]["needed_bytes"] > 12e9


def test_devices_of_little_memory_have_a_part_of_a_base_in_four_bits(
    llama_2_7b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = ("--model", str(llama_2_7b), "--fleet", "6GB,8GB,12GB", "--batch", "8", "--seq", "128")
    report = planned(capsys, *fleet, "--dtype", "nf4")
    assert not report["left_out"]
    assert len(report["clients"]) == 3
    for client in report["clients"]:
        assert client["memory_bytes"] <= client["budget_bytes"]
        blocks = client["cut"] * (4 * 4096**2 + 3 * 4096 * 11008)
        # Half a byte a number and its share of scales; the embedding stays in 16 bits.
        assert client["memory"]["weights_bytes"] == pytest.approx(
            2 * 32000 * 4096 + 0.516 * blocks, rel=1e-3
        )


def test_a_model_that_others_have_quantised_is_refused_by_name(
    llama_2_7b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantised = {**LLAMA_2_7B, "quantization_config": {"quant_method": "awq", "bits": 4}}
    (llama_2_7b / "config.json").write_text(json.dumps(quantised), encoding="utf-8")
    assert main(["plan", "--model", str(llama_2_7b)]) == 1
    assert "is quantised by awq, which cannot be split" in capsys.readouterr().err


def test_bytes_are_whole_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    report = planned(capsys, "--model", "llama-tiny", "--batch", "2", "--fleet", "0.37,1MB")

    def check(value: Any, name: str) -> int:
        if isinstance(value, dict):
            return sum(check(item, key) for key, item in value.items())
        if isinstance(value, list):
            return sum(check(item, name) for item in value)
        is_size = name.endswith("_bytes") and value is not None
        assert not is_size or isinstance(value, int), f"{name} is {value!r}"
        return int(is_size)

    assert check(report, "") > 20


def test_tables_name_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["plan", "--model", "llama-tiny", "--batch", "2", "--fleet", "1MB,600MB,0.9"])
    assert status == 0
    text = capsys.readouterr().out
    assert "client 0 is left out" in text
    assert "lacks" in text
    for column in ("budget", "its time", "worker's", "wire", "frozen factors", "waits"):
        assert column in text and f"{column}: " in text, "its meaning is said below"
    assert "the step of all is held up by: " in text
    rows = [line.split()[0] for line in text.splitlines() if line.split()]
    assert rows.count("1") == rows.count("2") == 4


def test_a_worker_that_is_short_has_its_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", "llama-tiny", "--batch", "2", "--fleet", "600MB,1GB")
    assert main(["plan", *arguments, "--worker-memory-gb", "0.001"]) == 1
    output = capsys.readouterr()
    assert "the split worker has 1 MB and needs" in output.err
    assert "planned as if the worker had room" in output.out
    assert "predicted memory" in output.out
    assert main(["plan", "--json", *arguments, "--worker-memory-gb", "0.001"]) == 1
    worker = json.loads(capsys.readouterr().out)["worker"]
    assert worker["needed_bytes"] > worker["memory_bytes"] == 1_000_000
    assert "it lacks" in worker["lacks"]


def test_the_run_ends_with_a_larger_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--model", "llama-tiny", "--batch", "2", "--fleet", "600MB,1GB", "--steps", "5")
    report = planned(capsys, *common, "--rounds", "4")
    run = report["run"]
    first, last = run["first_round"], run["last_round"]
    assert (run["num_rounds"], run["num_steps"]) == (4, 5)
    assert run["seconds"] == pytest.approx(first["seconds"] + 3 * last["seconds"])
    assert run["total_bytes"] == first["total_bytes"] + 3 * last["total_bytes"]
    for early, late in zip(first["clients"], last["clients"], strict=True):
        assert early["worker_up_bytes"] == late["worker_up_bytes"] == 5 * report["wire_up_bytes"]
        assert early["flower_down_bytes"] == 0 < late["flower_down_bytes"]
        assert early["memory_bytes"] < late["memory_bytes"]
    # Of a bound, two bytes a number.
    weights = late["cut"] * (4 * 2 * 128 + 3 * (128 + 352))
    assert late["flower_down_bytes"] == 2 * 32 * weights
    once = planned(capsys, *common, "--rounds", "1")["run"]
    assert once["last_round"] == once["first_round"] == first
    unbounded = planned(capsys, *common, "--rounds", "4", "--mean-rank", "0")["run"]
    assert unbounded["last_round"]["clients"][0]["flower_down_bytes"] > 2 * 32 * weights


def test_what_would_help_is_told_with_its_gain(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Those that are not described are as fast as their shares of the model, which a change moves.
    fleet = tmp_path / "fleet.toml"
    fleet.write_text("[[device]]\nmemory-gb=0.04\nflops=1e9\ncount=2\n", encoding="utf-8")
    common = ("--model", "llama-tiny", "--batch", "8", "--seq", "64", "--fleet", str(fleet))
    report = planned(capsys, *common)
    now, gains = report["run"]["last_round"], {each["change"]: each for each in report["gains"]}
    assert set(gains) == {
        "--wire-type int8",
        "--dtype bfloat16",
        "--batch 4, 2 x steps",
        "--micro-batch-size 2",
        "--worker-checkpointing",
    }
    for change, options in (
        ("--wire-type int8", ("--wire-type", "int8")),
        ("--dtype bfloat16", ("--dtype", "bfloat16")),
        ("--batch 4, 2 x steps", ("--batch", "4", "--steps", "20")),
        ("--micro-batch-size 2", ("--micro-batch-size", "2")),
        ("--worker-checkpointing", ("--worker-checkpointing",)),
    ):
        other = planned(capsys, *common, *options)
        then, gain = other["run"]["last_round"], gains[change]
        assert gain["round_seconds"] == then["seconds"], "what is promised is what there is"
        assert gain["round_total_bytes"] == then["total_bytes"]
        assert gain["worker_needed_bytes"] == then["worker_needed_bytes"]
        assert change not in {each["change"] for each in other["gains"]}
    assert gains["--wire-type int8"]["round_total_bytes"] < 0.5 * now["total_bytes"]
    assert gains["--micro-batch-size 2"]["round_seconds"] < now["seconds"]
    assert gains["--worker-checkpointing"]["worker_needed_bytes"] < now["worker_needed_bytes"]


def test_the_dtype_is_the_configs_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config = {**LLAMA_2_7B, **small, "num_attention_heads": 2, "num_key_value_heads": 2}
    common = ("--model", str(tmp_path), "--fleet", "1GB,2GB", "--batch", "1", "--seq", "16")
    for said, wanted in (("bfloat16", "bfloat16"), ("float16", "float16"), (None, "float32")):
        text = json.dumps({**config, "torch_dtype": said})
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        assert planned(capsys, *common)["dtype"] == wanted
    assert planned(capsys, *common, "--dtype", "bfloat16")["dtype"] == "bfloat16"


@pytest.mark.parametrize("labels", ["server", "client"])
@pytest.mark.long
def test_the_tables_of_a_large_model_fit_a_terminal(
    labels: str, llama_2_7b: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--dtype", "bfloat16", "--fleet", "jetson-and-laptops", "--labels", labels)
    assert main(["plan", "--model", str(llama_2_7b), *arguments]) == 0
    # What stands outside the tables has a path in it, as long as it is.
    lines = [line for line in capsys.readouterr().out.splitlines() if str(llama_2_7b) not in line]
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text and "\x1b" not in text and " GB" in text and " MB" in text
    assert text.count("Jetson AGX Orin 64GB") == 1


def test_a_pipe_cuts_no_name_off(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "a tablet in the ward at the end of the corridor on the second floor " * 3
    file = tmp_path / "ward.toml"
    file.write_text(f"[[device]]\nname='{name}'\nmemory-gb=0.5\nflops=1e9\n", encoding="utf-8")
    assert main(["plan", "--model", "llama-tiny", "--fleet", str(file), "--batch", "2"]) == 0
    assert name.strip() in capsys.readouterr().out


def test_options_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--model", "llama-tiny", "--fleet", "homogeneous", "--batch", "2", "--seq", "64")
    report = planned(capsys, *common, "--clients", "3", "--labels", "client", "--max-rank", "4")
    assert report["labels"] == Labels.CLIENT.value
    assert len(report["clients"]) == 3
    assert max(max(client["ranks"].values()) for client in report["clients"]) == 4
    assert all(client["memory"]["head_bytes"] > 0 for client in report["clients"])
    other = planned(capsys, *common, "--worker-session-rank", "0")
    assert other["wire_down_bytes"] == 2 * 64 * 128 * 4
    half = planned(capsys, *common, "--dtype", "bfloat16")
    assert half["wire_down_bytes"] == 2 * 64 * 128 * 2
    # A byte a number, and a scale of four bytes a token.
    rounded = planned(capsys, *common, "--wire-type", "int8")
    assert rounded["wire_down_bytes"] == 2 * 64 * (128 + 4)
    slow = planned(capsys, *common, "--worker-session-rank", "1", "--min-cut", "2")
    assert min(client["cut"] for client in slow["clients"]) >= 2
    assert slow["worker"]["memory"]["adapters_bytes"] < other["worker"]["memory"]["adapters_bytes"]


def test_a_fleet_file_names_devices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "ward.toml"
    file.write_text(
        "[[device]]\nname='tablet'\nmemory-gb=0.5\nflops=1e9\nunavailable=0.3\n"
        "[[device]]\nname='watch'\nmemory-gb=0.001\nflops=1e6\n"
        "[worker]\nflops=1e15\n",
        encoding="utf-8",
    )
    report = planned(capsys, "--model", "llama-tiny", "--fleet", str(file), "--batch", "2")
    (tablet,), (watch,) = report["clients"], report["left_out"]
    assert (tablet["device"], tablet["unavailable"]) == ("tablet", 0.3)
    assert tablet["bottleneck"] == report["bottleneck"] == Bottleneck.COMPUTE.value
    assert watch["device"] == "watch"
    assert watch["lacking_bytes"] == pytest.approx(watch["needed_bytes"] - 1e6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fleet", "1MB,2MB"], "client 0 has 1 MB, needs"),
        (["--worker-memory-gb", "nan"], "--worker-memory-gb is nan"),
        (["--seq", "100000"], "--sequence-length is 100000: the model has"),
        (["--batch", "0"], "--batch-size is 0: 1 or more is wanted"),
        (["--batch", "0", "--rank-unit", "20"], "2 problems:\n  - --batch-size is 0"),
        (["--rank-unit", "20"], "--rank-unit must be between 1 and --max-rank, got 20 and 16"),
        (["--min-cut", "0"], "--min-cut is 0: 1 or more is wanted"),
        (["--min-cut", "9"], "--min-cut is 9: cut 9 is out of range: a llama of 8 blocks"),
        (["--clients", "-3"], "--clients is -3: 0 or more is wanted"),
        (["--worker-session-rank", "-1"], "--worker-session-rank is -1: 0 or more"),
        (["--fleet", "mars"], "neither a preset"),
        (["--model", "/nowhere"], "there is no folder /nowhere"),
        (["--model", "llama-tinny"], "did you mean 'llama-tiny'?"),
    ],
)
def test_what_cannot_be_planned_is_said_and_status_one(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--model" in arguments else ["--model", "llama-tiny", *arguments]
    assert main(["plan", *given]) == 1
    output = capsys.readouterr()
    assert says in output.err
    assert not output.out
