"""Tools for tests, demo and benchmarks: registries on loopback, images to fill them, what stands between."""
