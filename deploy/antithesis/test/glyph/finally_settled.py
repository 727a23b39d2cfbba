#!/usr/bin/env python3
"""Once all drivers have ended: everything is worked off, and every invariant holds."""

from helper_workload import check_settled

check_settled()
