"""Every method on one task: what its own page trains."""

from __future__ import annotations

from peftlib.grids import Preset, experiment, make_run
from peftlib.records import Run

# One configuration a method, on one task: what each method's own page trains, and what they are compared by.
METHOD_RUNS = {
    "Full": "Full()",
    "HeadOnly": "HeadOnly()",
    "LoRA": "LoRA(rank=8)",
    "AdaptBertAdapter": "AdaptBertAdapter(bottleneck=64)",
    "LoRA+Adapter": "LoRA(rank=8) + PerTask(AdaptBertAdapter(bottleneck=64))",
    "AdaptBertHypernet": "AdaptBertHypernet(bottleneck=32)",
    "Houlsby": "Houlsby(bottleneck=64)",
    "PfeifferAttention": "PfeifferAttention(bottleneck=64)",
    "PfeifferFFN": "PfeifferFFN(bottleneck=64)",
    "AdapterDrop": "AdapterDrop(bottleneck=64, drop=2)",  # of MiniLM's 6 blocks; the paper's 5 of 12 is nearest to that
    "AdapterLowRank": "AdapterLowRank(bottleneck=24)",
    "PHMAdapter": "PHMAdapter(n=4, bottleneck=24)",
    "Compacter": "Compacter()",
    "CompacterPlusPlus": "CompacterPlusPlus()",
    "PrefixTuning": "PrefixTuning(length=30)",
    "PromptTuning": "PromptTuning(length=100)",
    "BitFit": "BitFit()",
    "LayerNormTuning": "LayerNormTuning()",
    "FishMask": "FishMask(fraction=0.005, examples=128)",
    "AdaLoRA": "AdaLoRA()",
    "GaLore": "GaLore(rank=64)",
    "IntrinsicSAID": "IntrinsicSAID(dimension=20000)",
}


@experiment("methods/sst")
def methods_on_sst(preset: Preset) -> list[Run]:
    """Every method on one task, single-task."""
    return [make_run(preset, method, ("sst",), label=label) for label, method in METHOD_RUNS.items()]
