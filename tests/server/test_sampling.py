"""Who takes part in a round."""

from hsplit_flower.server.sampling import sample


def test_nodes_that_are_away_are_never_sampled() -> None:
    for _ in range(20):
        nodes = sample(range(10), size=5, least=2, away={0, 3, 4})
        assert len(set(nodes)) == 5
        assert not set(nodes) & {0, 3, 4}


def test_as_many_as_are_there_are_sampled() -> None:
    assert sorted(sample([5, 6, 7, 8], size=4, least=2, away={6})) == [5, 7, 8]


def test_a_round_that_could_not_count_is_not_begun(flower_log: list[str]) -> None:
    assert sample([5, 6, 7], size=3, least=2, away={6, 7}) == []
    assert any("Only 1 of 3 nodes are there, 2 are wanted" in line for line in flower_log)
