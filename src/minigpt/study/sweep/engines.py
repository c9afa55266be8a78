"""Where the cells of a sweep are run: a name, and the function that does it."""

from collections.abc import Callable

from minigpt.study.sweep.file import EngineName
from minigpt.study.sweep.job import Job
from minigpt.study.sweep.local import run_local
from minigpt.study.sweep.ray import run_on_ray
from minigpt.study.sweep.slurm import write_script

ENGINES: dict[EngineName, Callable[[Job], int]] = {"local": run_local, "ray": run_on_ray, "slurm": write_script}
