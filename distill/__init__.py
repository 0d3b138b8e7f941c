"""Distill learns a generative model of a musician's own sounds.

`distill.load(path)` reads a model file and returns a `distill.api.Model`, which generates, encodes and decodes.
`distill.model_of(path)` makes a one-shot model of a single recording, without training.
`distill.read_table(path)` reads a table from the pipeline as a pandas data frame. The other names train, check and
describe models. Each name loads on first use.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from distill.exports import lazy_exports
from distill.process import bound_spinning, keep_no_half_modules

if TYPE_CHECKING:
    from distill.api import load as load
    from distill.api import read_table as read_table
    from distill.codec.training import train_vqvae as train_vqvae
    from distill.codes.sequences import flatten_codes as flatten_codes
    from distill.codes.sequences import unflatten_codes as unflatten_codes
    from distill.generate.settings import Delivery as Delivery
    from distill.generate.settings import Sound as Sound
    from distill.novelty.memorization import check_memorization as check_memorization
    from distill.one_shot import model_of as model_of
    from distill.params import PriorConfig as PriorConfig
    from distill.params import VQVAEConfig as VQVAEConfig
    from distill.params import get_adaptive_prior_config as get_adaptive_prior_config
    from distill.params import get_adaptive_vqvae_config as get_adaptive_vqvae_config
    from distill.pipeline.train import train_prior as train_prior
    from distill.prior.flat import CodePrior as CodePrior
    from distill.training import PriorEpochMetrics as PriorEpochMetrics
    from distill.training import PriorMemoryMetrics as PriorMemoryMetrics
    from distill.training import PriorStepMetrics as PriorStepMetrics
    from distill.training import PriorTrainingCompleteEvent as PriorTrainingCompleteEvent
    from distill.training import RollbackEvent as RollbackEvent
    from distill.training import VQEpochMetrics as VQEpochMetrics
    from distill.training import VQStepMetrics as VQStepMetrics
    from distill.training import WatchMetrics as WatchMetrics

keep_no_half_modules(Path(__file__).parent)
bound_spinning()

__version__ = "1.0.0"
_NAMES = {
    "distill.api": ["load", "read_table"],
    "distill.codec.training": ["train_vqvae"],
    "distill.codes.sequences": ["flatten_codes", "unflatten_codes"],
    "distill.generate.settings": ["Delivery", "Sound"],
    "distill.novelty.memorization": ["check_memorization"],
    "distill.params": [
        "PriorConfig",
        "VQVAEConfig",
        "get_adaptive_prior_config",
        "get_adaptive_vqvae_config",
    ],
    "distill.pipeline.train": ["train_prior"],
    "distill.prior.flat": ["CodePrior"],
    "distill.training": [
        *(
            "PriorEpochMetrics",
            "PriorMemoryMetrics",
            "PriorStepMetrics",
            "PriorTrainingCompleteEvent",
            "RollbackEvent",
        ),
        *("VQEpochMetrics", "VQStepMetrics", "WatchMetrics"),
    ],
    "distill.one_shot": ["model_of"],
}
__all__ = sorted(name for names in _NAMES.values() for name in names)
__getattr__ = lazy_exports(__name__, _NAMES)
