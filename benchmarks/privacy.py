"""What the worker reads from what clients send, and what clipping and noise cost and bring.

llama-tiny and the built-in restaurants. (a) Inputs from hidden states, by cut, wire type and noise;
(b) labels that stay on the client, from the last hidden states and from the gradients that come
back; (c) perplexity after the same training with clipping and noise. Noise is told in clip norms;
the clip norm is the median length of what is sent, so that half of the vectors are shortened.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.harness import Benchmark, Detail, Figure, Settings
from benchmarks.tools.recovery import (
    Candidates,
    candidates,
    label_gradients,
    nearest,
    nearest_label,
)
from benchmarks.wire_precision import CUT, trained_perplexity
from hsplit_flower.client.protection import clip_tokens
from hsplit_flower.data import encode_examples, load_examples
from hsplit_flower.metrics import USUAL_DELTA, gaussian_epsilon, gaussian_mu
from hsplit_flower.splitting import load_tokenizer, locate
from hsplit_flower.types import Labels, WireType
from hsplit_flower.wire.codec import decode, encode_into
from hsplit_flower.wire.proto.split_pb2 import Forward

MODEL: Final = "llama-tiny"
CUTS: Final = (1, 4, 7)
NOISES: Final = (0.05, 0.2, 0.5, 1.0, 4.0)
TRAINED_NOISES: Final = (0.05, 0.2, 1.0)
SENT: Final[Mapping[str, Sequence[str]]] = {
    "hidden states": ("hidden",),
    "gradients": ("gradient",),
    "both": ("hidden", "gradient"),
}
BATCH: Final = 8


def measure(settings: Settings) -> Iterator[Figure | Detail]:
    """Recovery of inputs, of labels, and the cost of hindering both."""
    torch.set_num_threads(1)
    torch.manual_seed(settings.seeds[0])
    quick = settings.quick
    model = AutoModelForCausalLM.from_pretrained(locate(MODEL)).eval().requires_grad_(False)
    texts = _texts(1 if quick else 4, 4 if quick else 16)
    yield from _inputs(model, texts, (1,) if quick else CUTS, NOISES[::4] if quick else NOISES)
    yield from _labels(model, texts, NOISES[::4] if quick else NOISES)
    noises = TRAINED_NOISES[:1] if quick else TRAINED_NOISES
    yield from _costs(model, texts, noises, quick=quick, seeds=settings.seeds)
    for noise in NOISES:
        per_vector = gaussian_epsilon(USUAL_DELTA, gaussian_mu(noise))
        per_run = gaussian_epsilon(USUAL_DELTA, gaussian_mu(noise, num_vectors=64, num_releases=20))
        yield Figure(
            name=f"noise {noise:g}: epsilon, a vector sent once", value=per_vector, unit=""
        )
        yield Figure(name=f"noise {noise:g}: epsilon, 64 tokens, 20 times", value=per_run, unit="")


def _inputs(
    model: Any, texts: list[Tensor], cuts: tuple[int, ...], noises: tuple[float, ...]
) -> Iterator[Figure]:
    """The share of tokens found, each from its own hidden state."""
    places = [place for ids in texts for place in candidates(model, ids, list(cuts))]
    for cut in cuts:
        norm = statistics.median(float(each.states[cut][each.token].norm()) for each in places)
        for wire_type in WireType:
            share, _ = _found(places, cut, wire_type=wire_type)
            yield _share(f"inputs, cut {cut}, {wire_type.value}", share)
        for noise in (0.0, *noises):
            by_distance, by_both = _found(places, cut, norm=norm, noise=noise)
            how = f"inputs, cut {cut}, clipped, noise {noise:g}"
            yield _share(how, by_distance)
            yield _share(f"{how}, with the model's own guess", by_both)
    guessed = [int(each.log_probability.argmax()) == each.token for each in places]
    yield _share("inputs, guessed by the model, nothing sent", statistics.fmean(guessed))


def _found(
    places: list[Candidates],
    cut: int,
    *,
    wire_type: WireType = WireType.FLOAT32,
    norm: float = 0.0,
    noise: float = 0.0,
) -> tuple[float, float]:
    """What share of tokens is found from what was sent."""
    hits = [0, 0]
    for each in places:
        states = clip_tokens(each.states[cut][None], norm)[0]
        sent = states[each.token] + noise * norm * torch.randn_like(states[0])
        seen = _over_the_wire(sent, wire_type)
        guesses = nearest(seen, states, each.log_probability, noise * norm)
        for way, guess in enumerate(guesses):
            hits[way] += guess == each.token
    return hits[0] / len(places), hits[1] / len(places)


def _labels(model: Any, texts: list[Tensor], noises: tuple[float, ...]) -> Iterator[Figure]:
    """The share of labels found: by the head alone, and from gradients."""
    seen = []
    for ids in texts:
        hidden = _last_hidden(model, ids)
        for place in range(len(ids) - 1):
            gradients, expected = label_gradients(model, hidden[place])
            seen.append((int(ids[place + 1]), gradients, int(expected.argmax())))
    yield _share(
        "labels on the client, from last hidden states alone",
        statistics.fmean(guess == label for label, _, guess in seen),
    )
    norm = statistics.median(float(gradients[label].norm()) for label, gradients, _ in seen)
    for wire_type in WireType:
        found = [
            nearest_label(_over_the_wire(gradients[label], wire_type), gradients) == label
            for label, gradients, _ in seen
        ]
        yield _share(f"labels, gradients in {wire_type.value}", statistics.fmean(found))
    for noise in (0.0, *noises):
        found = []
        for label, gradients, _ in seen:
            sent = clip_tokens(gradients[label][None, None], norm)[0, 0]
            sent = sent + noise * norm * torch.randn_like(sent)
            found.append(nearest_label(sent, gradients) == label)
        yield _share(f"labels, gradients clipped, noise {noise:g}", statistics.fmean(found))


@torch.no_grad()
def _last_hidden(model: Any, ids: Tensor) -> Tensor:
    """After the last block, before the final norm."""
    kept: list[Tensor] = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    model(ids[None], use_cache=False)
    hook.remove()
    return kept[0][0]


def _usual_norms(model: Any, texts: list[Tensor]) -> dict[str, float]:
    """The median length of what a client sends before it has learnt anything."""
    states, gradients = [], []
    for ids in texts:
        told = model(ids[None], output_hidden_states=True, use_cache=False).hidden_states
        states += told[CUT][0].norm(dim=1).tolist()
        hidden = _last_hidden(model, ids)
        for place in range(len(ids) - 1):
            by_label, _ = label_gradients(model, hidden[place])
            gradients.append(float(by_label[ids[place + 1]].norm()))
    # A step's loss is the mean over its tokens.
    num_tokens = BATCH * statistics.fmean(len(ids) for ids in texts)
    return {
        "hidden_clip_norm": statistics.median(states),
        "gradient_clip_norm": statistics.median(gradients) / num_tokens,
    }


def _costs(
    model: Any,
    texts: list[Tensor],
    noises: tuple[float, ...],
    *,
    quick: bool,
    seeds: tuple[int, ...],
) -> Iterator[Figure | Detail]:
    """Perplexity after training with labels on the client, and noise on what is sent."""
    training, evaluation = (_encoded(split, 16 if quick else 1000) for split in ("train", "dev"))
    evaluation = evaluation[: 4 if quick else 64]
    float32 = (WireType.FLOAT32, WireType.FLOAT32)
    norms = _usual_norms(model, texts)
    yield Detail(name="clip norms", value=norms)
    told: list[tuple[str, int, dict[str, float]]] = [
        ("not trained", 0, {}),
        ("nothing done", 20, {}),
    ]
    told += [
        (f"noise {noise:g} on {what}", 20, _protected(norms, kinds, noise))
        for what, kinds in SENT.items()
        for noise in noises
    ]
    for how, num_steps, chosen in told:
        values = [
            trained_perplexity(
                float32,
                training,
                evaluation,
                num_steps=min(num_steps, 1) if quick else num_steps,
                seed=seed,
                batch=BATCH,
                labels=Labels.CLIENT,
                noise_seed=seed,
                **chosen,
            )
            for seed in seeds
        ]
        yield Figure.of_repeats(f"perplexity, {how}", values, "")


def _protected(norms: Mapping[str, float], kinds: Sequence[str], noise: float) -> dict[str, float]:
    """What a session is set to for noise on these kinds of tensors."""
    chosen = {f"{kind}_clip_norm": norms[f"{kind}_clip_norm"] for kind in kinds}
    return chosen | {f"{kind}_noise": noise for kind in kinds}


def _over_the_wire(vector: Tensor, wire_type: WireType) -> Tensor:
    """As it is once it was encoded and read."""
    message = Forward()
    encode_into(message.hidden, vector[None, None], wire_type)
    return decode(message.hidden).to(vector.dtype)[0, 0]


def _share(name: str, share: float) -> Figure:
    return Figure(name=name, value=share, unit="of tokens")


def _encoded(split: str, count: int) -> list[Any]:
    examples = list(islice(load_examples("restaurants", split), count))
    return encode_examples(
        examples, load_tokenizer(MODEL), max_length=192, style="plain", on_long="drop"
    )


def _texts(count: int, length: int) -> list[Tensor]:
    examples = islice(load_examples("restaurants", "dev"), count)
    tokenizer = load_tokenizer(MODEL)
    return [
        torch.tensor(tokenizer(example.reference)["input_ids"][:length]) for example in examples
    ]


BENCHMARK = Benchmark(
    name="privacy",
    summary="What a worker reads of inputs and labels, and what noise costs and brings.",
    measure=measure,
)
