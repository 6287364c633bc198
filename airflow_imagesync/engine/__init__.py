"""The order of exchanges: what to copy, in which order, each blob once. Knows nothing of Airflow or HTTP."""
