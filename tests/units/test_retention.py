"""What is deleted: lives that were archived long ago, and units that are erased."""

import struct
import time
from pathlib import Path

from .conftest import Fleet, Make, row
from .test_life_events import archived, lived

DAY_S = 86400.0


def swept(fleet: Fleet, days: float) -> None:
    """Let it be so many days later."""
    fleet.app.state.service.archiver._sweep(time.time() + days * DAY_S)


def test_rows_and_answers_of_archived_lives_are_deleted_after_a_while_and_no_others(make: Make) -> None:
    fleet = make(units_keep_days=30)
    lived(fleet, "a", 3)
    lived(fleet, "b", 3)
    fleet.retrainer.refuses = "looks healthy"
    lived(fleet, "c", 3)
    fleet.tell("c", kind="failed")
    archived(fleet, "c")
    fleet.retrainer.refuses = ""
    fleet.tell("a", kind="failed")
    archived(fleet, "a")
    fleet.tell("a", kind="installed")
    lived(fleet, "a", 2)
    swept(fleet, 29)
    assert len(fleet.steps("a", life=1)) == 3
    # Once an hour is enough; a day later it is looked again.
    swept(fleet, 31)
    for _ in range(2):
        assert fleet.unit("a", life=1)["quality"]["rows"] == len(fleet.steps("a", life=1)) == 0
        assert fleet.steps("a") == [1, 2]
        # What runs stays, and so does what nobody archived.
        assert fleet.steps("b") == fleet.steps("c") == [1, 2, 3]
        fleet.again()
    numbers = [one["made"] for one in fleet.http.get("/predictions").json()["predictions"]]
    lived(fleet, "b", 1, first=4)
    assert len(fleet.http.get("/predictions").json()["predictions"]) == len(numbers) + 1
    assert [one["state"] for one in fleet.unit("a")["lives"]] == ["failed", "running"]


def test_an_end_is_kept_as_long_as_the_setting_says_nothing(make: Make) -> None:
    fleet = make()
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    archived(fleet, "a")
    swept(fleet, 1e5)
    assert len(fleet.steps("a")) == 3


def test_nothing_of_an_erased_unit_is_found_in_the_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen-characters")
    fleet = make(token_file=tmp_path / "token")
    fleet.http.headers["Authorization"] = "Bearer a-token-of-sixteen-characters"
    reading, name = 1234.56789, "a unit that nobody may remember"
    fleet.send(*(row(name, hour, flow=reading) for hour in range(1, 200)), row("b", 1, flow=77.125))
    fleet.until(lambda: len(fleet.steps(name)) == 199)

    def content() -> bytes:
        fleet.stop()
        return b"".join(path.read_bytes() for path in (tmp_path / "units").iterdir())

    before = content()
    assert struct.pack("<d", reading) in before
    assert name.encode() in before
    fleet.start()
    fleet.http.headers["Authorization"] = "Bearer a-token-of-sixteen-characters"
    assert fleet.http.delete(f"/units/{name}").status_code == 200
    after = content()
    assert struct.pack("<d", reading) not in after
    assert name.encode() not in after
    assert struct.pack("<d", 77.125) in after
