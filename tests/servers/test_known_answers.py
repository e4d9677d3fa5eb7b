from pd_trl.runs.row_log import MemoryLog
from pd_trl.servers.requests import RequestSettings, known_answers


def test_an_answer_that_says_nothing_is_asked_for_up_to_the_bound():
    log = MemoryLog()
    for _ in range(2):
        log.add("a", {})
    assert known_answers(log, ["a"], RequestSettings(max_askings=3), lambda answer: "nothing") == {}
    found = known_answers(log, ["a"], RequestSettings(max_askings=2), lambda answer: "nothing")
    assert found == {"a": "nothing, and that again and again (`max_askings`)"}
