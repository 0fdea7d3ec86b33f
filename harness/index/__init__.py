# SPDX-License-Identifier: Apache-2.0
"""All runs of a results directory as four tables (runs, points, trials, metrics) in a DuckDB file beside them.

``schema`` says what the columns are, ``fill`` reads runs into them, ``cache`` keeps the file up to date, ``query``
answers SQL that may come from anybody.
"""
