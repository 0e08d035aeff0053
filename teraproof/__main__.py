# SPDX-License-Identifier: Apache-2.0
"""python -m teraproof"""

from teraproof.cli.main import main

main()
