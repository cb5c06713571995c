"""Weights in four bits, and modules that compute what a layer does from other storage."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import after_training, backbone, build, outputs, train
from torch import nn

from peftlib import backbones
from peftlib.accounting.counting import count, shape_model
from peftlib.accounting.estimate import estimate
from peftlib.data.tasks import get_task
from peftlib.edits import Replaced
from peftlib.errors import UsageError
from peftlib.methods import parse
from peftlib.methods.reparametrized import nf4
from peftlib.methods.reparametrized.nf4 import Quantised
from peftlib.model import Tuned
from peftlib.report import quantised

# As published with the library bitsandbytes (functional.py, the table of "nf4"), seven digits.
NF4 = """-1 -.6961928 -.5250731 -.3949175 -.2844414 -.1847734 -.0910500 0
.0795803 .1609302 .2461123 .3379152 .4407098 .5626170 .7229568 1""".split()
SMALL = "QLoRA(rank=4, dropout=0.0)"
kinds = pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert", "t5", "mt5"])


def layer(out=96, into=128, std=0.05, bias=True):
    torch.manual_seed(0)
    made = nn.Linear(into, out, bias=bias)
    nn.init.normal_(made.weight, std=std)
    return made.requires_grad_(False)


# --- storage ----------------------------------------------------------------------------------------------------------
def test_the_papers_formula_gives_the_published_values():
    assert nf4.normal_float() == pytest.approx([float(v) for v in NF4], abs=1e-6)


def test_the_dynamic_map_has_256_values_of_both_signs_and_zero_and_one():
    p = nf4.dynamic()
    assert len(set(p)) == 256 and {0.0, 1.0} < set(p)
    assert {-v for v in p} ^ set(p) == {1.0, -1.0} and max(-v for v in p) == pytest.approx(0.99296875)


@pytest.mark.parametrize("double, bits", [(True, 4.127), (False, 4.5)])
def test_bits_a_weight(double, bits):
    made = Quantised(layer(768, 768), 64, double)
    stored = sum(b.numel() * b.element_size() for b in made.buffers())
    assert 8 * stored / 768**2 == pytest.approx(bits, abs=1e-3)


@pytest.mark.parametrize("method, bits", [("QLoRA(rank=8)", 4.127), ("QLoRA(rank=8, double=False)", 4.5)])
def test_bits_a_weight_of_a_whole_backbone(method, bits):
    """Of BERT-base's 72 matrices on shapes, and of a model that is there."""
    found = quantised.stored(method, "bert-base-uncased")
    assert (found["matrices"], found["weights"]) == (72, 12 * (4 * 768**2 + 2 * 768 * 3072))
    assert found["bits"] == pytest.approx(bits, abs=1e-3) == pytest.approx(quantised.stated(parse(method)), abs=1e-3)
    rest = 109_482_240 - found["weights"]
    assert found["whole"] == pytest.approx((bits * found["weights"] + 32 * rest) / (32 * 109_482_240), rel=1e-3)
    sizes = backbones.from_config(backbones.SHAPES["minilm"]())
    model = Tuned(sizes, method, [get_task("sst")])
    held = [b for m in model.modules() if isinstance(m, Quantised) for b in m.buffers()]
    assert sum(b.numel() * b.element_size() for b in held) == quantised.stored(method, "minilm")["bytes"]
    assert f"{bits:.3f}" in quantised.bits(method, ["minilm"]).text


@pytest.mark.parametrize("block", [2, 64, 128])
def test_every_weight_has_the_nearest_code_of_its_block(block):
    plain = layer()
    made = Quantised(plain, block, double=False)
    flat = plain.weight.view(-1, block)
    largest = flat.abs().amax(1, keepdim=True)
    q = torch.tensor(nf4.normal_float())
    expected = q[(flat[..., None] / largest[..., None] - q).abs().argmin(-1)] * largest
    assert torch.equal(made.weight, expected.view(96, 128)) and torch.equal(made.constants, largest[:, 0])
    first = (made.codes[0] >> 4).item()  # the first of two is in the high half
    assert q[first] * largest[0] == made.weight[0, 0]


def test_the_error_of_normal_weights_is_the_papers():
    plain = layer(768, 768, std=1.0)
    for double in (False, True):
        error = (Quantised(plain, 64, double).weight - plain.weight).square().mean().sqrt().item()
        assert error == pytest.approx(0.0920, abs=5e-4)


def test_zeros_stay_zeros():
    plain = layer()
    plain.weight[:3] = 0
    for double in (False, True):
        assert not Quantised(plain, 64, double).weight[:3].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_passes_through_and_the_weight_is_not_kept(dtype):
    made, kept = Quantised(layer(), 64, True), []
    x = torch.randn(3, 5, 128, dtype=dtype, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        y = made(x)
    g = torch.randn_like(y)
    y.backward(g)
    assert torch.equal(x.grad, g @ made.weight.to(dtype)) and y.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(y, nn.functional.linear(x, made.weight.to(dtype), made.bias.to(dtype)), rtol=2e-2, atol=2e-2)
    assert not [n for n in kept if n >= 96 * 128]


# --- beside bitsandbytes ----------------------------------------------------------------------------------------------
@pytest.fixture
def library():
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes is no dependency, and is not here").functional


def test_codes_and_constants_are_those_of_bitsandbytes(library):
    plain = layer(768, 768, std=0.02)
    packed, state = library.quantize_4bit(plain.weight.data, blocksize=64, quant_type="nf4")
    made = Quantised(plain, 64, double=False)
    assert torch.equal(state.absmax, made.constants)
    assert (packed.flatten() != made.codes).sum() <= 1  # of 294,912: a weight that is as near to both of two values
    assert torch.tensor(nf4.normal_float()) == pytest.approx(state.code)
    assert (library.dequantize_4bit(packed, state) - made.weight).abs().gt(1e-7).sum() <= 1


def test_constants_of_constants_are_near_those_of_bitsandbytes(library):
    plain = layer(768, 768, std=0.02)
    _, state = library.quantize_4bit(plain.weight.data, blocksize=64, quant_type="nf4", compress_statistics=True)
    made = Quantised(plain, 64, double=True)
    assert torch.tensor(nf4.dynamic()) == pytest.approx(state.state2.code, abs=1e-6)
    torch.testing.assert_close(made.scales, state.state2.absmax)
    torch.testing.assert_close(made.mean, state.offset)
    steps = (made.constants.int() - state.absmax.int()).abs()
    assert steps.max() <= 1 and steps.float().mean() < 0.01  # it rounds some to the neighbour that is not nearest


def test_where_it_is_used_it_gives_the_same_weights(library, monkeypatch):
    made = Quantised(layer(), 64, True)
    ours = made.weight
    monkeypatch.setattr(nf4, "bitsandbytes", lambda device: library)
    torch.testing.assert_close(made.weight, ours, rtol=0, atol=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_weights_are_the_same():
    made = Quantised(layer(), 64, True)
    ours = made.weight
    torch.testing.assert_close(made.cuda().weight.cpu(), ours, rtol=0, atol=1e-6)


# --- a module in the place of another ---------------------------------------------------------------------------------
class Same(Replaced):
    """A copy of a layer."""

    def __init__(self, layer):
        super().__init__(layer)
        self.register_buffer("kept", layer.weight.detach().clone())

    @property
    def weight(self):
        return self.kept

    def forward(self, x):
        return nn.functional.linear(x, self.kept, self.bias)


@kinds
def test_replaced_by_a_copy_of_itself_nothing_changes_and_it_merges(kind):
    model = after_training("LoRA(rank=2)", kind)
    twin = copy.deepcopy(model)
    ((_, at),) = twin.attachments
    for site in at.anatomy.linears:
        sizes = site.fan_in, site.fan_out
        at.replace(site, Same(getattr(site.module, "base", site.module)))
        assert (site.fan_in, site.fan_out) == sizes
    assert twin.counts() == model.counts() and twin.weights_digest == model.weights_digest
    for task, expected in outputs(model, kind).items():
        assert torch.equal(outputs(twin, kind)[task], expected)
    for site in at.anatomy.linears:
        at.give_back(site)
    for task, expected in outputs(model.merge(), kind).items():
        torch.testing.assert_close(outputs(twin.merge(), kind)[task], expected)


@kinds
def test_it_starts_at_the_quantised_backbone(kind):
    model, plain = build(SMALL, kind), Tuned(backbone(kind), "HeadOnly()", [get_task("sst"), get_task("quora")])
    plain.pooling = model.pooling
    plain.heads = model.heads
    for site in plain.anatomy.linears:
        site.module.weight.data = Quantised(site.module, 64, True).weight
    for task, expected in outputs(plain.eval(), kind).items():
        torch.testing.assert_close(outputs(model, kind)[task], expected, rtol=1e-5, atol=1e-5)
    assert all(
        isinstance(s.module.base if hasattr(s.module, "base") else s.module, Quantised) for s in model.anatomy.linears
    )


@pytest.mark.parametrize("expression", [SMALL, f"{SMALL} + LoRA(rank=2)", f"{SMALL} + IA3()", f"BitFit() + {SMALL}"])
def test_merged_its_layers_are_plain_ones_in_full_precision(expression):
    model = build(expression, "bert")
    train(model, "bert")
    expected = outputs(model, "bert")
    merged = model.merge()
    assert all(type(s.module) is nn.Linear and s.module.weight.dtype == torch.float32 for s in merged.anatomy.linears)
    assert not any(isinstance(m, Replaced) for m in merged.modules())
    for task, now in outputs(merged, "bert").items():
        torch.testing.assert_close(now, expected[task], rtol=1e-4, atol=1e-5)


def test_weights_that_are_no_linear_layers_of_blocks_stay():
    model, before = build(SMALL, "bert"), backbone("bert").state_dict()
    now = {n.removeprefix("backbone."): t for n, t in model.named_parameters() if n.startswith("backbone.")}
    assert torch.equal(now["embeddings.word_embeddings.weight"], before["embeddings.word_embeddings.weight"])
    assert not any(n.endswith("dense.weight") for n in now if "layer." in n)
    assert not [n for n in model.delta() if "codes" in n or "constants" in n]


@pytest.mark.parametrize(
    "first", ["Full()", "IntrinsicSAID(dimension=300)", "Layers(CrossAttentionTuning(), stack='decoder')"]
)
def test_weights_that_another_method_trains_are_refused(first):
    with pytest.raises(UsageError, match="in four bits, and a method written before it trains or computes that weight"):
        build(f"{first} + {SMALL}", "t5")


@pytest.mark.parametrize("first", ["LoRA(rank=2)", "DoRA(rank=2)", "ParallelAdapter(bottleneck=2)"])
def test_it_is_written_before_what_stands_on_its_layers(first):
    with pytest.raises(UsageError, match="in four bits, and a method written before it stands there: write QLoRA first"):
        build(f"{first} + {SMALL}", "bert")


# --- counts -----------------------------------------------------------------------------------------------------------
def test_worked_counts_and_bytes():
    found = count("QLoRA()", "bert-base-uncased")
    assert found.trainable == found.stored == 10_616_832
    assert found.changed == 84_934_656 and found.total == 109_482_240
    layers = [m for m in shape_model("QLoRA()", "bert-base-uncased").modules() if isinstance(m, Quantised)]
    assert sum(m.codes.numel() for m in layers) == 42_467_328
    assert sum(m.constants.numel() for m in layers) == 1_327_104
    assert sum(4 * m.scales.numel() for m in layers) == 20_736


def test_a_step_needs_less_memory_than_loras():
    ours, plain = (
        estimate(f"{m}(rank=8, dropout=0.0, sites=('query',))", "bert-base-uncased", 2, 32) for m in ("QLoRA", "LoRA")
    )
    saved = 2 * 84_934_656 - 42_467_328 - 1_327_104 - 20_736
    assert plain.weights - ours.weights == pytest.approx(saved, rel=1e-4)
    assert ours.peak < plain.peak and ours.gradients == plain.gradients


def test_shapes_are_quantised_without_numbers():
    with torch.device("meta"):
        model = Tuned(backbones.shape_only("t5-small"), "QLoRA(rank=4)", [get_task("sst")])
    assert {b.device.type for b in model.buffers()} == {"meta"}
