#!/usr/bin/env python3
"""Begins some tasks."""

from helper_workload import submit

submit(tasks=40, unknown_tasks=False)
