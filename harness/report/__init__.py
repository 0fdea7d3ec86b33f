# SPDX-License-Identifier: Apache-2.0
"""Reports: run directories in, one self-contained HTML file out."""

from harness.report.write import write_report

__all__ = ["write_report"]
