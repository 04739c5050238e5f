"""What noise is worth is said with the figures of `docs/privacy.md`, and only where it is so."""

import math
import re
from typing import Any

import pytest

from hsplit_flower.metrics import USUAL_DELTA, gaussian_delta
from hsplit_flower.reports import ClientEvaluationLine, Run, TrainingLine, summary
from hsplit_flower.reports.client_records import EvaluatedClient, PersonalisedClient, TrainedClient
from hsplit_flower.reports.metrics import PersonalisationLine
from hsplit_flower.reports.noise_text import OTHERS, TOGETHER, noise_text, run_noise_text

HIDDEN = {"hidden-clip-norm": 14.0, "hidden-noise": 0.5}
GRADIENTS = {"gradient-clip-norm": 0.004, "gradient-noise": 1.0}


def config(labels: str = "server", address: str = "", **link: Any) -> dict[str, Any]:
    return {
        "training": {"labels": labels, "sequence-length": 64},
        "link": {key.replace("_", "-"): value for key, value in link.items()},
        "worker": {"address": address},
    }


def epsilons(text: str) -> list[float]:
    """The figures that are said, in their order."""
    return [
        float(found.replace(",", "")) for found in re.findall(r"ε = (?:at least )?([\d,.]+)", text)
    ]


@pytest.mark.parametrize(
    ("noise", "token", "text"),
    [
        (0.05, "971", "52,565"),
        (0.2, "92.7", "3,542"),
        (0.5, "24.4", "649"),
        (4.0, "2.00", "24.4"),
        (50.0, "0.126", "1.22"),
    ],
)
def test_the_figures_are_those_of_the_page_rounded_up(noise: float, token: str, text: str) -> None:
    assert noise_text(config(**{**HIDDEN, "hidden-noise": noise})).startswith(
        f"Noise, at δ = 1e-05 against the split worker: ε = {token} for one token's hidden state, "
        f"sent once; ε = {text} for a text of 64 tokens, sent once."
    )


def test_hidden_states_and_gradients_of_a_text_are_worth_what_both_are_together() -> None:
    told = noise_text(config("client", **HIDDEN, **GRADIENTS))
    hidden, gradient, text = epsilons(told)
    assert (hidden, gradient) == (24.4, 10.0)
    mu = math.sqrt(64 * ((2 / 0.5) ** 2 + (2 / 1.0) ** 2))
    assert gaussian_delta(text - 1, mu) > USUAL_DELTA >= gaussian_delta(text, mu)


def test_it_says_against_whom() -> None:
    alone = noise_text(config(address="10.0.0.1:443", **HIDDEN))
    assert alone.endswith(OTHERS) and noise_text(config(**HIDDEN)) == alone + TOGETHER


def test_where_no_bound_exists_it_says_so() -> None:
    bare = noise_text(config("client", **HIDDEN))
    assert "ε = 24.4 for one token's hidden state, sent once" in bare
    assert "no guarantee for one token's gradient, sent once: sent without noise" in bare
    assert "no guarantee for a text of 64 tokens, sent once: gradients are sent without" in bare
    unclipped = noise_text(config(**{**HIDDEN, "hidden-clip-norm": 0.0}))
    assert unclipped.startswith("No guarantee follows from the noise: no guarantee for one token's")
    assert "hidden states are not clipped" in unclipped and "ε" not in unclipped
    known = noise_text(config(**HIDDEN, noise_seed=0))
    assert known.startswith("No guarantee follows from the noise: link.noise-seed is set")
    assert "ε" not in known


def test_of_no_noise_nothing_is_said() -> None:
    assert noise_text({}) == ""
    assert noise_text(config(hidden_clip_norm=14.0)) == ""
    # With labels on the server no gradient is sent that could have any.
    assert noise_text(config(**GRADIENTS)) == ""


def run_of(*lines: Any, labels: str = "server", noise: float = 50.0) -> Run:
    settings = config(labels, hidden_clip_norm=14.0, hidden_noise=noise, **GRADIENTS)
    return Run(name="a run", config=settings, lines=lines)


def trained(**tokens: int | None) -> TrainingLine:
    clients = {
        name.replace("_", "|"): TrainedClient(cut=2, worker_up_bytes=9, num_batch_tokens=count)
        for name, count in tokens.items()
    }
    return TrainingLine(server_round=1, completed=True, clients=clients)


def evaluated(**tokens: int) -> ClientEvaluationLine:
    clients = {
        name: EvaluatedClient(cut=2, worker_up_bytes=9, num_batch_tokens=count)
        for name, count in tokens.items()
    }
    return ClientEvaluationLine(server_round=1, clients=clients)


def test_a_run_is_worth_all_that_the_client_sent_that_sent_most() -> None:
    told = run_noise_text(run_of(trained(a=1000, b=100), evaluated(a=280, b=200)))
    # As many vectors as those of 64 tokens sent 20 times: the page has 6.7 for them.
    assert epsilons(told)[-1] == 6.67
    assert "for all that a sent in the run, the most of any client (1,280 tokens)." in told


def test_only_training_sends_gradients() -> None:
    run = run_of(trained(a=1000), evaluated(a=280), labels="client", noise=0.5)
    *_, of_all = epsilons(run_noise_text(run))
    mu = math.sqrt(1280 * (2 / 0.5) ** 2 + 1000 * (2 / 1.0) ** 2)
    assert gaussian_delta(of_all - 1, mu) > USUAL_DELTA >= gaussian_delta(of_all, mu)


def test_what_nobody_counted_makes_it_a_figure_at_least() -> None:
    whole = trained(a=1000, b=100)
    own = PersonalisationLine(server_round=1, clients={"a": PersonalisedClient(num_steps=3)})
    for lines in (
        [trained(a=1000, b=None)],
        [whole.model_copy(update={"moved": ("b",)})],
        [whole, own],
    ):
        assert "; ε = at least 5.76 for all that a sent" in run_noise_text(run_of(*lines))
    assert "at least" not in run_noise_text(run_of(whole))


def test_the_summary_has_it_with_names_as_they_are() -> None:
    run = run_of(trained(a_b=1000))
    assert "for all that a\\|b sent in the run" in summary(run)
    assert summary(run).count("at δ = 1e-05") == 1


def test_where_nothing_was_sent_to_a_worker_nothing_is_said() -> None:
    whole = TrainedClient(cut=2, num_batch_tokens=1000)
    line = TrainingLine(server_round=1, completed=True, clients={"a": whole})
    assert run_noise_text(run_of(line)) == run_noise_text(run_of()) == ""
    assert "δ" not in summary(run_of(line))
