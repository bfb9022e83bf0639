"""Many processes on one GPU at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def multi_process_service() -> Iterator[bool]:
    """NVIDIA's multi-process service for the processes that are started inside: their kernels run side by side.

    Yields:
        if it runs. Without ``nvidia-cuda-mps-control`` it does not, and the processes take turns on the GPU.
    """
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or "CUDA_MPS_PIPE_DIRECTORY" in os.environ:  # not there, or somebody's own
        print(
            f"the multi-process service {'runs already' if control else 'is not on this machine; workers take turns'}"
        )
        yield control is not None
        return
    with tempfile.TemporaryDirectory() as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(places)
        try:
            subprocess.run([control, "-d"], check=True, capture_output=True, timeout=30)
            yield True
        finally:
            subprocess.run([control], input=b"quit\n", capture_output=True, timeout=30)
            for name in places:
                del os.environ[name]
