"""`driftloop doctor`: what is wrong with a machine or a platform, and how to mend it; a module for each kind of check.

A check is a plain function that yields findings. It changes nothing, and it needs nothing that it finds missing.
"""
