"""Every method of the study. The folders are the survey's taxonomy; one file is one method."""

from peftlib.methods.adapters.adaptbert import AdaptBertAdapter
from peftlib.methods.adapters.adapterdrop import AdapterDrop
from peftlib.methods.adapters.compacter import Compacter, CompacterPlusPlus
from peftlib.methods.adapters.houlsby import Houlsby
from peftlib.methods.adapters.lowrank import AdapterLowRank
from peftlib.methods.adapters.pfeiffer import PfeifferAttention, PfeifferFFN
from peftlib.methods.adapters.phm import PHMAdapter
from peftlib.methods.base import METHODS, Expression, Method, PerTask, Sum, method_class, parse
from peftlib.methods.baselines import Full, HeadOnly
from peftlib.methods.multitask.adaptbert_hypernet import AdaptBertHypernet
from peftlib.methods.reparametrized.adalora import AdaLoRA
from peftlib.methods.reparametrized.galore import GaLore
from peftlib.methods.reparametrized.lora import LoRA
from peftlib.methods.reparametrized.said import IntrinsicSAID
from peftlib.methods.selective.bitfit import BitFit
from peftlib.methods.selective.fish import FishMask
from peftlib.methods.selective.layernorm import LayerNormTuning
from peftlib.methods.selective.output import OutputLayer
from peftlib.methods.soft_prompts.prefix import PrefixTuning
from peftlib.methods.soft_prompts.prompt import PromptTuning

__all__ = [
    "METHODS",
    "AdaLoRA",
    "AdaptBertAdapter",
    "AdaptBertHypernet",
    "AdapterDrop",
    "AdapterLowRank",
    "BitFit",
    "Compacter",
    "CompacterPlusPlus",
    "Expression",
    "FishMask",
    "Full",
    "GaLore",
    "HeadOnly",
    "Houlsby",
    "IntrinsicSAID",
    "LayerNormTuning",
    "LoRA",
    "Method",
    "OutputLayer",
    "PHMAdapter",
    "PerTask",
    "PfeifferAttention",
    "PfeifferFFN",
    "PrefixTuning",
    "PromptTuning",
    "Sum",
    "method_class",
    "parse",
]
