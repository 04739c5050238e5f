"""What is said of a round: who finished, who did not and why, once."""

from hsplit_flower.reports.client_records import LeftOut, TrainedClient
from hsplit_flower.reports.metrics import TrainingLine
from hsplit_flower.server.round_log import RoundLog, doubts

FINISHED = TrainedClient(cut=2, least_rank=1, largest_rank=4, loss=1.5, num_examples=7, seconds=1.0)
FINISHED = FINISHED.model_copy(update={"counted_examples": 7})


def line(number: int = 1, *, completed: bool = True, **clients: TrainedClient) -> TrainingLine:
    return TrainingLine(
        server_round=number,
        completed=completed,
        clients={"clinic": FINISHED, **clients},
        left_out={"home": LeftOut(kind="refused", reason="told when it was asked")},
    )


def test_who_is_left_out_is_told_once_and_again_when_there_is_another_reason(
    flower_log: list[str],
) -> None:
    log = RoundLog()
    late = TrainedClient(cut=1, dropped="it did not answer in time")
    log.trained(line(1, bank=late), least=1)
    assert [text.strip() for text in flower_log[2:]] == [
        "client bank is left out: it did not answer in time",
    ]
    flower_log.clear()
    log.trained(line(2, bank=late), least=1)
    assert len(flower_log) == 2, "the table alone"
    log.trained(line(3), least=1)
    flower_log.clear()
    log.trained(line(4, bank=TrainedClient(cut=1, dropped="no power")), least=1)
    assert [text.strip() for text in flower_log[2:]] == ["client bank is left out: no power"]


def test_a_round_that_does_not_count_says_how_many_are_wanted(
    flower_log: list[str],
) -> None:
    RoundLog().trained(line(5, completed=False), least=2)
    assert flower_log[-1].strip() == (
        "round 5 does not count: 1 clients finished, 2 are wanted; the global adapter stays as it "
        "is"
    )


def test_of_whom_less_is_used_than_it_asks_for() -> None:
    shortened = FINISHED.model_copy(
        update={
            "selected": False,
            "num_shortened": 2,
            "least_kept": 0.25,
            "longest_change": "h.3.c_attn",
            "times_the_median": 8.0,
            "counted_examples": 3,
        }
    )
    assert doubts(line(1, liar=shortened)) == {
        "liar": "is not selected; is SHORTENED in 2 weights, to 0.25 of what they are and more: "
        "its change of h.3.c_attn is 8 times the median; counts as 3 of the 7 examples it claims"
    }
