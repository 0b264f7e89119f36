"""The driver is asked by its own C interface: a library that is built here stands for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBCUDA = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuGetErrorString(int status, const char **text) { *text = "unknown error"; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ull << 30; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "NVIDIA H100", size); return 0; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { strncpy(id, device == 7 ? "0000:01" : "", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : device - 7; return 0; }
"""

NVML = """
#include <string.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned size) { strncpy(version, "570.1", size); return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **handle) { *handle = "gpu"; return strcmp(id, "0000:01"); }
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *of) { of->free = 79ull << 30; return strcmp(handle, "gpu"); }
"""

PROGRAM = """
import json
from dataclasses import asdict
from tridex.common.nvidia import DriverError, ask_driver
try:
    print(json.dumps(asdict(ask_driver())))
except DriverError as error:
    print(json.dumps(str(error)))
"""


def asked(folder: Path, *, init: int | None = 0, nvml: bool = True) -> object:
    """What a process finds out whose libcuda.so.1 and libnvidia-ml.so.1 are these; no libcuda for `init` None."""
    libraries = {} if init is None else {"libcuda.so.1": LIBCUDA.replace("INIT", str(init))}
    for name, source in (libraries | ({"libnvidia-ml.so.1": NVML} if nvml else {})).items():
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / name)]
        subprocess.run(command, input=source, text=True, check=True, stderr=subprocess.DEVNULL)
    variables = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=True)
    said: object = json.loads(done.stdout)
    return said


def test_a_driver_with_two_gpus(tmp_path: Path) -> None:
    first = {"index": 0, "name": "NVIDIA H100", "capability": [9, 0], "total_bytes": 80 << 30, "free_bytes": 79 << 30}
    second = {**first, "index": 1, "capability": [9, 1], "free_bytes": None}
    assert asked(tmp_path) == {"cuda": [12, 8], "version": "570.1", "gpus": [first, second]}


def test_nvml_is_not_needed(tmp_path: Path) -> None:
    said = asked(tmp_path, nvml=False)
    assert isinstance(said, dict) and said["version"] is None and said["gpus"][0]["free_bytes"] is None


@pytest.mark.parametrize(
    ("init", "says"),
    [
        (100, {"cuda": [12, 8], "version": "570.1", "gpus": []}),
        (999, "the NVIDIA driver does not work: cuInit says 999, unknown error"),
    ],
    ids=["no GPU", "does not work"],
)
def test_a_driver_without_gpus(tmp_path: Path, init: int, says: object) -> None:
    assert asked(tmp_path, init=init) == says


def test_no_driver(tmp_path: Path) -> None:
    said = asked(tmp_path, init=None)
    assert isinstance(said, str) and said.startswith("there is no NVIDIA driver: libcuda.so.1")
