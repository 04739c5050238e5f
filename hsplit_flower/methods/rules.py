"""What methods differ in: each a rule, and what it may be."""

from enum import Enum


class CutRule(str, Enum):
    """Where the model is while it is trained, and how many blocks of it each client has.

    ``BY_BUDGET``: the cut that balances clients and worker within each one's memory (ARMSC).
    ``ONE_FOR_ALL``: the same for all, at most what the weakest client holds. ``WHOLE_MODEL``: each
    client has all blocks and the head; there is no worker.
    """

    BY_BUDGET = "by-budget"
    ONE_FOR_ALL = "one-for-all"
    WHOLE_MODEL = "whole-model"


class RankRule(str, Enum):
    """Which rank each weight's adapter has on each client.

    ``BY_IMPORTANCE``: what a client's bytes buy, spent where importance is (IWI and ARMSC).
    ``UNIFORM``: what its bytes buy, the same for all weights. ``ONE_FOR_ALL``: the same for all
    weights and clients. ``NO_ADAPTERS``: the weights themselves are trained, and all parameters
    beside them.
    """

    BY_IMPORTANCE = "by-importance"
    UNIFORM = "uniform"
    ONE_FOR_ALL = "one-for-all"
    NO_ADAPTERS = "no-adapters"


class AggregationRule(str, Enum):
    """How what clients have trained becomes the next global adapter, or the next global model.

    With ``p_k`` the share of client ``k`` in all examples, and scales folded into the factors:

    * ``EXACT_SUM``: ``ΔW + Σ p_k (B_k A_k − B⁰_k A⁰_k)``, whatever the ranks (NAA);
    * ``MEAN_OF_FACTORS``: the plain mean of the ``B_k`` and of the ``A_k``, which has cross terms;
    * ``WEIGHTED_MEAN_OF_FACTORS``: ``Σ p_k B_k`` and ``Σ p_k A_k``, which has them too;
    * ``PADDED_MEAN_OF_FACTORS``: the same of factors padded with zeros to the largest rank;
    * ``SPARSITY_WEIGHTED``: the same, with ``‖B_k A_k‖_F`` in the place of examples;
    * ``STACKED``: ``ΔW + Σ p_k B_k A_k``, for clients that start from nothing;
    * ``BEST_RANK``: ``Σ p_k B_k A_k`` as a dense matrix, and its singular directions in order;
    * ``MEAN_OF_WEIGHTS``: ``Σ p_k W_k`` of every parameter (FedAvg).
    """

    EXACT_SUM = "exact-sum"
    MEAN_OF_FACTORS = "mean-of-factors"
    WEIGHTED_MEAN_OF_FACTORS = "weighted-mean-of-factors"
    PADDED_MEAN_OF_FACTORS = "padded-mean-of-factors"
    SPARSITY_WEIGHTED = "sparsity-weighted"
    STACKED = "stacked"
    BEST_RANK = "best-rank"
    MEAN_OF_WEIGHTS = "mean-of-weights"


PAIRS = frozenset(
    {
        AggregationRule.MEAN_OF_FACTORS,
        AggregationRule.WEIGHTED_MEAN_OF_FACTORS,
        AggregationRule.PADDED_MEAN_OF_FACTORS,
        AggregationRule.SPARSITY_WEIGHTED,
    }
)
"""Rules whose global adapter is one pair of factors, with which the next round goes on."""
