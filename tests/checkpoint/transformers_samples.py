"""A model of transformers that transformers itself doesn't have."""

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


class OwnConfig(PreTrainedConfig):
    """A configuration of one number."""

    model_type = "checkpoint-sample"

    def __init__(self, width=3, **options):
        super().__init__(**options)
        self.width = width


class OwnModel(PreTrainedModel):
    """One layer of the configured width."""

    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(config.width, config.width)
        self.post_init()
