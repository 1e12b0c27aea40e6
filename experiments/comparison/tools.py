"""What the tools share."""

import os
from typing import Literal

# Tools are told to use all cores, in case their own default is another.
THREADS = os.cpu_count() or 1

# What is known of the images: chest CT, or nothing.
Setting = Literal["lung", "default"]
