# SPDX-License-Identifier: Apache-2.0
"""Charts: matplotlib figures, drawn in the page's colours, as SVG that belongs to the page."""
