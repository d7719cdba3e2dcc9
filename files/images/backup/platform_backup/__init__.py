"""Backs up and restores a platform: databases, buckets, the folders of its processes, secrets.

A backup is a folder (or a prefix of a bucket) with one encrypted file for each part and `manifest.json`, which is
written last: it names every part with its digest, the version of the platform, and figures that a restored platform
must show.
"""
