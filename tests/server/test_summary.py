"""What the log says of a run before it begins."""

from hsplit_flower.devices.source import ReportedDevices
from hsplit_flower.methods import FED_LORA, HSPLIT_LORA, Method
from hsplit_flower.reports.noise_text import noise_text
from hsplit_flower.server.summary import summary_lines
from hsplit_flower.settings import Link, RunSettings, Training
from hsplit_flower.splitting import read_architecture
from tests.families import FAMILIES

NOISED = RunSettings(
    link=Link(hidden_clip_norm=14.0, hidden_noise=0.5), training=Training(sequence_length=64)
)


def privacy(method: Method = HSPLIT_LORA, settings: RunSettings = NOISED) -> list[str]:
    architecture = read_architecture(FAMILIES["llama"].config())
    lines = summary_lines(method, settings, architecture, ReportedDevices())
    return [line for line in lines if line.startswith("Privacy: ")]


def test_it_says_what_noise_is_worth() -> None:
    (line,) = privacy()
    assert "ε = 24.4 for one token's hidden state, sent once; ε = 649 for a text of 64" in line
    assert line == f"Privacy: {noise_text(NOISED.shown())}"


def test_it_says_nothing_of_noise_where_there_is_none() -> None:
    assert not privacy(settings=RunSettings())
    assert not privacy(FED_LORA), "whose clients send no hidden states"
