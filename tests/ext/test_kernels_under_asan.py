"""The compiled kernels under AddressSanitizer: no byte outside what was given is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from hil.fuzz.mutated_child import make_current

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
INPUTS = 60_000


def asan_library() -> str:
    told = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    path = told.stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip("this compiler has no AddressSanitizer")
    return path


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which `ext` is compiled with AddressSanitizer."""
    library = asan_library()
    folder = tmp_path_factory.mktemp("asan")
    shutil.copytree(ROOT / "ext", folder / "ext", ignore=shutil.ignore_patterns("*.so", "*.c"))
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for source in sorted((folder / "ext").glob("_*.pyx")):
        c_file = source.with_suffix(".c")
        subprocess.run(
            [sys.executable, "-m", "cython", "-3", str(source), "-o", str(c_file)],
            check=True, cwd=folder,
        )  # fmt: skip
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-g", "-O1", "-fsanitize=address", "-w",
             f"-I{sysconfig.get_path('include')}", str(c_file),
             "-o", str(source.with_suffix(suffix))],
            check=True,
        )  # fmt: skip
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "LD_PRELOAD": library,
        # Every bytes object in memory of its own, so that one byte too far is seen.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
    }


def run(watched: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    # Beside the watched kernels: Python looks for modules where it runs first of all.
    return subprocess.run(
        [sys.executable, *words],
        env=watched, cwd=watched["PYTHONPATH"], capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_watch_is_on_and_sees_one_byte_too_far(watched: dict[str, str]) -> None:
    code = (
        "import ext._column, ctypes; print(ext._column.__file__); ctypes.string_at(b'x' * 90, 99)"
    )
    done = run(watched, "-c", code)
    assert watched["PYTHONPATH"] in done.stdout
    assert done.returncode
    assert "heap-buffer-overflow" in done.stderr


def test_damaged_blocks_make_no_kernel_leave_its_bounds(
    watched: dict[str, str], tmp_path: Path
) -> None:
    current = tmp_path / "current"
    make_current(current)
    words = ("wire-block", str(INPUTS), "1", str(current))
    done = run(watched, "-m", "hil.fuzz.mutated_child", *words)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_kernels_own_tests_pass_under_watch(watched: dict[str, str]) -> None:
    own = ("test_column_codec", "test_checksums", "test_frame_search", "test_interval_closing")
    files = [str(Path(__file__).parent / f"{name}.py") for name in own]
    done = run(watched, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
