"""The hash that names a model in caches, indexes and records.

A name or a path can be given to other weights tomorrow; a hash cannot.
"""

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

#: Settings of a transformer that do not change a vector.
_IDLE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"}


class Fingerprint:
    """sha256 of a module's weights and settings, worked out again only on change.

    A change is seen by PyTorch's version counter, which an optimiser's step raises,
    and by a sum over the bits of every weight, for edits that the counter misses
    (``weight.data.mul_(2)``). The sum costs a tenth of the hash.
    """

    def __init__(self) -> None:
        self._seen: object = None
        self._value = ""

    def of(self, module: nn.Module, settings: dict[str, Any]) -> str:
        """Return 64 hexadecimal digits for the weights of `module` with `settings`."""
        state = module.state_dict(keep_vars=True)
        versions = [(k, v._version, _bit_sum(v)) for k, v in state.items()]
        written = json.dumps(settings, sort_keys=True)
        if self._seen != (versions, written):
            digest = hashlib.sha256(written.encode())
            for name in sorted(state):
                value = state[name].detach().cpu().contiguous()
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
            self._seen, self._value = (versions, written), digest.hexdigest()
        return self._value


def _bit_sum(value: Tensor) -> int:
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = value.detach().reshape(-1).view(width[value.element_size()])
    return int(bits.sum(dtype=torch.int64))


def idle_settings_removed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a transformer's configuration without what does not change a vector."""
    return {
        key: value
        for key, value in config.items()
        if key not in _IDLE and not key.endswith("_version")
    }
