"""Federated training on one whole model in one process: what a method does to quality, quickly.

The split is transparent (``tests/client/test_transparency.py``), so leaving it out changes no
gradient; what is left runs many settings in the time of one simulation.
"""

from benchmarks.trial.centralised import centralised as centralised
from benchmarks.trial.centralised import centralised_rounds as centralised_rounds
from benchmarks.trial.examples import Examples as Examples
from benchmarks.trial.examples import encoded as encoded
from benchmarks.trial.examples import examples_of as examples_of
from benchmarks.trial.federation import Round as Round
from benchmarks.trial.federation import federated as federated
from benchmarks.trial.federation import rounds as rounds
from benchmarks.trial.kept import as_kept as as_kept
from benchmarks.trial.kept import key_of as key_of
from benchmarks.trial.setting import Setting as Setting
from benchmarks.trial.trials import Curve as Curve
from benchmarks.trial.trials import Trials as Trials
from benchmarks.trial.whole_model import base_model as base_model
from benchmarks.trial.whole_model import perplexity as perplexity
