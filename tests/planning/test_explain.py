"""What is said of a plan is true."""

from hsplit_flower.planning import explain, plan
from hsplit_flower.sizes import size_text
from hsplit_flower.types import Plan
from tests.planning.planned import ROOM, costs_of, device


def test_explain_names_everyone() -> None:
    costs = costs_of("llama")
    profiles = {0: device(ROOM), 4: device(1234.0)}
    made = plan(costs, profiles, device(ROOM))
    text = explain(made, profiles)
    lacking = made.left_out[4].lacking_bytes
    assert "client 4 is left out" in text
    assert f"it has 1.234 kB and lacks {size_text(lacking)}" in text
    assert any(line.split()[:1] == ["0"] and "16-16" in line for line in text.splitlines())
    assert "no client takes part" in explain(Plan(clients={}))
