#!/usr/bin/env python3
"""Once faults have stopped: everything is worked off, and every invariant holds."""

from helper_workload import check_settled

check_settled()
