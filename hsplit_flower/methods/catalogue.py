"""The methods, a row each."""

from collections.abc import Mapping

from ..types import Start
from .method import AggregationRule, CutRule, Method, RankRule

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

METHODS: Mapping[str, Method] = {row.name: row for row in (HSPLIT_LORA, SPLIT_LORA)}
