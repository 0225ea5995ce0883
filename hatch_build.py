"""Wheels that bring the native engine built.

LIGHTNING_RNN_BUILD_NATIVE=x86-64-v3,x86-64-v4 pip wheel --no-deps --no-build-isolation .
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeEngine(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles ``lightning_rnn/csrc`` for the processors named in the environment; without any, nothing is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and say what belongs into the wheel."""
        named = [name for name in os.environ.get("LIGHTNING_RNN_BUILD_NATIVE", "").split(",") if name]
        if not named:
            return
        sys.path.insert(0, self.root)
        from lightning_rnn.layers.native_library import ahead, build

        for architecture in named:
            output = ahead(architecture)
            build(output, architecture)
            build_data["artifacts"].append(str(output.relative_to(self.root)))
        build_data["pure_python"], build_data["infer_tag"] = False, True
