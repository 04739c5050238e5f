"""Perplexity by round and by the time that passed until then."""

from hsplit_flower.reports.page.sections.quality import _by_time, quality
from tests.reports.page.runs import run_of, void_run


def test_time_is_that_of_all_rounds_before() -> None:
    points = _by_time(run_of(num_rounds=3), True)
    assert points == ((0.0, 48.0), (3.25, 24.0), (6.5, 12.0), (9.75, 6.0))


def test_a_simulation_has_both_and_a_deployment_measured_time() -> None:
    titles = [figure.title for figure in quality([run_of()]).figures]
    assert titles == ["Perplexity by round", "Perplexity by simulated time"]
    titles = [figure.title for figure in quality([run_of(is_simulated=False)]).figures]
    assert titles == ["Perplexity by round", "Perplexity by measured time"]


def test_what_was_not_measured_is_told() -> None:
    section = quality([void_run()])
    assert section.figures == ()
    assert "was not measured" in section.answer


def test_a_round_that_was_better_than_the_last_is_told() -> None:
    run = run_of(num_rounds=3)
    worse = run.lines[-2].model_copy(update={"perplexity": 20.0})
    assert worse.kind == "server-evaluation"
    spoilt = type(run)(name=run.name, config=run.config, lines=(*run.lines[:-2], worse))
    assert "Its lowest was 12.00, after round 2." in quality([spoilt]).answer
