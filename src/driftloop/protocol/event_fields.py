"""What each kind of event means and holds: the reference is made from this, and tests compare it with every event that
they see. A name that ends with `?` is there where it applies."""

from typing import Literal, NamedTuple, get_args

from driftloop.protocol.events import EventKind

Kind = Literal["text", "time", "whole number", "number", "true or false", "list", "object"]
KINDS_OF_VALUES: frozenset[Kind] = frozenset(get_args(Kind))


class Field(NamedTuple):
    """What a field holds."""

    kind: Kind
    meaning: str


class About(NamedTuple):
    """What has happened, for people, and the names of the fields that tell of it."""

    meaning: str
    fields: str = ""


ALWAYS: dict[str, Field] = {
    "seq": Field("whole number", "number of the event in this log: 1, 2, 3, ...; none is given twice"),
    "time": Field("time", "when it happened (RFC 3339, UTC)"),
    "kind": Field("text", "one of the kinds above; `event` in the console's API"),
}
"""Fields of every event."""
MAYBE: dict[str, Field] = {
    "id": Field("text", "given by who reports it, such as a step: reported again, it is not logged again"),
}
"""Fields that an event of any kind may have."""

_OF_STEP = "run cause"
_OF_ATTEMPT = "model_version cause run?"

ABOUT: dict[EventKind, About] = {
    "alert_firing": About("an alert began (T1)", "model_version? cause drift starts_at features n? score? summary?"),
    "alert_resolved": About("it ended", "model_version? cause drift? starts_at ends_at? features?"),
    "verdict": About(
        "the drift watch judged the traffic, or said why it cannot",
        "model_version? verdict n units? min_n? reason? score? drift? blamed? stuck? faults? mixture? ages? age_shift? "
        "psi_max? psi_plain_max? worst? answered? estimate?",
    ),
    "runs_archived": About("completed runs came into the archive", "count roles"),
    "runs_withdrawn": About("runs were taken back: they are never learnt from again", "count runs reason? versions"),
    "runs_refused": About(
        "runs were turned down, since their units do not look like ones that have failed", "count runs"
    ),
    "about_to_supersede": About(
        "a concept drift will supersede all labels, unless somebody stops it",
        "model_version cause labels count runs seconds reason",
    ),
    "feedback_received": About("true RULs came for answers of the past", "count engines"),
    "concept_verdict": About(
        "completed units were compared with what the model had answered",
        "model_version? verdict engines window score figures",
    ),
    "runs_excluded": About("a training left runs out, and which", f"{_OF_STEP} model_version reason runs count"),
    "retraining_started": About("a retraining began (T2)", f"{_OF_ATTEMPT} mode resumed? who?"),
    "retraining_adopted": About(
        "a restarted retrainer took over the pipeline that was under way", "model_version cause run"
    ),
    "retraining_in_full": About(
        "a warm start was not good enough: the model is trained from nothing", "model_version cause run reason"
    ),
    "waiting_for_labels": About("too few completed runs to learn from", f"{_OF_ATTEMPT} reason"),
    "pipeline_started": About("the pipeline's first step began", "model_version cause run seconds"),
    "step_started": About("a step of the pipeline began", f"{_OF_STEP} step"),
    "step_finished": About("it ended", f"{_OF_STEP} step seconds cpu_seconds"),
    "step_failed": About("it raised an error", f"{_OF_STEP} step error"),
    "challenger_registered": About(
        "a new version is in the registry",
        f"{_OF_STEP} model_version from_version training note? mixture weights? train_s build_s record_s metrics",
    ),
    "gate_decided": About(
        "champion and challenger were compared",
        f"{_OF_STEP} model_version from_version approved reasons figures findings",
    ),
    "shadow_ended": About(
        "the challenger had answered beside the champion",
        "model_version cause run answers seconds passed reasons broken note? p99_ms? differences",
    ),
    "approval_needed": About(
        "a version waits for a person",
        f"{_OF_ATTEMPT} approval digest from_version deadline? after_deadline? first_aid? reason",
    ),
    "approval_answered": About(
        "somebody approved or rejected it, or its deadline did", "model_version cause approval answer who reason?"
    ),
    "approval_overdue": About("nobody answered in time", "model_version cause approval reason"),
    "approval_void": About(
        "the question no longer holds: champion or bundle are others", "model_version cause approval reason"
    ),
    "first_aid_promoted": About(
        "a version grown from unlabelled traffic went into production (T_FA follows)",
        f"{_OF_ATTEMPT} from_version reason? who? repaired?",
    ),
    "first_aid_refused": About("first aid would not have helped, or could not be given", f"{_OF_ATTEMPT} reason"),
    "first_aid_withdrawn": About(
        "completed units spoke against a provisional version: the one before is in production again",
        f"{_OF_ATTEMPT} from_version reason repaired?",
    ),
    "promoted": About(
        "a version went into production (T_RT)", "model_version from_version? cause? run? reason? who? repaired?"
    ),
    "rejected": About("a challenger did not", "model_version? cause run reason?"),
    "serving_confirmed": About("the server answers with the promoted version (T4)", _OF_ATTEMPT),
    "serving_not_confirmed": About("it does not, in the time that it has", f"{_OF_ATTEMPT} reason"),
    "recovery_verified": About("the watch sees no drift under the promoted version", "model_version cause n?"),
    "recovery_failed": About("it still does", "model_version cause reason"),
    "rolled_back": About(
        "the version before is in production again", "model_version from_version cause? run? reason who? repaired?"
    ),
    "kept": About(
        "no rollback though the watch still sees drift: the version before is known to be worse",
        f"{_OF_ATTEMPT} from_version reason",
    ),
    "retraining_failed": About(
        "a retraining ended with an error", "model_version cause run step? error failures retry_in_s?"
    ),
    "retraining_refused": About("a retraining was asked for that cannot be now", "model_version? cause reason"),
    "retraining_superseded": About(
        "a retraining was ended, since another version than the one that it was of is in production",
        "model_version cause run reason",
    ),
    "schedule_added": About("somebody added a schedule or a watch", "schedule act every_s? cron? next? who"),
    "schedule_removed": About("somebody took one away", "schedule act who"),
    "schedule_due": About("its time has come", "schedule act result next?"),
    "watch_firing": About("a watch found what it looks for", "schedule act model_version? reason"),
    "watch_resolved": About("it finds it no more", "schedule act model_version? reason"),
    "notified": About("people were told of something", "model_version? cause? about"),
    "notification_failed": About("they could not be", "model_version? cause? about tries reason"),
    "muted": About("somebody asked to be told of a cause no more for a while", "cause until reason? who"),
    "unmuted": About("of that cause people are told again", "cause reason? who?"),
}

FIELDS: dict[str, Field] = {
    "about": Field("text", "what was told of, the same for each try"),
    "act": Field("text", "what the entry does: `retrain`, or what it watches: `overdue`, `error`"),
    "after_deadline": Field("text", "what happens where nobody answers in time: `wait`, `reject` or `promote`"),
    "age_shift": Field("number", "distance of the mean age in units of its threshold: above 1 younger, below -1 older"),
    "ages": Field("object", "share of each age band, by the least remaining steps of the band"),
    "answer": Field("text", "`approve` or `reject`"),
    "answered": Field("whole number", "requests that this version has answered since the watch looks at it"),
    "answers": Field("whole number", "requests that both answered"),
    "approval": Field("text", "the question's id, which `driftloop approve ID` takes"),
    "approved": Field("true or false", "whether the gate lets the challenger pass"),
    "blamed": Field("list", "readings beyond their threshold, the worst first; of a sensor fault, that sensor alone"),
    "build_s": Field("number", "seconds for intervals, baseline and export"),
    "cause": Field("text", "what it is about: kind of drift and version, such as `fleet_change:3`"),
    "count": Field("whole number", "how many runs, or outcomes"),
    "cpu_seconds": Field("number", "CPU that the step took"),
    "cron": Field("text", "when, where it is a cron expression"),
    "deadline": Field("time", "until when an answer is awaited"),
    "differences": Field("list", "challenger minus champion by regime and age, in steps: `by`, `group`, `answers`, "
                         "`mean`, `mean_absolute`"),
    "digest": Field("text", "SHA-256 of the bundle that is asked about"),
    "drift": Field("text", "the kind of drift: `fleet_change`, `sensor_fault`, `concept`, ..."),
    "ends_at": Field("time", "when the alert ended"),
    "engines": Field("whole number", "units that it is about"),
    "error": Field("text", "what was raised, at most 2,000 characters"),
    "estimate": Field("object", "how wrong the model probably is: `known`, `why`, `rmse`, `low`, `high`, `coverage`"),
    "every_s": Field("number", "seconds between two times, where it is a period"),
    "failures": Field("whole number", "how often this retraining has failed"),
    "faults": Field(
        "list",
        "columns whose readings look broken: `feature`, `kind` (`missing`, `out_of_range`, `stuck`), `share`, `usual`, "
        "`score`",
    ),
    "features": Field("list", "readings that are blamed, or figures that left their limits"),
    "figures": Field(
        "object", "by name (`rmse`, `bias`, `coverage`): `value`, `expected`, the limits `lower` and `upper`, `score`"
    ),
    "gate_decided.figures": Field("object", "by group (`old`, `new`): `engines`, `windows`, `rmse_champion`, "
                                  "`rmse_challenger`, `difference` and its 95 % bounds `lower`, `upper`, in steps"),
    "findings": Field("list", "the reasons in fixed words: `better`, `forgot`, ..."),
    "first_aid": Field("true or false", "true where the version is first aid"),
    "from_version": Field("text", "the version that was in production before, or that it was trained from"),
    "labels": Field("whole number", "runs whose labels would no longer count"),
    "metrics": Field("object", "figures of the training, by name"),
    "min_n": Field("number", "requests that a verdict needs"),
    "units": Field("number", "how many units the requests rest on, as if each had sent as many"),
    "mixture": Field("object", "share of each known domain in the traffic"),
    "challenger_registered.mixture": Field("text", "what the baseline counts domains by: `engines` or `traffic`"),
    "mode": Field("text", "`warm_start` or `full`"),
    "model_version": Field("text", "the version that it is about"),
    "n": Field("number", "requests, or completed units, that were judged"),
    "next": Field("time", "when it is due next"),
    "note": Field("text", "what else is to be said of it"),
    "p99_ms": Field("object", "99th percentile of an answer's time in ms, `champion` and `challenger`"),
    "passed": Field("true or false", "whether nothing speaks against the challenger"),
    "broken": Field("true or false", "whether it could not be asked at all, so that another one is trained"),
    "psi_max": Field("number", "largest PSI of a reading, regime by regime"),
    "psi_plain_max": Field("number", "the same without regimes"),
    "reason": Field("text", "why, in words"),
    "reasons": Field("list", "why, in words"),
    "record_s": Field("number", "seconds until it was in the registry"),
    "repaired": Field("true or false", "true where a restarted retrainer found out what its predecessor had done"),
    "result": Field("text", "what came of it: `started`, or why not"),
    "resumed": Field("true or false", "true where it begins again after a restart"),
    "retry_in_s": Field("number", "seconds until the next try; missing after the last"),
    "roles": Field("object", "how many runs of each role"),
    "run": Field("text", "the pipeline run"),
    "runs": Field("list", "ids of the first 100 runs"),
    "runs_excluded.runs": Field("list", "the first 100 runs: `run_id`, and the `sensors` that stand still"),
    "schedule": Field("text", "the entry's name"),
    "score": Field("number", "the worst figure in units of its threshold: above 1 is drift"),
    "seconds": Field("number", "how long it took"),
    "about_to_supersede.seconds": Field("number", "how long somebody has to stop it"),
    "pipeline_started.seconds": Field("number", "from `retraining_started` to this"),
    "starts_at": Field("time", "when the alert began"),
    "step": Field("text", "`collect`, `train` or `evaluate`"),
    "stuck": Field("list", "readings that stand still"),
    "summary": Field("text", "what the alert says, for people"),
    "train_s": Field("number", "seconds of training"),
    "training": Field("text", "`warm_start` or `full`: what it became"),
    "tries": Field("whole number", "how often it was tried"),
    "until": Field("time", "when it ends"),
    "verdict": Field("text", "`no_drift`, `drift`, `fleet_age`, `input_drift` or `not_enough_data`"),
    "versions": Field("list", "versions that have learnt from them"),
    "weights": Field("list", "share of each domain in the training, in their order"),
    "who": Field("text", "the person, program or schedule that did it"),
    "window": Field("whole number", "newest completed units that the figures are of"),
    "worst": Field("object", "figures of the readings with the largest scores: `psi`, `ks`, `shift`, `spread`, "
                   "`score`, `threshold_psi`"),
}  # fmt: skip
"""By name; `KIND.NAME` where a kind means something of its own by it."""


def fields_of(kind: EventKind) -> dict[str, tuple[Field, bool]]:
    """A kind's own fields by name, each with whether it is always there."""
    names = ABOUT[kind].fields.split()
    bare = {name.rstrip("?"): not name.endswith("?") for name in names}
    return {name: (FIELDS.get(f"{kind}.{name}") or FIELDS[name], always) for name, always in bare.items()}
