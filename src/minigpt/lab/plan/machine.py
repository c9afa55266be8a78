"""The machine of a plan: this one, or a device from the table of data sheets."""

import os
import re
from dataclasses import dataclass

import torch

from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.devices import device_name
from minigpt.system.limits import machine_bytes
from minigpt.system.utilisation import DEVICES, data_sheet


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Devices of one kind."""

    name: str
    kind: str
    """cpu, cuda or mps."""
    devices: int
    bytes_per_device: float
    """Infinity if unknown. The processes on a CPU share its memory."""
    is_here: bool
    """Whether a step can be timed on it now."""
    load: float = 0.0
    """Load average of the last minute, if known."""

    @property
    def at_once(self) -> int:
        """Devices that work at the same time: processes on a CPU share its cores, and its peak is that of all cores."""
        return 1 if self.kind == "cpu" else self.devices


def this_machine(device: torch.device, devices: int) -> Machine:
    """This machine."""
    memory = machine_bytes()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu":
        memory /= devices
    threads = torch.get_num_threads()
    name = f"this machine ({device_name(device)}, {threads} thread{'' if threads == 1 else 's'})"
    return Machine(
        name=name if device.type == "cpu" else device_name(device),
        kind=device.type,
        devices=devices,
        bytes_per_device=memory,
        is_here=True,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
    )


def listed_machine(name: str, devices: int) -> Machine:
    """Find a device by its driver's name or a part of it: `h200`, `rtx4090`, `NVIDIA A100-SXM4-80GB`.

    Raises ConfigError for one that is not in the table of data sheets.
    """
    spelt = re.sub(r"^(rtx|gtx)\s*-?\s*(\d)", r"RTX \2", name.strip(), flags=re.IGNORECASE).replace("_", " ")
    sheet = data_sheet(spelt)
    if sheet is None:
        near = did_you_mean(spelt.upper(), DEVICES) or f": {', '.join(DEVICES)}; cpu and cuda are this machine's own"
        raise ConfigError(f"--device {name} is in no data sheet at hand{near}")
    gigabytes_in_name = re.search(r"(?<!GH200 )\b(\d+) ?GB", spelt, re.IGNORECASE)  # a GH200 names its processor's
    gigabytes = float(gigabytes_in_name[1]) if gigabytes_in_name else sheet.gigabytes
    return Machine(
        name=spelt,
        kind="mps" if re.match(r"(apple )?m\d", spelt, re.IGNORECASE) else "cuda",
        devices=devices,
        bytes_per_device=float("inf") if gigabytes is None else gigabytes * 1e9,
        is_here=False,
    )
