from edgepress.targets.worker.warmup import warm_up


def test_a_steady_run_settles_after_two_windows():
    assert warm_up(lambda: 1.0, at_least=0, at_most=200) == (20, True)


def test_it_goes_on_until_a_falling_time_has_settled():
    seconds = iter([2.0 - 0.03 * min(i, 40) for i in range(200)])
    runs, settled = warm_up(lambda: next(seconds), at_least=0, at_most=200)
    assert settled
    assert runs >= 50


def test_it_gives_up():
    seconds = iter([1.1**i for i in range(200)])
    assert warm_up(lambda: next(seconds), at_least=0, at_most=60) == (60, False)


def test_asked_for_runs_are_always_spent():
    assert warm_up(lambda: 1.0, at_least=47, at_most=200).runs == 50
    assert warm_up(lambda: 1.0, at_least=10, at_most=10) == (10, False)
