"""Prefix tuning: the attention function it acts through, its counts, and its outputs against Hugging Face `peft`."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import writing_t5 as t5
from torch.nn import functional as F
from transformers import BertConfig

from peftlib import backbones, deltas, edits
from peftlib.anatomy import Anatomy
from peftlib.data.tasks import get_task
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods import PrefixTuning
from peftlib.model import Tuned
from peftlib.training import speed

SST = [get_task("sst")]
IDS = torch.tensor([[5, 9, 13, 17, 21, 25], [6, 10, 14, 18, 0, 0], [7, 11, 0, 0, 0, 0]])
MASK = (IDS > 0).long()
TARGET = torch.tensor([[0, 8, 12, 16], [0, 9, 13, 17], [0, 10, 14, 18]])


def bert() -> torch.nn.Module:
    torch.manual_seed(0)
    return backbones.from_config(
        BertConfig(
            vocab_size=40,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=20,
        )
    ).eval()


def tuned(backbone: torch.nn.Module, method: PrefixTuning) -> Tuned:
    return Tuned(backbone, method, SST, pooling="mean").eval()


class Nothing(Edit):
    """A prefix of no positions."""

    def __init__(self, heads: int, size: int):
        super().__init__()
        self.shape = heads, 0, size

    def inside(self, batch):
        return torch.zeros(batch, *self.shape), torch.zeros(batch, *self.shape)


def with_nothing(model: torch.nn.Module) -> torch.nn.Module:
    model = copy.deepcopy(model)
    anatomy = Anatomy(model)
    for site in anatomy.at("*"):
        edits.add(site, "nothing", Nothing(anatomy.shape.heads, anatomy.shape.inner // anatomy.shape.heads))
    return model


# The attention function -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_an_empty_prefix_is_sdpa_on_bert(masked):
    model, given = bert(), {"attention_mask": MASK} if masked else {}
    torch.testing.assert_close(
        with_nothing(model)(IDS, **given).last_hidden_state, model(IDS, **given).last_hidden_state, rtol=0, atol=0
    )


@pytest.mark.parametrize("masks", [(), ("attention_mask",), ("attention_mask", "decoder_attention_mask")])
@torch.no_grad()
def test_an_empty_prefix_is_sdpa_on_t5(masks):
    model = t5()
    known = {"attention_mask": MASK, "decoder_attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])}
    given = {name: known[name] for name in masks}
    torch.testing.assert_close(
        with_nothing(model)(IDS, decoder_input_ids=TARGET, **given).logits,
        model(IDS, decoder_input_ids=TARGET, **given).logits,
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"use_cache": False}])
def test_an_empty_prefix_generates_as_sdpa_does(how):
    model, options = t5(), {"attention_mask": MASK, "min_new_tokens": 8, "max_new_tokens": 8}
    assert torch.equal(with_nothing(model).generate(IDS, **options, **how), model.generate(IDS, **options, **how))


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_attention_in_bf16_on_a_cpu_is_computed_in_fp32_and_is_at_least_as_near_to_it(kind):
    given = {"attention_mask": MASK} | ({"decoder_input_ids": TARGET} if kind == "t5" else {})

    def gradient(own: bool, autocast: bool) -> torch.Tensor:
        model = {"bert": bert, "t5": t5}[kind]()
        if own:
            speed.use_own_attention(model)
            assert {s.module.config._attn_implementation for s in Anatomy(model).at("*")} == {edits.ATTENTION_FUNCTION}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(IDS, **given)
        shown = (out.logits if kind == "t5" else out.last_hidden_state).float()
        (shown * torch.arange(shown.numel()).reshape(shown.shape).cos()).sum().backward()
        return Anatomy(model).at("attention.value")[0].module.weight.grad

    exact = gradient(own=False, autocast=False)
    error = {own: ((gradient(own, autocast=True) - exact).norm() / exact.norm()).item() for own in (True, False)}
    assert torch.equal(gradient(own=True, autocast=False), exact)
    assert error[True] < 0.1 and error[True] < 1.5 * error[False]


def test_an_attention_that_asked_for_another_function_keeps_it():
    model = bert()
    model.config._attn_implementation = "eager"
    speed.use_own_attention(model)
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("beams", [1, 3])
def test_a_prefix_generates_the_same_with_and_without_cache(beams):
    model = t5()
    plain = model.generate(IDS, attention_mask=MASK, min_new_tokens=8, max_new_tokens=8, num_beams=beams)
    tuned(model, PrefixTuning(length=3, mlp=None))
    options = {"attention_mask": MASK, "min_new_tokens": 8, "max_new_tokens": 8, "num_beams": beams}
    cached = model.generate(IDS, **options, use_cache=True)
    assert torch.equal(cached, model.generate(IDS, **options, use_cache=False))
    assert not torch.equal(cached, plain)


@torch.no_grad()
def test_a_prefix_leaves_the_decoder_causal_and_padding_unseen():
    model = t5()
    tuned(model, PrefixTuning(length=3, mlp=None))
    later = TARGET.clone()
    later[:, 2:] = 30
    both = [model(IDS, decoder_input_ids=target).logits for target in (TARGET, later)]
    torch.testing.assert_close(both[0][:, :2], both[1][:, :2])
    assert not torch.allclose(both[0][:, 2:], both[1][:, 2:])
    batched = model(IDS, attention_mask=MASK, decoder_input_ids=TARGET).logits[2]
    alone = model(IDS[2:, :2], decoder_input_ids=TARGET[2:]).logits[0]
    torch.testing.assert_close(batched, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prefix_positions_carry_no_position_bias():
    """The equation, written out for the first self-attention of T5's encoder: only real positions get the bias."""
    model = t5()
    tuned(model, PrefixTuning(length=3, mlp=None))
    attention = model.encoder.block[0].layer[0].SelfAttention
    x = torch.randn(2, 5, 32)
    q, k, v = (proj(x).unflatten(-1, (3, 16)).transpose(1, 2) for proj in (attention.q, attention.k, attention.v))
    p_k, p_v = (
        p.unflatten(-1, (3, 16)).transpose(0, 1).expand(2, -1, -1, -1) for p in attention.inside["prefixtuning"].prefix()
    )
    scores = torch.cat([q @ p_k.mT, q @ k.mT + attention.compute_bias(5, 5)], dim=-1)
    expected = attention.o((scores.softmax(-1) @ torch.cat([p_v, v], dim=2)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x)[0], expected)


# Against Hugging Face peft -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mlp", [None, 24])
@torch.no_grad()
def test_outputs_are_those_of_peft(mlp):
    peft = pytest.importorskip("peft")
    model = bert()
    # There a prefix is a cache, which also moves the absolute positions: make them all alike.
    positions = model.embeddings.position_embeddings.weight
    positions.copy_(positions[:1].expand_as(positions))
    config = peft.PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION", num_virtual_tokens=3, prefix_projection=mlp is not None, encoder_hidden_size=mlp
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    ours = tuned(copy.deepcopy(model), PrefixTuning(length=3, mlp=mlp))
    at, encoder = ours.attachments[0][1], theirs.prompt_encoder.default
    if mlp is None:
        encoder.embedding.weight.copy_(torch.cat([e.flat.transpose(0, 1).flatten(1) for _, e in at.edits], dim=1))
    else:
        encoder.embedding.weight.copy_(at.shared[0].embedding.weight)
        encoder.transform[0].load_state_dict(at.shared[0].W1.state_dict())
        encoder.transform[2].load_state_dict(at.shared[0].W2.state_dict())
    expected = theirs(input_ids=IDS, attention_mask=MASK).last_hidden_state
    found = ours.backbone(IDS, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, model(IDS, attention_mask=MASK).last_hidden_state, atol=1e-3)


@torch.no_grad()
def test_on_t5_peft_differs_by_the_position_bias_and_the_places():
    """What the method's file says of it: the decoder's self-attention alone, and prefixes counted as earlier tokens."""
    peft = pytest.importorskip("peft")
    config = peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3, num_layers=2, num_attention_heads=3, token_dim=48
    )
    for biased in (True, False):
        model = t5()
        if not biased:
            model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.zero_()
        theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
        ours = tuned(model, PrefixTuning(length=3, mlp=None))
        prefixes = [e for s, e in ours.attachments[0][1].edits if (s.stack, s.name) == ("decoder", "attention")]
        theirs.prompt_encoder.default.embedding.weight.copy_(
            torch.cat([e.flat.transpose(0, 1).flatten(1) for e in prefixes], dim=1)
        )
        prefixes[1].flat.copy_(prefixes[0].flat)  # layer 1 of 2 reads that of layer 2 mod 2
        for site in ours.anatomy.at("attention", stack="encoder") + ours.anatomy.at("cross_attention"):
            del site.module.inside
        given = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": TARGET}
        found, expected = ours.backbone(**given).logits, theirs(**given).logits
        assert torch.allclose(found, expected, atol=1e-5) != biased


# The reparametrisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mlp", "trainable", "stored"),
    [
        ("t5-large", 512, 77_311_488, 4_423_680),  # survey, Table 5: "Prefix tuning" 77.31 million
        ("t5-large", None, 4_423_680, 4_423_680),  # and its "Prompt tuning" 4.42
        ("t5-3b", None, 17_694_720, 17_694_720),
        ("t5-11b", 512, 1_211_985_408, 30 * 2 * 72 * 16_384),
        ("bert-base-uncased", 512, 30 * 768 + 512 * 769 + 12 * 2 * 768 * 513, 30 * 12 * 2 * 768),
    ],
)
def test_counts(name, mlp, trainable, stored):
    method = PrefixTuning(length=30, mlp=mlp)
    with torch.device("meta"):
        model = Tuned(backbones.shape_only(name), method, SST)
    counts = model.counts()
    assert (counts.trainable, counts.stored, counts.changed) == (trainable, stored, stored)
    assert method.formula(model.anatomy.shape) == trainable


def test_one_network_for_each_kind_of_attention():
    model = tuned(t5(), PrefixTuning(length=3, mlp=5))
    assert {name.removeprefix("prefixtuning__") for name in model.shared} == {
        "encoder_attention",
        "decoder_attention",
        "decoder_cross_attention",
    }


@torch.no_grad()
def test_a_layers_slice_is_that_of_the_whole_network():
    model = tuned(t5(), PrefixTuning(length=3, mlp=5))
    network = model.shared["prefixtuning__decoder_attention"]
    whole = F.linear(torch.tanh(network.W1(network.embedding.weight)), network.W2.weight, network.W2.bias)
    for layer, part in enumerate(whole.chunk(2, dim=1)):
        torch.testing.assert_close(network(layer), torch.stack(part.chunk(2, dim=1)))


@pytest.mark.parametrize("expression", ["PrefixTuning(length=3, mlp=5)", "PerTask(PrefixTuning(length=3, mlp=5))"])
def test_finish_keeps_outputs_and_only_flat_prefixes(expression, tmp_path):
    tasks = [get_task("sst"), get_task("quora")]
    model = Tuned(bert(), expression, tasks).eval()
    given, before = {"input_ids": IDS, "attention_mask": MASK}, {}
    copies = 2 if expression.startswith("PerTask") else 1
    counted = model.counts()
    with torch.no_grad():
        before = {name: model(name, given) for name in model.tasks}
        model.finish()
        model.finish()  # a second time changes nothing
        after = {name: model(name, given) for name in model.tasks}
    torch.testing.assert_close(after, before)
    assert model.counts() == counted and counted.stored == copies * 2 * 2 * 3 * 32
    heads = sum(p.numel() for p in model.heads.parameters())
    assert sum(t.numel() for t in model.delta().values()) == counted.stored + heads
    assert not model.shared
    deltas.save(model, tmp_path / "delta.safetensors")
    again = deltas.load(tmp_path / "delta.safetensors", bert())
    with torch.no_grad():
        torch.testing.assert_close({name: again(name, given) for name in again.tasks}, before, rtol=0, atol=0)


def test_a_delta_saved_before_finish_loads_too(tmp_path):
    model = tuned(bert(), PrefixTuning(length=3, mlp=5))
    deltas.save(model, tmp_path / "delta.safetensors")
    again = deltas.load(tmp_path / "delta.safetensors", bert())
    assert set(again.shared) == {"prefixtuning__encoder_attention"}
    given = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        torch.testing.assert_close(again("sst", given), model("sst", given), rtol=0, atol=0)


@pytest.mark.parametrize("field", [{"length": 0}, {"mlp": 0}, {"mlp": -1}])
def test_impossible_sizes_are_refused(field):
    with pytest.raises(UsageError, match=next(iter(field))):
        PrefixTuning(**field)
