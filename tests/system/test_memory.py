"""The memory limit of a control group, from files as Linux shows them."""

from pathlib import Path

import pytest

from minigpt.system.limits import cgroup_bytes, machine_bytes

UNLIMITED_V1 = 9223372036854771712
GROUP_V2 = "0::/jobs/mine\n"
GROUP_V1 = "5:cpu,cpuacct:/other\n4:memory:/jobs/mine\n"


def system(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}", encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": GROUP_V2, "sys/fs/cgroup/jobs/mine/memory.max": 4096}, 4096),
        ({"proc/self/cgroup": GROUP_V2, "sys/fs/cgroup/jobs/mine/memory.max": "max"}, float("inf")),
        (  # a group holds what those above it leave
            {
                "proc/self/cgroup": GROUP_V2,
                "sys/fs/cgroup/jobs/mine/memory.max": "max",
                "sys/fs/cgroup/jobs/memory.max": 8192,
            },
            8192,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": 2048}, 2048),  # in a container
        ({"proc/self/cgroup": GROUP_V1, "sys/fs/cgroup/memory/jobs/mine/memory.limit_in_bytes": 4096}, 4096),
        (
            {
                "proc/self/cgroup": GROUP_V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 2048,  # the container's: its path is not mounted
                "sys/fs/cgroup/memory/other/memory.limit_in_bytes": 1,
            },
            2048,
        ),
        ({"proc/self/cgroup": GROUP_V2, "sys/fs/cgroup/elsewhere/memory.max": 1}, float("inf")),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/memory.max": "nonsense"}, float("inf")),
        ({}, float("inf")),
    ],
    ids=str,
)
def test_the_limit_of_a_control_group(files: dict[str, object], limit: float, tmp_path: Path) -> None:
    assert cgroup_bytes(system(tmp_path, files)) == limit


def test_the_smaller_of_machine_and_group_counts(tmp_path: Path) -> None:
    physical = machine_bytes(tmp_path)
    assert 0 < physical < float("inf")
    system(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1})
    assert machine_bytes(tmp_path) == physical
    system(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": 4096})
    assert machine_bytes(tmp_path) == 4096
