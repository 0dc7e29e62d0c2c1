"""Runs every generator, then verify.py."""

import os
import runpy
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

for name in ("published", "accepted", "negative", "traffic_selectors", "replay", "ikev2_keys", "ike_groups",
             "ike_messages", "cluster", "verify"):
    runpy.run_path(os.path.join(HERE, name + ".py"), run_name="__main__")
