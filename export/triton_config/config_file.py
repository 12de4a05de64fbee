"""One `config.pbtxt`: a config and the oldest server that must be able to load it.

Used by `of_manifest` and by whoever writes a config by hand. It opens no file.
"""

from dataclasses import dataclass

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.triton_config.config import TritonConfig
from export.triton_config.message import message_of
from export.triton_config.server_version import EMBEDDED, ServerVersion
from export.triton_config.text import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """What `config.pbtxt` says. `server` is the oldest release that must load it; later ones do, too."""

    config: TritonConfig
    server: ServerVersion = EMBEDDED

    def message(self) -> ModelConfig:
        """As Triton's own type."""
        return message_of(self.config, self.server)

    def text(self) -> str:
        """The file's text; the same config gives the same bytes."""
        comments = (
            "Written by `vlaapi export`; change export/triton_config/, not this file.",
            f"For Triton {self.server} and later. What is not here is 0 or off: timeout_action is REJECT, the cache is off.",
        )
        return text_of(self.message(), comments)
