"""What `write.py` has written down of AdapterHub's `adapters`, and its checkpoints as folders."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, T5Config, T5Model

from peftlib.interop import adapterhub


@functools.cache
def saved(kind: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / f"{kind}.npz") as file:
        return dict(file)


def tensors(kind: str, name: str) -> dict[str, torch.Tensor]:
    places, numbers = json.loads(str(saved(kind)[f"{name}/places"])), torch.tensor(saved(kind)[f"{name}/numbers"])
    return {key: numbers[at:][: torch.Size(shape).numel()].view(shape) for key, (at, shape) in places.items()}


def backbone(kind: str, **config) -> torch.nn.Module:
    """That of the file, with the sizes of `write.py`."""
    bert = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    t5 = {"vocab_size": 20, "d_model": 16, "d_ff": 32, "num_layers": 2, "num_heads": 3, "d_kv": 8}
    if kind == "bert":
        model = BertModel(BertConfig(**bert | config, max_position_embeddings=12))
    else:
        model = T5Model(T5Config(**t5 | config, decoder_start_token_id=0))
    wanted, found = model.state_dict().keys(), tensors(kind, "weights")
    model.load_state_dict({name: t for name, t in found.items() if name in wanted}, strict=not config)
    return model.eval()


def folder(
    path: Path,
    kind: str,
    case: str,
    rule: bool = True,
    safe: bool = False,
    change: Callable[[dict], object] | None = None,
    **fields,
) -> Path:
    """A checkpoint as the library has saved it, with other fields. rule: with Compacter's, which it may not have saved."""
    config, found = json.loads(str(saved(kind)[f"{case}/config"])), tensors(kind, case)
    config["config"] |= fields
    if rule and f"{case}/rule" in saved(kind):
        found["shared_parameters.it.phm_rule"] = torch.tensor(saved(kind)[f"{case}/rule"])
    if change:
        change(found)
    (path / adapterhub.CONFIG).write_text(json.dumps(config))
    if safe:
        save_file({name: t.clone() for name, t in found.items()}, path / adapterhub.SAFE_WEIGHTS)
    else:
        torch.save(found, path / adapterhub.WEIGHTS)
    return path
