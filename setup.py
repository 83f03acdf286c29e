"""Builds the Cython kernels of `ext` at install; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = ("aggregate", "column", "checksum")

setup(
    ext_modules=cythonize(
        [
            Extension(f"ext._{name}", [f"ext/_{name}.pyx"], extra_compile_args=["-O3"])
            for name in KERNELS
        ],
        language_level=3,
        build_dir="build",
    )
)
