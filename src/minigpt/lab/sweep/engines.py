"""Where the cells of a sweep are run: a name, and the function that does it."""

from collections.abc import Callable

from minigpt.lab.sweep.file import EngineName
from minigpt.lab.sweep.job import Job
from minigpt.lab.sweep.local import run_local
from minigpt.lab.sweep.ray import run_on_ray
from minigpt.lab.sweep.slurm import write_script

ENGINES: dict[EngineName, Callable[[Job], int]] = {"local": run_local, "ray": run_on_ray, "slurm": write_script}
