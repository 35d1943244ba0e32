"""A predictor that is killed: the same results, to the byte, as without."""

import pytest

from tests.services.stack import Results, Stack, conserved, oracle, second_run, wait_for_progress

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def undisturbed(replayed: Stack) -> Results:
    """What one predictor that nobody disturbs makes of the input."""
    replayed.start("consumer_prediction")
    replayed.wait_until_scored()
    return replayed.results()


def test_undisturbed_results_are_those_of_a_plain_recomputation(replayed, undisturbed):
    assert undisturbed == oracle(replayed)


def test_a_predictor_killed_in_the_middle_changes_no_byte(replayed, undisturbed, request):
    stack = second_run(replayed, "killed")
    request.addfinalizer(stack.close)
    slow = {"LAPWING_PREDICT__MAX_BATCH_RECORDS": "50", "LAPWING_PREDICT__COMMIT_INTERVAL_MS": "20"}
    victim = stack.start("consumer_prediction", LAPWING_SLOT="a", **slow)
    wait_for_progress(stack, victim, records=500)
    victim.kill()
    victim.wait()
    stack.start("consumer_prediction", LAPWING_SLOT="b")
    stack.wait_until_scored()
    conserved(stack)
    results = stack.results()
    assert results["scores"] == undisturbed["scores"]
    assert results["anomalies"] == undisturbed["anomalies"]
    assert [value for _, value, _ in results["dead"]] == [value for _, value, _ in undisturbed["dead"]]
