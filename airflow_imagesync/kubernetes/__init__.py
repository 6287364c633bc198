"""Kubernetes manifests: the images they name, and the same manifests with images from elsewhere.

What counts as an image is said in `image_places`, which files are looked at in `manifest_files`.
"""

from airflow_imagesync.kubernetes.image_places import ImagePlace
from airflow_imagesync.kubernetes.inventory import Inventory, images_of_manifests, inventory_of_manifests
from airflow_imagesync.kubernetes.manifest_files import SkippedFile
from airflow_imagesync.kubernetes.rewriting import Replacement, RewriteResult, UnmappedImage, rewrite_manifests

__all__ = [
    "ImagePlace",
    "Inventory",
    "Replacement",
    "RewriteResult",
    "SkippedFile",
    "UnmappedImage",
    "images_of_manifests",
    "inventory_of_manifests",
    "rewrite_manifests",
]
