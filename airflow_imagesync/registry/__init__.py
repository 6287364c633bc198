"""One exchange with one registry: transport, retries, logins, manifests, blobs.

The only home of requests, urllib3 and tenacity. Knows nothing of rules or plans.
"""
