"""Questions asked of many runs, or before a run: plan, sweep, compare, scaling, bench, verify, replay."""
