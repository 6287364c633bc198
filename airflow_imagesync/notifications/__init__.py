"""Telling people how syncs go, on Airflow's notification backends."""
