"""Sensors: tasks that wait for images."""
