"""The table of decisions: row by row, and what must hold whatever the state and the facts are."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftloop.loop import waits
from driftloop.loop.asking import Answer, Question
from driftloop.loop.changes import apply
from driftloop.loop.decide import (
    ASK_POLL_S,
    MAX_RESTARTS,
    NOTHING_DECIDED,
    NOTHING_NEW,
    POLL_S,
    SWITCHED_OFF,
    VERIFY_POLL_S,
    decide,
)
from driftloop.loop.intent import Intent
from driftloop.loop.judge import gate, promotion
from driftloop.loop.judge.shadow import Report
from driftloop.loop.judge.standing import Standing
from driftloop.loop.moves import (
    Aided,
    AidWithdrawn,
    Announce,
    Ask,
    AwaitLabels,
    Challenger,
    Confirm,
    CooledDown,
    Facts,
    Fail,
    InShadow,
    Move,
    NotAided,
    NotMoved,
    Overdue,
    Promote,
    PromoteAid,
    Promoted,
    Refuse,
    Rest,
    RollBack,
    Seen,
    Settle,
    Shadowed,
    Start,
    TookOver,
    TrainInFull,
    WithdrawAid,
)
from driftloop.loop.state import PHASES, Attempt, Change, Confirming, Decision, Phase, State, With
from driftloop.loop.waits import Now

CAUSE, BY_HAND, CONCEPT = "fleet_change:1", "by_hand:1:2026-01-31T12:00:00.000Z", "concept:1"
SINCE = "2026-01-31T12:00:00.000Z"
NOW = Now("boot", 1000.0, SINCE)
PAUSE = waits.begin(60.0, NOW)


def state(phase: Phase, cause: str = CAUSE, **changes: Any) -> State:
    """A state of a phase, about one cause that fires; `changes` are the attempt's."""
    attempt = Attempt(cause, "1", SINCE, by_hand=cause == BY_HAND, **changes)
    made = State(phase, firing={} if cause == BY_HAND else {cause: [SINCE]})
    if phase in ("idle", "cooling_down"):
        made.queue = [attempt]
    else:
        attempt.run = "r1" if phase != "waiting_for_labels" else ""
        attempt.challenger = "2" if phase == "verifying" else attempt.challenger
        made.attempt = attempt
    return made


def facts(**changes: Any) -> Facts:
    """Facts in which a retraining may start."""
    return replace(Facts(production="1", archived=80, next_run="r2", answers_needed=1000), **changes)


def challenger(decision: str | None, *findings: str, version: str = "2") -> tuple[Challenger, ...]:
    return (Challenger(version, decision, "why", findings),)


def settle(decision: str, reason: str, version: str | None = None, *, run: str = "r1", **changes: Any) -> Settle:
    return replace(Settle(CAUSE, run, decision, reason, version, True, 80), **changes)


YES, NO = Answer("approve", "ann", "", SINCE), Answer("reject", "ann", "no", SINCE)
WAITS = Challenger("2", "approved", "why", digest="abcd")


def question(answer: Answer | None = None, **changes: Any) -> Question:
    return Question("2-abcd", "retraining", "2", "abcd", "1", CAUSE, SINCE, ["why"], answer=answer, **changes)


def waiting(answer: Answer | None = None, passed: bool = True, archived: int = 80) -> State:
    """A question about version 2 is open."""
    made = state("awaiting_approval", archived=archived)
    made.question = question(answer, passed=passed)
    return made


def aid(answer: Answer | None = None) -> State:
    """A question about first aid is open."""
    made = state("waiting_for_labels")
    made.question = question(answer)
    return made


def asked(**changes: Any) -> Facts:
    return facts(**{"digest": "abcd", **changes})


def provisional(**changes: Any) -> State:
    """Version 1 is provisional, and waits for labels."""
    return state("waiting_for_labels", aided="1", **changes)


BETTER, WORSE = Standing("2", "1", True, "on 9 units ..."), Standing("2", "1", False, "on 9 units ...")

ROWS: list[tuple[str, State, Facts, Move]] = [
    # idle
    ("switched off", state("idle"), facts(enabled=False), Rest()),
    ("nothing queued", State(), facts(), Rest()),
    ("runs arrive", state("idle"), facts(settling_s=0.2), Rest(0.2)),
    ("another version", state("idle"), facts(production="7"), Refuse(CAUSE, "version 7 is in production")),
    ("too few runs", state("idle"), facts(lacking="0 runs"), AwaitLabels(CAUSE, "", "0 runs")),
    ("enough runs", state("idle"), facts(), Start(CAUSE, "r2", 80)),
    ("tried before, and no more runs", state("idle", archived=80), facts(), AwaitLabels(CAUSE, "", NOTHING_NEW)),
    ("tried before, and more runs", state("idle", archived=79), facts(), Start(CAUSE, "r2", 80)),
    ("labels change", state("idle", CONCEPT), facts(), Announce(CONCEPT)),
    ("the pause before that", state("idle", CONCEPT, announced=PAUSE), facts(pause_s=9.0), Rest(9.0)),
    ("the pause is over", state("idle", CONCEPT, announced=PAUSE), facts(), Start(CONCEPT, "r2", 80)),
    # waiting for labels
    (
        "switched off while it waits",
        state("waiting_for_labels"),
        facts(enabled=False),
        settle("switched_off", SWITCHED_OFF, run="", cool_down=False),
    ),
    (
        "the alert has ended",
        State("waiting_for_labels", Attempt(CAUSE, "1", SINCE)),
        facts(),
        settle("resolved", "the alert was resolved before labels arrived", run="", cool_down=False),
    ),
    ("nothing new", state("waiting_for_labels", archived=80), facts(), Rest()),
    ("not enough yet", state("waiting_for_labels"), facts(lacking="3 runs"), Rest()),
    (
        "first aid turns out worse",
        provisional(),
        facts(production="1", lacking="3 runs", standing=WORSE),
        WithdrawAid(CAUSE, "", "1", "on 9 units ..."),
    ),
    ("first aid turns out better", provisional(), facts(production="1", lacking="3 runs", standing=BETTER), Rest()),
    ("labels suffice, so nothing is withdrawn", provisional(), facts(standing=WORSE), Start(CAUSE, "r2", 80)),
    (
        "the withdrawal goes on",
        provisional(condemned="worse"),
        facts(production="1"),
        WithdrawAid(CAUSE, "", "1", "worse"),
    ),
    (
        "the withdrawal is done",
        provisional(condemned="worse"),
        facts(production="0"),
        AidWithdrawn(CAUSE, "", "1", "0"),
    ),
    ("enough at last", state("waiting_for_labels"), facts(), Start(CAUSE, "r2", 80)),
    (
        "another version while it waits",
        state("waiting_for_labels"),
        facts(production="7"),
        settle("superseded", "version 7 is in production", run="", cool_down=False, champion="7"),
    ),
    # running
    ("it runs", state("running"), facts(pipeline="runs", challengers=challenger("approved")), Rest(POLL_S)),
    (
        "approved",
        state("running"),
        facts(pipeline="ended", challengers=challenger("approved")),
        Promote("r1", Challenger("2", "approved", "why")),
    ),
    (
        "approved, and the retrainer was away",
        state("running"),
        facts(pipeline="lost", challengers=challenger("approved")),
        Promote("r1", Challenger("2", "approved", "why")),
    ),
    (
        "in production",
        state("running"),
        facts(pipeline="lost", production="2", challengers=challenger("promoted")),
        Promoted("r1", Challenger("2", "promoted", "why")),
    ),
    ("it runs, and its champion serves", state("running"), facts(pipeline="runs"), Rest(POLL_S)),
    ("it runs, and nobody has looked", state("running"), facts(pipeline="runs", production=None), Rest(POLL_S)),
    (
        "somebody went back while it runs",
        state("running"),
        facts(pipeline="runs", production="7"),
        settle("superseded", "version 7 is in production", champion="7"),
    ),
    (
        "somebody promoted its challenger before the gate had judged",
        state("running"),
        facts(pipeline="runs", production="2", challengers=challenger("promoted")),
        Promoted("r1", Challenger("2", "promoted", "why")),
    ),
    (
        "somebody went back from its challenger",
        state("running"),
        facts(pipeline="runs", challengers=challenger("rolled_back")),
        settle("rolled_back", "why", "2", champion="1", by_hand=True),
    ),
    *(
        (
            f"{decision or 'failed'} against another champion",
            state("running", waiting_for="3 usable runs"),
            facts(pipeline="ended", production="7", error="why", challengers=challenger(decision) if decision else ()),
            settle("superseded", "version 7 is in production", "2" if decision else None, champion="7"),
        )
        for decision in ("rejected", "undecided", None)
    ),
    (
        "approved against another champion",
        state("running"),
        facts(pipeline="ended", production="7", challengers=challenger("approved")),
        settle("superseded", "version 7 is in production", "2", champion="7"),
    ),
    (
        "rejected",
        state("running"),
        facts(pipeline="ended", challengers=challenger("rejected")),
        settle("rejected", "why", "2"),
    ),
    (
        "it forgot",
        state("running"),
        facts(pipeline="ended", challengers=challenger("rejected", gate.FORGOT)),
        TrainInFull("r1", Challenger("2", "rejected", "why", (gate.FORGOT,))),
    ),
    (
        "it forgot, trained in full",
        state("running", training="full"),
        facts(pipeline="ended", challengers=challenger("rejected", gate.FORGOT)),
        settle("rejected", "why", "2"),
    ),
    (
        "a person must decide",
        state("running"),
        facts(pipeline="ended", challengers=challenger("undecided")),
        Ask("r1", Challenger("2", "undecided", "why"), passed=False),
    ),
    (
        "a person wants to decide",
        state("running"),
        facts(pipeline="ended", challengers=challenger("approved"), asks=True),
        Ask("r1", Challenger("2", "approved", "why"), passed=True),
    ),
    (
        "the shadow first",
        state("running"),
        facts(pipeline="ended", challengers=challenger("approved"), shadow=True),
        InShadow("r1", Challenger("2", "approved", "why")),
    ),
    (
        "after the shadow",
        state("running", shadow=Report(100, 0.4)),
        facts(pipeline="ended", challengers=challenger("approved"), shadow=True),
        Promote("r1", Challenger("2", "approved", "why")),
    ),
    (
        "the shadow blocks",
        state("running", shadow=Report(100, 0.4, False, ["slow", "odd"])),
        facts(pipeline="ended", challengers=challenger("undecided"), shadow=True),
        settle("rejected", "in the shadow: slow; odd", "2"),
    ),
    (
        "the shadow could not ask it",
        state("running", shadow=Report(0, 0.4, False, ["damaged"], broken=True)),
        facts(pipeline="ended", challengers=challenger("approved"), shadow=True),
        Fail("r1", "in the shadow: damaged", archived=80),
    ),
    (
        "runs that it learnt from were withdrawn",
        state("running"),
        facts(pipeline="ended", challengers=(Challenger("2", "rejected", "gone", findings=("withdrawn",)),)),
        Fail("r1", "gone", archived=80),
    ),
    (
        "unusable runs",
        state("running", waiting_for="3 usable runs"),
        facts(pipeline="ended", error="too few"),
        AwaitLabels(CAUSE, "r1", "3 usable runs"),
    ),
    ("it failed", state("running"), facts(pipeline="ended", error="why"), Fail("r1", "why", archived=80)),
    ("nothing decided", state("running"), facts(pipeline="ended"), Fail("r1", NOTHING_DECIDED, archived=80)),
    ("it died with the retrainer", state("running"), facts(pipeline="lost"), Start(CAUSE, "r2", 80)),
    (
        "again and again",
        state("running", restarts=MAX_RESTARTS),
        facts(pipeline="lost"),
        Fail("r1", "the retrainer was restarted 5 times during it", final=True, archived=80),
    ),
    (
        "switched off meanwhile",
        state("running"),
        facts(pipeline="lost", enabled=False),
        settle("switched_off", SWITCHED_OFF),
    ),
    # awaiting approval
    ("nobody has answered", waiting(), asked(), Rest(ASK_POLL_S)),
    ("the deadline is near", waiting(), asked(deadline_s=2.0), Rest(2.0)),
    ("the deadline has passed", waiting(), asked(deadline_s=0.0), Overdue("2-abcd")),
    ("approved", waiting(YES), asked(), Promote("r1", WAITS)),
    ("rejected by a person", waiting(NO), asked(), settle("rejected", f"was rejected by ann at {SINCE}: no", "2")),
    ("promoted already", waiting(YES), asked(production="2"), Promoted("r1", WAITS)),
    (
        "another champion meanwhile",
        waiting(YES),
        asked(production="7"),
        settle("superseded", "version 7 is in production, not 1, which it was compared with", "2", champion="7"),
    ),
    (
        "another bundle",
        waiting(YES),
        asked(digest="efgh"),
        settle("superseded", "the bundle of version 2 is another one than when it was asked about", "2"),
    ),
    (
        "the version is gone",
        waiting(YES),
        asked(digest=None),
        settle("superseded", "version 2 is gone", "2"),
    ),
    ("more runs for what passed", waiting(archived=70), asked(), Rest(ASK_POLL_S)),
    ("more runs for what could not be judged", waiting(archived=70, passed=False), asked(), Start(CAUSE, "r2", 80)),
    (
        "too few more for what could not be judged",
        waiting(archived=70, passed=False),
        asked(lacking="3 runs"),
        Rest(ASK_POLL_S),
    ),
    # first aid that is asked about
    ("nobody has answered about first aid", aid(), asked(lacking="0 runs"), Rest(ASK_POLL_S)),
    ("first aid is approved", aid(YES), asked(lacking="0 runs"), PromoteAid(CAUSE, "", "2")),
    (
        "first aid is rejected",
        aid(NO),
        asked(lacking="0 runs"),
        NotAided(CAUSE, "", f"was rejected by ann at {SINCE}: no"),
    ),
    ("labels come before an answer about first aid", aid(), asked(), Start(CAUSE, "r2", 80)),
    # verifying
    ("the watch is silent", state("verifying"), facts(production="2"), Rest(VERIFY_POLL_S)),
    (
        "too few answers",
        state("verifying"),
        facts(production="2", seen=Seen("2", "not_enough_data", 10**6)),
        Rest(VERIFY_POLL_S),
    ),
    ("of another version", state("verifying"), facts(production="2", seen=Seen("1", "no_drift")), Rest(VERIFY_POLL_S)),
    (
        "recovered",
        state("verifying", reason="better"),
        facts(production="2", seen=Seen("2", "fleet_age", n=500)),
        settle("promoted", "better", "2", n=500),
    ),
    (
        "drift, but few answers",
        state("verifying"),
        facts(production="2", seen=Seen("2", "drift", 999)),
        Rest(VERIFY_POLL_S),
    ),
    (
        "drift, and enough of them",
        state("verifying"),
        facts(production="2", seen=Seen("2", "drift", 1000)),
        RollBack("r1", "2", "not recovered: after 1000 answers the watch still sees drift"),
    ),
    (
        "the rollback goes on",
        state("verifying", condemned="not recovered"),
        facts(production="2", seen=Seen("2", "no_drift")),
        RollBack("r1", "2", "not recovered"),
    ),
    (
        "the rollback is done",
        state("verifying", condemned="not recovered"),
        facts(),
        settle("rolled_back", "not recovered", "2", champion="1"),
    ),
    (
        "the rollback is done, behind a provisional version",
        state("verifying", condemned="not recovered"),
        facts(production="0"),
        settle("rolled_back", "not recovered", "2", champion="0"),
    ),
    (
        "drift, but the version before is known to be worse",
        state("verifying"),
        facts(production="2", seen=Seen("2", "drift", 1000), standing=BETTER),
        settle("kept", "after 1000 answers the watch still sees drift, but on 9 units ...", "2"),
    ),
    (
        "few answers, and the version before is known to be worse",
        state("verifying"),
        facts(production="2", seen=Seen("2", "drift", 999), standing=BETTER),
        Rest(VERIFY_POLL_S),
    ),
    (
        "drift, and the version before is known to be better",
        state("verifying"),
        facts(production="2", seen=Seen("2", "drift", 1000), standing=WORSE),
        RollBack("r1", "2", "on 9 units ..."),
    ),
    (
        "no drift, but completed units know better",
        state("verifying"),
        facts(production="2", seen=Seen("2", "no_drift", 1000), standing=WORSE),
        RollBack("r1", "2", "on 9 units ..."),
    ),
    (
        "another version while verifying",
        state("verifying"),
        facts(production="7"),
        settle("superseded", "version 7 is in production", "2", champion="7"),
    ),
    # cooling down
    ("the pause lasts", state("cooling_down"), facts(pause_s=3.0), Rest(3.0)),
    ("the pause ends", state("cooling_down"), facts(), CooledDown()),
]


@pytest.mark.parametrize(("at", "found", "move"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_row_of_the_table(at: State, found: Facts, move: Move):
    assert decide(at, found) == move


def test_every_phase_has_rows():
    assert {row[1].phase for row in ROWS} == set(PHASES)


MEANT = Intent("rolled_back", "1", "2", CAUSE, "worse", "ann", 80)


@pytest.mark.parametrize(
    ("production", "move"), [("1", TookOver(MEANT)), ("2", NotMoved(MEANT)), (None, NotMoved(MEANT))]
)
@pytest.mark.parametrize("phase", PHASES)
def test_what_a_person_has_done_comes_first_in_whatever_phase(phase: Phase, production: str | None, move: Move):
    at = state(phase) if phase != "awaiting_approval" else waiting()
    at.intent = MEANT
    assert decide(at, facts(production=production, pipeline="runs")) == move


CONFIRMING = Confirming("2", CAUSE, "r1", waits.begin(60.0, NOW))


@pytest.mark.parametrize(
    ("served", "left", "move"),
    [
        ("2", 60.0, Confirm("2", True)),
        ("2", 0.0, Confirm("2", True)),
        ("1", 0.0, Confirm("2", False)),
        (None, 9.0, Rest(POLL_S)),
    ],
)
def test_a_promotion_is_confirmed_in_whatever_phase(served: str | None, left: float, move: Move):
    for phase in ("verifying", "cooling_down"):
        at = state(phase)
        at.confirming = CONFIRMING
        assert decide(at, facts(production="2", served=served, confirm_s=left, pause_s=9.0)) == move


# Whatever the state and the facts are.

ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CAUSES = st.sampled_from([CAUSE, CONCEPT, BY_HAND, "fleet_change:2"])
VERSIONS = st.sampled_from(["1", "2", "3"])
SECONDS = st.sampled_from([0.0, 0.2, 30.0])


@st.composite
def attempts(draw: st.DrawFn, run: str = "") -> Attempt:
    cause = draw(CAUSES)
    return Attempt(
        cause,
        draw(VERSIONS),
        SINCE,
        mode=draw(st.sampled_from(["warm_start", "full"])),
        by_hand=cause == BY_HAND,
        failures=draw(st.integers(0, 3)),
        restarts=draw(st.integers(0, MAX_RESTARTS)),
        run=run,
        archived=draw(st.integers(0, 100)),
        started=waits.moment(NOW) if run else None,
        challenger=draw(st.none() | VERSIONS),
        training=draw(st.none() | st.sampled_from(["full", "warm_start"])),
        waiting_for=draw(st.none() | st.just("3 usable runs")),
        announced=draw(st.none() | st.just(PAUSE)),
        shadow=draw(
            st.sampled_from(
                [
                    None,
                    Report(100, 0.4),
                    Report(100, 0.4, False, ["slow"]),
                    Report(0, 0.4, False, ["damaged"], broken=True),
                ]
            )
        ),
        condemned=draw(st.none() | st.just("not recovered")),
        aid_withdrawn=draw(st.booleans()),
    )


def intent(version: str, before: str, run: str) -> Intent:
    kind: Any = "promoted" if run else "rolled_back"
    return Intent(kind, version, before, CAUSE, "worse", "ann", 80, run or None)


@st.composite
def states(draw: st.DrawFn, phases: Sequence[Phase] = PHASES) -> State:
    phase = draw(st.sampled_from(phases))
    under_way = phase in ("running", "awaiting_approval", "verifying")
    made = State(phase, firing={cause: [SINCE] for cause in draw(st.sets(CAUSES))})
    if under_way or phase == "waiting_for_labels":
        made.attempt = draw(attempts("r1" if under_way else draw(st.sampled_from(["", "r0"]))))
        made.attempt.aided = draw(st.none() | st.just(made.attempt.champion))
    taken = made.attempt.cause if made.attempt else None
    queued = draw(st.lists(attempts(), max_size=2, unique_by=lambda attempt: attempt.cause))
    made.queue = [attempt for attempt in queued if attempt.cause != taken]
    made.pause = draw(st.none() | st.just(PAUSE))
    if phase == "awaiting_approval" or (phase == "waiting_for_labels" and draw(st.booleans())):
        answer = draw(st.sampled_from([None, YES, NO]))
        made.question = question(answer, passed=draw(st.booleans()), overdue=draw(st.booleans()))
    made.confirming = draw(st.none() | st.just(CONFIRMING))
    made.intent = draw(st.none() | st.builds(intent, VERSIONS, VERSIONS, st.sampled_from(["", "r1"])))
    for cause in draw(st.sets(CAUSES, max_size=2)):
        made.settled[cause] = Decision(cause, draw(DECISIONS), "why", SINCE, 80, draw(VERSIONS))
    return made


DECISIONS = st.sampled_from(["promoted", "rejected", "undecided", "failed", "resolved", "superseded", "rolled_back"])
TAGS = st.sampled_from([None, "approved", "rejected", "undecided", "promoted", "abandoned", "rolled_back"])
CHALLENGERS = st.builds(
    Challenger, VERSIONS, TAGS, st.just("why"), st.lists(st.sampled_from([gate.FORGOT, gate.BETTER])).map(tuple)
)
FACTS = st.builds(
    Facts,
    enabled=st.booleans(),
    production=st.none() | VERSIONS,
    archived=st.integers(0, 120),
    next_run=st.just("r2"),
    settling_s=SECONDS,
    lacking=st.none() | st.just("0 runs"),
    pipeline=st.sampled_from(["runs", "ended", "lost"]),
    error=st.none() | st.just("why"),
    challengers=st.lists(CHALLENGERS, max_size=2, unique_by=lambda each: each.version).map(tuple),
    seen=st.none()
    | st.builds(
        Seen, VERSIONS, st.sampled_from(["drift", "no_drift", "fleet_age", "not_enough_data"]), st.integers(0, 2000)
    ),
    answers_needed=st.just(1000),
    standing=st.sampled_from([None, BETTER, WORSE]),
    pause_s=SECONDS,
    served=st.none() | VERSIONS,
    confirm_s=SECONDS,
    asks=st.booleans(),
    shadow=st.booleans(),
    digest=st.none() | st.sampled_from(["abcd", "efgh"]),
    deadline_s=st.none() | SECONDS,
)
LATER = Now("boot", NOW.seconds + 61.0, SINCE)
HOW = With(LATER, cool_down_s=30.0)


@ANY
@given(states(), FACTS)
def test_deciding_changes_nothing_and_is_the_same_each_time(at: State, found: Facts):
    before = copy.deepcopy(at)
    assert decide(at, found) == decide(at, found)
    assert at == before


@ANY
@given(states(), FACTS)
def test_never_two_pipelines(at: State, found: Facts):
    move = decide(at, found)
    if isinstance(move, Start):
        # A question has no pipeline: it waits for a person, or is given up for units that have come since.
        assert at.phase in ("idle", "waiting_for_labels", "awaiting_approval") or found.pipeline == "lost"
        assert found.pipeline != "runs" or at.phase != "running"


@ANY
@given(states(), FACTS)
def test_only_what_the_gate_approved_of_todays_champion_is_promoted(at: State, found: Facts):
    move = decide(at, found)
    if isinstance(move, Promote):
        assert at.attempt is not None
        assert found.production == (at.question or at.attempt).champion
        if at.phase == "awaiting_approval":
            assert at.question is not None
            assert (at.question.answer, at.question.digest) == (YES, found.digest)
            return
        assert move.challenger in found.challengers
        assert (move.challenger.decision, found.asks) == (promotion.APPROVED, False)
        assert at.attempt.shadow.passed if at.attempt.shadow is not None else not found.shadow
        assert found.pipeline != "runs"


@ANY
@given(states(["running"]), FACTS)
def test_a_retraining_of_another_version_than_serves_is_ended_and_decides_nothing(at: State, found: Facts):
    at.intent = at.confirming = None
    assert at.attempt is not None
    if found.production in (None, at.attempt.champion, *(each.version for each in found.challengers)):
        return
    move = decide(at, found)
    assert isinstance(move, Settle)
    assert (move.decision, move.champion) == (promotion.SUPERSEDED, found.production)
    change = Change(copy.deepcopy(at))
    assert apply(change, move, HOW)
    assert [event["kind"] for event in change.events if event["kind"] != "approval_void"] == ["retraining_superseded"]
    # There is one starting point: whatever follows by itself is of the version that serves.
    follows = [each for each in change.state.queue if each.cause == at.attempt.cause]
    assert all(each.champion == found.production for each in follows)


@ANY
@given(states(), FACTS)
def test_silence_and_time_roll_nothing_back(at: State, found: Facts):
    move = decide(at, found)
    if isinstance(move, RollBack) and at.attempt is not None and at.attempt.condemned is None:
        assert found.seen is not None
        assert (found.seen.verdict, found.seen.model_version) == ("drift", found.production)
        assert found.seen.answered >= found.answers_needed


@ANY
@given(states(), FACTS)
def test_nothing_starts_by_itself_while_it_is_switched_off(at: State, found: Facts):
    move = decide(at, replace(found, enabled=False))
    if isinstance(move, Start):
        assert move.cause == BY_HAND


@ANY
@given(states(), FACTS)
def test_a_cause_that_ended_starts_nothing_anew(at: State, found: Facts):
    if at.phase == "waiting_for_labels":
        assert at.attempt is not None
        move = decide(at, found)
        if isinstance(move, Start):
            assert at.attempt.by_hand or at.attempt.cause in at.firing


@ANY
@given(states(), FACTS)
def test_a_move_applied_twice_is_applied_once(at: State, found: Facts):
    move = decide(at, found)
    once = Change(copy.deepcopy(at))
    apply(once, move, HOW)
    twice = Change(copy.deepcopy(once.state))
    if isinstance(move, RollBack):
        assert not apply(twice, move, HOW)
    elif apply(twice, move, HOW):
        # Only where it is another one by the same words: what was queued for the same cause follows.
        assert isinstance(move, Refuse | AwaitLabels)
        return
    assert twice.state == once.state
    assert twice.events == []


@ANY
@given(states(), FACTS)
def test_what_a_move_leaves_is_a_state_to_go_on_from(at: State, found: Facts):
    change = Change(copy.deepcopy(at))
    apply(change, decide(at, found), HOW)
    change.state.check()
    causes = [attempt.cause for attempt in change.state.queue]
    causes += [change.state.attempt.cause] if change.state.attempt else []
    assert len(causes) == len(set(causes))
    running = change.state.phase in ("running", "awaiting_approval", "verifying")
    assert not running or (change.state.attempt is not None and change.state.attempt.run)


WAY_OUT = facts(pipeline="ended", error="why", lacking=None, production="1", archived=1000, confirm_s=0.0)


@ANY
@given(states())
def test_every_state_has_a_way_out(at: State):
    """With runs enough, a watch that speaks and a pipeline that ends, the loop comes to rest with nothing to do."""
    change = Change(copy.deepcopy(at))
    for number in range(60):
        now, attempt = change.state, change.state.attempt
        version = attempt.challenger if attempt is not None and now.phase == "verifying" else None
        champion = attempt.champion if attempt is not None else now.queue[0].champion if now.queue else "1"
        production = version or champion
        seen = Seen(version, "no_drift") if version else None
        move = decide(now, replace(WAY_OUT, production=production, seen=seen, next_run=f"way{number}"))
        if isinstance(move, Rest):
            break
        if isinstance(move, Announce):
            waiting = next(each for each in (attempt, *now.queue) if each and each.cause == move.cause)
            waiting.announced = PAUSE
            continue
        if isinstance(move, InShadow):
            move = Shadowed(move.run, move.challenger.version, Report(0, 5.0))
        if isinstance(move, PromoteAid):
            move = Aided(move.cause, move.run, move.version)
        if isinstance(move, WithdrawAid):
            apply(change, move, With(NOW))
            move = AidWithdrawn(move.cause, move.run, move.version, "0")
        if isinstance(move, RollBack):
            assert attempt is not None
            move = Settle(attempt.cause, attempt.run, "rolled_back", "done", move.version)
        later = With(Now("boot", NOW.seconds + 1000.0 * (number + 1), SINCE))
        assert apply(change, move, later), move
    assert (change.state.phase, change.state.queue) == ("idle", []) or change.state.phase == "waiting_for_labels"
