"""Every method of the study. The folders are the survey's taxonomy; one file is one method."""

from peftlib.methods.base import METHODS, Expression, Method, PerTask, Sum, method_class, parse
from peftlib.methods.baselines import Full, HeadOnly
from peftlib.methods.reparametrized.lora import LoRA
from peftlib.methods.soft_prompts.prefix import PrefixTuning

__all__ = [
    "METHODS",
    "Expression",
    "Full",
    "HeadOnly",
    "LoRA",
    "Method",
    "PerTask",
    "PrefixTuning",
    "Sum",
    "method_class",
    "parse",
]
