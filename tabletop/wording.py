"""Which sentences are said to the policy."""

from enum import StrEnum


class Wording(StrEnum):
    """Which sentences are used."""

    PLAIN = "plain"  # "pick up red cube"
    TRAINING = "training"  # the training grammar
    HELD_OUT = "held_out"  # forms and words never trained on
