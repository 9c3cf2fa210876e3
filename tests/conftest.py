"""What all tests share.

Tests that need several processes start them with `multiprocessing.get_context("spawn")`: a forked child would
inherit the open handles of whatever ran before in this pytest worker.
"""

from hypothesis import settings

# Random everywhere, in CI too; a failure prints the blob that replays it. Slow disks are no failure.
settings.register_profile("pykesto", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("pykesto")
