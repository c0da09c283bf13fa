"""Measures the network that nnU-Net v2 or MIST builds for a data set; runs in its environment.

    python rival_cost.py JOB

JOB is JSON; the last line of the output is the result as JSON. Counts and times are taken as for
the networks of the study: one forward pass of one volume, in single precision.
"""

import copy
import ctypes
import gc
import json
import math
import os
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode


def measure(job):
    """Parameters, multiply-adds, single latencies in ms, memory."""
    torch.set_num_threads(job["threads"])
    wants_gpu = job["device"] != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if wants_gpu else "cpu")
    network, size = BUILDERS[job["package"]](job)
    shape = (1, job["channels"], *size)
    result = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "macs": count(network, shape),
        "size": size,
    }
    network, image = network.eval().to(device), torch.randn(shape, device=device)

    def forward():
        with torch.inference_mode():
            network(image)

    result["peak_measured_bytes"] = peak(forward, device)
    wall, processor = time.perf_counter(), time.process_time()
    milliseconds = series(forward, job, device)
    share = (time.process_time() - processor) / (time.perf_counter() - wall)
    result["series"] = {"ms": milliseconds, "cpu_share": None if wants_gpu else share}
    result["device"] = {
        "type": device.type,
        "torch": str(torch.__version__),
        **({"name": torch.cuda.get_device_name()} if wants_gpu else {"threads": job["threads"]}),
        "load": round(os.getloadavg()[0], 2),
    }
    return result


def build_nnunet(job):
    """The network of nnU-Net's plans, and the input size in its order of axes.

    The size is that of the study, in nnU-Net's order and rounded up to what the strides divide.
    A network of slices has one axis less.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = planned(job)
    plans = PlansManager(json.loads((folder / f"{job['plans']}.json").read_text()))
    listing = json.loads((folder / "dataset.json").read_text())
    configuration = plans.get_configuration(job["configuration"])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        job["channels"],
        plans.get_label_manager(listing).num_segmentation_heads,
        deep_supervision=False,
    )
    strides = configuration.pool_op_kernel_sizes
    size = job["size"][::-1]  # nnU-Net reads z, y, x
    size = [size[axis] for axis in plans.transpose_forward][-len(strides[0]) :]
    return network, rounded(size, strides)


def build_mist(job):
    """The network of MIST's configuration, and the input size, rounded up likewise."""
    import mist.models  # noqa: F401  # it registers the networks
    from mist.models.model_registry import get_model_from_registry
    from mist.models.nnunet.nnunet_utils import get_unet_params

    config = json.loads((planned(job) / f"{job['plans']}.json").read_text())
    grid = config["spatial_config"]
    network = get_model_from_registry(job["configuration"], **config["model"]["params"], **grid)
    _, strides, _ = get_unet_params(grid["patch_size"], grid["target_spacing"])
    return network, rounded(job["size"], strides)


BUILDERS = {"nnunetv2": build_nnunet, "mist-medical": build_mist}


def planned(job):
    """Folder of the planned data set."""
    return Path(os.environ["nnUNet_preprocessed"], job["dataset"])  # noqa: SIM112


def rounded(size, strides):
    """A size rounded up to multiples of what the strides divide it by."""
    steps = [math.prod(level[axis] for level in strides) for axis in range(len(size))]
    return [step * math.ceil(n / step) for n, step in zip(size, steps, strict=True)]


def count(network, shape):
    """Multiply-adds of a forward pass: half of what torch counts as operations."""
    on_meta = copy.deepcopy(network).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_meta(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2


def series(call, job, device):
    """Milliseconds of single calls, after calls that are not counted."""
    start, limit = time.perf_counter(), job["budget_s"] or math.inf
    for _ in range(job["warmups"]):
        timed(call, device)
        if time.perf_counter() - start > limit / 5:
            break
    values = []
    while len(values) < job["repeats"]:
        values.append(timed(call, device))
        if len(values) >= 5 and time.perf_counter() - start > limit:
            break
    return values


def timed(call, device):
    """Milliseconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter_ns()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e6


def peak(call, device):
    """Bytes by which memory grows during a call; None where the system does not report it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = status("VmRSS")
        call()
        return max(0, status("VmHWM") - before)
    except (OSError, AttributeError):  # not Linux, or a container that forbids it
        return None


def status(key):
    """Bytes that the system reports about this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
