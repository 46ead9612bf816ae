"""The base class of networks that are trained on examples: their weights are exported and imported by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from torch import nn


class TaskNetwork(nn.Module, ABC):
    """A network whose weights are float32 arrays with names."""

    @abstractmethod
    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights by name."""

    @abstractmethod
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights with the same names and shapes into the network."""
