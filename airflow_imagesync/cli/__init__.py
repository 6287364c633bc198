"""The engine for a terminal: options, commands, tables and progress.

Must not import Airflow; `airflow_imagesync.airflow_cli` offers the same commands within Airflow's own.
"""
