# SPDX-License-Identifier: Apache-2.0
"""TRex on its own host: which release is there, its configuration, its server started, attached to and stopped."""
