"""How many threads one kernel may use: one. Parallelism comes from running many kernels at once.

faiss keeps its OpenMP thread count per calling thread, NumPy's OpenBLAS keeps one for the process.
Both release the GIL while they work.
"""

import ctypes

import numpy as np

from elanus.engine.index.library import faiss


def limit_kernel_threads(count: int = 1) -> None:
    """Let kernels that are called from this thread use ``count`` threads. Meant as the initializer
    of every worker thread; NumPy's limit holds for the whole process."""
    faiss.omp_set_num_threads(count)
    library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    # The wheels of NumPy bundle OpenBLAS with these names; another BLAS is left as it is.
    for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads"):
        set_threads = getattr(library, name, None)
        if set_threads is not None:
            set_threads(ctypes.c_int(count))
            return
