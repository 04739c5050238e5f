"""BLEU, NIST, METEOR, ROUGE-L and CIDEr of what the study's models write.

Each method's trial on llama-tiny, with room and on unequal devices, is trained once more at the
method's best rate and first seed, and its last model writes for E2E's test split. Scores are
written down in ``docs/study/scores.jsonl`` method by method, and a run goes on from there; whoever
changes what is trained or how texts are sought removes the file first. Needs Java.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.harness import Benchmark, Detail, Figure, Settings
from benchmarks.study.arms import ROWS
from benchmarks.study.benchmark import all_studies, in_this_process, quick_studies
from benchmarks.study.curves import curve_of
from benchmarks.study.results import TRIALS
from benchmarks.study.scores import SCORES, scored_settings, scores_of
from benchmarks.trial import Trials
from hsplit_flower.metrics import check_metrics

UNITS = {"bleu": "1", "nist": "bits", "meteor": "1", "rouge_l": "1", "cider": "1"}
QUICK_INPUTS = 8


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Score what is missing, and tell all scores."""
    check_metrics()
    if settings.quick:
        (study,) = quick_studies(settings)
        scored = scored_settings(study, in_this_process())
        curves = {one: scores_of(one, QUICK_INPUTS) for one in scored.values()}
    else:
        study = all_studies(settings.seeds)[0]
        scored = scored_settings(study, Trials(TRIALS, curve_of).kept)
        curves = Trials(SCORES, scores_of).run(scored.values())
    rows = {name: curves[setting][-1] for name, setting in scored.items()}
    for name, row in rows.items():
        yield from _figures(ROWS[name].title, row)
    yield Detail(name="scores", value=rows)


def _figures(title: str, row: Mapping[str, Any]) -> Iterator[Figure]:
    for name, unit in UNITS.items():
        yield Figure(name=f"{title}: {name}", value=row[name], unit=unit)


BENCHMARK = Benchmark(
    name="study-scores",
    summary="BLEU, NIST, METEOR, ROUGE-L and CIDEr of what each method's model writes.",
    measure=measure,
    seeds=(0,),
)
