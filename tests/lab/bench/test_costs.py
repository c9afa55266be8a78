"""The profile: costs by name, the largest first, and no more than the step."""

from minigpt.lab.bench.costs import LARGEST, profile_step
from minigpt.lab.bench.report import profile_report
from minigpt.lab.bench.setting import Setting


def test_costs_of_a_step(setting: Setting) -> None:
    profiled = profile_step(setting, 3)
    seconds = [cost.seconds for cost in profiled.costs]
    assert seconds == sorted(seconds, reverse=True)
    assert 0 < sum(seconds) <= 1.05 * profiled.seconds
    by_name = {cost.name: cost for cost in profiled.costs}
    assert by_name["_fused_adamw_"].calls == 2  # the group that decays and the one that does not
    assert by_name["forward"].meaning == "Python between the operations: forward"
    assert by_name["mm"].calls + by_name["addmm"].calls >= 5 + 2 * 5  # four layers and the head, each way

    report = profile_report(setting, profiled)
    assert len(report.rows) == LARGEST
    share = sum(seconds[:LARGEST]) / profiled.seconds
    assert report.verdict == f"these {LARGEST} take {share:.1%} of the step"
