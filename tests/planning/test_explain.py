"""What is said of a plan is true."""

from hsplit_flower.planning import plan
from hsplit_flower.planning.explain import left_out_text
from hsplit_flower.sizes import size_text
from tests.planning.planned import ROOM, costs_of, device


def test_who_is_left_out_is_told_what_is_lacking() -> None:
    made = plan(costs_of("llama"), {0: device(ROOM), 4: device(1234.0)}, device(ROOM))
    (shortfall,) = made.left_out.values()
    text = left_out_text("clinic-a", shortfall)
    assert "client clinic-a is left out" in text
    assert f"it has 1.234 kB and lacks {size_text(shortfall.lacking_bytes)}" in text
