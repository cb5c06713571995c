"""The same weights give the same outputs in AdapterHub's `adapters`, whose answers `adapterhub/write.py` has written down,
and its checkpoints are read with these outputs; what has no equal ones is refused, see `tries/adapterhub.py`."""

from __future__ import annotations

import json

import pytest
import torch
from adapterhub import backbone, folder, saved, tensors

from peftlib import interop
from peftlib.data.tasks import get_task
from peftlib.deltas import fill
from peftlib.interop import adapterhub
from peftlib.methods import METHODS
from peftlib.model import Tuned

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])


def states(model: torch.nn.Module, kind: str, length: int = 6) -> torch.Tensor:
    ids, mask, decoder = (torch.tensor(saved(kind)[name]) for name in ("ids", "mask", "decoder"))
    more = {"decoder_input_ids": decoder} if kind == "t5" else {}
    with torch.no_grad():
        return model.eval()(input_ids=ids[:, :length], attention_mask=mask[:, :length], **more).last_hidden_state


def test_the_backbones_are_those_of_the_files():
    for kind in ("bert", "t5"):
        torch.testing.assert_close(states(backbone(kind), kind), torch.tensor(saved(kind)["plain/states"]))


READ = {
    "houlsby": "Houlsby(bottleneck=4, activation='swish', init='bert')",
    "pfeiffer": "PfeifferFFN(bottleneck=4, activation='relu', init='bert')",
    "parallel": "ParallelAdapter(bottleneck=4)",
    "scaled": "ParallelAdapter(bottleneck=4, scale=4.0)",
    "learned": "ParallelAdapter(bottleneck=4, learned=True)",
    "compacter": "Compacter(n=2, bottleneck=4, train_norms=False)",
    "compacterpp": "CompacterPlusPlus(n=2, bottleneck=4, train_norms=False, rank=2)",
    "some_layers": "Layers(Houlsby(bottleneck=4, activation='swish', init='bert'), start=1)",
    "prefix": "PrefixTuning(length=3, mlp=8)",
    "prefix_flat": "PrefixTuning(length=3, mlp=None)",
    "mam": "PrefixTuning(length=3, mlp=8) + ParallelAdapter(bottleneck=4, scale=2.0)",
    "ia3": "IA3()",
}
REFUSED = {"bert": {"ia3"}, "t5": {"prefix", "prefix_flat", "mam"}}


@pytest.mark.parametrize("kind, case", [(kind, case) for kind in REFUSED for case in READ if case not in REFUSED[kind]])
def test_outputs_are_those_of_adapters(kind, case, tmp_path):
    model = interop.from_adapters(folder(tmp_path, kind, case), backbone(kind), ["sst"])
    expected = READ[case]
    if kind == "t5" and case == "some_layers":  # counted through both stacks, encoder first
        decoder = "stack='decoder'"
        expected = f"{expected[:-1]}, stack='encoder') + {expected.replace('start=1', decoder)}"
    assert str(model.method) == expected
    found, wanted = states(model.backbone, kind), torch.tensor(saved(kind)[f"{case}/states"])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert (found - torch.tensor(saved(kind)["plain/states"])).abs().max() > 0.5


def without_bias(model: torch.nn.Module) -> torch.nn.Module:
    for name, p in model.named_parameters():
        p.data.mul_("relative_attention_bias" not in name)
    return model


@pytest.mark.parametrize("case", sorted(REFUSED["t5"]))
def test_prefixes_of_t5_are_those_of_adapters_but_for_the_position_bias(case):
    """Where there is no bias they agree; with one they do not, and are refused."""
    for plain, texts, length in ((without_bias(backbone("t5")), "short", 4), (backbone("t5"), "states", 6)):
        model = Tuned(plain, READ[case], [get_task("sst")]).eval()
        own = adapterhub._normalised(tensors("t5", case), "it", plain, case)
        config = json.loads(str(saved("t5")[f"{case}/config"]))["config"]
        adapterhub.Prefixes.method(config["configs"][0] if "configs" in config else config, own, model.anatomy, case)
        fill(adapterhub._tensors(model), own, case)
        found, wanted = states(model.backbone, "t5", length), torch.tensor(saved("t5")[f"{case}/{texts}"])
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5) == (texts == "short")


@pytest.mark.skipif("UniPELT" not in METHODS, reason="there is no UniPELT")
@on_both
def test_unipelt_is_that_of_adapters(kind):
    """Where no text is padded, for its gates take the mean over padding, too; on a T5 without position bias, see above."""
    plain = without_bias(backbone(kind))
    names = {id(module): name for name, module in plain.named_modules()}
    model = Tuned(plain, "UniPELT(length=3, mlp=8, rank=2, bottleneck=4)", [get_task("sst")]).eval()
    ((_, at),) = model.attachments
    holders, found = adapterhub._holders(at.anatomy), tensors(kind, "unipelt")
    ours = {}
    for site, edit in at.edits:
        if site.name.endswith("attention"):
            start = f"{names[id(site.module)]}.prefix_tuning.prefix_gates.it"
            ours |= {f"{start}.{name}": p for name, p in edit.gate.linear.named_parameters()}
            continue
        if site.name == "ffn.down":
            start, parts = f"{holders[site]}.adapters.it", {"adapter_down.0": edit.down, "adapter_up": edit.up}
        else:
            start, parts = f"{names[id(site.module.base)]}.loras.it", {}
            ours |= {f"{start}.lora_A": edit.A, f"{start}.lora_B": edit.B}
        for part, module in (parts | {"gate": edit.gate.linear}).items():
            ours |= {f"{start}.{part}.{name}": p for name, p in module.named_parameters()}
    at.edits, edits = [(site, edit) for site, edit in at.edits if site.name.endswith("attention")], at.edits
    for name, p in adapterhub.Prefixes().tensors(at).items():
        ours[f"prefix_tuning.{name.replace('prefix_tunings.', 'prefix_tunings.it.')}"] = p
    at.edits = edits
    found = {name.removeprefix("bert."): t for name, t in found.items() if ".pool." not in name}
    fill({name: p.detach() for name, p in ours.items()}, found, "unipelt")
    wanted = torch.tensor(saved(kind)["unipelt/short"])
    torch.testing.assert_close(states(model.backbone, kind, 4), wanted, rtol=1e-5, atol=1e-5)


def test_either_file_is_read(tmp_path):
    model = interop.from_adapters(folder(tmp_path, "bert", "houlsby", safe=True), backbone("bert"), ["sst"])
    wanted = torch.tensor(saved("bert")["houlsby/states"])
    torch.testing.assert_close(states(model.backbone, "bert"), wanted, rtol=1e-5, atol=1e-5)


def test_it_is_trained_on_and_saved_as_any_model(tmp_path):
    model = interop.from_adapters(folder(tmp_path, "bert", "pfeiffer"), backbone("bert"), ["sst", "quora"])
    assert model.tasks == ("sst", "quora") and model.counts().trainable == 2 * (2 * 16 * 4 + 4 + 16)
