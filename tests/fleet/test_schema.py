"""The fleet file: what it means, how it is written, and how everything that is wrong with one is told."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop import fleets
from driftloop.errors import FleetError
from driftloop.fleet import fleet_file, names, schema
from driftloop.fleet.difference import difference
from driftloop.fleet.fleet_file import KEYS, parse
from driftloop.fleet.fleet_writer import toml_text
from driftloop.fleet.schema import Censored, Channel, End, Schema, Time

DOCS = Path(__file__).parents[2] / "docs" / "fleet-file.md"

PUMPS = """\
name = "pumps"
unit_column = "pump"
settings = ["load"]
sensors = [
  "vibration",  # [mm/s]
  { name = "temperature", source = "Temp. (°C)", range = [-20, 120] },
]

[time]
column = "hour"
"""


def test_a_short_file_means_what_its_defaults_say() -> None:
    pumps = parse(PUMPS.encode(), "fleet.toml")

    assert pumps == Schema(
        name="pumps",
        unit="unit",
        step="step",
        unit_column="pump",
        time=Time(column="hour", kind="counter", every=None, between="last"),
        settings=(Channel(name="load", missing="hold"),),
        sensors=(
            Channel(name="vibration"),
            Channel(name="temperature", source="Temp. (°C)", range=(-20, 120)),
        ),
        end=End(rule="last_row"),
        censored=Censored(),
        cap="auto",
        use_settings="regimes",
        least={"train": 5, "early_stop": 1, "calibrate": 2, "gate": 3, "live": 0},
        padding="counted",
    )
    assert pumps.columns == ("load", "vibration", "temperature")
    assert (pumps.n_settings, pumps.n_sensors, pumps.n_columns) == (1, 2, 3)
    assert [channel.header for channel in pumps.channels] == ["load", "vibration", "Temp. (°C)"]


def test_the_smallest_file_names_one_sensor(tmp_path: Path) -> None:
    (tmp_path / "Pumps & fans").mkdir()
    path = tmp_path / "Pumps & fans" / "fleet.toml"
    path.write_text('sensors = ["vibration"]\n')

    found = fleets.load(path)

    assert (found.name, found.use_settings, found.unit_column) == ("pumps-fans", "none", None)
    assert fleets.load(path.parent) == found


def test_a_rule_need_not_be_named_where_its_keys_say_it() -> None:
    ends = [
        parse(f'sensors = ["a"]\n[end]\n{keys}'.encode(), "f").end for keys in ('sensor="a"\nbelow=2', 'column="x"')
    ]

    assert ends == [End(rule="threshold", sensor="a", below=2.0), End(rule="column", column="x")]
    assert End(rule="threshold", sensor="a", above=1, holds="2 of 3 rows").needed == (2, 3)


def test_a_time_column_may_stand_alone() -> None:
    assert parse(b'sensors = ["a"]\ntime = "cycle"', "f").time == Time(column="cycle")


@pytest.mark.parametrize(
    ("every", "kind", "width"),
    [("250ms", "seconds", 0.25), ("10s", "timestamp", 10), ("5 min", "timestamp", 300), ("1h", "seconds", 3600),
     ("1d", "timestamp", 86400), ("10", "counter", 10), (None, "counter", 1), ("0.5", "counter", 0.5)],
)  # fmt: skip
def test_a_step_has_a_length(every: str | None, kind: schema.TimeKind, width: float) -> None:
    time = Time(column="t", kind=kind, every=every)
    assert Schema(name="x", time=time, sensors=(Channel(name="a"),), use_settings="none").time.width == width


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (('"vibration"', "3"), 5, "sensors[1] = 3 is not understood: expected text or a table, got a whole number (se"),
        (("range = [-20, 120]", "range = [120, -20]"), 6, "range of temperature is [120, -20], not two rising numbers"),
        (("range =", "rnage ="), 6, "there is no key sensors[2].rnage (did you mean range?)"),
        (("range = [-20, 120]", 'missing = "drop"'), 6, "sensors[2].missing = \"drop\" is not understood: invalid"),
        (('name = "temperature", ', ""), 6, "sensors[2].name is missing (name: safe name of the column: letters, digi"),
        (('"temperature"', '"vibration"'), 6, "the name 'vibration' is given twice"),
        (('"temperature"', '"Vibration"'), 6, "the name 'Vibration' is given twice ('vibration' is there already)"),
        (('name = "temperature"', 'name = "a b"'), 6, "the name 'a b' is not made of at most 64 letters, digits and"),
        (('name = "temperature"', 'name = "regime"'), 6, "the name 'regime' is taken by driftloop itself"),
        (('"vibration"', '"hour"'), 5, "'hour' is time.column already and tells nothing about wear (leave it out of"),
        (('"load"', '"pump"'), 3, "'pump' is unit_column already"),
        (("sensors", "sensor"), 4, "there is no key sensor (did you mean sensors?)"),
        (("name = \"pumps\"", "name = \"Big pumps\""), 1, 'and dashes (write name = "big-pumps")'),
        (("[time]", "[tme]"), 9, "there is no key tme (did you mean time?)"),
        (('column = "hour"', 'column = "hour"\nunit = "x"'), 11, "there is no key time.unit (keys of the whole fle"),
        (('column = "hour"', "column = hour"), 10, "is no TOML: Invalid value (correct this line"),
        (('column = "hour"', 'column = "hour"\nevery = "10s"'), 11, "every = '10s' is a time, but a counter has none"),
        (('"hour"', '"hour"\nkind = "timestamp"'), 9, "every is None, but kind = 'timestamp' needs the length"),
        (('"hour"', '"hour"\nkind = "seconds"\nevery = "soon"'), 12, "every = 'soon' is no length of a step (write"),
        (('column = "hour"', 'every = "2"'), 10, "every is given, but time has no column"),
        (("[time]", "[end]\nbelow = 3\n[time]"), 10, "below = 3.0 says nothing where rule = 'last_row'"),
        (("[time]", '[end]\nsensor = "vibration"\n[time]'), 9, "neither below nor above is given"),
        (("[time]", '[end]\nsensor="a"\nbelow=1\nabove=2\n[time]'), 11, "both below and above is given"),
        (("[time]", '[end]\nsensor="a"\nbelow=1\nholds="4 of 3 rows"\n[time]'), 12, "holds = '4 of 3 rows' is not und"),
        (("[time]", '[censored]\nvalue = 1\n[time]'), 10, "value is given, but no column"),
        (("[time]", '[censored]\ncolumn = "c"\nfile = "../units.csv"\n[time]'), 11, "is not the name of a file beside"),
        (("[time]", '[censored]\nunits = ["a", "a"]\n[time]'), 10, "'a' is listed twice"),
        (("[time]", "[least]\ntrain = 0\n[time]"), 10, "train = 0 is not from 1 to 100000"),
        (("[time]", "[least]\nlearn = 4\n[time]"), 10, "there is no role 'learn' (choose from train, early_stop, cali"),
        (("settings", "cap = 1\nsettings"), 3, "cap = 1 is not from 2 to 1000000"),
        (("settings", "cap = 1.5\nsettings"), 3, "cap = 1.5 is not understood: expected a whole number or text, g"),
        (("settings = [\"load\"]", 'use_settings = "regimes"'), 3, "use_settings = 'regimes', but there are no set"),
        (("settings", 'padding = "repeated"\nsettings'), 3, 'padding = "repeated" cannot tell a missing value from a'),
        (("settings", "unit = \"\"\nsettings"), 3, "unit = '' is no word of at most 24 letters"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_told_with_its_line(change: tuple[str, str], line: int, says: str) -> None:
    text = PUMPS.replace(*change, 1)
    assert text != PUMPS

    with pytest.raises(FleetError) as caught:
        parse(text.encode(), "pumps/fleet.toml")

    assert str(caught.value).startswith(f"pumps/fleet.toml:{line}: ")
    assert says in str(caught.value)
    assert caught.value.remedy


def test_arrays_of_tables_have_lines_too() -> None:
    text = '[[sensors]]\nname = "a"\n\n[[sensors]]\nname = "a"\n'
    with pytest.raises(FleetError, match=re.escape("f.toml:4: the name 'a' is given twice")):
        parse(text.encode(), "f.toml")


def test_a_file_without_sensors_or_of_other_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="f: sensors is missing"):
        parse(b'name = "x"\n', "f")
    with pytest.raises(FleetError, match="f:1: there are no sensors"):
        parse(b"sensors = []\n", "f")
    with pytest.raises(FleetError, match=re.escape("f:2: is not UTF-8 text (save it as UTF-8)")):
        parse('\nunit = "é"'.encode("latin-1"), "f")
    with pytest.raises(FleetError, match="fleet init DATA"):
        fleet_file.read(tmp_path / "none.toml")


def test_what_windows_writes_is_read() -> None:
    assert parse(b"\xef\xbb\xbf" + PUMPS.replace("\n", "\r\n").encode(), "f") == parse(PUMPS.encode(), "f")


# The digest


def _pumps(**changes: object) -> Schema:
    return msgspec.structs.replace(parse(PUMPS.encode(), "f"), **changes)


def test_a_correction_of_words_changes_no_digest() -> None:
    pumps = _pumps()
    corrected = _pumps(
        name="fans", unit="fan", step="hour", least={"train": 2}, unit_column="fan",
        sensors=(Channel(name="vibration", unit="mm/s", description="hub"), Channel(name="temperature", source="T")),
        time=Time(column="h"),
    )  # fmt: skip
    assert corrected.digest == pumps.digest
    assert len({pumps, _pumps()}) == 1


def test_columns_order_kind_time_end_and_cap_make_the_digest() -> None:
    load, vibration, temperature = _pumps().channels
    others = [
        _pumps(sensors=(vibration,)),
        _pumps(sensors=(temperature, vibration)),
        _pumps(settings=(load, vibration), sensors=(temperature,)),
        _pumps(time=Time(column="hour", every="2")),
        _pumps(time=Time(column="hour", between="mean")),
        _pumps(time=Time(column="hour", kind="seconds", every="1s")),
        _pumps(end=End(rule="column", column="failed")),
        _pumps(end=End(rule="threshold", sensor="vibration", above=3)),
        _pumps(end=End(rule="threshold", sensor="vibration", above=3, holds="2 of 3 rows")),
        _pumps(cap=50),
    ]
    assert len({_pumps().digest, *(other.digest for other in others)}) == 11


# Written and read


def _words(most: int = 12) -> st.SearchStrategy[str]:
    return st.text("abcXYZ_0189é°µ %(#\"'\\\n[]{}=", max_size=most)


_HEADERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
_SAFE = st.from_regex(names.COLUMN, fullmatch=True).filter(lambda name: name.lower() not in names.RESERVED)
_CHANNELS = st.builds(
    Channel,
    name=_SAFE,
    source=st.none() | _HEADERS,
    unit=_words(),
    description=_words(30),
    range=st.none() | st.tuples(st.floats(-1e9, 0), st.floats(1e-3, 1e9)),
    missing=st.sampled_from(["hold", "refuse"]),
)
_VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | _words()
_ENDS = st.one_of(
    st.just(End()),
    st.builds(End, rule=st.just("column"), column=st.just("end column"), value=_VALUES),
    st.builds(
        End,
        rule=st.just("threshold"),
        sensor=_HEADERS,
        below=st.floats(-5, 5),
        holds=st.sampled_from([None, "2 of 3 rows"]),
    ),
)
_TIMES = st.sampled_from(
    [Time(), Time(column="a time"), Time(column="a time", kind="timestamp", every="5min", between="mean")]
)


@st.composite
def _schemas(draw: st.DrawFn) -> Schema:
    channels = draw(st.lists(_CHANNELS, min_size=1, max_size=6, unique_by=lambda channel: channel.name.lower()))
    cut = draw(st.integers(0, len(channels) - 1))
    return Schema(
        name=draw(st.from_regex(names.FLEET, fullmatch=True)),
        unit_column=draw(st.sampled_from([None, "a unit"])),
        time=draw(_TIMES),
        settings=tuple(channels[:cut]),
        sensors=tuple(channels[cut:]),
        end=draw(_ENDS),
        censored=draw(
            st.sampled_from([Censored(), Censored(units=("7", "ä")), Censored(column="c d", value="x", file="u.csv")])
        ),
        cap=draw(st.sampled_from(["auto", 125])),
        use_settings=draw(st.sampled_from(["regimes", "continuous", "none"])) if cut else "none",
        least=draw(st.sampled_from([dict(schema.LEAST), {**schema.LEAST, "train": 4, "early_stop": 0}])),
    )


@settings(max_examples=40)
@given(_schemas(), st.dictionaries(st.sampled_from(["", "name", "cap", "sensors", "time", "end"]), _words(40)))
def test_a_schema_comes_back_from_the_file_that_is_written(written: Schema, comments: dict[str, str]) -> None:
    comments |= {f"sensors.{written.sensor_names[0]}": "one\ntwo"}
    text = toml_text(written, comments)
    assert parse(text.encode(), "f") == written, text


@settings(max_examples=40)
@given(_schemas())
def test_a_schema_comes_back_from_json(written: Schema) -> None:
    found = schema.from_json(schema.to_json(written), "bundle")
    assert found == written
    assert (found.digest, hash(found)) == (written.digest, hash(written))


def test_json_of_no_schema_is_refused() -> None:
    cmapss = fleets.load("cmapss")
    for content in (
        b"{",
        b"\xff",
        b"[]",
        b'{"name":' + b"[" * 100_000,
        schema.to_json(cmapss).replace(b'"cap":125', b'"cap":1'),
    ):
        with pytest.raises(FleetError, match=r"^metadata\.json: "):
            schema.from_json(content, "metadata.json")


# Names


@pytest.mark.parametrize(
    ("one", "several"),
    [("cell", "cells"), ("press", "presses"), ("battery", "batteries"), ("day", "days"), ("switch", "switches")],
)
def test_words_for_several(one: str, several: str) -> None:
    assert names.plural(one) == several


@pytest.mark.parametrize(
    ("header", "safe"),
    [("Temp. (°C)", "Temp_degC"), ("load %", "load_pct"), ("2nd stage", "_2nd_stage"), ("Größe", "Grosse"),
     ("température", "temperature"), ("µm/s", "um_s"), ("regime", "_regime"), ("温度", ""), ("a" * 80, "a" * 60)],
)  # fmt: skip
def test_a_header_has_a_safe_form(header: str, safe: str) -> None:
    assert names.safe_column(header) == safe


@given(st.text(max_size=40))
def test_safe_forms_are_safe(text: str) -> None:
    for safe, rule in ((names.safe_column(text), names.COLUMN), (names.safe_fleet(text), names.FLEET)):
        assert not safe or rule.fullmatch(safe)
    assert names.safe_column(text).lower() not in names.RESERVED
    assert names.UNIT.fullmatch(names.run_id(text))


def test_a_units_run_is_named_as_the_unit_or_safely() -> None:
    assert [names.run_id(unit) for unit in ("b2c00", "NCA-25C-0.25C-1C-01", "17")] == [
        "b2c00",
        "NCA-25C-0.25C-1C-01",
        "17",
    ]
    unsafe = ["../../etc", "a/b", "a\\b", "a\0b", "🚀", "", "pump 7", "pump-7 ", "..", "a..b", "x" * 200]
    safe = [names.run_id(unit) for unit in unsafe]
    assert safe[:2] == ["etc-74ccf3c5", "a-b-c14cddc0"]
    assert len(set(safe)) == len(unsafe)
    assert not any(".." in run_id or "/" in run_id for run_id in safe)


# The built-in fleet


def test_cmapss_is_built_in() -> None:
    cmapss = fleets.load("cmapss")
    assert cmapss.columns == tuple([f"setting_{i}" for i in range(1, 4)] + [f"sensor_{i}" for i in range(1, 22)])
    assert (cmapss.unit, cmapss.step, cmapss.cap, cmapss.padding) == ("engine", "cycle", 125, "repeated")
    assert {channel.missing for channel in cmapss.channels} == {"refuse"}
    assert all(channel.description for channel in cmapss.channels)
    assert cmapss.digest == "d40f544c4acf6a4b15c1138ae9ecb7a88724c2e94a6053ed6a364a03188c2a8a"


def test_a_fleet_that_is_nowhere_is_refused_with_the_list(tmp_path: Path) -> None:
    for name in ("cmaps", "", str(tmp_path / "x.toml")):
        with pytest.raises(FleetError, match="name one of cmapss, or a fleet file"):
            fleets.load(name)


def test_no_other_fleet_takes_a_built_in_name(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('name = "cmapss"\nsensors = ["a"]\n')
    with pytest.raises(FleetError, match="the name 'cmapss' is a built-in fleet's"):
        fleets.load(path)
    path.write_text(toml_text(fleets.load("cmapss")))
    assert fleets.load(path) == fleets.load("cmapss")


# The documentation


def test_the_documentations_examples_are_understood() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    whole = parse((blocks[0] + blocks[1]).encode(), "docs")
    assert (whole.name, whole.end.needed, whole.censored.file) == ("pumps", (2, 3), "units.csv")
    assert tomllib.loads(blocks[2])["sensors"][0] == "vibration"
    parse(blocks[2].encode(), "docs")
    assert parse((blocks[0] + blocks[3]).encode(), "docs").end.rule == "table"


def test_every_key_of_the_file_is_documented() -> None:
    documented = {"": set(), "settings": set(), "time": set(), "end": set(), "censored": set(), "least": set()}
    for key in KEYS:
        head, _, tail = key.rpartition(".")
        documented[head].add(tail)
    tables = {"settings": Channel, "time": Time, "end": End, "censored": Censored}
    for head, struct in tables.items():
        assert documented[head] == set(struct.__struct_fields__)
    assert documented["least"] == set(schema.ROLE_NAMES)
    assert documented[""] == {*Schema.__struct_fields__, "missing"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sensors": (Channel(name="vibration"),)}, "it lacks the sensor temperature"),
        ({"settings": (Channel(name="speed"),)}, "it has the setting speed; it lacks the setting load"),
        ({"sensors": (Channel(name="temperature"), Channel(name="vibration"))}, "its columns are in another order"),
        ({"cap": 130}, "its cap is 130, not auto"),
        ({"end": End(rule="threshold", sensor="vibration", above=9, holds="2 of 3 rows")},
         "its units end by threshold, sensor = 'vibration', above = 9, 2 of 3 rows, not last_row"),
        ({"time": Time(column="hour", kind="seconds", every="10s")},
         "its step of time is 10 s by seconds (last value), not 1 by counter (last value)"),
        ({"sensors": tuple(Channel(name=f"s{i}") for i in range(10))},
         "it has the sensors s0, s1, s2, s3, s4, s5, s6, s7 and 2 more; it lacks the sensors vibration, temperature"),
    ],
)  # fmt: skip
def test_what_makes_another_fleet_is_said_in_words(changed: dict[str, object], words: str) -> None:
    pumps = parse(PUMPS.encode(), "fleet.toml")
    other = msgspec.structs.replace(pumps, **changed)
    assert difference(other, pumps) == words
    assert difference(pumps, other) != ""


def test_what_may_be_corrected_makes_no_other_fleet() -> None:
    pumps = parse(PUMPS.encode(), "fleet.toml")
    corrected = msgspec.structs.replace(pumps, unit="pump", least={"train": 3})
    assert (corrected.digest, difference(corrected, pumps)) == (pumps.digest, "")
