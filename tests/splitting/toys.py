"""Decoders that transformers does not have, each with one thing that keeps it from being split.

`Toy` itself can be split. What differs is a small override, so that the reason is the only one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

NUM_BLOCKS = 3
WIDTH = 8


class ToyConfig(PretrainedConfig):
    model_type = "hsplit-toy"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_size = WIDTH
        self.vocab_size = 11
        self.num_hidden_layers = NUM_BLOCKS
        self.tie_word_embeddings = False


class ToyBlock(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, beside: Tensor | None = None) -> Tensor:
        step = torch.tanh(self.inner(hidden))
        if beside is not None:
            step = step + beside.reshape(*hidden.shape[:2], -1)
        return hidden + step


class Toy(PreTrainedModel):
    """Embedding, blocks that are asked for their kind before they are called, norm, head."""

    config_class = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(config.vocab_size, WIDTH)
        self.blocks = nn.ModuleList(self.make_blocks())
        self.norm = nn.LayerNorm(WIDTH)
        self.head: nn.Module | None = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.post_init()

    def make_blocks(self) -> list[nn.Module]:
        return [ToyBlock("odd" if index % 2 else "even") for index in range(NUM_BLOCKS)]

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        for block in self.blocks:
            assert block.kind in ("odd", "even")
            hidden = block(hidden)
        return hidden

    def end(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        return self.head(self.norm(hidden))

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool = False,
    ) -> CausalLMOutput:
        embedded = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        return CausalLMOutput(logits=self.end(self.walk(embedded, input_ids), embedded))


class ReadsAnEarlierBlock(Toy):
    """Block 2 reads block 0's output."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        first = self.blocks[0](hidden)
        return self.blocks[2](self.blocks[1](first), first)


class ReadsTheEmbedding(Toy):
    """Every block reads something that is computed from the embedding."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        beside = 2 * hidden
        for block in self.blocks:
            hidden = block(hidden, beside)
        return hidden


class ReadsTheTokens(Toy):
    """Every block reads the token ids."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden, input_ids)
        return hidden


class HeadReadsTheEmbedding(Toy):
    """A connection skips all blocks."""

    def end(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        return self.head(self.norm(hidden + embedded))


class HeadReadsEveryBlock(Toy):
    """The head reads the mean over all blocks."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        total = torch.zeros_like(hidden)
        for block in self.blocks:
            hidden = block(hidden)
            total = total + hidden
        return total / NUM_BLOCKS


class SharesABlock(Toy):
    """Blocks 0 and 2 are one."""

    def make_blocks(self) -> list[nn.Module]:
        first = ToyBlock("even")
        return [first, ToyBlock("odd"), first]


class RunsABlockTwice(Toy):
    """Block 1 runs again after block 2."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        return self.blocks[1](super().walk(hidden, input_ids))


class RunsBackwards(Toy):
    """The last block runs first."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        for block in reversed(self.blocks):
            hidden = block(hidden)
        return hidden


class ChangesTheHiddenState(Toy):
    """Something happens between the blocks."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        for block in self.blocks:
            hidden = self.norm(block(hidden))
        return hidden


class HasNoList(Toy):
    """The blocks are in a sequence, not in a list."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.blocks = nn.Sequential(*self.make_blocks())


class HasTwoLists(Toy):
    """Beside the blocks there is a second list, as long as the first."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.gates = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(NUM_BLOCKS))


class HasUnusedModules(Toy):
    """A tower for another kind of input."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.tower = nn.Linear(WIDTH, WIDTH)


class HasNoHead(Toy):
    """Hidden states come out instead of logits."""

    def get_output_embeddings(self) -> None:
        return None


class HasParallelStreams(Toy):
    """Two hidden states for every token."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        streams = torch.stack([hidden, hidden])
        for block in self.blocks:
            streams = block(streams)
        return streams.mean(0)


class PassesPairs(Toy):
    """Blocks take their hidden state by name."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden=hidden)
        return hidden


class PairedBlock(ToyBlock):
    """Gives its inner step beside the hidden state; may read that of the block before."""

    def __init__(self, kind: str, *, reads: bool = False) -> None:
        super().__init__(kind)
        self.reads = reads

    def forward(self, hidden: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        given = super().forward(hidden, beside if self.reads else None)
        return given, self.inner(hidden).detach()


class GivesMore(Toy):
    """Blocks hand on something beside the hidden state that none of them reads: it can be split."""

    def make_blocks(self) -> list[nn.Module]:
        return [PairedBlock("even") for _ in range(NUM_BLOCKS)]

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        beside = None
        for block in self.blocks:
            hidden, beside = block(hidden, beside)
        return hidden


class ReadsMore(GivesMore):
    """The last block reads what the one before gave beside its hidden state."""

    def make_blocks(self) -> list[nn.Module]:
        return [PairedBlock("even", reads=index == NUM_BLOCKS - 1) for index in range(NUM_BLOCKS)]


class CannotRun(Toy):
    """Its forward pass looks into the data."""

    def walk(self, hidden: Tensor, input_ids: Tensor | None) -> Tensor:
        if hidden.sum().item() > 0:
            return hidden
        return super().walk(hidden, input_ids)


REASONS = {
    ReadsAnEarlierBlock: "block 2 also reads an earlier block's output",
    ReadsTheEmbedding: "block 0 also reads something that is computed from the tokens",
    ReadsTheTokens: "block 0 also reads something that is computed from the tokens",
    HeadReadsTheEmbedding: "its head also reads something else than the last block's output",
    HeadReadsEveryBlock: "its head also reads something else than the last block's output",
    SharesABlock: "blocks 0 and 2 share weights",
    RunsABlockTwice: "its blocks do not run once each, in order",
    RunsBackwards: "its blocks do not run once each, in order",
    ChangesTheHiddenState: "the input of block 1 is not block 0's output",
    HasNoList: "no plain list of its 3 blocks was found",
    HasTwoLists: r"it has several lists of 3 modules: \['blocks', 'gates'\]",
    HasUnusedModules: r"its modules \['tower'\] do not run with a plain input",
    HasNoHead: "it has no output head",
    HasParallelStreams: r"block 0 takes a hidden state of shape \[2, 1, 4, 8\], \[batch, seq, 8\]",
    PassesPairs: "block 0 does not take and give one hidden state",
    ReadsMore: "what block 1 gives beside its hidden state is read after it",
    CannotRun: "it does not run on an empty input",
}
