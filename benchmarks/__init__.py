"""Measures time, memory and requests of real runs between two registries on loopback, beside skopeo."""
