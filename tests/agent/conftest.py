import sys
from pathlib import Path

# So that migrations run in this process: a new one for each store would take minutes in all.
import sqlite_utils  # noqa: F401

# The helpers of these tests lie beside them.
sys.path.insert(0, str(Path(__file__).parent))
