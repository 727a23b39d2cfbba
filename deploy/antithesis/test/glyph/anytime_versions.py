#!/usr/bin/env python3
"""While everything is at work and broken: no stream has a gap, no step is completed twice."""

from helper_workload import check_anytime

check_anytime()
