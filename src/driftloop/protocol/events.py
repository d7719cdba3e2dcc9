"""The kinds of events: what the watch, the pipeline's steps and the loop itself write into the retrainer's log."""

from typing import Any, Literal, get_args

Event = dict[str, Any]
"""A JSON object with `seq`, `time`, `kind`, and where they apply `model_version` and `cause`."""

EventKind = Literal[
    "alert_firing",
    "alert_resolved",
    "verdict",
    "runs_archived",
    "runs_withdrawn",
    "runs_refused",
    "about_to_supersede",
    "feedback_received",
    "concept_verdict",
    "runs_excluded",
    "retraining_started",
    "retraining_adopted",
    "retraining_in_full",
    "waiting_for_labels",
    "pipeline_started",
    "step_started",
    "step_finished",
    "step_failed",
    "challenger_registered",
    "gate_decided",
    "shadow_ended",
    "approval_needed",
    "approval_answered",
    "approval_overdue",
    "approval_void",
    "first_aid_promoted",
    "first_aid_refused",
    "first_aid_withdrawn",
    "promoted",
    "rejected",
    "serving_confirmed",
    "serving_not_confirmed",
    "recovery_verified",
    "recovery_failed",
    "rolled_back",
    "kept",
    "retraining_failed",
    "retraining_refused",
    "retraining_superseded",
    "schedule_added",
    "schedule_removed",
    "schedule_due",
    "watch_firing",
    "watch_resolved",
    "notified",
    "notification_failed",
    "muted",
    "unmuted",
]
KINDS: frozenset[EventKind] = frozenset(get_args(EventKind))
"""Each has a series of its own in the metrics; whatever else is reported counts as `other`."""
