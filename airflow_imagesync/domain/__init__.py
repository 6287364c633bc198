"""Values and pure functions of the field: references, digests, manifests, rules, plans, reports.

Nothing here does I/O, reads a clock, or imports Airflow or requests.
"""
