"""The network: raw rows in; RUL, interval, regime and the normalised newest row out.

Selecting the newest rows, padding, regimes and normalisation are part of the graph, so that whoever serves it
needs no preprocessing code. What depends on the number of regimes are buffers; the weights do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from driftloop.fleet.labels import bands
from driftloop.fleet.schema import Schema, UseSettings
from driftloop.model.regimes import RADIUS, Regimes
from driftloop.model.signature import UNSEEN_REGIME
from driftloop.training.filling import hold
from driftloop.training.intervals import ATOMS, NOMINAL

CLIP = 6.0
"""Normalised sensors are clipped to +-6 for the weights: beyond it there is nothing they could have learnt."""
SHOWN_CLIP = 1e6
"""`newest` is clipped here, so that no input, however far off, gives an infinite answer."""
INPUT_CLIP = 1e9
FED = 4.0
"""Settings over their whole span are this wide where the weights see them: about as wide as a normalised sensor."""
AGE_UNIT = 100.0
"""Rows that are 1 where the weights see an age."""
WIDTHS = (5, 15, 40, 100, 256)
"""Newest rows that means and changes are taken over, as far as the window reaches."""
SMALLEST_SPREAD = 1e-9
"""Keeps the slope of a single row, which has none, at zero."""
ROUNDING = 1e-5
"""What sums of weights may be off by."""
LARGEST = 1e9
"""Steps; further than any label."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of the network."""

    window: int = 256
    """Newest rows that it looks at."""
    oldest: int = 30
    """Oldest rows of the window whose mean is what a unit was like when it was new, as far as the window reaches."""
    health: int = 8
    """Health indices: sums of the sensors that take the sensors' place, with weights that are learnt, the same for each
    statistic. 0: the sensors themselves."""
    perceptron: int = 256
    """Units of the first layer; the second has half as many."""
    members: int = 1
    """Perceptrons that answer together, by their mean; several are taught without a part of the units each."""
    standardised: bool = False
    """Whether the statistics are brought to mean 0 and standard deviation 1 over the training windows."""

    @property
    def crossed(self) -> bool:
        """Whether intervals are by CV+, from members that do not know each other's units."""
        return self.members > 1

    def __post_init__(self) -> None:
        for name, least in (("window", 2), ("oldest", 1), ("health", 0), ("perceptron", 2), ("members", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be {least} or more")


@dataclass(frozen=True)
class Form:
    """What the rows and labels of a fleet are to a network."""

    settings: int
    sensors: int
    cap: int
    """Steps."""
    counted: bool
    """NaN is a missing value, and leading rows without any value are no rows; else a repeated row is padding."""
    use: UseSettings
    """How sensors are normalised: by `regimes`, by a regression on `continuous` settings, which the weights see too, or
    all alike (`none`)."""

    @classmethod
    def of(cls, schema: Schema, cap: int) -> "Form":
        """The form of a fleet whose labels are capped at `cap` steps."""
        return cls(schema.n_settings, schema.n_sensors, cap, schema.padding == "counted", schema.use_settings)

    @property
    def channels(self) -> int:
        """What the weights see of a row, besides that it is one."""
        return self.sensors + (self.settings if self.use == "continuous" else 0)


class Outputs(NamedTuple):
    """The graph's outputs, in its order; see driftloop.model.signature for their meaning."""

    rul: Tensor
    lower: Tensor
    upper: Tensor
    regime: Tensor
    newest: Tensor


class RulNetwork(nn.Module):  # type: ignore[misc]
    """A perceptron, or the mean of several, on rolling statistics, for RUL and the two quantiles of the interval."""

    centres: Tensor
    mean: Tensor
    std: Tensor
    varies: Tensor
    scales: Tensor
    offsets: Tensor
    bands: Tensor
    scores: Tensor
    score_weights: Tensor
    weighing: Tensor
    slopes: Tensor
    known: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, architecture: Architecture, regimes: Regimes, form: Form) -> None:
        super().__init__()
        self.architecture, self.form = architecture, form
        self.widths = (*(width for width in WIDTHS if width < architecture.window), architecture.window)
        of_each = 2 * len(self.widths) + 1
        self.health = _indices(form.channels, architecture.health)
        sizes = (
            of_each * (architecture.health or form.channels) + 1,
            architecture.perceptron,
            architecture.perceptron // 2,
        )
        self.members = nn.ModuleList(_perceptron(*sizes) for _ in range(architecture.members))
        self.register_buffer("weighing", _weighing(self.widths, architecture.window))
        if architecture.standardised:
            self.register_buffer("centre", torch.zeros(of_each * form.channels + 1))
            self.register_buffer("spread", torch.ones(of_each * form.channels + 1))
        self.register_buffer("scales", torch.from_numpy(regimes.scales.astype("float32")))
        self.register_buffer("centres", torch.from_numpy(regimes.centres))
        self.register_buffer("mean", torch.from_numpy(regimes.mean))
        self.register_buffer("std", torch.from_numpy(regimes.std))
        self.register_buffer("varies", torch.from_numpy(regimes.varies))
        if form.use == "continuous":
            self.register_buffer("slopes", torch.from_numpy(regimes.slopes))
            self.register_buffer("known", torch.from_numpy(regimes.known))
        # Conformal correction of both ends, in steps, for labels of each band (driftloop.training.intervals).
        self.register_buffer("offsets", torch.zeros(len(bands(form.cap))))
        self.register_buffer("bands", torch.tensor(bands(form.cap), dtype=torch.float32))
        if architecture.crossed:
            self.register_buffer("scores", torch.zeros(architecture.members, ATOMS))
            self.register_buffer("score_weights", torch.zeros(architecture.members, ATOMS))

    def forward(self, rows: Tensor) -> Outputs:
        """`rows` `[batch, steps >= 1, columns]`, raw units, oldest first."""
        window = self.architecture.window
        # Indexing from the end with a clamp takes the newest rows of a long history and repeats the first
        # row of a short one; reading the length off the shape as a tensor keeps it dynamic in the export.
        cycles = torch._shape_as_tensor(rows)[1]
        index = (torch.arange(window) + (cycles - window)).clamp(min=0)
        rows = rows[:, index]
        if self.form.counted:
            return self.counted(rows, torch.arange(window) >= window - cycles)
        rows = rows.clamp(-INPUT_CLIP, INPUT_CLIP)
        normalised, regime = self.normalise(rows)
        seen = self.regime_of_newest(rows, regime)
        return self.outputs(self.for_weights(rows, normalised, regime), seen, normalised)

    def counted(self, rows: Tensor, is_there: Tensor) -> Outputs:
        """The answers to rows `[batch, window, columns]`, of which `is_there` `[window]` are not repeated padding."""
        inputs, settings, regime, normalised = self.filled(rows, is_there)
        return self.outputs(inputs, self.regime_of_newest(settings, regime), normalised.transpose(-1, -2))

    def filled(self, rows: Tensor, is_there: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the weights see of rows `[..., steps, columns]` with NaN where a value is missing, `[..., channels + 1,
        steps]`: the last value is held, and before the first one a sensor reads what is usual where the unit is run.

        Beside it the settings `[..., steps, settings]`, held likewise, each row's regime `[..., steps]`, and the
        normalised sensors `[..., sensors, steps]`, neither clipped nor masked.
        """
        there = (~torch.isnan(rows)).to(torch.float32) * is_there.to(torch.float32).unsqueeze(-1)
        values = torch.where(there > 0, rows, torch.zeros_like(rows)).clamp(-INPUT_CLIP, INPUT_CLIP)
        n, settings = self.form.settings, values[..., : self.form.settings]
        if self.form.use != "none":
            usual = self.centres[0].unsqueeze(-1)
            held = hold(settings.transpose(-1, -2) - usual, there[..., :n].transpose(-1, -2))
            settings = (held + usual).transpose(-1, -2)
        normalised, regime = self.normalise(torch.cat([settings, values[..., n:]], dim=-1))
        sensors = (normalised.clamp(-CLIP, CLIP) * self.varies[regime]).transpose(-1, -2)
        present = there[..., n:].transpose(-1, -2)
        shown = hold(normalised.transpose(-1, -2), present)
        seen = hold(sensors, present)
        if self.form.use == "continuous":
            fed = ((settings - self.centres[0]) / self.scales * FED).clamp(-CLIP, CLIP)
            seen = torch.cat([seen, fed.transpose(-1, -2)], dim=-2)
        # Rows before the first value are no rows; the newest one is in any case.
        begun = (there.amax(-1).cumsum(-1) > 0).to(torch.float32)
        is_row = torch.cat([begun[..., :-1], torch.ones_like(begun[..., :1])], dim=-1).unsqueeze(-2)
        return torch.cat([seen * is_row, is_row], dim=-2), settings, regime, shown

    def regime_of_newest(self, rows: Tensor, regime: Tensor) -> Tensor:
        """The regime of the newest row, `[batch]`; UNSEEN_REGIME where its settings are beyond what was seen."""
        nearest = regime[:, -1]
        if self.form.use == "none":
            return nearest
        if self.form.use == "continuous":
            settings = rows[:, -1, : self.form.settings]
            beyond = ((settings < self.known[0]) | (settings > self.known[1])).any(-1)
            return nearest.masked_fill(beyond, UNSEEN_REGIME)
        # As in `normalise`, for all rows: ONNX Runtime merges the two, which costs less than the newest row by itself.
        distance = self.distances(rows)[..., -1].amin(-1)
        return nearest.masked_fill(distance > RADIUS**2, UNSEEN_REGIME)

    def outputs(self, inputs: Tensor, regime: Tensor, normalised: Tensor) -> Outputs:
        """The graph's outputs from what the weights see, the newest row's regime, and normalised sensors, `[batch,
        steps, sensors]`."""
        rul, lower, upper = self.answer(inputs)
        if self.form.counted:
            # Nothing is known of units that are run as none was: the interval says so.
            strange = regime == UNSEEN_REGIME
            lower, upper = lower.masked_fill(strange, 0.0), upper.masked_fill(strange, float(self.form.cap))
        return Outputs(rul, lower, upper, regime, normalised[:, -1].clamp(-SHOWN_CLIP, SHOWN_CLIP))

    def answer(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """RUL and both ends of its interval, steps, each `[batch]`, from what the weights see."""
        return self.answered(self.statistics(inputs))

    def answered(self, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from `statistics`."""
        if not self.architecture.crossed:
            return self.interval(self.estimated(statistics) * self.form.cap)
        each = torch.stack(self.by_members(statistics), dim=1) * self.form.cap
        return self.interval(each.mean(1), (self.crossed(each[..., 1]), -self.crossed(-each[..., 2])))

    def crossed(self, ends: Tensor) -> Tensor:
        """How low a label may be, `[batch, 1]`, from the lower quantiles of all members, `[batch, members]`: CV+'s
        quantile of these less the scores of units that the member has not seen.

        It is minus infinity, or as good as, where there are too few units.
        """
        values = (ends.unsqueeze(-1) - self.scores).flatten(1)
        falling, order = values.sort(dim=-1, descending=True)
        before = (self.score_weights.flatten()[order].cumsum(-1) < NOMINAL - ROUNDING).sum(-1, keepdim=True)
        nothing = torch.full_like(falling[:, :1], -LARGEST)
        return torch.cat([falling, nothing], dim=-1).gather(-1, before)

    def interval(self, estimate: Tensor, reach: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """RUL and both ends of its interval, steps, each `[n]`, from RUL and quantiles `[n, 3]` in steps.

        The interval goes from the least to the largest label that is no further outside of `reach`, how low and how
        high a label may be, `[n, 1]` each, than its band's offset; by default that is outside of the quantiles. Where
        CV+ has set the reach, offsets are 0 unless first aid widens the interval. Taking in what lies between, and
        the prediction, can only add coverage: calibration holds.
        """
        rul = estimate[:, 0].clamp(0.0, float(self.form.cap))
        first, last = self.bands[:, 0], self.bands[:, 1]
        lower = torch.maximum((reach[0] if reach else estimate[:, 1:2]) - self.offsets, first)
        upper = torch.minimum((reach[1] if reach else estimate[:, 2:3]) + self.offsets, last)
        holds = lower <= upper
        # A band of which no label is held gives way to the prediction.
        lower = torch.where(holds, lower, rul[:, None]).amin(-1)
        upper = torch.where(holds, upper, rul[:, None]).amax(-1)
        return rul, torch.minimum(lower, rul), torch.maximum(upper, rul)

    def normalise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sensors `[batch, cycles, sensors]` normalised by their nearest regime, and that regime `[batch, cycles]`."""
        n = self.form.settings
        if self.form.use == "regimes":
            regime = self.distances(rows).argmin(-2)
            return (rows[..., n:] - self.mean[regime]) / self.std[regime], regime
        expected = self.mean[0]
        if self.form.use == "continuous":
            expected = expected + (rows[..., :n] - self.centres[0]) / self.scales @ self.slopes
        return (rows[..., n:] - expected) / self.std[0], torch.zeros_like(rows[..., 0]).long()

    def distances(self, rows: Tensor) -> Tensor:
        """Squared distance of each row's settings from each regime's centre, in scales, `[batch, regimes, cycles]`."""
        settings = rows.transpose(-1, -2)[..., : self.form.settings, :] / self.scales.unsqueeze(-1)
        apart = settings.unsqueeze(-3) - (self.centres / self.scales).unsqueeze(-1)
        return (apart * apart).sum(-2)

    def for_weights(self, rows: Tensor, normalised: Tensor, regime: Tensor) -> Tensor:
        """What the weights see of rows `[..., cycles, columns]`: `[..., sensors + 1, cycles]`, all zero for padding.

        That is the normalised sensors of each row, and a 1 by which it differs from padding. Cycles come last, as ONNX
        Runtime is slow where few numbers lie beside each other.

        Sensors are clipped, and zero where they are constant in their regime. A row that the next one repeats in
        all columns is padding, whoever put it there: measured rows never agree, as their noise differs. That the
        weights can tell padding from rows lets them know a young engine by its age.
        """
        sensors = (normalised.clamp(-CLIP, CLIP) * self.varies[regime]).transpose(-1, -2)
        changes = (rows[..., 1:, :] - rows[..., :-1, :]).abs().amax(-1) > 0
        # The newest row is one in any case.
        is_row = nn.functional.pad(changes.to(sensors.dtype), (0, 1), value=1.0).unsqueeze(-2)
        return torch.cat([sensors * is_row, is_row], dim=-2)

    def estimated(self, statistics: Tensor) -> Tensor:
        """RUL, lower and upper quantile `[batch, 3]` in caps, from `statistics`."""
        answers = self.by_members(statistics)
        return answers[0] if len(answers) == 1 else torch.stack(answers).mean(0)

    def by_members(self, statistics: Tensor) -> list[Tensor]:
        """What each perceptron estimates by itself, as in `estimated`."""
        if self.architecture.standardised:
            statistics = (statistics - self.centre) / self.spread
        of_sensors = statistics[:, :-1].reshape(-1, self.form.channels, 2 * len(self.widths) + 1)
        shown = torch.cat([self.health(of_sensors).flatten(1), statistics[:, -1:]], dim=-1)
        return [member(shown) for member in self.members]

    def youth(self, inputs: Tensor) -> Tensor:
        """Each sensor's mean over the window's oldest rows, `[batch, sensors, 1]`."""
        is_row = inputs[:, self.form.channels :]
        oldest = is_row * (is_row.cumsum(-1) <= self.architecture.oldest)
        sums = inputs @ oldest.transpose(1, 2)
        return sums[:, : self.form.channels] / sums[:, self.form.channels :]

    def statistics(self, inputs: Tensor) -> Tensor:
        """What a perceptron is shown: `[batch, sensors * (2 * widths + 1) + 1]`.

        Each sensor's mean over each of the widths, then its change over each of them, and its mean over the oldest
        rows; at last the rows so far. The change is the least-squares slope times the width; where rows are missing it
        is made smaller by the square of the share that is there, as slopes over few rows are noise.
        """
        of_sensors, of_rows = (inputs @ self.weighing).split([self.form.channels, 1], dim=1)
        sums, place_sums, _ = of_sensors.split(len(self.widths), dim=-1)
        rows, place_sum, square_sum = of_rows.split(len(self.widths), dim=-1)
        mean, place = sums / rows, place_sum / rows
        spread = (square_sum / rows - place * place).clamp(min=SMALLEST_SPREAD)
        slope = (place_sums / rows - mean * place) / spread
        change = slope * (rows / rows.new_tensor(self.widths)) ** 2
        shown = torch.cat([mean, change, self.youth(inputs)], dim=-1)
        return torch.cat([shown.flatten(1), rows[:, 0, -1:] / AGE_UNIT], dim=-1)


def _indices(sensors: int, health: int) -> nn.Module:
    """Sums of the sensors, `[batch, sensors, n]` to `[batch, health, n]`; the sensors themselves for `health` 0."""
    if not health:
        return nn.Identity()
    sums = nn.Conv1d(sensors, health, 1, bias=False)
    nn.init.orthogonal_(sums.weight)
    return sums


def _perceptron(*sizes: int) -> nn.Sequential:
    """Layers of these sizes, the first one being the input's, and three outputs."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    last = nn.Linear(sizes[-1], 3)
    # Start from the middle of the labels instead of spending the first steps on getting there.
    nn.init.constant_(last.bias, 0.6)
    return nn.Sequential(*layers, last)


def _weighing(widths: Sequence[int], window: int) -> Tensor:
    """Weights by which rows are added up, `[window, 3 * widths]`: 1, place and squared place within each width."""
    sums = torch.zeros(window, 3, len(widths))
    for number, width in enumerate(widths):
        place = torch.arange(1 - width, 1) / width
        sums[window - width :, :, number] = torch.stack([place**0, place, place**2], dim=-1)
    return sums.flatten(1)
