"""`driftloop fleet init`, `check` and `show`: what they guess, what they find wrong, what they show."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import messy_fleet
from driftloop import cli, fleets
from driftloop.fleet import fleet_file, guess, suspicion, tables, wear
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Censored, End, Schema, Time

FLEETS_DIR = Path(os.environ["FLEETS_DIR"]) if os.environ.get("FLEETS_DIR") else None
CMAPSS_DIR = Path(os.environ["CMAPSS_DIR"]) if os.environ.get("CMAPSS_DIR") else None
needs_fleets = pytest.mark.skipif(FLEETS_DIR is None, reason="FLEETS_DIR is not set: no real fleets to look at")
needs_cmapss = pytest.mark.skipif(CMAPSS_DIR is None, reason="CMAPSS_DIR is not set: no engines to look at")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def pumps(path: Path, *, units: int = 14, columns: dict[str, object] | None = None, seed: int = 0) -> Path:
    """Pumps that wear: vibration and temperature rise towards the end. `columns` maps a header to a function of
    unit, step and life."""
    random = np.random.default_rng(seed)
    extra = columns or {}
    lines = [",".join(["pump_id", "hour", "load", "vibration", "Temp. (°C)", *extra])]
    for unit in range(units):
        life = int(random.integers(60, 140))
        for step in range(life):
            worn = (step / life) ** 3
            load = int(random.choice([50, 75, 100]))
            vibration, temperature = 1 + 2 * worn + random.normal(0, 0.1), 40 + load / 10 + 15 * worn + random.normal()
            more = [str(of(unit, step, life)) for of in extra.values()]  # type: ignore[operator]
            lines.append(
                ",".join([f"P{unit}", str(step + 1), str(load), f"{vibration:.3f}", f"{temperature:.3f}", *more])
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["fleet", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


# init


def test_units_of_several_files_are_told_by_time_that_runs_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messy_fleet.write(tmp_path / "presses", units=6)

    code, out, err = run(capsys, "init", tmp_path / "presses")

    assert code == 0
    assert "fleet.toml: 6 presses: 6 failed, 0 taken out" in out
    assert "numbers have a decimal comma" in err
    found = fleets.load("fleet.toml")
    assert (found.unit_column, found.time) == ("Presse", Time(column="Zeitpunkt", kind="timestamp", every="8h"))
    assert "belongs here: Druck [bar], Takt (1/min), with few values, may do." in Path("fleet.toml").read_text("utf-8")


def test_a_file_for_each_unit_stays_so_whatever_counts_in_blocks(tmp_path: Path) -> None:
    for unit in "abc":
        rows = [f"{hour},{hour // 7 + 100 * ord(unit)},{hour * 0.37 % 3:.2f}" for hour in range(70)]
        (tmp_path / f"{unit}.csv").write_text("\n".join(["hour,batch,vibration", *rows]))
    assert guessed(*sorted(tmp_path.glob("*.csv"))).schema.unit_column is None


def test_init_says_that_its_guess_does_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "two words.csv"
    rows = [f"2024-02-01T{hour % 20:02d}:00,{hour * 1.7 % 7:.1f}" for hour in range(40)]
    data.write_text("\n".join(["time,x", *rows]))
    code, out, _ = run(capsys, "init", data)
    assert code == 0
    assert "These data cannot be used so: 1 problem, shown above. Mend the data, or fleet.toml.\n" in out
    assert f"driftloop fleet check --fleet fleet.toml '{data}'" in out
    assert "[least]" not in Path("fleet.toml").read_text()


def test_init_writes_a_file_that_check_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pumps(tmp_path / "pumps.csv", columns={"RUL": lambda _, step, life: life - step - 1})

    code, out, err = run(capsys, "init", data)

    assert (code, err) == (0, "")
    assert "fleet.toml: 14 pumps: 14 failed, 0 taken out, lives of " in out
    assert "left out: RUL gives the label away, as its name says" in out
    guessed = fleets.load("fleet.toml")
    assert (guessed.name, guessed.unit, guessed.step, guessed.unit_column) == ("pumps", "pump", "hour", "pump_id")
    assert guessed.time == Time(column="hour")
    assert (guessed.setting_names, guessed.sensor_names) == (("load",), ("vibration", "Temp_degC"))
    assert (guessed.sensors[1].source, guessed.sensors[1].unit, guessed.use_settings) == ("Temp. (°C)", "°C", "regimes")
    text = Path("fleet.toml").read_text(encoding="utf-8")
    assert "# Guessed from pumps.csv: look over every line." in text
    assert '  "vibration",' in text
    assert "# 3 combinations, rounded to a twentieth of each range: few enough for regimes.\nuse_settings" in text
    code, out, err = run(capsys, "check", data)
    assert (code, err) == (0, "")
    assert out.startswith("pumps: 14 pumps: 14 failed, 0 taken out, lives of ")
    assert out.endswith("; can be used.\n")


def test_init_writes_over_nothing_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pumps(tmp_path / "pumps.csv")
    Path("fleet.toml").write_text("mine")
    assert run(capsys, "init", data) == (
        2,
        "",
        "fleet.toml: is there already (choose another with --to, or add --force)\n",
    )
    assert Path("fleet.toml").read_text() == "mine"
    assert run(capsys, "init", data, "--force", "--name", "my-pumps")[0] == 0
    assert fleets.load("fleet.toml").name == "my-pumps"


def test_init_takes_no_built_in_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "init", pumps(tmp_path / "cmapss.csv"))[0] == 0
    assert fleets.load("fleet.toml").name == "my-cmapss"


def guessed(*paths: Path) -> guess.Guess:
    found = guess.guess(paths)
    assert fleet_file.parse(guess_text(found).encode(), "guessed") == found.schema
    return found


def guess_text(found: guess.Guess) -> str:
    from driftloop.fleet.fleet_writer import toml_text

    return toml_text(found.schema, found.comments)


def test_columns_that_tell_the_label_the_time_or_nothing_are_left_out(tmp_path: Path) -> None:
    found = guessed(pumps(tmp_path / "p.csv", columns={
        "RUL": lambda _, step, life: life - step,
        "x1": lambda _, step, life: min(life - step - 1, 50),
        "x2": lambda _, step, life: (life - step) / life,
        "x3": lambda *of: of[2],
        "x4": lambda _, step, life: int(step == life - 1),
        "x5": lambda *of: 10 * of[1],
        "x6": lambda *_: 7,
        "x7": lambda *_: "",
        "x8": lambda unit, *_: 1000 + unit,
        "remark": lambda *of: "x" * (of[1] % 5),
    }))  # fmt: skip
    assert found.schema.columns == ("load", "vibration", "Temp_degC")
    assert found.left_out == {
        "RUL": "gives the label away, as its name says",
        "x1": "follows the steps that are left, and gives the label away",
        "x2": "follows the share of life that is left, and gives the label away",
        "x3": "is as long as the whole life, and gives the label away",
        "x4": "changes at the end alone, and gives the label away",
        "x5": "counts steps, as the time does",
        "x6": "is always 7",
        "x7": "is empty",
        "x8": "is another name of the unit",
        "remark": "holds words, such as 'x'; to use it, add to settings or sensors: "
        '{ name = "remark", values = ["x", "xx", "xxx", "xxxx"] }',
    }


def test_a_column_that_says_failed_is_the_end(tmp_path: Path) -> None:
    state = guessed(
        pumps(tmp_path / "p.csv", columns={"Status": lambda _, step, life: "failed" if step == life - 1 else "ok"})
    )
    assert state.schema.end == End(rule="column", column="Status", value="failed")
    flag = guessed(
        pumps(tmp_path / "q.csv", columns={"failure": lambda u, step, life: int(u != 3 and step >= life - 2)})
    )
    assert flag.schema.end == End(rule="column", column="failure")
    assert [unit.name for unit in flag.reading.units if unit.run.censored] == ["P3"]


def test_units_that_were_taken_out_are_found_in_a_column_or_beside_the_data(tmp_path: Path) -> None:
    column = guessed(pumps(tmp_path / "p.csv", columns={"censored": lambda unit, *_: int(unit < 2)}))
    assert column.schema.censored == Censored(column="censored")
    (tmp_path / "units.csv").write_text("pump_id,censored\n" + "".join(f"P{u},{int(u == 5)}\n" for u in range(14)))
    beside = guessed(pumps(tmp_path / "p.csv"))
    assert beside.schema.censored == Censored(column="censored", file="units.csv")
    assert [unit.name for unit in beside.reading.units if unit.run.censored] == ["P5"]


def test_few_units_make_roles_content_with_less(tmp_path: Path) -> None:
    assert guessed(pumps(tmp_path / "p.csv", units=8)).schema.least == {
        "train": 4, "early_stop": 0, "calibrate": 2, "gate": 1, "live": 0,
    }  # fmt: skip


def test_settings_of_each_units_own_are_continuous_and_idle_ones_are_not_used(tmp_path: Path) -> None:
    own = guessed(pumps(tmp_path / "p.csv", units=30, columns={"rate": lambda unit, *_: 1 + unit * 0.37}))
    assert (own.schema.setting_names, own.schema.use_settings) == (("load", "rate"), "continuous")
    random = np.random.default_rng(1)
    idle = guessed(_without_load(pumps(tmp_path / "q.csv", columns={"setting_1": lambda *_: f"{random.normal():.4f}"})))
    assert (idle.schema.setting_names, idle.schema.use_settings) == (("setting_1",), "none")


def _without_load(path: Path) -> Path:
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(",".join(row[:2] + row[3:]) for row in lines), encoding="utf-8")
    return path


def test_timestamps_readings_for_missing_and_a_file_for_each_unit_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "Plant 3"
    folder.mkdir()
    random = np.random.default_rng(2)
    for unit in range(5):
        lines = ["# exported", "Time;Druck [bar];CH1"]
        for step in range(100):
            pressure = "-9999" if random.random() < 0.05 else f"{4 + random.normal():.2f}".replace(".", ",")
            other = f"{random.normal():.3f}".replace(".", ",")
            lines.append(f"{13 + step // 24}.01.2024 {step % 24:02d}:00;{pressure};{other}")
        (folder / f"Anlage {unit}.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    found = guessed(folder)
    assert (found.schema.name, found.schema.unit_column, found.schema.step) == ("plant-3", None, "hour")
    assert found.schema.time == Time(column="Time", kind="timestamp", every="1h")
    assert found.schema.missing_values == (-9999.0,)
    assert [(channel.name, channel.source, channel.unit) for channel in found.schema.sensors] == [
        ("Druck_bar", "Druck [bar]", "bar"),
        ("CH1", None, ""),
    ]
    assert [unit.name for unit in found.reading.units] == [f"Anlage {unit}" for unit in range(5)]
    assert all(len(unit.run.rows) == 100 for unit in found.reading.units)


def test_a_day_that_does_not_tell_steps_is_not_the_time(tmp_path: Path) -> None:
    bought = {"bought on": lambda unit, *_: f"2024-03-{1 + unit:02d}"}
    found = guessed(pumps(tmp_path / "p.csv", columns=bought))
    assert (found.schema.time, found.schema.step) == (Time(column="hour"), "hour")
    assert found.left_out["bought on"] == "holds dates, such as '2024-03-01'"
    day = {"date": lambda _unit, step, _life: f"2024-03-{1 + step // 24:02d}"}
    assert guessed(pumps(tmp_path / "q.csv", columns=day)).schema.time == Time(column="hour")


# check


def test_a_time_that_never_changes_is_a_problem(tmp_path: Path) -> None:
    path = pumps(tmp_path / "p.csv", columns={"bought on": lambda *_: "2024-03-01"})
    head = 'name="p"\nunit="pump"\nunit_column="pump_id"'
    text = f'{head}\n{SENSORS}\n[time]\ncolumn="bought on"\nkind="timestamp"\nevery="1h"'
    schema = fleet_file.parse(text.encode(), "f")
    found = tables.examine([path], schema).findings.problems
    assert len(found) == 1
    assert found[0].where.endswith("p.csv:2")
    assert "have the same bought on, so it does not tell their order" in found[0].what


def suspicious(path: Path, text: str = "") -> list[str]:
    schema = fleet_file.parse(
        f'name="p"\nunit="pump"\nstep="hour"\nunit_column="pump_id"\n{text}\n[time]\ncolumn = "hour"'.encode(), "f"
    )
    reading = tables.read([path], schema)
    suspicion.look(reading, schema)
    return [f"{finding.level}: {finding.where.rpartition('/')[2]}: {finding.what}" for finding in reading.findings]


SENSORS = 'sensors = ["vibration", "Temp. (°C)"]\nsettings = ["load"]'


def test_healthy_data_raise_no_suspicion(tmp_path: Path) -> None:
    assert suspicious(pumps(tmp_path / "p.csv", units=30), SENSORS) == []


def test_a_sensor_that_gives_the_label_away_is_named(tmp_path: Path) -> None:
    path = pumps(tmp_path / "p.csv", columns={"left": lambda _, step, life: life - step})
    assert suspicious(path, SENSORS.replace('",', '", "left",', 1)) == [
        "warning: sensor left: follows the steps that are left: it gives the label away"
    ]


def test_stuck_marked_constant_and_implausible_readings_are_named(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    path = pumps(tmp_path / "p.csv", columns={
        "stuck": lambda unit, step, _: 3.25 if unit == 4 and step > 10 else f"{random.normal():.4f}",
        "marked": lambda _, step, __: -999 if step % 20 == 7 else f"{random.normal():.3f}",
        "still": lambda *_: 5,
        "wild": lambda *_: f"{random.uniform(0, 200):.2f}",
    })  # fmt: skip
    more = '{ name = "wild", range = [0, 100] }, "stuck", "marked", "still", '
    said = suspicious(path, SENSORS.replace("sensors = [", f"sensors = [{more}"))
    assert [line.partition(": ")[2].partition(" readings")[2] or line for line in said] == [
        " are beyond [0, 100], such as " + said[0].rpartition(" ")[2],
        said[1].partition(" readings")[2],
        " are exactly -999, far from all others: this may be a word for missing",
        "note: columns: still never change in these data",
    ]
    assert "warning: sensor stuck: " in said[1]
    assert said[1].endswith(" equal readings in a row in pump P4")


def test_units_that_may_not_have_failed_are_named(tmp_path: Path) -> None:
    path = pumps(tmp_path / "p.csv", units=20)
    lines = path.read_text(encoding="utf-8").splitlines()
    short = [line for line in lines if not (line.startswith("P7,") and int(line.split(",")[1]) > 12)]
    path.write_text("\n".join(short), encoding="utf-8")
    said = suspicious(path, SENSORS)
    assert len(said) == 2
    assert "pump P7 lived for 12 hours, and half of all for " in said[0]
    assert "pump P7 shows " in said[1]
    assert said[1].endswith("of the usual wear at its last row")


def test_too_few_units_for_all_roles_are_told(tmp_path: Path) -> None:
    said = suspicious(pumps(tmp_path / "p.csv", units=9), SENSORS)
    assert said == [
        "warning: units: 9 failed pumps, and all roles together need 11 (train 5, early_stop 1, calibrate 2, gate 3)"
    ]


def test_steps_of_two_lengths_are_told(tmp_path: Path) -> None:
    lines = ["pump_id,hour,load,vibration,Temp. (°C)"]
    hour = 0
    for step in range(60):
        hour += 1 if step % 4 else 3
        lines.append(f"a,{hour},1,{step % 7},{step % 5}")
    (tmp_path / "p.csv").write_text("\n".join(lines), encoding="utf-8")
    assert "warning: pump a: from row to row it is 1 in pump a, but 3 in 24% of rows" in suspicious(
        tmp_path / "p.csv", SENSORS
    )


def test_check_tells_all_that_cannot_be_used_and_exits_with_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pumps(tmp_path / "pumps.csv")
    assert run(capsys, "init", data)[0] == 0
    text = (
        data.read_text(encoding="utf-8")
        .replace("P1,3,", "P1,drei,")
        .replace("P2,5,50", "P2,5,x")
        .replace("P2,5,75", "P2,5,x")
    )
    data.write_text(text.replace("P2,5,100", "P2,5,x"), encoding="utf-8")

    code, out, err = run(capsys, "check", data)

    assert code == 2
    assert [line.partition("pumps.csv:")[2].partition(": ")[2] for line in err.splitlines()] == [
        "hour is 'drei', not a number (write a number, or nothing where it is missing)",
        "load is 'x', not a number (write a number, or nothing where it is missing; a word for missing belongs into "
        "missing_values)",
    ]
    assert out.endswith("; 2 problems: these data cannot be used.\n")
    code, out, _ = run(capsys, "check", data, "--json")
    found = json.loads(out)
    assert (code, found["usable"], found["fleet"]) == (2, False, "pumps")
    assert {finding["level"] for finding in found["findings"]} == {"problem"}
    assert found["units"][0] | {"steps": 0, "rows": 0} == {
        "unit": "P0", "life": 1, "run_id": "P0", "where": f"{data}:2", "steps": 0, "first_index": 1, "censored": False,
        "end": "its last row is its failure", "rows": 0, "repeated": 0, "after_end": 0, "empty": 0,
    }  # fmt: skip


def test_warnings_fail_a_strict_check_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pumps(tmp_path / "pumps.csv", units=4)
    assert run(capsys, "init", data)[0] == 0
    assert [run(capsys, "check", data, *strict)[0] for strict in ([], ["--strict"])] == [0, 1]
    assert run(capsys, "check")[:2] == (0, "pumps: 1 settings, 2 sensors; can be used.\n")


def test_check_reads_numbers_that_start_again_in_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    north, south = pumps(tmp_path / "north.csv"), pumps(tmp_path / "south.csv", seed=1)
    assert run(capsys, "init", north)[0] == 0
    code, _, err = run(capsys, "check", north, south)
    assert code == 2
    assert "with --per-file where numbers start again in each" in err
    code, out, _ = run(capsys, "check", north, south, "--per-file")
    assert (code, out.partition(",")[0]) == (0, "north: 28 pumps: 28 failed")


# show


def test_show_prints_and_draws_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = pumps(tmp_path / "pumps.csv")
    assert run(capsys, "init", data)[0] == 0

    code, out, err = run(capsys, "show", data)

    assert (code, err) == (0, "")
    assert "pumps: 1 settings, 2 sensors" in out
    assert "Temp_degC" in out
    assert "14 pumps: 14 failed, 0 taken out" in out
    assert "Drawn in pumps.png" in out
    assert Path("pumps.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, "show", "--fleet", "cmapss")
    assert code == 0
    assert "T24: total temperature at LPC outlet" in out


# Wear


def worn(life: int, until: float, random: np.random.Generator) -> Run:
    age = np.linspace(0, until, life)[:, None] ** 2
    return Run(
        f"r{life}", np.concatenate([np.full((life, 1), 1.0), age * [3, -2] + random.normal(0, 0.2, (life, 2))], axis=1)
    )


def test_units_that_were_cut_off_look_less_worn_than_failed_ones() -> None:
    schema = fleet_file.parse(b'settings = ["s"]\nsensors = ["a", "b"]', "f")
    random = np.random.default_rng(4)
    failed = [worn(int(life), 1.0, random) for life in random.integers(50, 200, 30)]
    cut = [worn(100, 0.5, random), worn(100, 0.3, random)]
    assert wear.taken_out(failed, schema, failed) == []
    assert [run for run, _ in wear.taken_out([*cut, failed[0]], schema, failed)] == cut
    assert wear.taken_out(cut, schema, failed[:3]) == []
    assert wear.unlike(failed, schema) is None
    assert wear.unlike([worn(100, float(until), random) for until in random.uniform(0.1, 1, 40)], schema) is not None
    short = wear.wear([Run("x", np.zeros((3, 3)))], schema, failed)
    assert short is not None
    assert math.isnan(short[0])


@needs_cmapss
def test_test_engines_are_known_by_their_wear_and_failed_ones_are_not() -> None:
    from driftloop.fleets.cmapss import files

    assert CMAPSS_DIR is not None
    cmapss: Schema = fleets.load("cmapss")
    subset = files.read_subset(CMAPSS_DIR, "FD001")
    failed = [Run(f"a{at}", rows) for at, rows in enumerate(subset.train)]
    cut = [Run(f"b{at}", rows) for at, rows in enumerate(subset.test)]
    assert wear.taken_out(failed, cmapss, failed) == []
    assert wear.unlike(failed, cmapss) is None
    named = {run.run_id for run, _ in wear.taken_out(cut, cmapss, failed)}
    far = [f"b{at}" for at, remaining in enumerate(subset.remaining) if remaining > 50]
    assert len(named & set(far)) / len(far) > 0.9
    assert wear.unlike(cut, cmapss) is not None


# Real fleets


@needs_fleets
@pytest.mark.parametrize("name", ["tongji-18650", "lfp-fastcharge"])
def test_real_fleets_are_guessed_as_their_readmes_describe_them(name: str, tmp_path: Path) -> None:
    assert FLEETS_DIR is not None
    shutil.copytree(FLEETS_DIR / name, tmp_path / name)
    example = fleets.load(Path(__file__).parents[2] / "examples" / name)
    found = guessed(tmp_path / name)
    assert (found.schema.name, found.schema.columns, found.left_out) == (name, example.columns, {})
    assert (found.schema.unit_column, found.schema.time) == (example.unit_column, example.time)
    assert (found.schema.setting_names, found.schema.use_settings) == (example.setting_names, example.use_settings)
    assert found.schema.censored == Censored(column="censored", file="units.csv")
    units = {channel.name: channel.unit for channel in example.channels}
    assert all(channel.unit in ("", units[channel.name]) for channel in found.schema.channels)
