#!/usr/bin/env python3
"""Begins many tasks, also with commands of tasks that never come."""

from helper_workload import submit

submit(tasks=400, unknown_tasks=True)
