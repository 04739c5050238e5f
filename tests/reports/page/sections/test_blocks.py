"""Names of weights say where they are, in every family."""

from hsplit_flower.reports.page.sections.blocks import grid_of, place_of, short_names


def test_a_weight_has_its_block_and_its_name_there() -> None:
    assert place_of("model.layers.3.self_attn.q_proj") == (3, "self_attn.q_proj")
    assert place_of("transformer.h.11.attn.c_attn") == (11, "attn.c_attn")
    assert place_of("lm_head") is None


def test_short_names_are_told_apart() -> None:
    kinds = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert list(short_names(kinds).values()) == ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]
    assert short_names(["proj", "a.proj"]) == {"proj": "proj", "a.proj": "a.proj"}


def test_a_grid_has_every_weight_once() -> None:
    scores = {"h.0.a": 1.0, "h.1.a": 2.0, "h.1.b": 3.0, "head": 4.0}
    blocks, kinds, by_place = grid_of(scores)
    assert (blocks, kinds) == ([0, 1], ["a", "b"])
    assert by_place == {(0, "a"): 1.0, (1, "a"): 2.0, (1, "b"): 3.0}
