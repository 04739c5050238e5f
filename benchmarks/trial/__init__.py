"""Federated LoRA on one whole model in one process: what a method does to quality, quickly.

The split is transparent (``tests/client/test_transparency.py``), so leaving it out changes no
gradient; what is left runs many settings in the time of one simulation.
"""

from benchmarks.trial.federation import Examples as Examples
from benchmarks.trial.federation import base_model as base_model
from benchmarks.trial.federation import centralised as centralised
from benchmarks.trial.federation import encoded as encoded
from benchmarks.trial.federation import examples_of as examples_of
from benchmarks.trial.federation import federated as federated
from benchmarks.trial.federation import perplexity as perplexity
from benchmarks.trial.federation import thinned as thinned
from benchmarks.trial.kept import as_kept as as_kept
from benchmarks.trial.kept import key_of as key_of
from benchmarks.trial.setting import Setting as Setting
from benchmarks.trial.trials import Curve as Curve
from benchmarks.trial.trials import Trials as Trials
