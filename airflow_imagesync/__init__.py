"""Move container images between registries and keep them in sync, as an Apache Airflow provider.

This module must not import Airflow: provider discovery imports it while Airflow itself is half-way through
its own start.
"""

__version__ = "0.1.0"
