# SPDX-License-Identifier: Apache-2.0
"""What all duties stand on."""
