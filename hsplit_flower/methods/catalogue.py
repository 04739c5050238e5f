"""The methods, a row each."""

from collections.abc import Mapping
from dataclasses import replace

from ..adapters import SelfPruning
from ..types import Start
from .method import Method
from .rules import AggregationRule, CutRule, RankRule

HSPLIT_LORA = Method(
    name="hsplit-lora",
    title="HSplitLoRA",
    source="Lin et al., arXiv 2505.02795",
    cuts=CutRule.BY_BUDGET,
    ranks=RankRule.BY_IMPORTANCE,
    aggregation=AggregationRule.EXACT_SUM,
)
SPLIT_LORA = Method(
    name="split-lora",
    title="SplitLoRA",
    source="Lin et al., arXiv 2407.00952",
    cuts=CutRule.ONE_FOR_ALL,
    ranks=RankRule.ONE_FOR_ALL,
    aggregation=AggregationRule.MEAN_OF_FACTORS,
    start=Start.FACTORS,
    shares_server_adapter=True,
)
FULL_TUNING = Method(
    name="full-tuning",
    title="Full tuning",
    source="McMahan et al., arXiv 1602.05629",
    cuts=CutRule.WHOLE_MODEL,
    ranks=RankRule.NO_ADAPTERS,
    aggregation=AggregationRule.MEAN_OF_WEIGHTS,
)
FED_LORA = Method(
    name="fed-lora",
    title="FedLoRA",
    source="FedIT: Zhang et al., arXiv 2305.05644",
    cuts=CutRule.WHOLE_MODEL,
    ranks=RankRule.ONE_FOR_ALL,
    aggregation=AggregationRule.WEIGHTED_MEAN_OF_FACTORS,
    start=Start.FACTORS,
)
HET_LORA = Method(
    name="het-lora",
    title="HetLoRA",
    source="Cho et al., arXiv 2401.06432",
    cuts=CutRule.WHOLE_MODEL,
    ranks=RankRule.UNIFORM,
    aggregation=AggregationRule.SPARSITY_WEIGHTED,
    start=Start.FACTORS,
    truncates=True,
    pruning=SelfPruning(),
)
FLORA = Method(
    name="flora",
    title="FLoRA",
    source="Wang et al., arXiv 2409.05976",
    cuts=CutRule.WHOLE_MODEL,
    ranks=RankRule.UNIFORM,
    aggregation=AggregationRule.STACKED,
    start=Start.RESTART,
    one_draw=False,
    merges=True,
)
FLEX_LORA = Method(
    name="flex-lora",
    title="FlexLoRA",
    source="Bai et al., arXiv 2402.11505",
    cuts=CutRule.WHOLE_MODEL,
    ranks=RankRule.UNIFORM,
    aggregation=AggregationRule.BEST_RANK,
    start=Start.CONTINUE,
    truncates=True,
)
HSPLIT_LORA_UNIFORM = replace(
    HSPLIT_LORA,
    name="hsplit-lora-uniform",
    title="HSplitLoRA without importance",
    ranks=RankRule.UNIFORM,
)
HSPLIT_LORA_ONE_CUT = replace(
    HSPLIT_LORA,
    name="hsplit-lora-one-cut",
    title="HSplitLoRA without ARMSC",
    cuts=CutRule.ONE_FOR_ALL,
    ranks=RankRule.ONE_FOR_ALL,
)
HSPLIT_LORA_PADDED = replace(
    HSPLIT_LORA,
    name="hsplit-lora-padded",
    title="HSplitLoRA without NAA",
    aggregation=AggregationRule.PADDED_MEAN_OF_FACTORS,
    start=Start.FACTORS,
    truncates=True,
)

METHODS: Mapping[str, Method] = {
    row.name: row
    for row in (
        HSPLIT_LORA,
        SPLIT_LORA,
        FULL_TUNING,
        FED_LORA,
        HET_LORA,
        FLORA,
        FLEX_LORA,
        HSPLIT_LORA_UNIFORM,
        HSPLIT_LORA_ONE_CUT,
        HSPLIT_LORA_PADDED,
    )
}
