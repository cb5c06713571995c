"""Write ``bert.npz`` and ``t5.npz``: what AdapterHub's `adapters` saves and answers, for `tests/test_adapterhub.py`.

`adapters` is pinned to an older transformers than this project's, so it answers once, in an environment of its own:

    python -m venv /tmp/adapterhub && /tmp/adapterhub/bin/pip install adapters==1.3.0 torch
    /tmp/adapterhub/bin/python tests/adapterhub/write.py

A file holds a tiny backbone of random weights, two texts, and for every configuration the checkpoint (its JSON, its
tensors, each distinct one once) and the last states. Adapters are drawn at random, far from where they start. `rule` is
Compacter's shared rule where the checkpoint lacks it: of models without a head the library saves none. `short` are the last
states of texts without padding, of a T5 without position bias.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import adapters
import numpy as np
import torch
import transformers
from adapters import (
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    MAMConfig,
    ParBnConfig,
    PrefixTuningConfig,
    SeqBnConfig,
    UniPELTConfig,
)

HERE, NAME = Path(__file__).parent, "it"
# A sequential adapter that reads the sublayer's output alone; the library's default adds the residual and a norm before it.
PLAIN = {"reduction_factor": 4, "original_ln_before": False}
PREFIX = {"prefix_length": 3, "bottleneck_size": 8}
CONFIGS = {
    "houlsby": DoubleSeqBnConfig(reduction_factor=4),
    "pfeiffer": SeqBnConfig(**PLAIN),
    "pfeiffer_default": SeqBnConfig(reduction_factor=4),
    "parallel": ParBnConfig(reduction_factor=4, scaling=1.0),
    "scaled": ParBnConfig(reduction_factor=4, scaling=4.0),
    "learned": ParBnConfig(reduction_factor=4, scaling="learned"),
    "compacter": CompacterConfig(reduction_factor=4, phm_dim=2, non_linearity="gelu_new"),
    "compacter_default": CompacterConfig(reduction_factor=4, phm_dim=2),
    "compacterpp": CompacterPlusPlusConfig(phm_dim=2, non_linearity="gelu_new", phm_rank=2, **PLAIN),
    "some_layers": DoubleSeqBnConfig(reduction_factor=4, leave_out=[0]),
    "prefix": PrefixTuningConfig(**PREFIX),
    "prefix_flat": PrefixTuningConfig(prefix_length=3, flat=True),
    "mam": MAMConfig(PrefixTuningConfig(**PREFIX), ParBnConfig(reduction_factor=4, scaling=2.0)),
    "ia3": IA3Config(),
    "unipelt": UniPELTConfig(
        PrefixTuningConfig(**PREFIX, use_gating=True),
        SeqBnConfig(**PLAIN, use_gating=True),
        LoRAConfig(r=2, use_gating=True),
    ),
}
IDS = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 0, 0]])
MASK = (IDS > 0).long()
DECODER = torch.tensor([[0, 5, 6], [0, 7, 8]])


def bert() -> torch.nn.Module:
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, max_position_embeddings=12))


def t5() -> torch.nn.Module:
    """Heads x head size is not the width."""
    sizes = {"vocab_size": 20, "d_model": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3, "d_kv": 8}
    return transformers.T5Model(transformers.T5Config(**sizes, decoder_start_token_id=0))


def drawn(module: torch.nn.Module, seed: int, only: str = "") -> None:
    """Every number anew; vectors that scale around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if only in name:
                p.copy_((0.4 * torch.randn(p.shape, generator=generator)).half())  # files of half the size
                if name.endswith((".scaling", ".lora_B")) and p.shape[-1] == 1 or "orm.weight" in name:
                    p.copy_((0.5 + torch.rand(p.shape, generator=generator)).half())


@torch.no_grad()
def last_states(model: torch.nn.Module, **given: torch.Tensor) -> np.ndarray:
    base = model.base_model.eval()
    return base(**given, **({"decoder_input_ids": DECODER} if base.config.is_encoder_decoder else {}))[0].numpy()


def packed(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as one array of all numbers, and where in it each is, with its shape: files of many arrays are large."""
    places, flat, at = {}, [], 0
    for key, tensor in tensors.items():
        same = [places[other] for other in places if torch.equal(tensors[other], tensor)]
        places[key] = same[0] if same else (at, list(tensor.shape))
        if not same:
            flat.append(tensor.flatten().float())
            at += tensor.numel()
    return {f"{name}/places": np.array(json.dumps(places)), f"{name}/numbers": torch.cat(flat).numpy()}


def write(kind: str, make) -> None:
    found: dict[str, np.ndarray] = {"ids": IDS.numpy(), "mask": MASK.numpy(), "decoder": DECODER.numpy()}
    plain = make()
    drawn(plain, seed=1)
    weights = {name: t.clone() for name, t in plain.state_dict().items()}
    found |= packed("weights", plain.base_model.state_dict())
    for seed, (case, config) in enumerate(CONFIGS.items(), start=2):
        model = make()
        model.load_state_dict(weights)
        adapters.init(model)
        model.add_adapter(NAME, config=config)
        model.set_active_adapters(NAME)
        drawn(model, seed, only=f".{NAME}." if kind == "bert" else f"{NAME}.")
        with tempfile.TemporaryDirectory() as folder:
            model.save_adapter(folder, NAME, with_head=False)
            found[f"{case}/config"] = np.array(Path(folder, "adapter_config.json").read_text())
            tensors = torch.load(Path(folder, "pytorch_adapter.bin"), weights_only=True)
        found |= packed(case, tensors)
        rules = [p for name, p in model.named_parameters() if name.endswith("phm_rule")]
        if rules and not any(name.endswith("phm_rule") for name in tensors):
            found[f"{case}/rule"] = rules[0].detach().numpy()
        found[f"{case}/states"] = last_states(model, input_ids=IDS, attention_mask=MASK)
        for name, p in model.named_parameters():
            p.data.mul_("relative_attention_bias" not in name)
        found[f"{case}/short"] = last_states(model, input_ids=IDS[:, :4], attention_mask=MASK[:, :4])
    found["plain/states"] = last_states(plain, input_ids=IDS, attention_mask=MASK)
    np.savez_compressed(HERE / f"{kind}.npz", **found)


if __name__ == "__main__":
    write("bert", bert)
    write("t5", t5)
