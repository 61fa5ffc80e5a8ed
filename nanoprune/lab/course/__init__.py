"""Shared by the chapters of book/: how they show code, sentences, tables and figures, and their data.

Importing it holds BLAS to one thread: on products as small as a chapter's, more threads take longer.
"""

import scipy.linalg  # noqa: F401  # NumPy's BLAS and SciPy's must be loaded to be told
from threadpoolctl import threadpool_limits

threadpool_limits(1)
