# SPDX-License-Identifier: Apache-2.0
"""What is computed from stored runs."""
