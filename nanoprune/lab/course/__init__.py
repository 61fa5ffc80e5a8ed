"""What the chapters of book/ share: how they show code, sentences, tables and figures, and their data.

Importing it holds BLAS to one thread: on products as small as a chapter's, more threads take longer.
"""

from threadpoolctl import threadpool_limits

threadpool_limits(1)
