"""What makes another fleet of a schema, in words."""

from collections.abc import Sequence

from driftloop.fleet.schema import End, Schema, Time

_NAMED = 8
"""Columns that are named where two fleets differ."""


def difference(theirs: Schema, ours: Schema) -> str:
    """What makes another fleet of ours, in words: columns, step of time, end rule, cap; empty for equal digests."""
    said = []
    for kind, there, here in (
        ("setting", theirs.setting_names, ours.setting_names),
        ("sensor", theirs.sensor_names, ours.sensor_names),
    ):
        for verb, some, others in (("has", there, here), ("lacks", here, there)):
            found = [name for name in some if name not in others]
            if found:
                more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
                said.append(f"it {verb} the {kind}{'s' * (len(found) > 1)} {', '.join(found[:_NAMED])}{more}")
    if not said and theirs.columns != ours.columns:
        said.append("its columns are in another order")
    words_here = {channel.name: channel.words for channel in ours.channels}
    for channel in theirs.channels:
        if channel.words != words_here.get(channel.name, channel.words):
            said.append(f"its {channel.name} has {_words_of(channel.words)}, not {_words_of(words_here[channel.name])}")
    for what, theirs_is, ours_is in (
        ("step of time is", _step_of(theirs.time), _step_of(ours.time)),
        ("units end by", _end_of(theirs.end), _end_of(ours.end)),
        ("cap is", str(theirs.cap), str(ours.cap)),
    ):
        if theirs_is != ours_is:
            said.append(f"its {what} {theirs_is}, not {ours_is}")
    return "; ".join(said)


def _words_of(words: Sequence[str]) -> str:
    return f"the values {', '.join(words[:_NAMED])}" if words else "numbers"


def _step_of(time: Time) -> str:
    return f"{time.width:g}{'' if time.kind == 'counter' else ' s'} by {time.kind} ({time.between} value)"


def _end_of(end: End) -> str:
    given = {key: getattr(end, key) for key in ("column", "value", "sensor", "below", "above")}
    shown = "".join(f", {key} = {value!r}" for key, value in given.items() if value is not None)
    return f"{end.rule}{shown}" + (f", {end.needed[0]} of {end.needed[1]} rows" if end.needed != (1, 1) else "")
