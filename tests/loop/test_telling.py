"""How far a training is reaches the retrainer, without ever holding the training up."""

import threading

from driftloop.loop.telling import Telling
from driftloop.protocol.progress import Progress, in_words
from driftloop.training.descent import Progress as Descent

from .fakes import Clock


def test_what_is_told_last_is_where_the_training_ended():
    told: list[Progress] = []
    clock = Clock()
    with Telling(told.append, "run-1", "train", every_s=3600.0, clock=clock) as progress:
        for step in (20, 40, 60):
            progress(Descent(step, 100, 1.0 / step))
            clock.now += 2.0
    assert told == [Progress("run-1", "train", 60, 100, 1.0 / 60, 4.0)]
    assert in_words(told[0].shown()) == "train 60 of 100, loss 0.0167, about 4 s left"


def test_before_a_second_look_nothing_is_said_of_the_time_that_is_left():
    told: list[Progress] = []
    with Telling(told.append, "run-1", "train", every_s=3600.0) as progress:
        progress(Descent(20, 100, 0.5))
    assert [each.seconds_left for each in told] == [None]
    assert in_words(told[0].shown()) == "train 20 of 100, loss 0.5000"


def test_a_training_in_full_after_a_warm_start_begins_to_count_anew():
    told: list[Progress] = []
    clock = Clock()
    with Telling(told.append, "run-1", "train", every_s=3600.0, clock=clock) as progress:
        progress(Descent(20, 100, 0.5))
        clock.now += 60.0
        progress(Descent(100, 100, 0.5))
        progress(Descent(20, 1500, 0.9))
        clock.now += 1.0
        progress(Descent(40, 1500, 0.8))
    assert told == [Progress("run-1", "train", 40, 1500, 0.8, 73.0)]


def test_a_retrainer_that_does_not_answer_holds_nothing_up():
    answers, asked = threading.Event(), threading.Event()
    told: list[int] = []

    def tell(progress: Progress) -> None:
        asked.set()
        assert answers.wait(60)
        told.append(progress.done)

    with Telling(tell, "run-1", "train", every_s=0.0) as progress:
        progress(Descent(20, 100, 0.5))
        assert asked.wait(60)
        for step in range(40, 120, 20):
            progress(Descent(step, 100, 0.5))  # returns while the first is still being told
        assert told == []
        answers.set()
    assert told == [20, 100]


def test_nothing_is_told_of_a_training_that_says_nothing():
    told: list[Progress] = []
    with Telling(told.append, "run-1", "train", every_s=0.0):
        pass
    assert told == []
