"""Triggers: what waits for registries in Airflow's triggerer."""
