"""The `config.pbtxt` of a served policy: explicit, so that Triton guesses nothing, and refused where it contradicts itself.

    config       what can be said, as typed values
    message      those values as Triton's own protobuf message, for one server version
    text         that message as a file a person can read and a diff can show
    of_manifest  which config serves a manifest's policy

It knows no network; a GPU is a number.
"""

from export.triton_config.of_manifest import config_of

__all__ = ["config_of"]
