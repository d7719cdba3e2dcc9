"""The network: raw rows in; RUL, interval, regime and the normalised newest row out.

Selecting the newest rows, padding, regimes and normalisation are part of the graph, so that whoever serves it
needs no preprocessing code. What depends on the number of regimes are buffers; the weights do not.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from driftloop.bundle import UNSEEN_REGIME
from driftloop.cmapss.schema import N_SENSORS, N_SETTINGS, RUL_CAP
from driftloop.rul.intervals import BANDS
from driftloop.rul.regimes import RADIUS, SCALES, Regimes

CLIP = 6.0
"""Normalised sensors are clipped to +-6 for the LSTM: beyond it there is nothing it could have learnt."""
SHOWN_CLIP = 1e6
"""`newest` is clipped here, so that no input, however far off, gives an infinite answer."""
INPUT_CLIP = 1e9
N_INPUTS = N_SENSORS + 1
"""What is cut into windows of a row: its normalised sensors, and a 1 by which it differs from padding."""
N_HISTORY = N_SENSORS + 1
"""What a row says by its place in the window: how sensors have changed, and the rows so far in units of AGE_UNIT."""
AGE_UNIT = 100.0


@dataclass(frozen=True)
class Architecture:
    """The sizes of the network."""

    window: int = 60
    """Newest rows that it looks at."""
    kernel: int = 4
    conv_stride: int = 4
    channels: int = 32
    hidden: int = 64
    layers: int = 2
    dropout: float = 0.1
    oldest: int = 0
    """Oldest rows of the window whose mean is what a sensor's change is measured from.

    Engines differ from new on, so a window that reaches back to an engine's youth says more by how it has changed.
    0, for short windows: the weights see neither change nor age.
    """

    def __post_init__(self) -> None:
        if self.window < self.kernel or (self.window - self.kernel) % self.conv_stride:
            raise ValueError(
                f"a kernel of {self.kernel} in steps of {self.conv_stride} does not end on row {self.window}: "
                "the newest rows would be ignored"
            )


class Outputs(NamedTuple):
    """The graph's outputs, in its order; see driftloop.bundle for their meaning."""

    rul: Tensor
    lower: Tensor
    upper: Tensor
    regime: Tensor
    newest: Tensor


class RulNetwork(nn.Module):  # type: ignore[misc]
    """A causal strided convolution, an LSTM, and a head for RUL and the two quantiles of the interval."""

    centres: Tensor
    mean: Tensor
    std: Tensor
    varies: Tensor
    scales: Tensor
    offsets: Tensor
    bands: Tensor

    def __init__(self, architecture: Architecture, regimes: Regimes) -> None:
        super().__init__()
        self.architecture = architecture
        channels = N_INPUTS + (N_HISTORY if architecture.oldest else 0)
        self.conv = nn.Conv1d(channels, architecture.channels, architecture.kernel, architecture.conv_stride)
        self.lstm = nn.LSTM(
            architecture.channels,
            architecture.hidden,
            architecture.layers,
            batch_first=True,
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
        )
        self.head = nn.Sequential(nn.Linear(architecture.hidden, 32), nn.ReLU(), nn.Linear(32, 3))
        # Start from the middle of the labels instead of spending the first steps on getting there.
        nn.init.constant_(self.head[-1].bias, 0.6)
        self.register_buffer("scales", torch.tensor(SCALES, dtype=torch.float32))
        self.register_buffer("centres", torch.from_numpy(regimes.centres))
        self.register_buffer("mean", torch.from_numpy(regimes.mean))
        self.register_buffer("std", torch.from_numpy(regimes.std))
        self.register_buffer("varies", torch.from_numpy(regimes.varies))
        # Conformal correction of both ends, in cycles, for labels of each band (driftloop.rul.intervals).
        self.register_buffer("offsets", torch.zeros(len(BANDS)))
        self.register_buffer("bands", torch.tensor(BANDS, dtype=torch.float32))

    def forward(self, rows: Tensor) -> Outputs:
        """`rows` `[batch, cycles >= 1, 24]`, raw units, oldest first."""
        window = self.architecture.window
        # Indexing from the end with a clamp takes the newest rows of a long history and repeats the first
        # row of a short one; reading the length off the shape as a tensor keeps it dynamic in the export.
        cycles = torch._shape_as_tensor(rows)[1]
        index = (torch.arange(window) + (cycles - window)).clamp(min=0)
        rows = rows[:, index].clamp(-INPUT_CLIP, INPUT_CLIP)
        normalised, regime = self.normalise(rows)
        nearest = regime[:, -1]
        settings = rows[:, -1, :N_SETTINGS]
        distance = (((settings - self.centres[nearest]) / self.scales) ** 2).sum(-1)
        seen = torch.where(distance <= RADIUS**2, nearest, torch.full_like(nearest, UNSEEN_REGIME))
        estimate = self.estimate(self.for_lstm(rows, normalised, regime)) * RUL_CAP
        rul, lower, upper = self.interval(estimate)
        shown = normalised[:, -1].clamp(-SHOWN_CLIP, SHOWN_CLIP)
        return Outputs(rul, lower, upper, seen, shown)

    def interval(self, estimate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """RUL and both ends of its interval, cycles, each `[n]`, from RUL and quantiles `[n, 3]` in cycles.

        The interval goes from the least to the largest label that is not further outside the quantiles than its
        band's offset. Taking in what lies between, and the prediction, can only add coverage: calibration holds.
        """
        rul = estimate[:, 0].clamp(0.0, float(RUL_CAP))
        first, last = self.bands[:, 0], self.bands[:, 1]
        lower = torch.maximum(estimate[:, 1:2] - self.offsets, first)
        upper = torch.minimum(estimate[:, 2:3] + self.offsets, last)
        holds = lower <= upper
        # A band of which no label is held gives way to the prediction.
        lower = torch.where(holds, lower, rul[:, None]).amin(-1)
        upper = torch.where(holds, upper, rul[:, None]).amax(-1)
        return rul, torch.minimum(lower, rul), torch.maximum(upper, rul)

    def normalise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sensors `[batch, cycles, 21]` normalised by their nearest regime, and that regime `[batch, cycles]`."""
        settings, sensors = rows[..., :N_SETTINGS], rows[..., N_SETTINGS:]
        distance = (((settings.unsqueeze(-2) - self.centres) / self.scales) ** 2).sum(-1)
        regime = distance.argmin(-1)
        return (sensors - self.mean[regime]) / self.std[regime], regime

    def for_lstm(self, rows: Tensor, normalised: Tensor, regime: Tensor) -> Tensor:
        """What the weights see of consecutive rows `[..., cycles, 24]`: `[..., cycles, 22]`, all zero for padding.

        Sensors are clipped, and zero where they are constant in their regime. A row that the next one repeats in
        all 24 columns is padding, whoever put it there: measured rows never agree, as their noise differs. That the
        weights can tell padding from rows lets them know a young engine by its age.
        """
        sensors = normalised.clamp(-CLIP, CLIP) * self.varies[regime]
        ones = torch.ones_like(sensors[..., :1])
        changes = (rows[..., 1:, :] - rows[..., :-1, :]).abs().amax(-1, keepdim=True) > 0
        is_row = torch.cat([changes.to(sensors.dtype), ones[..., -1:, :]], dim=-2)
        return torch.cat([sensors, ones], dim=-1) * is_row

    def estimate(self, inputs: Tensor) -> Tensor:
        """RUL, lower and upper quantile `[batch, 3]` in units of the cap, from inputs `[batch, window, 22]`."""
        if self.architecture.oldest:
            inputs = torch.cat([inputs, self.history(inputs)], dim=-1)
        features = torch.relu(self.conv(inputs.transpose(1, 2))).transpose(1, 2)
        hidden, _ = self.lstm(features)
        out: Tensor = self.head(hidden[:, -1])
        return out

    def history(self, inputs: Tensor) -> Tensor:
        """Each sensor's difference from its mean over the window's oldest rows, and the rows so far, `[..., 22]`."""
        sensors, is_row = inputs[..., :N_SENSORS], inputs[..., N_SENSORS:]
        age = is_row.cumsum(1)
        oldest = is_row * (age <= self.architecture.oldest)
        before = (sensors * oldest).sum(1, keepdim=True) / oldest.sum(1, keepdim=True)
        return torch.cat([(sensors - before) * is_row, age / AGE_UNIT], dim=-1)
